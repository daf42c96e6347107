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
from dicom_builders import SECRETS, make_classic, make_enhanced, save, write_archive, write_classic
from itk_images import write_itk
from PIL import Image

from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.networks.unet import build_unet
from heartseg.slices.recipe import SliceRecipe

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


GRID = make_scan((9, 8, 7), axes="LPS").affine
VALUES = (SCAN.image * 1000 + 100).astype(np.int16)
LABEL_MAP = SCAN.labels.astype(np.uint8)


def packed(write, voxels, suffix, folder):
    """Return the bytes of a file of another format."""
    file = folder / f"made{suffix}"
    write(file, voxels)
    return file.read_bytes()


def itk(file, voxels):
    write_itk(file, voxels, GRID)


def mgh(file, voxels):
    nibabel.save(nibabel.MGHImage(voxels, GRID), file)


def make_foreign(folder, voxels):
    """Return files of the other formats by name: content, and the error or None if it is good."""
    nrrd, mha = packed(itk, voxels, ".nrrd", folder), packed(itk, voxels, ".mha", folder)
    mgz = packed(mgh, voxels, ".mgz", folder)
    return {
        "good1.nrrd": (nrrd, None),
        "good2.mha": (mha, None),
        "good3.MGZ": (mgz, None),
        "claims_n.nrrd": (
            nrrd.replace(b"sizes: 9 8 7", b"sizes: 9000 8000 70"),
            "too large|too short|truncated",
        ),
        "no_space.nrrd": (
            nrrd.replace(b"left-posterior-superior", b"scanner-xyz"),
            "does not say how it lies in the patient",
        ),
        "outside.nrrd": (
            nrrd.partition(b"\n\n")[0] + b"\ndata file: ../../../etc/passwd\n\n",
            "must lie|its folder|not a readable NRRD",
        ),
        "cut_n.nrrd": (nrrd[:-40], "NRRD"),
        "text_n.nrrd": (b"patient name: nobody", "not a readable NRRD file"),
        "claims_m.mha": (
            mha.replace(b"DimSize = 9 8 7", b"DimSize = 9000 8000 70"),
            "too large|too short|truncated",
        ),
        "channels.mha": (mha.replace(b"NDims = 3", b"NDims = 4"), "MetaImage|expected one 3D"),
        "cut_m.mha": (mha[:-40], "MetaImage|truncated"),
        "empty.mha": (b"", "it has no MetaImage header"),
        "cut_g.mgz": (mgz[:-20], "MGH"),
        "text_g.mgz": (b"hello", "MGH"),
    }


