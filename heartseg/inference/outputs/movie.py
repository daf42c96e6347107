"""Every slice of a scan with its labels, one after the other: ``CASE_overlay.webm`` and others."""

from pathlib import Path

from heartseg.inference.outputs.output_format import OutputFormat, one_file
from heartseg.inference.results import SegmentedScan
from heartseg.pictures.movie import movie_frames, write_movie


def _movie_format(suffix: str, *, longest_side: int) -> OutputFormat[SegmentedScan]:
    def write(file: Path, result: SegmentedScan) -> None:
        # A generator: one slice is held at a time.
        frames = movie_frames(
            result.scan,
            result.labels,
            result.table,
            plane=result.recipe.plane,
            limits=result.window_limits,
            longest_side=longest_side,
        )
        write_movie(file, frames, kept_colors=result.table.display_palette[1:])

    return one_file(f"_overlay{suffix}", write)


MOVIE_WEBM = _movie_format(".webm", longest_side=384)
MOVIE_MP4 = _movie_format(".mp4", longest_side=384)
# A GIF keeps the noise of a scan: 120 slices take 12 MB at 384 pixels, 5 MB at 256.
MOVIE_GIF = _movie_format(".gif", longest_side=256)
