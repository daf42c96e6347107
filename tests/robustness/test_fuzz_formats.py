"""Broken files of every other format: an error of ours that repeats no header, or a result.

``HEARTSEG_FUZZ=50 pytest tests/robustness/test_fuzz_formats.py`` runs 50 times as many cases.
"""

import os

import nibabel
import numpy as np
import pytest
from builders import make_affine, make_scan
from dicom_builders import SECRETS, make_enhanced, save, write_archive, write_classic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from itk_images import write_itk

from heartseg.errors import DataError
from heartseg.exchange.dicom_seg import write_dicom_seg
from heartseg.exchange.label_maps import read_labels
from heartseg.exchange.slicer import write_seg_nrrd
from heartseg.labels import HVSMR
from heartseg.scans.dicom_series import choose_series
from heartseg.scans.reading import read_scan

FACTOR = float(os.environ.get("HEARTSEG_FUZZ", "1"))
LABELS = make_scan((7, 6, 5), axes="LPS").labels.astype(np.uint8)
AFFINE = make_affine("LPS")
SEGMENTATIONS = (".seg.nrrd", ".seg.dcm")
SUFFIXES = (".nrrd", ".mha", ".mgh", ".mgz", ".dcm", ".zip", *SEGMENTATIONS)
# What breaks text headers, lengths and counts.
SCRAPS = (b"-1", b"nan", b"\n", b"9" * 25, b"A" * 5000, b"\xff" * 4, b"(1,2", b"")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def contents(folder):
    """A sound file of each format."""
    for suffix in (".nrrd", ".mha"):
        write_itk(folder / f"a{suffix}", LABELS, AFFINE)
    for suffix in (".mgh", ".mgz"):
        nibabel.save(nibabel.MGHImage(LABELS, AFFINE), folder / f"a{suffix}")
    scan = save(make_enhanced(LABELS.astype(np.uint16), AFFINE), folder / "a.dcm")
    write_classic(folder / "series", LABELS.astype(np.uint16), AFFINE)
    write_archive(folder / "a.zip", folder / "series")
    write_seg_nrrd(folder / "a.seg.nrrd", LABELS, affine=AFFINE, table=HVSMR)
    series = choose_series(scan)
    write_dicom_seg(folder / "a.seg.dcm", LABELS, affine=AFFINE, series=series, table=HVSMR)
    return {suffix: (folder / f"a{suffix}").read_bytes() for suffix in SUFFIXES}


def read(file):
    if file.name.endswith(SEGMENTATIONS):
        return read_labels(file, HVSMR)
    return read_scan(file)


def read_or_refuse(file):
    """Return the volume, or the text of our error."""
    try:
        return read(file)
    except DataError as error:
        return str(error)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_sound_file_reads(contents, folder, suffix):
    assert read(folder / f"a{suffix}").voxels.shape[:2] == LABELS.shape[:2]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_broken_file_is_an_error_of_ours_or_a_volume(contents, folder, suffix):
    sound = contents[suffix]
    file = folder / f"b{suffix}"
    cuts = st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(0, 5), st.sampled_from(SCRAPS))

    @settings(
        max_examples=int(60 * FACTOR),
        deadline=None,
        derandomize=FACTOR == 1,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.lists(cuts, min_size=1, max_size=3), st.booleans())
    def check(changes, in_header):
        content = bytearray(sound)
        for place, keep, removed, scrap in changes:
            at = int(place * (min(len(content), 900) if in_header else len(content)))
            content[at : at + removed] = scrap
            if keep < 0.1:
                del content[int(keep * 10 * len(content)) :]
        file.write_bytes(content)
        outcome = read_or_refuse(file)
        if isinstance(outcome, str):
            said = outcome.removeprefix(f"{file}: ")
            assert said != outcome
            assert "\n" not in said
            assert not [secret for secret in SECRETS if secret in said and not secret.isdigit()]
        else:
            assert outcome.voxels.ndim == 3
            assert np.isfinite(outcome.affine).all()

    check()
