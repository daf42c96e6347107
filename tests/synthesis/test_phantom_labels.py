import numpy as np
import pytest

from heartseg.errors import DataError
from heartseg.label_tables import ACDC, MMWHS
from heartseg.labels import HVSMR, LabelTable, Structure
from heartseg.scans.volume import write_image
from heartseg.synthesis.phantom import make_phantom
from heartseg.synthesis.phantom_labels import check_table, store_labels
from heartseg.synthesis.scene import Tissue, paint_scene
from heartseg.synthesis.sources import read_scene

VEINS = LabelTable((HVSMR.structures[0], Structure(1, "PV", "pulmonary veins", (1, 2, 3))))


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(3, 0, size=48)


def test_a_phantom_has_muscle_around_its_left_ventricle(phantom):
    assert not phantom.labels[phantom.myocardium].any()
    voxel_ml = abs(np.linalg.det(phantom.affine[:3, :3])) / 1000
    # Of a healthy adult 60 to 170 mL; phantoms are of any age.
    assert 10 < phantom.myocardium.sum() * voxel_ml < 200


def test_labels_are_stored_in_the_values_of_the_data_set(phantom):
    stored = store_labels(phantom.labels, phantom.myocardium, MMWHS)
    assert stored.dtype == np.int16
    assert set(np.unique(stored)) == {0, 205, 420, 500, 550, 600, 820, 850}
    for value, label in ((500, 1), (600, 2), (420, 3), (550, 4), (820, 5), (850, 6)):
        np.testing.assert_array_equal(stored == value, phantom.labels == label)
    np.testing.assert_array_equal(stored == 205, phantom.myocardium)
    np.testing.assert_array_equal(store_labels(phantom.labels, None, HVSMR), phantom.labels)


def test_a_structure_that_phantoms_lack_is_an_error():
    with pytest.raises(DataError, match="phantoms have no PV"):
        check_table(VEINS)


@pytest.mark.parametrize("table", [MMWHS, ACDC])
def test_a_scene_has_the_labels_of_its_table_and_muscle_where_it_is_labelled(
    phantom, table, tmp_path
):
    file = tmp_path / "a.nii.gz"
    stored = store_labels(phantom.labels, phantom.myocardium, table)
    write_image(file, stored, affine=phantom.affine)

    scene = read_scene(file, table, seed=(0,))

    counts = np.bincount(scene.labels.ravel(), minlength=table.num_classes) / scene.labels.size
    for structure in table.foreground:
        share = (stored == structure.stored_values[0]).mean()
        assert counts[structure.value] == pytest.approx(share, rel=0.15)
    (muscle,) = (s.value for s in table if s.key == "MYO")
    # No muscle of the left ventricle is drawn that nobody labelled.
    np.testing.assert_array_equal(scene.labels == muscle, scene.tissues == Tissue.LV_MUSCLE)


def test_no_scene_is_drawn_around_what_scenes_do_not_know(phantom):
    with pytest.raises(DataError, match=r"around PV; scenes know .*synthesis.scan_share=1"):
        paint_scene((phantom.labels == 1).astype(int), (1, 1, 1), None, table=VEINS)
