"""Scans that are segmented one after the other, and what is refused before it is segmented."""

import nibabel
import numpy as np
import pytest
from builders import make_affine, rotate

from heartseg.errors import DataError
from heartseg.inference.batch import BatchProgress, segment_pictures, segment_to_files
from heartseg.inference.results import Wanted
from heartseg.inference.segmenter import SliceSegmenter
from heartseg.inference.tasks import Task
from heartseg.labels import HVSMR, LabelTable
from heartseg.modelfile.description import SLICES, ModelDescription
from heartseg.progress import silent
from heartseg.scans.volume import Volume
from heartseg.slices.recipe import SliceRecipe
from heartseg.slices.store import read_mask, write_gray

TABLE = LabelTable(HVSMR.structures[:3])


class Untouched:
    """A segmenter that must not be asked."""

    def segment(self, *_scan, **_options):
        raise AssertionError("the scan was segmented")


def test_a_scan_of_which_no_slices_can_be_suggested_is_refused_before_it_is_segmented(tmp_path):
    affine = rotate(make_affine("PIR"), (0, 0, 35))
    scan = Volume(np.ones((9, 10, 11), np.float32), affine, nibabel.Nifti1Header())
    files = {
        "label_map": (tmp_path / "a_seg.nii.gz",),
        "suggestion": (tmp_path / "a_suggested.csv", tmp_path / "a_suggested.nii.gz"),
    }
    task = Task(tmp_path / "a.nii.gz", "a", files)

    with pytest.raises(DataError, match=r"a\.nii\.gz: is turned by 35 degrees .* suggestion needs"):
        segment_to_files(task, scan, Untouched(), wanted=Wanted())

    assert list(tmp_path.iterdir()) == []


def test_structures_that_are_declared_absent_are_not_labelled_in_pictures_either(tmp_path):
    # Everywhere the left ventricle is likelier than the right one.
    def predict(images):
        return np.tile(np.float32([0.1, 0.5, 0.4]), (*images.shape[:3], 1))

    recipe = SliceRecipe(image_height=16, image_width=12, image_channels=1)
    model = ModelDescription(recipe, TABLE, SLICES, (0, 0, 0))
    tasks = []
    for number, absent in enumerate([(), ("LV",), ("LV",), ("LV", "RV")]):
        file = tmp_path / f"{number}.png"
        write_gray(file, np.full((16, 12), 90, np.uint8))
        masks = {"mask": (tmp_path / f"{number}_mask.png",)}
        tasks.append(Task(file, str(number), masks, absent=absent))

    problems = segment_pictures(
        SliceSegmenter(predict, model, batch_size=3),
        tasks,
        BatchProgress(silent, len(tasks)),
        wanted=Wanted(),
    )

    assert problems == []
    found = [np.unique(read_mask(tmp_path / f"{n}_mask.png", TABLE)).tolist() for n in range(4)]
    assert found == [[1], [2], [2], [0]]
