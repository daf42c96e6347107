"""``refine`` and ``suggest`` from files to files, with a tiny network that knows nothing."""

import csv
import json
import logging
import shutil
from dataclasses import dataclass

import nibabel
import numpy as np
import pytest
from builders import make_scan, read_tree, write_nifti

from heartseg.cohort.leakage import PartContents
from heartseg.cohort.training_record import TrainingRecord, record_to_json
from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.exchange.slicer import write_seg_nrrd
from heartseg.labels import HVSMR, LabelTable
from heartseg.modelfile.checkpoint import read_metadata, save_model
from heartseg.networks.correction_unet import build_correction_unet
from heartseg.networks.volume_unet import build_volume_unet
from heartseg.pipelines.refine import run_refine
from heartseg.pipelines.suggest import run_suggest
from heartseg.runs.engines import load_network
from heartseg.runs.study_layout import StudyLayout
from heartseg.runs.trained import describe_model, load_segmenter
from heartseg.scans.fingerprint import fingerprint_labels
from heartseg.scans.provenance import read_provenance
from heartseg.scans.volume import UNLABELLED, read_label_map

SHAPE = (36, 42, 30)
TABLE = LabelTable(HVSMR.structures[:3])
GRID = (16, 16, 16)
MINUTES = 0.02
COARSE = (24, 28, 24)
WITH_GRID = (
    "inference.suggestion",
    "inference.views",
    "refinement.adaptation",
    "refinement.laid_drawing",
)


@pytest.fixture(scope="module", autouse=True)
def coarse_answers():
    """Answers on a coarser grid, which is fine enough for a small phantom and takes less time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in WITH_GRID:
            patch.setattr(f"heartseg.{module}.FINE_GRID", COARSE)
        yield


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A scan, a label map of some of its slices, and an untrained model."""
    folder = tmp_path_factory.mktemp("case")
    scan = make_scan(SHAPE, num_classes=3)
    write_nifti(folder / "pat1.nii.gz", scan.image, scan.affine)
    partial = np.full(SHAPE, UNLABELLED, np.uint8)
    drawn = np.flatnonzero(scan.labels.any(axis=(0, 1)))[2::4]
    partial[:, :, drawn] = scan.labels[:, :, drawn]
    write_nifti(folder / "partial.nii.gz", partial, scan.affine)
    whole = np.where(partial == UNLABELLED, 0, partial).astype(np.uint8)
    write_seg_nrrd(folder / "partial.seg.nrrd", whole, affine=scan.affine, table=TABLE)
    labels = [{**entry, "color": list(entry["color"])} for entry in HVSMR.description[:3]]
    save_model(
        build_volume_unet(grid=GRID, filters=(8, 8), num_classes=3, seed=1),
        folder / "model.keras",
        {"kind": "whole_heart", "labels": labels, "network": {"grid": list(GRID)}},
    )
    return folder, scan, partial


@dataclass
class Interruption:
    """What an interrupted call left, and what the next one said."""

    inputs: dict
    left: list[str]
    messages: list[str]


@pytest.fixture(scope="module")
def refined(case, tmp_path_factory):
    """The results of a call that was interrupted once and called again."""
    folder, *_ = case
    inputs = read_tree(folder)
    output_dir = tmp_path_factory.mktemp("refined")

    def refine(report):
        return run_refine(
            folder / "pat1.nii.gz",
            folder / "partial.seg.nrrd",
            init=str(folder / "model.keras"),
            minutes=MINUTES,
            output_dir=output_dir,
            report=report,
        )

    seen = []

    def interrupt(_done, _total, what):
        seen.append(what)
        if sum(entry.startswith("adapting") for entry in seen) == 3:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("heartseg.refinement.scan_refinement.SAVE_EVERY_S", 0.0)
        with pytest.raises(KeyboardInterrupt):
            refine(interrupt)
    left = sorted(file.name for file in output_dir.iterdir())
    messages = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())
    logger = logging.getLogger("heartseg.refinement")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    result = refine(lambda *_: None)
    logger.removeHandler(handler)
    logger.setLevel(level)
    return result, Interruption(inputs, left, messages)


def test_an_interrupted_call_leaves_no_result_and_the_next_one_goes_on(refined):
    result, interruption = refined

    assert "pat1_refine_state.npz" in interruption.left
    assert not [name for name in interruption.left if name.startswith(("pat1_seg", "pat1_refined"))]
    [message] = [m for m in interruption.messages if "goes on after" in m]
    assert "after 2 steps" in message
    assert not (result.output_dir / "pat1_refine_state.npz").exists()


