import numpy as np
import pytest

from heartseg.labels import HVSMR
from heartseg.runs.epoch_pictures import choose_slices, name_picture, write_beside
from heartseg.slices.pairs import SlicePair
from heartseg.slices.store import read_color, write_gray, write_mask


@pytest.fixture
def pairs(tmp_path):
    """Slices of two cases with 0, 3, 9, 5 and 1, 2 pixels of foreground."""
    made = []
    for case, counts in (("pat2", (0, 3, 9, 5)), ("pat10", (1, 2))):
        for index, count in enumerate(counts):
            labels = np.zeros((4, 6), np.uint8)
            labels.flat[:count] = 3
            files = [tmp_path / kind / f"{case}_{index:03d}.png" for kind in ("images", "masks")]
            write_gray(files[0], labels)
            write_mask(files[1], labels, HVSMR)
            made.append(SlicePair(*files))
    return made


@pytest.mark.parametrize(
    ("count", "chosen"),
    [
        (1, ["pat2_002"]),
        (2, ["pat2_002", "pat10_001"]),
        (3, ["pat2_002", "pat2_003", "pat10_001"]),
        (99, ["pat2_000", "pat2_001", "pat2_002", "pat2_003", "pat10_000", "pat10_001"]),
    ],
)
def test_the_fullest_slices_of_many_cases_are_chosen(pairs, count, chosen):
    assert [pair.name for pair in choose_slices(pairs, count)] == chosen
    assert choose_slices([], count) == []


def test_names_sort_by_epoch(tmp_path):
    files = [name_picture(tmp_path, "pat2_000", epoch) for epoch in (1, 2, 10, 100)]
    assert sorted(files) == files
    assert files[0].name == "Epoch_001_pat2_000.png"
    assert name_picture(tmp_path, "pat2_000").name == "Reference_pat2_000.png"


def test_the_scan_is_left_of_its_mask(tmp_path):
    image = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    labels = np.array([[0, 1, 8], [2, 2, 0]], np.uint8)
    write_beside(tmp_path / "a.png", image, labels, HVSMR)
    picture = read_color(tmp_path / "a.png")
    np.testing.assert_array_equal(picture[:, :3], np.stack([image] * 3, axis=-1))
    np.testing.assert_array_equal(picture[:, 3:], HVSMR.palette[labels])
