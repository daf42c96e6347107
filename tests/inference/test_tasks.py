from pathlib import Path

import pytest

from heartseg.errors import DataError
from heartseg.inference.tasks import (
    Task,
    check_outputs,
    mark_finished,
    mark_unfinished,
    name_case,
    plan_tasks,
    read_unfinished,
)
from heartseg.labels import HVSMR
from heartseg.ownership import add_to_record
from heartseg.scans.reading import ScanSource, find_scan


def plan(inputs, output_dir, scan_formats=("label_map", "preview")):
    tasks, problems = plan_tasks(
        [Path(file) for file in inputs],
        output_dir,
        structures=HVSMR.foreground,
        scan_formats=scan_formats,
        picture_formats=["mask"],
        image_suffix="_cropped_norm",
    )
    assert problems == []
    return tasks


@pytest.mark.parametrize(
    ("file", "case"),
    [
        ("in/pat4_cropped_norm.nii.gz", "pat4"),
        ("in/pat4.nii", "pat4"),
        # Something must be left.
        ("in/_cropped_norm.nii.gz", "_cropped_norm"),
    ],
)
def test_a_case_is_named_by_its_file(file, case):
    assert name_case(find_scan(Path(file)), image_suffix="_cropped_norm") == case


def test_results_of_scans_and_pictures_are_named_by_their_formats(tmp_path):
    scan, picture = plan(["in/pat4_cropped_norm.nii.gz", "in/pat4_012.png"], tmp_path)

    assert scan.is_scan
    assert [file.name for file in scan.outputs] == ["pat4_seg.nii.gz", "pat4_preview.png"]
    assert not picture.is_scan
    assert picture.outputs == [tmp_path / "pat4_012.png"]


def test_two_inputs_with_one_result_are_an_error(tmp_path):
    with pytest.raises(DataError, match=r"b/pat4\.nii: its result pat4_seg.* a/pat4_cropped_norm"):
        plan(["a/pat4_cropped_norm.nii.gz", "b/pat4.nii"], tmp_path)


def test_results_are_replaced_only_if_asked_or_unfinished(tmp_path):
    tasks = plan(["in/pat4.nii"], tmp_path)
    (tmp_path / "pat4_preview.png").touch()

    with pytest.raises(DataError, match=r"pat4_preview\.png: already exists; pass --overwrite"):
        check_outputs(tmp_path, tasks, overwrite=False)
    with pytest.raises(DataError, match="no record that `heartseg infer` made this file"):
        check_outputs(tmp_path, tasks, overwrite=True)
    add_to_record(tmp_path, "infer", [tmp_path / "pat4_preview.png"])
    check_outputs(tmp_path, tasks, overwrite=True)
    mark_unfinished(tmp_path, tasks)
    check_outputs(tmp_path, tasks, overwrite=False)


def test_what_an_interrupted_call_left_stays_noted_until_it_is_done(tmp_path):
    first, second = plan(["in/a.nii"], tmp_path), plan(["in/b.nii"], tmp_path)
    mark_unfinished(tmp_path, first)
    (tmp_path / "a_seg.nii.gz").touch()

    mark_unfinished(tmp_path, second)
    (tmp_path / "b_seg.nii.gz").touch()
    mark_finished(tmp_path, second)

    assert read_unfinished(tmp_path) == {"a_seg.nii.gz"}
    check_outputs(tmp_path, first, overwrite=False)
    with pytest.raises(DataError, match=r"b_seg\.nii\.gz: already exists"):
        check_outputs(tmp_path, second, overwrite=False)
    mark_finished(tmp_path, first)
    assert not (tmp_path / "UNFINISHED").exists()


def test_no_result_replaces_an_input(tmp_path):
    [task] = plan([tmp_path / "a.png"], tmp_path)

    with pytest.raises(DataError, match=r"a\.png: is an input and would be replaced"):
        check_outputs(tmp_path, [task], overwrite=True)


def test_a_task_for_another_process_has_absolute_paths(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    file = Path("in/a.nii")
    files = {"label_map": (Path("out/a_seg.nii.gz"),)}

    assert Task(file, "a", files, ScanSource(file, "a")).absolute() == Task(
        tmp_path / file,
        "a",
        {"label_map": (tmp_path / "out/a_seg.nii.gz",)},
        ScanSource(tmp_path / file, "a"),
    )