def test_drawn_voxels_are_kept_exactly_and_no_input_is_changed(case, refined):
    folder, _, partial = case
    result, interruption = refined

    labels = read_label_map(result.output_dir / "pat1_seg.nii.gz", HVSMR).voxels

    known = partial != UNLABELLED
    np.testing.assert_array_equal(labels[known], partial[known])
    drawn = read_label_map(result.output_dir / "pat1_drawn.nii.gz", HVSMR, partial=True).voxels
    np.testing.assert_array_equal(drawn, partial)
    assert read_tree(folder) == interruption.inputs
    assert "whole" in result.assumption


def test_the_refined_answer_is_far_better_than_what_the_model_knew(case, refined):
    _, scan, partial = case
    result, _ = refined

    labels = read_label_map(result.output_dir / "pat1_seg.nii.gz", HVSMR).voxels

    rest = partial == UNLABELLED
    both = np.count_nonzero((labels > 0) & (scan.labels > 0) & rest)
    total = np.count_nonzero((labels > 0) & rest) + np.count_nonzero((scan.labels > 0) & rest)
    assert 2 * both / total > 0.7


def test_results_are_those_of_infer_with_the_adapted_model_and_a_suggestion(refined):
    result, _ = refined

    assert sorted(file.name for file in result.files) == [
        "pat1.json",
        "pat1_drawn.nii.gz",
        "pat1_preview.png",
        "pat1_refined.keras",
        "pat1_seg.nii.gz",
        "pat1_suggested.csv",
        "pat1_suggested.nii.gz",
    ]
    assert (result.output_dir / "volumes.csv").is_file()
    record = describe_model(result.model_file).record
    assert list(record.train.cases) == ["pat1"]
    assert record.origin == "model.keras"


def test_results_say_that_the_model_was_refined_by_a_drawing_of_the_case(refined):
    result, _ = refined

    numbers = json.loads((result.output_dir / "pat1.json").read_text())
    made_by = read_provenance(nibabel.load(result.output_dir / "pat1_seg.nii.gz").header)

    assert numbers["model"].startswith("model.keras, sha256 ")
    assert numbers["model"].endswith(", refined by a drawing")
    assert made_by.model == numbers["model"]
    assert all("learned" in row.flags.split(";") for row in result.rows)


@pytest.mark.parametrize("command", ["refine", "suggest"])
def test_a_patient_that_the_model_has_seen_is_noticed_by_scan_or_label_map(case, tmp_path, command):
    folder, scan, _ = case
    scan_file = write_nifti(tmp_path / "new_cropped_norm.nii.gz", scan.image, scan.affine)
    label_file = write_nifti(tmp_path / "new_cropped_seg.nii.gz", scan.labels, scan.affine)
    digest = fingerprint_labels(read_label_map(label_file, TABLE))
    seen = TrainingRecord(PartContents(("pat9",), {"pat9": digest}))
    save_model(
        load_network(folder / "model.keras"),
        tmp_path / "model.keras",
        {**read_metadata(folder / "model.keras"), "learned_from": record_to_json(seen)},
    )
    options = {"init": str(tmp_path / "model.keras"), "output_dir": tmp_path / "out"}

    if command == "refine":
        labels = folder / "partial.nii.gz"
        notices = run_refine(scan_file, labels, minutes=MINUTES, **options).notices
    else:
        notices = run_suggest(scan_file, **options).notices

    [notice] = [notice for notice in notices if "has seen this patient" in notice]
    assert "its label map was a training case" in notice


def test_a_second_stage_takes_part_and_stays_in_the_adapted_model(case, tmp_path):
    folder, _, partial = case
    facts = {"grid": [24, 24, 24], "patch": [16, 16, 16], "filters": [8]}
    second = build_correction_unet(patch=(16, 16, 16), filters=(8,), num_classes=3, seed=2)
    both = tmp_path / "both.keras"
    save_model(
        load_network(folder / "model.keras"),
        both,
        {**read_metadata(folder / "model.keras"), "second_stage": facts},
        second_stage=second,
    )

    result = run_refine(
        folder / "pat1.nii.gz",
        folder / "partial.nii.gz",
        init=str(both),
        minutes=MINUTES,
        output_dir=tmp_path / "refined",
    )

    labels = read_label_map(tmp_path / "refined/pat1_seg.nii.gz", HVSMR).voxels
    known = partial != UNLABELLED
    np.testing.assert_array_equal(labels[known], partial[known])
    assert read_metadata(result.model_file)["second_stage"] == facts
    kept = load_network(result.model_file, second_stage=True)
    for weight, expected in zip(kept.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, expected)
    assert load_segmenter(result.model_file, Config()).correct is not None


