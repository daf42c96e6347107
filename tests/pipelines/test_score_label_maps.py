import csv
import gzip
import json
import logging
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from dicom_builders import write_classic
from itk_images import write_itk

import heartseg
from heartseg.config.data_sections import DataConfig
from heartseg.config.schema import Config
from heartseg.config.use_sections import EvaluateConfig, ParallelConfig
from heartseg.errors import BatchError, DataError
from heartseg.exchange.dicom_seg import write_dicom_seg
from heartseg.exchange.slicer import write_seg_nrrd
from heartseg.labels import HVSMR
from heartseg.pipelines.compare import run_comparison
from heartseg.pipelines.score_label_maps import run_scoring
from heartseg.scans.dicom_series import choose_series
from heartseg.scans.fingerprint import fingerprint_labels
from heartseg.scans.provenance import Provenance, abbreviate
from heartseg.scans.volume import read_label_map, write_label_map

CONFIG = Config(
    parallel=ParallelConfig(jobs=1), evaluate=EvaluateConfig(num_bootstrap=100, tolerance_mm=1.0)
)
AFFINE = np.array([[0, 0, -1.5, 40], [-1.0, 0, 0, 30], [0, -0.8, 0, 20], [0, 0, 0, 1]])
SHAPE = (12, 10, 8)


def heart(*, shift=0):
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 1:5, 2:6] = 1
    labels[6:9, 1:5, 2:6] = 5
    return np.roll(labels, shift, axis=1)


def save(file, labels, *, affine=AFFINE, dtype=np.int16):
    file.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(labels, dtype), affine), file)


@pytest.fixture
def folders(tmp_path):
    """Predictions and references of two cases, named as nnU-Net and the data set do."""
    for case, shift in (("pat2", 0), ("pat10", 1)):
        save(tmp_path / "predictions" / f"{case}.nii.gz", heart(shift=shift))
        save(tmp_path / "references" / f"{case}_cropped_seg.nii.gz", heart())
    return tmp_path / "predictions", tmp_path / "references"


def rows_of(output_dir: Path):
    with (output_dir / "cases.csv").open(newline="") as stream:
        return {(r["case"], r["structure"], r["scope"]): r for r in csv.DictReader(stream)}


def summary_of(output_dir: Path):
    return json.loads((output_dir / "summary.json").read_text(encoding="utf-8"))


def test_predictions_are_paired_and_scored(folders):
    result = run_scoring(CONFIG, *folders)

    rows = rows_of(result.output_dir)
    assert result.output_dir == folders[0] / "evaluation"
    assert [case.case for case in result.scores.cases] == ["pat2", "pat10"]
    assert float(rows["pat2", "LV", "full"]["dice"]) == 1
    assert float(rows["pat10", "LV", "full"]["dice"]) == 0.75
    # A voxel has 1.2 mm3.
    assert float(rows["pat10", "AO", "full"]["volume_reference_ml"]) == pytest.approx(0.0576)
    assert float(rows["pat10", "LV", "full"]["hd95_mm"]) == pytest.approx(0.8)
    assert (result.output_dir / "report.html").is_file()


def test_endpoints_may_lie_beside_the_references(folders):
    predictions, references = folders
    zone = np.zeros(SHAPE)
    zone[8:, :, :] = 5
    for case in ("pat2", "pat10"):
        save(references / f"{case}_cropped_seg_endpoints.nii.gz", zone)
        save(references / f"{case}_cropped_norm.nii.gz", zone)

    result = run_scoring(CONFIG, predictions, references, endpoints_dir=references)

    rows = rows_of(result.output_dir)
    assert float(rows["pat2", "AO", "required"]["volume_reference_ml"]) == pytest.approx(0.0384)
    assert summary_of(result.output_dir)["warnings"] == [
        "The cases pat2, pat10 have the same label map: one patient counts several times."
    ]


def test_a_missing_prediction_counts_as_missed_and_is_reported(folders, caplog):
    predictions, references = folders
    save(references / "pat3_cropped_seg.nii.gz", heart())
    save(predictions / "pat77.nii.gz", heart())
    # The mask of a structure is no prediction of a patient.
    save(predictions / "pat2_LV.nii.gz", heart() == 1)

    with caplog.at_level(logging.WARNING):
        result = run_scoring(CONFIG, predictions, references)

    summary = summary_of(result.output_dir)
    assert rows_of(result.output_dir)["pat3", "LV", "full"]["flag"] == "missed"
    assert summary["missing_predictions"] == ["pat3"]
    assert summary["unpaired_predictions"] == ["pat77"]
    assert summary["scopes"]["full"]["structures"]["LV"]["missed"] == 1
    assert "1 of 3 cases have no prediction and count as missed: pat3" in caplog.text
    assert "no reference: pat77" in caplog.text


