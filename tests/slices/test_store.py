import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from heartseg.errors import DataError
from heartseg.labels import HVSMR
from heartseg.slices.store import (
    load_mask,
    read_color,
    read_gray,
    read_index,
    read_mask,
    write_color,
    write_gray,
    write_mask,
)

GRAY = np.random.default_rng(0).integers(0, 256, (7, 11), dtype=np.uint8)
COLOR = np.random.default_rng(1).integers(0, 256, (7, 11, 3), dtype=np.uint8)


def png(width, height, depth, color, rows=b"", palette=b"", packed=None):
    """Return a PNG file, built chunk by chunk."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">2I5B", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + (chunk(b"PLTE", palette) if palette else b"")
        + chunk(b"IDAT", packed or zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_pictures_are_read_as_they_were_written(tmp_path, suffix):
    write_gray(tmp_path / f"gray{suffix}", GRAY)
    write_color(tmp_path / f"color{suffix}", COLOR)
    write_gray(tmp_path / f"index{suffix}", GRAY)
    np.testing.assert_array_equal(read_gray(tmp_path / f"gray{suffix}"), GRAY)
    np.testing.assert_array_equal(read_index(tmp_path / f"gray{suffix}"), GRAY)
    np.testing.assert_array_equal(read_color(tmp_path / f"color{suffix}"), COLOR)
    np.testing.assert_array_equal(read_index(tmp_path / f"index{suffix}"), GRAY)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_a_mask_has_the_colours_of_its_labels(tmp_path, dtype):
    labels = np.arange(9, dtype=dtype).reshape(3, 3)[::-1, ::-1].T
    write_mask(tmp_path / "a.png", labels, HVSMR)
    expected = [[s.color for s in HVSMR.structures][int(value)] for value in labels.ravel()]
    assert read_color(tmp_path / "a.png").reshape(9, 3).tolist() == [list(c) for c in expected]


def test_a_mask_of_an_unknown_label_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"a\.png: expected label values 0 to 8, found 9"):
        write_mask(tmp_path / "a.png", np.full((2, 2), 9, np.uint8), HVSMR)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_color, lambda file, mask: cv2.imwrite(str(file), mask)])
def test_an_unknown_colour_is_reported_with_its_place_in_the_mask(tmp_path, write):
    mask = np.zeros((6, 5, 3), np.uint8)
    mask[4:, 2] = 7
    write(tmp_path / "a.png", mask)
    with pytest.raises(
        DataError, match=r"a\.png: .* \(4, 2\) has the colour \(7, 7, 7\).*pixels: 2"
    ):
        read_mask(tmp_path / "a.png", HVSMR)


def test_a_mask_reads_as_it_was_written(tmp_path):
    labels = np.random.default_rng(4).integers(0, 9, (9, 13), np.uint8).repeat(3, axis=0)
    write_mask(tmp_path / "a.png", labels, HVSMR)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", HVSMR), labels)


def test_repeated_rows_of_a_mask_are_decoded_once(tmp_path):
    labels = np.random.default_rng(4).integers(0, 9, (9, 13), np.uint8).repeat(3, axis=0)
    write_mask(tmp_path / "a.png", labels, HVSMR)
    mask = load_mask(tmp_path / "a.png")
    rows, which = mask._distinct_rows()
    assert (mask.shape, rows.shape) == ((27, 13), (9, 13, 3))
    np.testing.assert_array_equal(which, np.arange(9).repeat(3))


def test_red_stays_red(tmp_path):
    write_color(tmp_path / "a.png", np.full((2, 3, 3), (255, 0, 0), np.uint8))
    # OpenCV itself reads blue, green, red.
    assert cv2.imread(str(tmp_path / "a.png"))[0, 0].tolist() == [0, 0, 255]


@pytest.mark.parametrize("shape", [(1, 1), (7, 11), (64, 1), (33, 65, 3), (1, 2, 3)])
def test_another_reader_sees_the_same_picture(tmp_path, shape):
    picture = np.random.default_rng(2).integers(0, 256, shape, dtype=np.uint8)
    (write_gray if len(shape) == 2 else write_color)(tmp_path / "a.png", picture)
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(np.asarray(opened), picture)


def test_a_path_may_hold_any_characters(tmp_path):
    file = tmp_path / "Ärzte ♥" / "pät 1_003.png"
    write_gray(file, GRAY)
    np.testing.assert_array_equal(read_gray(file), GRAY)


def test_16_bits_are_scaled_to_8(tmp_path):
    deep = np.array([[0, 128, 129, 257, 65535, 32896]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), deep)
    assert read_gray(tmp_path / "a.png").tolist() == [[0, 0, 1, 1, 255, 128]]
    with pytest.raises(DataError, match=r"a\.png: expected 8 bits per channel, found uint16"):
        read_index(tmp_path / "a.png")


def test_transparency_is_ignored(tmp_path):
    clear = np.dstack([COLOR[..., ::-1], np.zeros(COLOR.shape[:2], np.uint8)])
    cv2.imwrite(str(tmp_path / "a.png"), clear)
    np.testing.assert_array_equal(read_color(tmp_path / "a.png"), COLOR)
    assert read_gray(tmp_path / "a.png").shape == (7, 11)
    with pytest.raises(DataError, match="expected one channel of label values, found 4"):
        read_index(tmp_path / "a.png")


def test_a_palette_picture_reads_as_its_colours(tmp_path):
    rows = bytes([0, 0, 1, 0, 1, 0])  # two rows of two pixels, each after its filter byte
    (tmp_path / "a.png").write_bytes(png(2, 2, 8, 3, rows, bytes([255, 0, 0, 0, 0, 255])))
    red, blue = [255, 0, 0], [0, 0, 255]
    assert read_color(tmp_path / "a.png").tolist() == [[red, blue], [blue, red]]


def test_a_single_pixel_is_a_picture(tmp_path):
    write_gray(tmp_path / "a.png", np.full((1, 1), 9, np.uint8))
    assert read_gray(tmp_path / "a.png").tolist() == [[9]]
    assert read_color(tmp_path / "a.png").tolist() == [[[9, 9, 9]]]


def test_a_colour_picture_is_not_read_as_labels(tmp_path):
    write_color(tmp_path / "a.png", COLOR)
    with pytest.raises(DataError, match=r"a\.png: expected one channel .* --decode"):
        read_index(tmp_path / "a.png")


@pytest.mark.parametrize("read", [read_gray, read_color, read_index])
def test_a_broken_picture_is_an_error_with_its_file(tmp_path, read):
    write_gray(tmp_path / "whole.png", GRAY)
    whole = (tmp_path / "whole.png").read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 0xFF
    file = tmp_path / "a.png"
    for content in (b"", b"text", whole[:20], whole[:60], bytes(damaged), png(0, 5, 8, 0)):
        file.write_bytes(content)
        with pytest.raises(DataError, match="not a readable picture") as caught:
            read(file)
        assert str(caught.value).startswith(f"{file}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_gray, read_color, read_index])
def test_missing_files_and_folders_are_errors(tmp_path, read):
    with pytest.raises(DataError, match=r"none\.png: no such file"):
        read(tmp_path / "none.png")
    with pytest.raises(DataError, match="cannot be read"):
        read(tmp_path)


def huge_picture():
    """Return a valid PNG of 20000 x 20000 black pixels, which takes little space."""
    rows = zlib.compressobj(1)
    packed = b"".join(rows.compress(bytes(600_010)) for _ in range(2000)) + rows.flush()
    return png(20000, 20000, 8, 2, packed=packed)


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="needs /proc")
@pytest.mark.parametrize(
    ("make", "reader"),
    [
        (huge_picture, "read_gray"),
        (huge_picture, "read_color"),
        (lambda: png(20000, 20000, 8, 2), "read_color"),
        # A chunk that claims 3.7 GB.
        (lambda: png(7, 9, 8, 2).replace(b"\0\0\0\x08IDAT", b"\xdd\0\0\0IDAT"), "read_color"),
    ],
    ids=["valid gray", "valid color", "short", "chunk"],
)
def test_a_picture_that_is_too_large_is_refused_before_it_takes_memory(tmp_path, make, reader):
    (tmp_path / "a.png").write_bytes(make())
    script = (
        "import sys\nfrom pathlib import Path\n"
        # OpenCV reads its limit once, whichever module imports it first.
        "import heartseg.scans.geometry\n"
        f"from heartseg.slices.store import {reader} as read\n"
        "from heartseg.errors import DataError\n"
        "try:\n    read(Path(sys.argv[1]))\nexcept DataError as error:\n    print(error)\n"
        # Not ru_maxrss: a child inherits that of the process that started it.
        "status = Path('/proc/self/status').read_text()\n"
        "print(status.split('VmHWM:')[1].split()[0])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "a.png"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    message, peak = ran.stdout.splitlines()
    assert message.startswith(f"{tmp_path / 'a.png'}: ")
    assert int(peak) * 1024 < 4e8


def test_an_unknown_suffix_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"a\.xyz: cannot be encoded as \.xyz; choose one of \.png"):
        write_gray(tmp_path / "a.xyz", GRAY)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_too_large_for_a_picture_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("heartseg.slices.store.MAX_FILE_BYTES", 1000)
    (tmp_path / "a.png").write_bytes(bytes(1234))
    with pytest.raises(DataError, match=r"a\.png: expected a picture of at most 1,000 .* 1,234$"):
        read_gray(tmp_path / "a.png")


def test_what_is_transparent_in_a_mask_is_background(tmp_path):
    mask = np.full((8, 8, 4), 255, np.uint8)
    mask[..., 3] = 0
    mask[2:4, 2:4] = (255, 0, 0, 255)
    Image.fromarray(mask).save(tmp_path / "m.png")

    labels = read_mask(tmp_path / "m.png", HVSMR)

    expected = np.zeros((8, 8), np.uint8)
    expected[2:4, 2:4] = 1
    np.testing.assert_array_equal(labels, expected)


def test_a_tiff_of_several_pages_is_refused(tmp_path):
    pages = [Image.fromarray(np.full((6, 5), level, np.uint8)) for level in (10, 20, 30)]
    pages[0].save(tmp_path / "many.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "one.tif")

    assert read_gray(tmp_path / "one.tif")[0, 0] == 10
    with pytest.raises(DataError, match=r"many\.tif: expected one picture, found 3 pages"):
        read_gray(tmp_path / "many.tif")
