"""Movies: the slices of a scan one after the other, as WebM, GIF or MP4."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from heartseg.errors import DataError
from heartseg.files import replacing
from heartseg.labels import LabelTable
from heartseg.native_notes import native_notes_hidden
from heartseg.opencv import cv2
from heartseg.pictures.annotations import annotate, draw_legend
from heartseg.pictures.framing import side_marks
from heartseg.pictures.overlays import overlay_slices
from heartseg.pictures.previews import to_true_aspect
from heartseg.scans.geometry import Plane, SliceLayout
from heartseg.scans.volume import Volume

FRAMES_PER_SECOND = 12.0
_CODECS = {".webm": "VP90", ".mp4": "mp4v"}
"""Of WebM's codecs all browsers play VP9; OpenCV has no encoder for an MP4 that they play."""
MOVIE_SUFFIXES = (*_CODECS, ".gif")
_GIF_COLORS = 128


def movie_frames(
    image: Volume,
    labels: NDArray[np.uint8],
    table: LabelTable,
    *,
    plane: Plane | str,
    limits: tuple[float, float],
    longest_side: int,
) -> Iterator[NDArray[np.uint8]]:
    """Draw every slice of a scan with its labels, its number, the patient's sides and a legend.

    Args:
        image: The scan.
        labels: ``(X, Y, Z)`` label map on its grid.
        table: The display colours.
        plane: Anatomical plane of the slices.
        limits: Intensities that become black and white.
        longest_side: Pixels of the longer side of a slice; the legend lies below it.

    Yields:
        ``(H, W, 3)`` RGB, all of one size.
    """
    layout = SliceLayout.from_affine(image.affine, plane)
    count, spacing_mm = image.voxels.shape[layout.slice_axis], layout.spacing_mm(image.affine)
    present = np.bincount(labels.ravel(), minlength=table.num_classes) > 0
    legend: NDArray[np.uint8] | None = None
    slices = overlay_slices(image, labels, table, plane=plane, limits=limits)
    for number, picture in enumerate(slices, start=1):
        frame = to_true_aspect(picture, spacing_mm, longest_side=longest_side)
        frame = annotate(
            frame,
            marks=side_marks(plane),
            step_mm=spacing_mm[1] * picture.shape[1] / frame.shape[1],
            caption=f"{Plane(plane).value} {number}/{count}",
        )
        if legend is None:
            legend = draw_legend(table, present, width=frame.shape[1], names=False)
        yield np.concatenate([frame, legend])


def write_movie(
    file: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    kept_colors: NDArray[np.uint8] | None = None,
    frames_per_second: float = FRAMES_PER_SECOND,
) -> None:
    """Write a movie; only one frame at a time is held in memory.

    Args:
        file: Ends in ``.webm``, ``.gif`` or ``.mp4``. WebM and GIF play in browsers. WebM and MP4
            have even sides: an odd one gets a black line more. A GIF has 128 colours per frame and
            repeats endlessly.
        frames: ``(H, W, 3)`` RGB, all of one size.
        kept_colors: ``(N, 3)`` RGB colours that a GIF keeps, though few pixels have them; the
            first 64 count.
        frames_per_second: Speed.

    Raises:
        DataError: If the file cannot be written or this system cannot encode it.
        ValueError: If there is no frame, their sizes differ, or the suffix is none of these.
    """
    suffix = file.suffix.lower()
    if suffix not in MOVIE_SUFFIXES:
        raise ValueError(f"{file}: expected a name that ends in {', '.join(MOVIE_SUFFIXES)}")
    with replacing(file) as temporary:
        if suffix == ".gif":
            _write_gif(temporary, _equal_frames(frames), frames_per_second, kept_colors)
        else:
            _write_video(temporary, _equal_frames(frames), frames_per_second, file)


def _write_video(
    temporary: Path, frames: Iterator[NDArray[np.uint8]], frames_per_second: float, file: Path
) -> None:
    first = next(frames)
    height, width = (side + side % 2 for side in first.shape[:2])
    codec = _CODECS[file.suffix.lower()]
    code = cv2.VideoWriter.fourcc(*codec)
    # OpenCV notes that VP9 in WebM has no tag, as if it were a problem.
    with native_notes_hidden():
        writer = cv2.VideoWriter(str(temporary), code, frames_per_second, (width, height))
    try:
        if not writer.isOpened():
            raise DataError(
                f"{file}: OpenCV cannot write {codec} on this system; choose a GIF instead"
            )
        for frame in chain([first], frames):
            rows, cols = height - frame.shape[0], width - frame.shape[1]
            padded = np.pad(frame, ((0, rows), (0, cols), (0, 0)))
            writer.write(cv2.cvtColor(padded, cv2.COLOR_RGB2BGR))
    finally:
        writer.release()
    if not temporary.stat().st_size:
        raise DataError(f"{file}: OpenCV wrote an empty file; check whether the disk is full")


def _write_gif(
    temporary: Path,
    frames: Iterator[NDArray[np.uint8]],
    frames_per_second: float,
    kept_colors: NDArray[np.uint8] | None,
) -> None:
    kept = [] if kept_colors is None else kept_colors[: _GIF_COLORS // 2].ravel().tolist()
    pictures = (_reduce_colors(Image.fromarray(frame), kept) for frame in frames)
    first = next(pictures)
    first.save(
        temporary,
        format="GIF",
        save_all=True,
        append_images=pictures,
        duration=round(1000 / frames_per_second),
        loop=0,
    )


def _reduce_colors(picture: Image.Image, kept: list[int]) -> Image.Image:
    """Reduce a picture to the colours of its many pixels and those of ``kept``."""
    count = _GIF_COLORS - len(kept) // 3
    # Without dithering, because scattered dots would look like noise of the scan.
    frequent = picture.quantize(count, dither=Image.Dither.NONE)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*(frequent.getpalette() or [])[: 3 * count], *kept])
    return picture.quantize(palette=palette, dither=Image.Dither.NONE)


def _equal_frames(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    shape: tuple[int, ...] | None = None
    for frame in frames:
        if shape is not None and frame.shape != shape:
            raise ValueError(f"frames: expected equal shapes, found {shape} and {frame.shape}")
        shape = frame.shape
        yield np.ascontiguousarray(frame)
    if shape is None:
        raise ValueError("frames: expected at least one, found none")
