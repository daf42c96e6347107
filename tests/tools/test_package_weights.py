"""The shipped model: made from a run, with its card and scores of scans that it did not use."""

import json

import numpy as np
import pytest
from package_weights import main, package_run, write_packaged

from heartseg.cohort.leakage import PartContents
from heartseg.cohort.training_record import TrainingRecord, record_to_json
from heartseg.config.loading import write_config
from heartseg.config.schema import Config
from heartseg.errors import ModelError
from heartseg.files import write_json
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import save_model
from heartseg.modelfile.packaged import (
    DESCRIPTION,
    WEIGHTS,
    describe_packaged,
    load_packaged,
)
from heartseg.networks.unet import build_unet
from heartseg.networks.volume_unet import build_volume_unet
from heartseg.pipelines.synth import run_synth
from heartseg.scans.fingerprint import fingerprint_labels
from heartseg.scans.volume import read_label_map


def write_run(run_dir, model, **metadata):
    config = Config.model_validate({"train": {"steps_per_epoch": 250}})
    labels = [{"value": s.value, "key": s.key} for s in config.label_table.structures]
    learned = {
        "scans": ["pat1"],
        "label_maps": ["pat2", "pat7"],
        "valid_scans": [],
        "seed": 5,
        "synthesis": {"scan_share": 0.2},
    }
    write_config(config, run_dir / "config.yaml")
    write_json(run_dir / "history.json", {"epochs": [{"seconds": 90.0}, {"seconds": 60.0}]})
    known = {"heartseg": "1.2.3", "labels": labels, "train": learned, **metadata}
    save_model(model, run_dir / "best.keras", known)


@pytest.fixture
def run_dir(tmp_path):
    network = {"grid": [8, 8, 8], "filters": [8, 8]}
    model = build_volume_unet(grid=(8, 8, 8), filters=(8, 8), seed=1)
    write_run(tmp_path / "run", model, kind="whole_heart", network=network)
    return tmp_path / "run"


def test_the_facts_on_the_card_come_from_the_run(run_dir, tmp_path):
    write_json(tmp_path / "notes.json", {"recipe": ["A sentence."]})
    packaged = package_run(
        run_dir,
        notes_file=tmp_path / "notes.json",
        output_dir=tmp_path / "packaged",
        card_file=tmp_path / "card.md",
    )
    training = packaged.facts["training"]
    assert training["label_maps"] == ["pat1", "pat2", "pat7"]
    assert (training["steps"], training["epochs"], training["minutes"]) == (500, 2, 2.5)
    card = (tmp_path / "card.md").read_text()
    for fact in ("A sentence.", "Real label maps: 3", "500 steps in 2 epochs, 2.5 minutes"):
        assert fact in card
    assert load_packaged(tmp_path / "packaged").output_shape == (None, 8, 8, 8, 9)


def test_a_run_on_slices_is_refused(tmp_path, capsys):
    model = build_unet(image_size=(8, 8), base_filters=2, num_layers=2)
    write_run(tmp_path / "run", model)
    with pytest.raises(ModelError, match=r"expected a model of model\.kind: whole_heart"):
        package_run(tmp_path / "run", output_dir=tmp_path / "packaged")
    assert main([str(tmp_path / "run"), "--output", str(tmp_path / "packaged")]) == 1
    assert not (tmp_path / "packaged").exists()


def test_a_run_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"best\.keras"):
        package_run(tmp_path, output_dir=tmp_path / "packaged")


def test_notes_that_are_not_a_mapping_are_refused(run_dir, tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps([1]))
    assert main([str(run_dir), "--notes", str(tmp_path / "notes.json")]) == 1


def test_without_a_run_only_the_card_is_written_again(run_dir, tmp_path):
    packaged, first, second = (tmp_path / name for name in ("packaged", "first.md", "second.md"))
    package_run(run_dir, output_dir=packaged, card_file=first)
    weights = (packaged / WEIGHTS).read_bytes()

    assert main(["--output", str(packaged), "--card", str(second)]) == 0
    assert second.read_text() == first.read_text()
    assert (packaged / WEIGHTS).read_bytes() == weights


@pytest.mark.slow
def test_scans_are_scored_but_for_those_that_were_trained_on(tmp_path):
    shipped = describe_packaged()
    network = {"grid": list(shipped.grid), "filters": list(shipped.filters)}
    write_run(tmp_path / "run", load_packaged(), kind="whole_heart", network=network)
    run_synth(tmp_path / "scans", patients=2, size=48, seed=11, overwrite=False, jobs=1)

    packaged = package_run(
        tmp_path / "run",
        scans_dir=tmp_path / "scans",
        output_dir=tmp_path / "packaged",
        card_file=tmp_path / "card.md",
    )

    # The run names pat1 as one of its scans.
    (score,) = packaged.facts["scores"]
    assert score["case"] == "pat0"
    assert score["whole"] > 0.8
    assert packaged.record.train.cases == ("pat1", "pat2", "pat7")
    assert f"| pat0 | {score['dice'][0]:.2f} |" in (tmp_path / "card.md").read_text()


def test_a_copy_of_a_training_case_under_another_name_is_not_scored(tmp_path):
    shipped = describe_packaged()
    run_synth(tmp_path / "scans", patients=1, size=48, seed=11, overwrite=False, jobs=1)
    label_file = tmp_path / "scans/pat0_cropped_seg.nii.gz"
    learned = PartContents(
        ("other",), {"other": fingerprint_labels(read_label_map(label_file, HVSMR))}
    )
    write_run(
        tmp_path / "run",
        load_packaged(),
        kind="whole_heart",
        network={"grid": list(shipped.grid), "filters": list(shipped.filters)},
        learned_from=record_to_json(TrainingRecord(learned)),
    )

    packaged = package_run(
        tmp_path / "run", scans_dir=tmp_path / "scans", output_dir=tmp_path / "packaged"
    )

    assert packaged.facts["scores"] == []


def test_equal_weights_give_equal_files(tmp_path):
    model = build_volume_unet(grid=(8, 8, 8), filters=(8, 8), seed=3)
    facts = {
        "name": "x",
        "network": {"grid": [8, 8, 8], "filters": [8, 8], "num_classes": 9},
        "learned_from": record_to_json(TrainingRecord(PartContents(("pat1",)))),
    }
    for name in ("a", "b"):
        write_packaged(model, facts, tmp_path / name)

    for file in (WEIGHTS, DESCRIPTION):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_weight_beyond_half_precision_is_refused(tmp_path):
    model = build_volume_unet(grid=(8, 12, 4), filters=(8, 16), num_classes=3)
    model.get_layer("classes").bias.assign(np.full(24, 1e6))
    with pytest.raises(ModelError, match="too large for half precision"):
        write_packaged(model, {}, tmp_path)
