import numpy as np
import pytest
from builders import write_slices

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.slices.pairs import empty_aligned, find_pairs, read_pairs
from heartseg.slices.store import write_gray

SIZE = (8, 12)
NAMES = ["pat2_009", "pat2_010", "pat10_001", "pat10_002", "pat11_000"]


@pytest.fixture
def part_dir(tmp_path):
    write_slices(tmp_path, NAMES[::-1], SIZE)
    return tmp_path


def test_pairs_are_found_by_name_in_natural_order(part_dir):
    (part_dir / "images" / "notes.txt").touch()
    pairs = find_pairs(part_dir)
    assert [pair.name for pair in pairs] == NAMES
    assert all(pair.image_file.name == pair.mask_file.name for pair in pairs)


def test_every_file_without_a_partner_is_listed(part_dir):
    (part_dir / "images" / "pat2_010.png").unlink()
    (part_dir / "masks" / "pat10_001.png").unlink()
    with pytest.raises(DataError, match=r"found in one of them only \(2\):") as caught:
        find_pairs(part_dir)
    image, mask = part_dir / "images", part_dir / "masks"
    assert f"  - {image / 'pat10_001.png'} (no {mask / 'pat10_001.png'})" in str(caught.value)
    assert f"  - {mask / 'pat2_010.png'} (no {image / 'pat2_010.png'})" in str(caught.value)


def test_an_empty_part_is_an_error_with_the_command_that_fills_it(tmp_path):
    with pytest.raises(DataError, match="found none; run `heartseg split` first"):
        find_pairs(tmp_path)
    assert find_pairs(tmp_path, may_be_empty=True) == []


def test_pairs_are_read_as_grey_levels_and_labels(tmp_path):
    labels = write_slices(tmp_path, ["a_0", "a_1", "a_2"], SIZE)
    images, read = read_pairs(find_pairs(tmp_path), HVSMR, SIZE)
    assert (images.shape, images.dtype, read.dtype) == ((3, 1, *SIZE), np.uint8, np.uint8)
    for number in range(3):
        assert np.unique(images[number]) == [10 * number]
    np.testing.assert_array_equal(read, list(labels.values()))


def test_a_slice_of_another_size_is_refused(part_dir):
    write_gray(part_dir / "images" / "pat2_009.png", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"pat2_009\.png: expected 12 x 8 pixels .*, found 8 x 8"):
        read_pairs(find_pairs(part_dir)[:1], HVSMR, SIZE)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_an_aligned_array_starts_at_a_multiple_of_64_bytes(dtype):
    for side in range(1, 9):
        array = empty_aligned((side, 3, side), dtype)
        assert array.ctypes.data % 64 == 0
        assert (array.shape, array.dtype) == ((side, 3, side), dtype)
        assert array.flags.c_contiguous
