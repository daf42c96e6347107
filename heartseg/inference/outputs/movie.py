"""Every slice of a scan with its labels, one after the other: ``CASE_overlay.mp4`` or ``.gif``."""

from pathlib import Path

from heartseg.inference.outputs.output_format import OutputFormat, one_file
from heartseg.inference.results import SegmentedScan
from heartseg.pictures.movie import write_movie
from heartseg.pictures.overlays import overlay_slices
from heartseg.pictures.previews import to_true_aspect
from heartseg.scans.geometry import SliceLayout


def _movie_format(suffix: str, *, longest_side: int) -> OutputFormat[SegmentedScan]:
    def write(file: Path, result: SegmentedScan) -> None:
        scan, plane = result.scan, result.recipe.plane
        spacing_mm = SliceLayout.from_affine(scan.affine, plane).spacing_mm(scan.affine)
        pictures = overlay_slices(
            scan, result.labels, result.table, plane=plane, limits=result.window_limits
        )
        # A generator: one slice is held at a time.
        frames = (to_true_aspect(p, spacing_mm, longest_side=longest_side) for p in pictures)
        write_movie(file, frames)

    return one_file(f"_overlay{suffix}", write)


MOVIE_MP4 = _movie_format(".mp4", longest_side=384)
# A GIF keeps the noise of a scan: 120 slices take 12 MB at 384 pixels, 5 MB at 256.
MOVIE_GIF = _movie_format(".gif", longest_side=256)
