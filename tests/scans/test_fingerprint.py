import numpy as np
import pytest
from builders import SHAPE, Scan, make_affine

from heartseg.labels import HVSMR
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.volume import read_image, read_label_map, write_image

rng = np.random.default_rng(4)
SCAN = Scan(
    rng.random(SHAPE).astype(np.float32), rng.integers(0, 9, SHAPE).astype(np.uint8), make_affine()
)


def prints(scan, folder):
    write_image(folder / "image.nii.gz", scan.image, affine=scan.affine)
    write_image(folder / "labels.nii.gz", scan.labels, affine=scan.affine)
    return (
        fingerprint_scan(read_image(folder / "image.nii.gz")),
        fingerprint_labels(read_label_map(folder / "labels.nii.gz", HVSMR)),
    )


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "IPL"])
def test_the_stored_orientation_does_not_matter(axes, tmp_path):
    assert prints(SCAN.turned(axes), tmp_path) == prints(SCAN, tmp_path)


def test_one_voxel_or_another_spacing_makes_another_fingerprint(tmp_path):
    scan, labels = prints(SCAN, tmp_path)
    image, other = SCAN.image.copy(), SCAN.labels.copy()
    image[3, 2, 1] += 0.5
    other[3, 2, 1] = (other[3, 2, 1] + 1) % 9
    changed = prints(Scan(image, other, SCAN.affine), tmp_path)
    assert changed[0] != scan
    assert changed[1] != labels
    wider = prints(Scan(SCAN.image, SCAN.labels, make_affine(spacing_mm=(0.8, 1.5, 1.2))), tmp_path)
    assert wider[0] != scan
    assert wider[1] != labels


def test_a_mirrored_heart_is_another_heart(tmp_path):
    mirrored = Scan(SCAN.image[::-1], SCAN.labels[::-1], SCAN.affine)
    assert set(prints(mirrored, tmp_path)).isdisjoint(prints(SCAN, tmp_path))
