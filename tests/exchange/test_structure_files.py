import nibabel
import numpy as np
import pytest
from builders import make_scan, write_nifti

from heartseg.errors import DataError
from heartseg.exchange.structure_files import (
    choose_structures,
    keep_structures,
    split_files,
    write_split,
)
from heartseg.labels import HVSMR
from heartseg.scans.volume import read_image

SCAN = make_scan()
LABELS = np.where(SCAN.labels == 2, 0, SCAN.labels).astype(np.uint8)  # no right ventricle


def test_every_structure_has_a_file_the_absent_ones_an_empty_one(tmp_path):
    like = read_image(write_nifti(tmp_path / "a.nii.gz", SCAN.image, SCAN.affine))
    files = split_files(tmp_path / "out", "a", HVSMR.foreground)
    write_split(files, LABELS, like=like, structures=HVSMR.foreground)

    keys = ["LV", "RV", "LA", "RA", "AO", "PA", "SVC", "IVC"]
    assert [file.name for file in files] == [f"a_{key}.nii.gz" for key in keys]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(
        file.name for file in files
    )
    for value, file in enumerate(files, start=1):
        mask = nibabel.load(file)
        np.testing.assert_array_equal(np.asarray(mask.dataobj), value == LABELS)
        np.testing.assert_allclose(mask.affine, SCAN.affine, atol=1e-6)
    assert not np.asarray(nibabel.load(files[1]).dataobj).any()
    text = b"".join(e.get_content() for e in nibabel.load(files[2]).header.extensions)
    assert b"1 LA left atrium" in text
    assert b"ventricle" not in text


def test_structures_are_chosen_by_their_keys_in_the_order_of_the_table():
    assert [s.key for s in choose_structures(HVSMR, ["rv", " LV"])] == ["LV", "RV"]
    assert choose_structures(HVSMR, None) == HVSMR.foreground


@pytest.mark.parametrize(
    ("keys", "found"), [(["LV", "XY"], "XY"), ([], "none"), (["background"], "BACKGROUND")]
)
def test_unknown_keys_are_refused_with_the_known_ones(keys, found):
    with pytest.raises(DataError, match=f"expected some of LV, RV, .*, IVC, found {found}$"):
        choose_structures(HVSMR, keys)


def test_other_structures_become_background():
    kept = keep_structures(LABELS, choose_structures(HVSMR, ["LA", "AO"]))
    np.testing.assert_array_equal(kept, np.where(np.isin(LABELS, (3, 5)), LABELS, 0))
    assert kept.dtype == np.uint8
