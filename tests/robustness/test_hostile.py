"""Folders full of hostile and odd files, given to the real commands.

Each bad file is reported in one line, all others are done, little memory is used, and nothing is
written outside the output folder.
"""

import gzip
import struct
import subprocess
import sys
import unicodedata
import zlib
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
from builders import make_scan, read_tree, write_nifti
from PIL import Image

SCAN = make_scan((9, 8, 7))
MAX_BYTES = 2 * 10**9
# Prints the peak memory of the process; ru_maxrss would include that of its parent.
RUN = """
import atexit, sys
from pathlib import Path
from heartseg.cli.app import main
status = Path("/proc/self/status")
atexit.register(lambda: print("VmHWM", status.read_text().split("VmHWM:")[1].split()[0]))
main()
"""

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").is_file(), reason="needs /proc to measure memory"
)


def nifti(voxels, *, endian="<", affine=SCAN.affine, **fields):
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(voxels.dtype)
    image = nibabel.Nifti1Image(voxels, affine, header)
    for key, value in fields.items():
        image.header[key] = value
    return image.to_bytes()


def patched(content, offset, layout, *values):
    changed = bytearray(content)
    struct.pack_into(layout, changed, offset, *values)
    return bytes(changed)


def spoiled(value):
    voxels = SCAN.image.astype(np.float32)
    voxels[0, 0, 0] = value
    return voxels


FLOATS = nifti(SCAN.image.astype(np.float32))
QFORM = nifti(SCAN.image.astype(np.float32), sform_code=0, qform_code=1)
RGB = np.zeros(SCAN.labels.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])
PACKED = gzip.compress(FLOATS)
DIM, PIXDIM, SROW = 40, 76, 280
# The expected error of each image; None if it must be prepared correctly.
VOLUMES = {
    "claims": (patched(FLOATS, DIM, "<4h", 3, 30000, 30000, 30000), "which is too large"),
    "zero_slices": (patched(FLOATS, DIM, "<4h", 3, 9, 8, 0), "not a readable NIfTI|3D volume"),
    "four_axes": (nifti(np.zeros((9, 8, 7, 2), np.float32)), "expected a 3D volume"),
    "negative_spacing": (patched(QFORM, PIXDIM + 4, "<f", -1.0), "pixdim|spacing|readable"),
    "nan_spacing": (patched(QFORM, PIXDIM + 4, "<f", np.nan), "singular or not finite"),
    "singular": (patched(FLOATS, SROW, "<8f", *[1, 0, 0, 0] * 2), "singular or not finite"),
    "huge_offset": (patched(FLOATS, 108, "<f", 1e12), "voxels start at byte"),
    "rgb": (nifti(RGB), "expected real numbers"),
    "complex": (nifti(SCAN.image.astype(np.complex64)), "expected real numbers"),
    "truncated_gz": (PACKED[:-60], "not a readable NIfTI file"),
    "bomb": (gzip.compress(patched(FLOATS, DIM, "<4h", 3, 9000, 9000, 9)), "which is too large"),
    "text": (b"patient name: nobody", "no NIfTI header"),
    "empty": (b"", "no NIfTI header"),
    "all_nan": (nifti(np.full(SCAN.image.shape, np.nan, np.float32)), "found no finite voxel"),
    "big_endian": (nifti(SCAN.image.astype(">f4"), endian=">"), None),
    "float64": (nifti(SCAN.image), None),
    "int8_slope": (
        nifti((SCAN.image * 100).astype(np.int8), scl_slope=0.01, scl_inter=0.0),
        None,
    ),
    "doubled_gz": (PACKED * 2, None),
    "long_bomb": (PACKED + gzip.compress(bytes(2**24)) * 256, None),
    "one_nan": (nifti(spoiled(np.nan)), None),
    "one_inf": (nifti(spoiled(np.inf)), None),
}
NAMES = {
    ".hidden": None,
    "..": None,
    "new\nline": r"new\nline",
    "red\x1b[31m": r"red\x1b[31m",
    unicodedata.normalize("NFC", "Häschen"): "H",
}