def test_the_adapted_model_can_be_refined_further(case, refined, tmp_path):
    folder, *_ = case
    result, _ = refined

    again = run_refine(
        folder / "pat1.nii.gz",
        folder / "partial.nii.gz",
        init=str(result.model_file),
        minutes=MINUTES,
        output_dir=tmp_path,
    )

    assert describe_model(again.model_file).record.origin == "pat1_refined.keras"


def test_a_result_never_replaces_the_model_that_it_started_from(case, refined):
    folder, *_ = case
    result, _ = refined

    with pytest.raises(DataError, match="is an input and would be replaced"):
        run_refine(
            folder / "pat1.nii.gz",
            folder / "partial.nii.gz",
            init=str(result.model_file),
            output_dir=result.output_dir,
            overwrite=True,
        )


def other_grid(folder, scan, partial):
    write_nifti(folder / "labels.nii.gz", partial[:-1], scan.affine + np.eye(4))


def unknown_value(folder, scan, partial):
    write_nifti(folder / "labels.nii.gz", np.where(partial == 1, 77, partial), scan.affine)


def nothing(folder, scan, partial):
    write_nifti(folder / "labels.nii.gz", np.full_like(partial, UNLABELLED), scan.affine)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_grid, "do not coincide|outside of the scan"),
        (unknown_value, "expected label values 0 to 2, found 77"),
        (nothing, "nothing is drawn"),
    ],
)
def test_labels_that_cannot_be_used_are_named_before_the_model_is_loaded(
    case, tmp_path, spoil, message
):
    folder, scan, partial = case
    spoil(tmp_path, scan, partial)

    with pytest.raises(DataError, match=message) as error:
        run_refine(
            folder / "pat1.nii.gz",
            tmp_path / "labels.nii.gz",
            init=str(folder / "model.keras"),
            output_dir=tmp_path / "out",
        )

    assert "labels.nii.gz" in str(error.value)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"absent": ["LV"]}, DataError, "drawn although declared absent: LV"),
        ({"absent": ["heart"]}, ConfigError, "expected structures of the model"),
    ],
)
def test_hints_that_cannot_be_true_are_errors(case, tmp_path, settings, error, message):
    folder, *_ = case

    with pytest.raises(error, match=message):
        run_refine(
            folder / "pat1.nii.gz",
            folder / "partial.nii.gz",
            config=Config.model_validate({"infer": settings}),
            init=str(folder / "model.keras"),
            output_dir=tmp_path,
        )


@pytest.mark.parametrize(
    ("name", "message"), [("none.keras", r"none\.keras"), ("study", "is a study of several models")]
)
def test_a_model_that_cannot_adapt_is_an_error(case, tmp_path, name, message):
    folder, *_ = case
    study = StudyLayout(tmp_path / "study")
    for number in range(2):
        study.fold(number).run_dir.mkdir(parents=True)
        shutil.copy(folder / "model.keras", study.fold(number).best)
    study.write_record(2)

    with pytest.raises(ModelError, match=message):
        run_refine(
            folder / "pat1.nii.gz",
            folder / "partial.nii.gz",
            init=str(tmp_path / name),
            output_dir=tmp_path,
        )


def test_the_template_holds_the_answer_on_the_suggested_slices_only(refined):
    result, _ = refined
    folder = result.output_dir

    template = read_label_map(folder / "pat1_suggested.nii.gz", HVSMR, partial=True).voxels
    answer = read_label_map(folder / "pat1_seg.nii.gz", HVSMR).voxels

    with (folder / "pat1_suggested.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    known = np.zeros(template.shape, bool)
    for row in rows:
        np.moveaxis(known, int(row["axis"]), 0)[int(row["slice"])] = True
    assert rows
    np.testing.assert_array_equal(template != UNLABELLED, known)
    np.testing.assert_array_equal(template[known], answer[known])


def test_suggest_asks_for_a_model_of_whole_hearts_and_writes_the_wanted_number(
    case, refined, tmp_path
):
    folder, *_ = case
    result, _ = refined

    suggested = run_suggest(
        folder / "pat1.nii.gz", init=str(result.model_file), count=3, output_dir=tmp_path
    )

    assert 1 <= len(suggested.slices) <= 3
    assert [file.name for file in suggested.files] == [
        "pat1_suggested.csv",
        "pat1_suggested.nii.gz",
    ]


def test_suggest_refuses_to_leave_structures_out_of_the_label_map_to_correct(tmp_path):
    config = Config.model_validate({"infer": {"structures": ["LV"]}})

    with pytest.raises(ConfigError, match=r"holds all structures; leave out infer\.structures"):
        run_suggest(tmp_path / "scan.nii.gz", config=config, output_dir=tmp_path / "out")

    assert not (tmp_path / "out").exists()
