"""Broken and hostile files: a DataError of one line that begins with the file, or a right result.

``HEARTSEG_FUZZ=50 pytest tests/robustness/test_fuzz.py`` runs 50 times as many cases.
"""

import gzip
import logging
import os
import struct
import warnings
from contextlib import contextmanager
from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
import yaml
from builders import make_scan
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from heartseg.config.loading import dump_config, load_config
from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError
from heartseg.files import read_json
from heartseg.inference.volumetry import measure_volumes
from heartseg.labels import HVSMR
from heartseg.scans.volume import read_image, read_label_map
from heartseg.slices.manifest import read_manifest
from heartseg.slices.recipe import PreparedVolume, SliceRecipe
from heartseg.slices.store import read_color, read_gray, read_index

FACTOR = float(os.environ.get("HEARTSEG_FUZZ", "1"))
SCAN = make_scan((5, 4, 3))
MAX_BYTES = 2 * 10**9
CLEAR_REFS = Path("/proc/self/clear_refs")


def fuzz(cases):
    """Run a test for this number of cases, which are always the same unless more are requested."""
    return settings(
        max_examples=max(1, int(cases * FACTOR)),
        deadline=None,
        derandomize=FACTOR == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module", autouse=True)
def little_memory():
    """Check that no case of this module takes 2 GB more than the process held before."""
    try:
        CLEAR_REFS.write_text("5")  # resets the high-water mark
    except OSError:  # another system, or not permitted
        yield
        return
    before = high_water_bytes()
    yield
    assert high_water_bytes() - before < MAX_BYTES


def high_water_bytes():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


@contextmanager
def only_our_errors(file):
    """Check that a block raises nothing but a DataError of one line that begins with the file."""
    try:
        # Libraries may warn about odd files; the command line logs these warnings.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            yield
    except DataError as error:
        text = str(error)
        if not text.startswith(f"{file}: ") or "\n" in text or len(text) > 1000:
            raise AssertionError(f"not one line that begins with the file: {text}") from error


def nifti_bytes(voxels, endian="<", nifti2=False):
    image_class = nibabel.Nifti2Image if nifti2 else nibabel.Nifti1Image
    header = image_class.header_class(endianness=endian)
    header.set_data_dtype(voxels.dtype)
    return image_class(voxels, SCAN.affine, header).to_bytes()


SOUND = [
    nifti_bytes(SCAN.image.astype(np.float32)),
    nifti_bytes(SCAN.image),
    nifti_bytes(SCAN.labels),
    nifti_bytes(SCAN.labels, ">"),
    nifti_bytes(SCAN.labels.astype(np.uint8), nifti2=True),
]
# Offsets of the fields of NIfTI-1: sizes, type, spacing, offset, scaling, affines, magic.
FIELDS = {
    0: "i", 40: "h", 42: "h", 44: "h", 46: "h", 48: "h", 70: "h", 72: "h", 76: "f", 80: "f",
    84: "f", 88: "f", 108: "f", 112: "f", 116: "f", 123: "b", 252: "h", 254: "h", 256: "f",
    260: "f", 268: "f", 280: "f", 284: "f", 292: "f", 300: "f", 312: "f", 344: "i", 348: "i",
    352: "i", 356: "i",
}  # fmt: skip
ODD = {
    "b": [0, 1, -1, 127],
    "h": [0, 1, -1, 2, 3, 4, 5, 7, 8, 16, 32, 64, 128, 256, 512, 1280, 1536, 2304, 32767, -32768],
    "i": [0, 1, -1, 348, 540, 16, 2**31 - 1, -(2**31), 2**31 - 16],
    "f": [0.0, -1.0, 1e-45, 1e-30, 1e30, 3.4e38, np.nan, np.inf, -np.inf, 0.5, 352.0, 353.0, 2e9],
}


@st.composite
def header_changes(draw):
    offset = draw(st.sampled_from(sorted(FIELDS)))
    kind = FIELDS[offset]
    return offset, struct.pack(f"<{kind}", draw(st.sampled_from(ODD[kind])))


byte_changes = st.tuples(st.integers(0, 600), st.binary(min_size=1, max_size=8))


@st.composite
def broken_nifti(draw):
    content = bytearray(draw(st.sampled_from(SOUND)))
    for offset, value in draw(
        st.lists(st.one_of(header_changes(), byte_changes), min_size=1, max_size=4)
    ):
        content[offset : offset + len(value)] = value
    if draw(st.booleans()):
        content = content[: draw(st.integers(0, len(content)))]
    return bytes(content)


def check_volume(file):
    """Read a file as an image and as a label map; prepare a slice of the image."""
    with only_our_errors(file):
        volume = read_image(file)
        assert volume.voxels.dtype == np.float32
        assert volume.voxels.ndim == 3
        assert np.isfinite(volume.voxels).all()
        assert np.isfinite(volume.affine).all()
        assert (volume.spacing_mm > 0).all()
        for fit in ("stretch", "pad"):
            recipe = SliceRecipe(
                fit=fit,
                image_height=16,
                image_width=24,
                window="percentile",
                window_range=(1.0, 99.0),
            )
            try:
                prepared = PreparedVolume(volume, recipe)
            except DataError as error:
                assert "expected at most 8192 per side" in str(error)  # noqa: PT017
            else:
                assert prepared[0].shape == (16, 24)
    with only_our_errors(file):
        labels = read_label_map(file, HVSMR)
        assert labels.voxels.dtype == np.uint8
        assert labels.voxels.max() < HVSMR.num_classes


@seed(1)
@fuzz(600)
@given(content=broken_nifti())
def test_broken_volumes(folder, content):
    file = folder / "a.nii"
    file.write_bytes(content)
    check_volume(file)


@seed(2)
@fuzz(300)
@given(
    content=broken_nifti(),
    repeat=st.sampled_from([1, 1, 2]),
    cut=st.integers(0, 40),
    data=st.data(),
)
def test_broken_packed_volumes(folder, content, repeat, cut, data):
    packed = bytearray(gzip.compress(content, mtime=0) * repeat)
    for position, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(packed) - 1), st.integers(0, 255)), max_size=2)
    ):
        packed[position] = value
    file = folder / "a.nii.gz"
    file.write_bytes(packed[: len(packed) - cut])
    check_volume(file)


