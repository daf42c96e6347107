"""Packaging: the model of a run, its card, and scores of scans that it did not see."""

import json

import pytest

from heartseg.config.loading import write_config
from heartseg.config.schema import Config
from heartseg.errors import ModelError
from heartseg.files import write_json
from heartseg.modelfile.checkpoint import save_model
from heartseg.modelfile.packaged import load_packaged
from heartseg.networks.unet import build_unet
from heartseg.networks.volume_unet import build_volume_unet
from heartseg.pipelines.package import main, run_package


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


def test_what_the_card_tells_comes_from_the_run(run_dir, tmp_path):
    write_json(tmp_path / "notes.json", {"recipe": ["A sentence."]})
    packaged = run_package(
        run_dir,
        notes_file=tmp_path / "notes.json",
        output_dir=tmp_path / "packaged",
        card_file=tmp_path / "card.md",
    )
    training = packaged.facts["training"]
    assert training["label_maps"] == ["pat1", "pat2", "pat7"]
    assert (training["steps"], training["epochs"], training["minutes"]) == (500, 2, 2.5)
    card = (tmp_path / "card.md").read_text()
    for told in ("A sentence.", "Real label maps: 3", "500 steps in 2 epochs, 2.5 minutes"):
        assert told in card
    assert load_packaged(tmp_path / "packaged").output_shape == (None, 8, 8, 8, 9)


def test_a_run_on_slices_is_refused(tmp_path, capsys):
    model = build_unet(image_size=(8, 8), base_filters=2, num_layers=2)
    write_run(tmp_path / "run", model)
    with pytest.raises(ModelError, match=r"expected a model of model\.kind: whole_heart"):
        run_package(tmp_path / "run", output_dir=tmp_path / "packaged")
    assert main([str(tmp_path / "run"), "--output", str(tmp_path / "packaged")]) == 1
    assert not (tmp_path / "packaged").exists()


def test_a_run_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"best\.keras"):
        run_package(tmp_path, output_dir=tmp_path / "packaged")


def test_notes_that_are_no_mapping_are_refused(run_dir, tmp_path):
    (tmp_path / "notes.json").write_text(json.dumps([1]))
    assert main([str(run_dir), "--notes", str(tmp_path / "notes.json")]) == 1
