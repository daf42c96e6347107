"""Scans that are segmented one after the other, and what is refused before it is segmented."""

import nibabel
import numpy as np
import pytest
from builders import make_affine, rotate

from heartseg.errors import DataError
from heartseg.inference.batch import segment_to_files
from heartseg.inference.results import Wanted
from heartseg.inference.tasks import Task
from heartseg.scans.volume import Volume


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
