"""Movies: pictures of equal size, one after the other, as MP4 or GIF."""

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from heartseg.errors import DataError
from heartseg.files import replacing
from heartseg.opencv import cv2

MOVIE_SUFFIXES = (".mp4", ".gif")
FRAMES_PER_SECOND = 12.0
_CODEC = "mp4v"
_GIF_COLORS = 128


def write_movie(
    file: Path,
    frames: Iterable[NDArray[np.uint8]],
    *,
    frames_per_second: float = FRAMES_PER_SECOND,
) -> None:
    """Write a movie; only one frame at a time is held in memory.

    Args:
        file: The new file, which ends in ``.mp4`` or ``.gif``. The sides of an MP4 are even: an odd
            side is extended by a black line. A GIF has 128 colours per frame and repeats endlessly.
        frames: ``(H, W, 3)`` uint8 RGB pictures of equal size.
        frames_per_second: Speed.

    Raises:
        DataError: If the file cannot be written or this system cannot encode it.
        ValueError: If there is no frame, their sizes differ, or the suffix is another one.
    """
    suffix = file.suffix.lower()
    if suffix not in MOVIE_SUFFIXES:
        raise ValueError(f"{file}: expected a name that ends in {' or '.join(MOVIE_SUFFIXES)}")
    write = _write_gif if suffix == ".gif" else _write_mp4
    with replacing(file) as temporary:
        write(temporary, _equal_frames(frames), frames_per_second, file)


def _write_mp4(
    temporary: Path, frames: Iterator[NDArray[np.uint8]], frames_per_second: float, file: Path
) -> None:
    first = next(frames)
    height, width = (side + side % 2 for side in first.shape[:2])
    code = cv2.VideoWriter.fourcc(*_CODEC)
    writer = cv2.VideoWriter(str(temporary), code, frames_per_second, (width, height))
    try:
        if not writer.isOpened():
            raise DataError(
                f"{file}: OpenCV cannot write MP4 ({_CODEC}) on this system; choose a GIF instead"
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
    temporary: Path, frames: Iterator[NDArray[np.uint8]], frames_per_second: float, file: Path
) -> None:
    del file
    # Without dithering, because scattered dots would look like noise of the scan.
    pictures = (
        Image.fromarray(frame).quantize(_GIF_COLORS, dither=Image.Dither.NONE) for frame in frames
    )
    first = next(pictures)
    first.save(
        temporary,
        format="GIF",
        save_all=True,
        append_images=pictures,
        duration=round(1000 / frames_per_second),
        loop=0,
    )


def _equal_frames(frames: Iterable[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
    shape: tuple[int, ...] | None = None
    for frame in frames:
        if shape is not None and frame.shape != shape:
            raise ValueError(f"frames: expected equal shapes, found {shape} and {frame.shape}")
        shape = frame.shape
        yield np.ascontiguousarray(frame)
    if shape is None:
        raise ValueError("frames: expected at least one, found none")
