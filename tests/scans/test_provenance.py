import nibabel
import numpy as np
import pytest
from builders import make_affine

from heartseg.labels import HVSMR
from heartseg.scans.provenance import Provenance, abbreviate, read_provenance
from heartseg.scans.volume import read_image, read_label_map, write_image, write_label_map

MADE = Provenance("some model, sha256 12ab", frozenset({abbreviate("ras-" + "ab" * 32)}))


@pytest.fixture
def scan(tmp_path):
    write_image(tmp_path / "scan.nii.gz", np.ones((4, 5, 6), np.float32), affine=make_affine())
    return read_image(tmp_path / "scan.nii.gz")


def write(file, scan, provenance):
    labels = np.zeros(scan.voxels.shape, np.uint8)
    write_label_map(file, labels, like=scan, table=HVSMR, provenance=provenance)
    return read_label_map(file, HVSMR).header


def test_the_model_is_noted_beside_the_names_of_the_labels(tmp_path, scan):
    header = write(tmp_path / "seg.nii.gz", scan, MADE)

    assert read_provenance(header) == MADE
    texts = [e.get_content() for e in nibabel.load(tmp_path / "seg.nii.gz").header.extensions]
    assert any(
        b"left ventricle" in bytes(text, "utf-8")
        if isinstance(text, str)
        else b"left ventricle" in text
        for text in texts
    )


def test_a_fingerprint_is_recognised_by_its_first_digits():
    assert MADE.has_learned("ras-" + "ab" * 32)
    assert not MADE.has_learned("ras-" + "ac" * 32)


def test_a_label_map_of_another_tool_says_nothing(tmp_path, scan):
    assert read_provenance(write(tmp_path / "seg.nii.gz", scan, None)) is None


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"model": 1, "learned": 3}', b"\xff"])
def test_nonsense_says_nothing(scan, content):
    header = scan.header.copy()
    header.extensions.append(nibabel.nifti1.Nifti1Extension(6, b"heartseg model\n" + content))
    assert read_provenance(header) is None
