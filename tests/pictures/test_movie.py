import cv2
import nibabel
import numpy as np
import pytest
from PIL import Image

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.pictures.movie import movie_frames, write_movie
from heartseg.scans.volume import Volume

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]


def frames(height=48, width=64):
    for color in COLORS:
        yield np.full((height, width, 3), color, np.uint8)


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_a_video_shows_the_frames_in_order(tmp_path, suffix):
    file = tmp_path / f"movie{suffix}"
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


@pytest.mark.parametrize("suffix", [".webm", ".mp4"])
def test_odd_sides_of_a_video_get_one_more_line(tmp_path, suffix):
    file = tmp_path / f"movie{suffix}"
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


@pytest.mark.parametrize("suffix", [".webm", ".mp4", ".gif"])
def test_a_movie_without_frames_or_with_unequal_ones_leaves_no_file(tmp_path, suffix):
    file = tmp_path / f"movie{suffix}"

    with pytest.raises(ValueError, match="at least one"):
        write_movie(file, [])
    unequal = [np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)]
    with pytest.raises(ValueError, match="equal shapes"):
        write_movie(file, unequal)

    assert list(tmp_path.iterdir()) == []


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\.webm, \.mp4, \.gif"):
        write_movie(tmp_path / "movie.avi", frames())


def test_if_opencv_cannot_encode_a_video_the_error_advises_gif(tmp_path, monkeypatch):
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
        DataError, match=r"movie\.webm: OpenCV cannot write .*VP90.*choose a GIF instead"
    ):
        write_movie(tmp_path / "movie.webm", frames())
    assert list(tmp_path.iterdir()) == []


def test_writing_a_webm_says_nothing(tmp_path, capfd):
    """OpenCV notes on stderr that VP9 has no tag in WebM."""
    write_movie(tmp_path / "movie.webm", frames())

    assert capfd.readouterr() == ("", "")


def test_a_gif_keeps_colours_of_few_pixels(tmp_path):
    """The yellow of the legend beside a slice of many tints."""
    rng = np.random.default_rng(0)
    frame = np.repeat(rng.integers(0, 255, (96, 96, 1)), 3, axis=2).astype(np.uint8)
    frame[:, :40, 0] //= 2
    frame[90:94, 60:66] = (255, 225, 15)
    kept = np.array([[255, 225, 15]], np.uint8)
    write_movie(tmp_path / "movie.gif", [frame, frame], kept_colors=kept)

    with Image.open(tmp_path / "movie.gif") as movie:
        shown = movie.convert("RGB").getpixel((62, 92))
    assert shown == (255, 225, 15)


def test_a_gif_of_more_kept_colours_than_it_has_is_written(tmp_path):
    kept = np.random.default_rng(0).integers(0, 255, (254, 3), np.uint8)

    write_movie(tmp_path / "movie.gif", frames(), kept_colors=kept)

    with Image.open(tmp_path / "movie.gif") as movie:
        assert movie.convert("RGB").getpixel((5, 5)) == COLORS[0]


def make_volume():
    labels = np.zeros((9, 12, 10), np.uint8)
    labels[2:7, 3:9, 4] = 5
    # 1 mm to the right, 2 mm to the front, 4 mm upwards.
    volume = Volume(
        np.full(labels.shape, 0.5, np.float32), np.diag([1.0, 2, 4, 1]), nibabel.Nifti1Header()
    )
    return volume, labels


def draw_frames(plane):
    volume, labels = make_volume()
    return list(movie_frames(volume, labels, HVSMR, plane=plane, limits=(0, 1), longest_side=240))


def test_each_slice_is_a_frame_in_true_proportion_with_a_legend_below():
    drawn = draw_frames("axial")

    assert len(drawn) == 10
    # 9 mm wide and 24 mm high.
    assert {frame.shape[1] for frame in drawn} == {90}
    assert len({frame.shape for frame in drawn}) == 1
    color = HVSMR.display_palette[5]
    legend = [(frame[240:] == color).all(axis=-1).sum() for frame in drawn]
    assert legend == [225] * 10
    tinted = [(frame[:240, :, 0] > frame[:240, :, 2]).sum() for frame in drawn]
    assert np.flatnonzero(tinted).tolist() == [4]


def test_frames_carry_the_number_of_their_slice():
    drawn = draw_frames("sagittal")

    # Slices without a label differ in their number alone, which stands in the upper left corner.
    first, second = drawn[0].astype(int), drawn[1].astype(int)
    rows, cols = np.nonzero((first != second).any(axis=-1))
    assert rows.size
    assert rows.max() < 25
    assert cols.max() < 110


def test_a_webm_plays_in_a_browser(tmp_path, browser):
    write_movie(tmp_path / "movie.webm", draw_frames("coronal"))
    (tmp_path / "page.html").write_text("<video src=movie.webm muted></video>")

    browser.open(tmp_path / "page.html")
    played = browser.evaluate(
        """(async () => {
          const movie = document.querySelector("video");
          await movie.play();
          await new Promise((done) => { movie.onended = done; });
          return [movie.videoWidth, movie.error, movie.currentTime];
        })()"""
    )

    assert played[:2] == [54, None]
    # 9 mm wide and 40 mm high; 12 slices, 12 per second.
    assert played[2] == pytest.approx(1, abs=0.15)