def test_a_missing_endpoint_map_is_reported(folders):
    predictions, references = folders
    save(references / "pat2_cropped_seg_endpoints.nii.gz", np.zeros(SHAPE))

    result = run_scoring(CONFIG, predictions, references, endpoints_dir=references)

    assert any("no endpoint map" in text for text in summary_of(result.output_dir)["warnings"])
    assert ("pat10", "LV", "required") not in rows_of(result.output_dir)


def spoil_value(file):
    save(file, np.full(SHAPE, 9))


def spoil_fraction(file):
    save(file, heart() + 0.25, dtype=np.float32)


def spoil_dimension(file):
    save(file, np.stack([heart()] * 2, axis=-1))


def spoil_gzip(file):
    file.write_bytes(file.read_bytes()[:-40])


def spoil_text(file):
    file.write_bytes(gzip.compress(b"no volume"))


def spoil_shape(file):
    save(file, heart()[:-1])


def spoil_affine(file):
    save(file, heart(), affine=AFFINE + np.eye(4) * [3, 0, 0, 0])


def spoil_by_duplicate(file):
    shutil.copy(file, file.with_name("pat10_seg.nii.gz"))
    shutil.move(file, file.with_name("pat10_0000_seg.nii.gz"))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_value, "expected label values 0 to 8, found 9"),
        (spoil_fraction, "expected whole numbers as labels, found"),
        (spoil_dimension, "expected a 3D volume"),
        (spoil_gzip, "not a readable NIfTI file"),
        (spoil_text, "not a readable NIfTI file"),
        (spoil_shape, "shape (11, 10, 8), affine"),
        (spoil_affine, "pass --resample"),
        (spoil_by_duplicate, "several files are of the case pat10"),
    ],
)
def test_a_bad_prediction_is_reported_and_the_others_are_scored(folders, spoil, message):
    spoil(folders[0] / "pat10.nii.gz")

    with pytest.raises(BatchError) as error:
        run_scoring(CONFIG, *folders)

    (problem,) = error.value.problems
    assert message in problem
    assert "pat10" in problem
    rows = rows_of(folders[0] / "evaluation")
    assert {case for case, _, _ in rows} == {"pat2"}
    assert problem in summary_of(folders[0] / "evaluation")["problems"]


def test_both_grids_are_named_where_they_differ(folders):
    spoil_affine(folders[0] / "pat10.nii.gz")

    with pytest.raises(BatchError, match=r"lies on another grid") as error:
        run_scoring(CONFIG, *folders)

    assert str(error.value).count("shape (12, 10, 8), affine [[") == 2


def test_whole_numbers_stored_as_float_are_accepted(folders):
    save(folders[0] / "pat10.nii.gz", heart(), dtype=np.float64)

    result = run_scoring(CONFIG, *folders)

    assert float(rows_of(result.output_dir)["pat10", "LV", "full"]["dice"]) == 1


def test_resampling_brings_a_flipped_prediction_back(folders):
    turn = np.diag([-1.0, 1, 1, 1])
    turn[0, 3] = SHAPE[0] - 1
    save(folders[0] / "pat10.nii.gz", heart()[::-1], affine=AFFINE @ turn)

    result = run_scoring(CONFIG, *folders, resample=True)

    assert float(rows_of(result.output_dir)["pat10", "whole_heart", "full"]["dice"]) == 1