def picture_bytes(suffix, picture):
    return cv2.imencode(suffix, picture)[1].tobytes()


RNG = np.random.default_rng(0)
PICTURES = [
    picture_bytes(".png", RNG.integers(0, 256, (9, 7), dtype=np.uint8)),
    picture_bytes(".png", RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)),
    picture_bytes(".png", RNG.integers(0, 256, (9, 7, 4), dtype=np.uint8)),
    picture_bytes(".png", RNG.integers(0, 65536, (9, 7), dtype=np.uint16)),
    picture_bytes(".bmp", RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)),
    picture_bytes(".jpg", RNG.integers(0, 256, (9, 7, 3), dtype=np.uint8)),
    picture_bytes(".tif", RNG.integers(0, 256, (9, 7), dtype=np.uint8)),
]


@seed(3)
@fuzz(600)
@given(
    content=st.sampled_from(PICTURES),
    changes=st.lists(
        st.tuples(st.integers(0, 400), st.binary(min_size=1, max_size=4)), min_size=1, max_size=4
    ),
    keep=st.one_of(st.none(), st.integers(0, 300)),
)
def test_broken_pictures(folder, content, changes, keep):
    changed = bytearray(content)
    for offset, value in changes:
        changed[offset % len(changed) : offset % len(changed) + len(value)] = value
    # Readers recognise the format by the content, so one name serves for all.
    file = folder / "a.png"
    file.write_bytes(changed[:keep])
    for read, axes in ((read_gray, 2), (read_color, 3), (read_index, 2)):
        with only_our_errors(file):
            picture = read(file)
            assert picture.dtype == np.uint8
            assert picture.ndim == axes


def change(content, changes, keep):
    changed = bytearray(content)
    for place, value in changes:
        at = int(place * (len(changed) - len(value)))
        changed[at : at + len(value)] = value
    return bytes(changed[: int(keep * len(changed))])


real_changes = {
    "changes": st.lists(
        # Half of the changes are in the first bytes, which hold the header.
        st.tuples(
            st.one_of(st.floats(0, 1), st.floats(0, 0.002)), st.binary(min_size=1, max_size=8)
        ),
        min_size=1,
        max_size=4,
    ),
    "keep": st.one_of(st.just(1.0), st.floats(0, 1)),
}


@seed(8)
@fuzz(30)
@given(which=st.integers(0, 99), **real_changes)
def test_mutated_real_volumes(hvsmr2, folder, which, changes, keep):
    files = sorted((hvsmr2 / "labels").glob("*_seg.nii.gz"), key=lambda f: f.stat().st_size)[:3]
    content = gzip.decompress(files[which % len(files)].read_bytes())
    file = folder / "real.nii"
    file.write_bytes(change(content, changes, keep))
    check_volume(file)


@seed(9)
@fuzz(120)
@given(which=st.integers(0, 99), **real_changes)
def test_mutated_real_pictures(hvsmr2, folder, which, changes, keep):
    files = sorted((hvsmr2 / "slices").rglob("*.png"))
    file = folder / "real.png"
    file.write_bytes(change(files[which % len(files)].read_bytes(), changes, keep))
    for read in (read_gray, read_color, read_index):
        with only_our_errors(file):
            read(file)


@seed(4)
@fuzz(100)
@given(content=st.binary(max_size=200))
def test_random_bytes(folder, content):
    for name in ("b.nii", "b.nii.gz", "b.png"):
        (folder / name).write_bytes(content)
    check_volume(folder / "b.nii")
    check_volume(folder / "b.nii.gz")
    with only_our_errors(folder / "b.png"):
        read_gray(folder / "b.png")
    with only_our_errors(folder / "b.png"):
        read_json(folder / "b.png")
    with only_our_errors(folder / "b.png"):
        read_manifest(folder / "b.png")