def write_foreign(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    (folder / "._good1.nrrd").write_bytes(b"resource fork")
    (folder / "gone.mha").symlink_to("nowhere/gone.mha")
    return {**files, "gone.mha": (b"", "link to a file that is not there|no such file")}


def check_foreign(folder, files, stderr, is_done):
    for name, (_, problem) in files.items():
        lines = lines_about(f"{folder}/{name}: ", stderr)
        assert (len(lines), is_done(name)) == ((0, True) if problem is None else (1, False)), name
        assert problem is None or any(part in lines[0] for part in problem.split("|")), lines
    assert not lines_about("._good1", stderr)


def test_infer_reports_each_bad_scan_and_does_the_others(tmp_path):
    files = write_foreign(tmp_path / "in", make_foreign(tmp_path, VALUES))
    write_archive(tmp_path / "in" / "good4.zip", write_classic(tmp_path / "good5", VALUES, GRID))
    (tmp_path / "in" / "bad.zip").write_bytes(b"PK\x03\x04" + bytes(60))
    save(make_enhanced(VALUES, GRID), tmp_path / "good6.dcm")
    broken = write_classic(tmp_path / "broken", VALUES, GRID)
    cut = sorted(broken.iterdir())[2]
    cut.write_bytes(cut.read_bytes()[:300])
    missing = make_classic(VALUES, GRID)
    for number, image in enumerate(missing[:3] + missing[4:]):
        save(image, tmp_path / "missing" / f"{number}.dcm")
    for number in (1, 2):
        write_classic(
            tmp_path / "two" / str(number),
            VALUES,
            GRID,
            SeriesInstanceUID=f"1.2.{number}",
            SeriesNumber=number,
        )
    (tmp_path / "nothing").mkdir()
    write_slice_model(tmp_path / "run")
    (tmp_path / "config.yaml").write_text("run_dir: run\ninfer: {outputs: [label_map]}\n")
    before = read_tree(tmp_path)
    folders = ("good5", "good6.dcm", "broken", "missing", "two", "nothing")

    code, printed, stderr = run(
        tmp_path, *("infer", "config.yaml", "in", *folders, "--output", "out")
    )

    assert (code, printed) == (1, [])
    after = read_tree(tmp_path)
    check_foreign(
        "in", files, stderr, lambda name: f"out/{name.rpartition('.')[0]}_seg.nii.gz" in after
    )
    for number in range(1, 7):
        assert f"out/good{number}_seg.nii.gz" in after
    for start, problem in (
        ("in/bad.zip: ", "not a readable .zip archive"),
        ("broken: ", "1 of its DICOM files cannot be read"),
        ("missing: series 3", "slices are missing: between slices 3 and 4"),
        ("two: holds 2 series", "choose one by its number with --series"),
        ("nothing: ", "expected files that end in"),
    ):
        [line] = lines_about(start, stderr)
        assert problem in line
    assert not [secret for secret in SECRETS if secret in stderr]
    assert {file: after[file] for file in before} == before
    assert all(file.startswith("out/") for file in after.keys() - before.keys())


def write_slice_model(run_dir):
    """Write a run whose model is a small random network."""
    recipe = SliceRecipe(
        image_height=32, image_width=32, image_channels=1, window="percentile", window_range=(0, 99)
    )
    model = build_unet(image_size=(32, 32), image_channels=1, num_layers=2, base_filters=2, seed=1)
    labels = [
        {"value": s.value, "key": s.key, "name": s.name, "color": list(s.color)}
        for s in HVSMR.structures
    ]
    run_dir.mkdir()
    save_model(model, run_dir / "best.keras", {"recipe": recipe.to_dict(), "labels": labels})


DONE = {
    "colorize": lambda out, name: (out / name / f"{name}_003.png").is_file(),
    "surfaces": lambda out, name: (out / f"{name}_heart.glb").is_file(),
    "evaluate": lambda out, name: f"\n{name},LV," in (out / "cases.csv").read_text(),
}


@pytest.mark.parametrize("command", DONE)
def test_commands_for_label_maps_report_each_bad_one_and_do_the_others(tmp_path, command):
    files = write_foreign(tmp_path / "in", make_foreign(tmp_path, LABEL_MAP))
    # Images of a DICOM series are no label maps: they are left out.
    for number, image in enumerate(make_classic(VALUES, GRID)):
        save(image, tmp_path / "in" / f"{number}.dcm")
    arguments = [command, "in", "--output", "out"]
    if command == "evaluate":
        arguments = [command, "--predictions", "in", "--references", "true", "--output", "out"]
        arguments += ["--set", "parallel.jobs=1", "--set", "evaluate.num_bootstrap=50"]
        for name in files:
            write_nifti(tmp_path / "true" / f"{Path(name).stem}.nii.gz", LABEL_MAP, GRID)
    before = read_tree(tmp_path)

    code, printed, stderr = run(tmp_path, *arguments)

    assert (code, printed) == (1, [])
    done = DONE[command]
    check_foreign("in", files, stderr, lambda name: done(tmp_path / "out", Path(name).stem))
    after = read_tree(tmp_path)
    assert {file: after[file] for file in before} == before
    assert all(file.startswith("out/") for file in after.keys() - before.keys())
    assert not [secret for secret in SECRETS if secret in stderr]