@pytest.mark.parametrize("which", [0, 1])
def test_an_empty_folder_is_named(folders, which, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    given = [empty if which == position else folder for position, folder in enumerate(folders)]

    with pytest.raises(DataError, match=r"empty: expected label maps .*, found none"):
        run_scoring(CONFIG, *given)


def test_a_missing_folder_is_named(folders, tmp_path):
    with pytest.raises(DataError, match="nowhere: cannot be read as a folder"):
        run_scoring(CONFIG, tmp_path / "nowhere", folders[1])


def test_nothing_scored_is_an_error_that_says_why(folders):
    for case in ("pat2", "pat10"):
        spoil_value(folders[0] / f"{case}.nii.gz")

    with pytest.raises(BatchError, match="no case could be scored") as error:
        run_scoring(CONFIG, *folders)

    assert len(error.value.problems) == 2


def test_an_earlier_evaluation_is_kept_unless_asked(folders):
    run_scoring(CONFIG, *folders)

    with pytest.raises(DataError, match="--overwrite"):
        run_scoring(CONFIG, *folders)
    run_scoring(CONFIG, *folders, overwrite=True)


def test_the_clinical_table_groups_the_cases(folders, tmp_path):
    table = tmp_path / "clinical.csv"
    table.write_text("Pat,Age,Category,VSD\n2,10,severe,X\n10,3,mild,X\n")
    config = CONFIG.model_copy(update={"data": DataConfig(clinical_file=table)})

    result = run_scoring(config, *folders)

    groups = result.summary["groups"]
    assert groups["category"]["mild"]["num_cases"] == 1
    assert groups["diagnosis"]["VSD"]["num_cases"] == 2


def test_two_processes_score_as_one(folders, tmp_path):
    one = run_scoring(CONFIG, *folders, output_dir=tmp_path / "one")
    config = CONFIG.model_copy(update={"parallel": ParallelConfig(jobs=2)})

    two = run_scoring(config, *folders, output_dir=tmp_path / "two")

    assert rows_of(one.output_dir) == rows_of(two.output_dir)


def test_runs_are_compared_by_folder_or_by_file(folders, tmp_path):
    first = run_scoring(CONFIG, *folders, output_dir=tmp_path / "a" / "evaluation")
    second = run_scoring(CONFIG, folders[1], folders[1], output_dir=tmp_path / "b")

    result = run_comparison(
        CONFIG, tmp_path / "a", second.output_dir / "cases.csv", output_dir=tmp_path / "c"
    )

    (row,) = [
        row
        for row in result.comparison.rows
        if (row.structure, row.measure) == ("LV", "dice") and row.scope == "full"
    ]
    assert row.test.mean_a == pytest.approx(0.875)
    assert row.test.mean_b == 1
    assert (tmp_path / "c" / "comparison.csv").is_file()
    assert first.output_dir.is_dir()


def test_a_run_without_scores_is_named(tmp_path):
    with pytest.raises(DataError, match=r"expected cases\.csv there or in evaluation/"):
        run_comparison(CONFIG, tmp_path, tmp_path)


def test_nothing_that_pairs_is_an_error_that_shows_both_names(tmp_path):
    save(tmp_path / "predictions" / "a.nii.gz", heart())
    save(tmp_path / "references" / "pat2_cropped_seg.nii.gz", heart())

    with pytest.raises(DataError, match=r"no prediction has a reference .*a\.nii\.gz \(case a\)"):
        run_scoring(CONFIG, tmp_path / "predictions", tmp_path / "references")
    assert not (tmp_path / "predictions" / "evaluation").exists()


def test_labels_of_another_convention_are_noticed_and_mapped(tmp_path):
    exchanged = np.array([0, 3, 2, 1, 4, 7, 6, 5, 8], np.uint8)
    save(tmp_path / "predictions" / "pat2.nii.gz", exchanged[heart()])
    save(tmp_path / "references" / "pat2_cropped_seg.nii.gz", heart())
    folders = tmp_path / "predictions", tmp_path / "references"

    hinted = run_scoring(CONFIG, *folders)
    mapped = run_scoring(CONFIG, *folders, mapping={3: 1, 7: 5}, overwrite=True)

    (warning,) = hinted.summary["warnings"]
    assert "score them again with --map 3=1,7=5" in warning
    assert mapped.summary["warnings"] == []
    assert float(rows_of(mapped.output_dir)["pat2", "AO", "full"]["dice"]) == 1


def test_values_outside_the_table_can_be_mapped(tmp_path):
    save(tmp_path / "predictions" / "pat2.nii.gz", heart().astype(np.int16) * 100)
    save(tmp_path / "references" / "pat2_cropped_seg.nii.gz", heart())
    folders = tmp_path / "predictions", tmp_path / "references"

    result = run_scoring(CONFIG, *folders, mapping={100: 1, 500: 5})

    assert float(rows_of(result.output_dir)["pat2", "whole_heart", "full"]["dice"]) == 1


def test_a_resampled_map_of_another_place_is_noticed(tmp_path):
    away = AFFINE.copy()
    away[:3, 3] += 500
    save(tmp_path / "predictions" / "pat2.nii.gz", heart(), affine=away)
    save(tmp_path / "references" / "pat2_cropped_seg.nii.gz", heart())

    result = run_scoring(CONFIG, tmp_path / "predictions", tmp_path / "references", resample=True)

    assert any("of another place in the patient" in w for w in result.summary["warnings"])


def test_the_report_shows_the_scan_and_no_configuration(tmp_path):
    save(tmp_path / "predictions" / "pat2.nii.gz", heart(shift=1))
    save(tmp_path / "references" / "pat2_cropped_seg.nii.gz", heart())
    scan = np.random.default_rng(3).random(SHAPE)
    save(tmp_path / "references" / "pat2_cropped_norm.nii.gz", scan, dtype=np.float32)

    result = run_scoring(CONFIG, tmp_path / "predictions", tmp_path / "references")
    with_scan = (result.output_dir / "report.html").read_text()
    (tmp_path / "references" / "pat2_cropped_norm.nii.gz").unlink()
    result = run_scoring(CONFIG, tmp_path / "predictions", tmp_path / "references", overwrite=True)
    without = (result.output_dir / "report.html").read_text()

    assert "base_filters" not in with_scan
    # The pictures differ where the scan lies beneath the labels.
    assert with_scan.count("data:image/png") == without.count("data:image/png") > 0
    assert with_scan != without


def test_a_prediction_of_a_model_that_learned_from_the_reference_is_named(tmp_path):
    save(tmp_path / "references" / "pat2_cropped_seg.nii.gz", heart())
    save(tmp_path / "references" / "pat3_cropped_seg.nii.gz", heart(shift=2))
    known = read_label_map(tmp_path / "references" / "pat2_cropped_seg.nii.gz", HVSMR)
    made = Provenance("that model", frozenset({abbreviate(fingerprint_labels(known))}))
    (tmp_path / "predictions").mkdir()
    for case in ("pat2", "pat3"):
        file = tmp_path / "predictions" / f"{case}_seg.nii.gz"
        write_label_map(file, heart(), like=known, table=HVSMR, provenance=made)

    result = run_scoring(CONFIG, tmp_path / "predictions", tmp_path / "references")

    (warning,) = result.summary["warnings"]
    assert warning.startswith("LEAKAGE: 1 of 2 predictions were made by a model that learned")
    assert "(that model): pat2" in warning


def test_runs_that_were_scored_with_other_tolerances_are_not_compared(folders, tmp_path):
    run_scoring(CONFIG, *folders, output_dir=tmp_path / "a")
    other = CONFIG.model_copy(update={"evaluate": EvaluateConfig(tolerance_mm=3.0)})
    run_scoring(other, *folders, output_dir=tmp_path / "b")

    with pytest.raises(DataError, match=r"expected the tolerance of .*1\.0 mm, found 3\.0 mm"):
        run_comparison(CONFIG, tmp_path / "a", tmp_path / "b")


def test_a_tilted_gantry_has_volumes_by_the_determinant_and_true_distances(tmp_path):
    # Voxels of exactly 1 mm3, slices 1 mm apart; the top of the prediction is 6 mm higher.
    sheared = np.eye(4)
    sheared[1, 2] = np.tan(np.deg2rad(25))
    low, high = np.zeros((2, 60, 60, 60), np.uint8)
    low[5:55, 5:55, 10:30] = 1
    high[5:55, 5:55, 10:36] = 1
    for folder, labels in (("references", low), ("predictions", high)):
        (tmp_path / folder).mkdir()
        image = nibabel.Nifti1Image(labels, sheared)
        image.set_sform(sheared, 1)
        image.set_qform(sheared, 0, strip_shears=True)
        nibabel.save(image, tmp_path / folder / "pat2.nii.gz")

    result = run_scoring(CONFIG, tmp_path / "predictions", tmp_path / "references")

    row = rows_of(result.output_dir)["pat2", "LV", "full"]
    assert float(row["hd95_mm"]) == pytest.approx(6.0, abs=0.01)
    assert float(row["volume_prediction_ml"]) == pytest.approx(65.0)
    assert float(row["volume_reference_ml"]) == pytest.approx(50.0)


def cut(labels, affine=AFFINE):
    """Return the box around what is labelled, as 3D Slicer may save it, and its affine."""
    low, high = np.argwhere(labels).min(axis=0), np.argwhere(labels).max(axis=0) + 1
    moved = np.array(affine, float)
    moved[:3, 3] += affine[:3, :3] @ low
    return labels[tuple(map(slice, low, high))], moved


def save_as(folder, case, kind, labels, dicom):
    """Write a label map in one of the formats that other tools write."""
    file = folder / f"{case}.{kind}"
    folder.mkdir(exist_ok=True)
    if kind in ("nrrd", "mha"):
        write_itk(file, labels, AFFINE)
    elif kind == "mgz":
        nibabel.save(nibabel.MGHImage(labels, AFFINE), file)
    elif kind == "seg.nrrd":
        write_seg_nrrd(file, labels, affine=AFFINE, table=HVSMR)
    elif kind == "cut.seg.nrrd":
        file = folder / f"{case}.seg.nrrd"
        voxels, affine = cut(labels)
        write_seg_nrrd(file, voxels, affine=affine, table=HVSMR)
    elif kind == "seg.dcm":
        write_dicom_seg(file, labels, affine=AFFINE, series=dicom, table=HVSMR)
    else:
        save(file, labels)
    return file


KINDS = ("nii.gz", "nrrd", "mha", "mgz", "seg.nrrd", "cut.seg.nrrd", "seg.dcm")


def test_label_maps_of_every_format_have_the_scores_of_nifti(tmp_path):
    dicom = choose_series(write_classic(tmp_path / "dicom", heart().astype(np.uint16), AFFINE))
    found, true = heart(shift=1), heart()
    for number, kind in enumerate(KINDS):
        save_as(tmp_path / "predictions", f"p{number}", kind, found, dicom)
        save(tmp_path / "references" / f"p{number}_seg.nii.gz", true)
        save(tmp_path / "references" / f"p{number}_endpoints.nii.gz", heart(shift=3))
        save_as(tmp_path / "references", f"r{number}", kind, true, dicom)
        save(tmp_path / "predictions" / f"r{number}.nii.gz", found)
    # Images of a series are no label maps, and take no part.
    shutil.copy(next((tmp_path / "dicom").iterdir()), tmp_path / "references" / "slice.dcm")

    folders = tmp_path / "predictions", tmp_path / "references"
    result = run_scoring(CONFIG, *folders, endpoints_dir=tmp_path / "references")

    rows = rows_of(result.output_dir)
    assert {case for case, _, _ in rows} == {f"{p}{n}" for p in "pr" for n in range(len(KINDS))}
    for scope, cases in (("full", "pr"), ("required", "p")):
        expected = {s: r for (c, s, x), r in rows.items() if (c, x) == ("p0", scope)}
        assert 0.5 < float(expected["LV"]["dice"]) < 1
        for (case, structure, found_in), row in rows.items():
            if found_in == scope and case[0] in cases:
                same = {**row, "case": "p0"}
                assert same == expected[structure], (case, structure)


def test_what_lies_outside_of_a_reference_that_is_cut_counts(tmp_path):
    true, found = heart(), heart()
    found[0, 0, 0] = 1
    voxels, affine = cut(true)
    (tmp_path / "references").mkdir()
    write_seg_nrrd(tmp_path / "references" / "a.seg.nrrd", voxels, affine=affine, table=HVSMR)
    save(tmp_path / "predictions" / "a.nii.gz", found)

    run_scoring(CONFIG, tmp_path / "predictions", tmp_path / "references")

    row = rows_of(tmp_path / "predictions" / "evaluation")["a", "LV", "full"]
    assert float(row["dice"]) == pytest.approx(2 * 64 / (64 + 65))
    files = tmp_path / "predictions" / "a.nii.gz", tmp_path / "references" / "a.seg.nrrd"
    assert heartseg.score(*files).rows()[0]["dice"] == pytest.approx(2 * 64 / (64 + 65))


def test_nothing_is_resampled_onto_a_reference_that_is_cut(tmp_path):
    voxels, affine = cut(heart())
    (tmp_path / "references").mkdir()
    write_seg_nrrd(tmp_path / "references" / "a.seg.nrrd", voxels, affine=affine, table=HVSMR)
    moved = np.array(AFFINE)
    moved[:3, 3] += 0.4
    save(tmp_path / "predictions" / "a.nii.gz", heart(), affine=moved)

    folders = tmp_path / "predictions", tmp_path / "references"
    for resample, problem in ((False, "do not coincide"), (True, "labelled part of its scan only")):
        with pytest.raises(BatchError) as error:
            run_scoring(CONFIG, *folders, resample=resample)
        assert problem in error.value.problems[0]


def test_the_copies_that_infer_writes_for_other_programs_are_left_out(tmp_path):
    save(tmp_path / "predictions" / "a_seg.nii.gz", heart())
    save_as(tmp_path / "predictions", "a", "seg.nrrd", heart(shift=2), None)
    save(tmp_path / "references" / "a.nii.gz", heart())

    result = run_scoring(CONFIG, tmp_path / "predictions", tmp_path / "references")

    assert float(rows_of(result.output_dir)["a", "LV", "full"]["dice"]) == 1
    [warning] = [w for w in summary_of(result.output_dir)["warnings"] if "left out" in w]
    assert warning.endswith("a.seg.nrrd.")