PUBLISHED = dump_config(Config())
SCRAPS = [
    "!!int ''", "!!python/name:os.system", "&a [*a]", "*x", "? [a]: b", "\t", "\ufeff", "null", "~",
    "[", "]", "{", "}", ": ", "- ", "1e-4", ".nan", ".inf", "-1", "9" * 30, "0x_", "2026-13-01",
    "true", '"\\0"', "'", '"', "%TAG ! x", "---\n", "...\n", "<<: {a: 1}", "|", ">", "é", "\u2028",
    "=", "1:2:3", "!", "@", "`",
]  # fmt: skip
values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.dates(),
        st.sampled_from(["auto", "patient", "pad", "1e-4", ""]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def check_config(file, overrides=()):
    try:
        config = load_config(file, overrides)
    except ConfigError as error:
        text = str(error)
        source = "--set" if overrides else str(file)
        assert text.startswith((str(file), source))
        assert len(text) < 20_000
        # One line, or a headline and one line per problem.
        assert all(line.startswith("  - ") for line in text.splitlines()[1:])
    else:
        file.write_text(dump_config(config), encoding="utf-8")
        assert load_config(file) == config


@seed(5)
@fuzz(300)
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.sampled_from(SCRAPS)), min_size=1, max_size=3),
    cut=st.floats(0.02, 0.3),
)
def test_broken_yaml(folder, places, cut):
    text = PUBLISHED[: int(len(PUBLISHED) * cut)]
    for place, scrap in places:
        at = int(place * len(text))
        text = text[:at] + scrap + text[at:]
    file = folder / "a.yaml"
    file.write_text(text, encoding="utf-8")
    check_config(file)


KEYS = [
    (section, key)
    for section, entries in Config().model_dump().items()
    if isinstance(entries, dict)
    for key in entries
]


@seed(6)
@fuzz(300)
@given(place=st.sampled_from(KEYS), value=values)
def test_values_of_any_kind(folder, place, value):
    file = folder / "b.yaml"
    section, key = place
    file.write_text(yaml.safe_dump({section: {key: value}}), encoding="utf-8")
    check_config(file)


@seed(7)
@fuzz(100)
@given(place=st.sampled_from(KEYS), text=st.one_of(st.sampled_from(SCRAPS), st.text(max_size=12)))
def test_settings_of_any_kind(folder, place, text):
    file = folder / "c.yaml"
    file.write_text("", encoding="utf-8")
    check_config(file, [f"{'.'.join(place)}={text}"])


UNITS = {"mm": 1.0, "unknown": 1.0, "micron": 1e3, "meter": 1e-3}


def relaid(axes, units, extra_axes, endian, dtype, codes, moved_mm):
    """Return the bytes of SCAN's label map, stored in another way that means the same."""
    scan = SCAN.turned(axes)
    header = nibabel.Nifti1Header(endianness=endian)
    header.set_data_dtype(dtype)
    scaled = np.diag([UNITS[units]] * 3 + [1.0]) @ scan.affine
    voxels = scan.labels.astype(dtype).reshape(scan.labels.shape + (1,) * extra_axes)
    image = nibabel.Nifti1Image(voxels, scaled, header)
    qform = scaled.copy()
    qform[0, 3] += moved_mm * UNITS[units]
    image.set_qform(qform, codes[0])
    image.set_sform(scaled, codes[1])
    image.header.set_xyzt_units(units)
    return image.to_bytes()


@fuzz(120)
@given(
    axes=st.sampled_from(["PIR", "RAS", "LPS", "SAL", "IRP"]),
    units=st.sampled_from(list(UNITS)),
    extra_axes=st.integers(0, 3),
    endian=st.sampled_from("<>"),
    dtype=st.sampled_from([np.uint8, np.int16, np.float32, np.float64]),
    codes=st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 2])),
    moved_mm=st.sampled_from([0.0, 40.0]),
)
def test_a_label_map_that_is_stored_otherwise_has_the_same_volumes_or_a_warning(
    folder, axes, units, extra_axes, endian, dtype, codes, moved_mm
):
    file = folder / "relaid.nii"
    file.write_bytes(relaid(axes, units, extra_axes, endian, dtype, codes, moved_mm))
    warned = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: warned.append(record.getMessage())
    logging.getLogger("heartseg").addHandler(handler)
    try:
        volume = read_label_map(file, HVSMR)
    finally:
        logging.getLogger("heartseg").removeHandler(handler)

    found = {row.structure: row.volume_ml for row in measure(volume)}
    expected = {row.structure: row.volume_ml for row in measure(SCAN)}
    assert found == pytest.approx(expected, rel=1e-4, abs=1e-6)
    if codes == (0, 0):
        assert "neither qform nor sform" in warned[0]
        return
    # The orientation is the patient's, so that the same voxel has the same place.
    assert "".join(nibabel.aff2axcodes(volume.affine)) == axes
    disagree = moved_mm > 0 and 0 not in codes
    assert len(warned) == disagree
    assert not disagree or "disagree by 40.0 mm" in warned[0]


def measure(scan):
    labels = getattr(scan, "voxels", None)
    labels = scan.labels if labels is None else labels
    return measure_volumes("a", labels.astype(np.uint8), scan.affine, HVSMR)
