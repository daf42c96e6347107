import cv2
import numpy as np
import pytest
from PIL import Image

from heartseg.errors import DataError
from heartseg.pictures.movie import write_movie

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


def frames(height=48, width=64):
    for color in COLORS:
        yield np.full((height, width, 3), color, np.uint8)


def test_an_mp4_shows_the_frames_in_order(tmp_path):
    file = tmp_path / "movie.mp4"
    write_movie(file, frames())

    movie = cv2.VideoCapture(str(file))
    for color in COLORS:
        there, frame = movie.read()
        assert there
        assert frame.shape == (48, 64, 3)
        # Lossy coding moves a colour a little.
        np.testing.assert_allclose(frame[24, 32, ::-1], color, atol=12)
    assert not movie.read()[0]
    movie.release()


def test_odd_sides_of_an_mp4_get_one_more_line(tmp_path):
    file = tmp_path / "movie.mp4"
    write_movie(file, frames(47, 63))

    movie = cv2.VideoCapture(str(file))
    assert movie.read()[1].shape == (48, 64, 3)
    movie.release()


def test_a_gif_shows_the_frames_in_order_at_the_requested_speed(tmp_path):
    file = tmp_path / "movie.gif"
    write_movie(file, frames(), frames_per_second=10)

    with Image.open(file) as movie:
        assert movie.n_frames == 4
        assert movie.info["duration"] == 100
        for index, color in enumerate(COLORS):
            movie.seek(index)
            assert movie.convert("RGB").getpixel((5, 5)) == color


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_a_movie_without_frames_or_with_unequal_ones_leaves_no_file(tmp_path, suffix):
    file = tmp_path / f"movie{suffix}"

    with pytest.raises(ValueError, match="at least one"):
        write_movie(file, [])
    unequal = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)]
    with pytest.raises(ValueError, match="equal shapes"):
        write_movie(file, unequal)

    assert list(tmp_path.iterdir()) == []


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.mp4 or \.gif"):
        write_movie(tmp_path / "movie.avi", frames())


def test_if_opencv_cannot_encode_mp4_the_error_advises_gif(tmp_path, monkeypatch):
    class Closed:
        def __init__(self, *_):
            pass

        def isOpened(self):  # noqa: N802
            return False

        def release(self):
            pass

        fourcc = staticmethod(lambda *_: 0)

    monkeypatch.setattr(cv2, "VideoWriter", Closed)
    with pytest.raises(
        DataError, match=r"movie\.mp4: OpenCV cannot write MP4 .*choose a GIF instead"
    ):
        write_movie(tmp_path / "movie.mp4", frames())
    assert list(tmp_path.iterdir()) == []