def run(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert "Traceback" not in done.stderr
    *printed, peak = done.stdout.splitlines()
    assert int(peak.removeprefix("VmHWM ")) * 1024 < MAX_BYTES
    return done.returncode, printed, done.stderr


def lines_about(name, stderr):
    return [line for line in stderr.splitlines() if line.startswith("  - ") and name in line]


def test_prepare_reports_each_bad_volume_and_does_the_others(tmp_path):
    for name, (content, _) in VOLUMES.items():
        suffix = ".nii.gz" if content[:2] == b"\x1f\x8b" else ".nii"
        write_nifti(tmp_path / f"in/{name}_cropped_seg.nii", SCAN.labels, SCAN.affine)
        (tmp_path / f"in/{name}_cropped_norm{suffix}").write_bytes(content)
    for name in NAMES:
        for kind, voxels in (("seg", SCAN.labels), ("norm", SCAN.image)):
            write_nifti(tmp_path / f"in/{name}_cropped_{kind}.nii", voxels, SCAN.affine)
    (tmp_path / "config.yaml").write_text(
        "data: {source_dir: in, master_dir: out/master}\n"
        "prepare: {image_width: 16, image_height: 16}\n"
        "model: {num_layers: 2}\nparallel: {jobs: 1}\n"
    )
    before = read_tree(tmp_path)

    code, printed, stderr = run(tmp_path, "prepare", "config.yaml")

    assert (code, printed) == (1, [])
    after = read_tree(tmp_path)
    for name, (_, problem) in VOLUMES.items():
        lines = lines_about(f"in/{name}_cropped_norm.nii", stderr)
        written = [file for file in after if file.startswith(f"out/master/images/{name}_")]
        assert (len(lines), bool(written)) == ((0, True) if problem is None else (1, False)), name
        assert problem is None or any(part in lines[0] for part in problem.split("|")), lines
    for shown in (r"'new\nline'", r"'red\x1b[31m'"):
        assert len(lines_about(f"the case name {shown}", stderr)) == 1
    assert "\x1b" not in stderr
    # Only the output folder was written to, and no earlier file has changed.
    assert {file: after[file] for file in before} == before
    outputs = after.keys() - before.keys()
    assert all(file.startswith("out/master/") for file in outputs)
    good = {name for name, (_, problem) in VOLUMES.items() if problem is None} | {"Häschen"}
    slices = {Path(file).name.rpartition("_")[0] for file in outputs if "/masks/" in file}
    assert slices == good
    # The same scan in another encoding gives the same pictures.
    for name in ("big_endian", "doubled_gz", "long_bomb"):
        pictures = [after[f"out/master/images/{n}_003.png"] for n in (name, "float64")]
        assert pictures[0] == pictures[1]


def png_claim(width, height):
    """Return a PNG whose header claims a size, with hardly any content."""

    def chunk(kind, content):
        checked = kind + content
        return struct.pack(">I", len(content)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png(picture):
    return cv2.imencode(".png", picture)[1].tobytes()


LABELS = (np.arange(63).reshape(9, 7) % 9).astype(np.uint8)
PICTURES = {
    "sixteen_bits": (png(LABELS.astype(np.uint16)), "expected 8 bits"),
    "alpha": (png(np.repeat(LABELS[..., None], 4, -1)), "expected one channel"),
    "colour": (png(np.repeat(LABELS[..., None], 3, -1)), "expected one channel"),
    "no_label": (png(LABELS + 100), "found"),
    "claims": (png_claim(20000, 20000), "too short for the size it claims"),
    "no_side": (png_claim(0, 9), "not a readable picture"),
    "cut_short": (png(LABELS)[:-30], "not a readable picture"),
    "text": (b"hello", "not a readable picture"),
    "empty": (b"", "not a readable picture"),
    "plain": (png(LABELS), None),
    "one_pixel": (png(LABELS[:1, :1]), None),
}


def test_colorize_reports_each_bad_picture_and_does_the_others(tmp_path):
    (tmp_path / "in").mkdir()
    for name, (content, _) in PICTURES.items():
        (tmp_path / f"in/{name}.png").write_bytes(content)
    palette = Image.fromarray(LABELS, "L").convert("P")
    palette.putpalette([value for level in range(256) for value in (level, 0, 0)])
    palette.save(tmp_path / "in/palette.png")
    before = read_tree(tmp_path)

    code, printed, stderr = run(tmp_path, "colorize", "in", "--output", "out")

    assert (code, printed) == (1, [])
    after = read_tree(tmp_path)
    for name, (_, problem) in {**PICTURES, "palette": (b"", "expected one channel")}.items():
        lines = lines_about(f"in/{name}.png: ", stderr)
        written = f"out/{name}.png" in after
        assert (len(lines), written) == ((0, True) if problem is None else (1, False)), name
        assert problem is None or problem in lines[0]
    assert {file: after[file] for file in before} == before
    assert all(file.startswith("out/") for file in after.keys() - before.keys())
