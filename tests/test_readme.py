"""The README, followed from top to bottom in an empty folder with phantoms in place of patients."""

import csv
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from walkthrough import run_line, shown_commands

import heartseg
from heartseg.labels import DISPLAY_COLORS
from heartseg.study import running
from heartseg.study.fold import run_fold

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
# What a reader in a hurry would write into the configuration: another network, hardly trained.
SMALLER = {
    "prepare": {"image_width": 32, "image_height": 32, "window_range": [0, 1.5]},
    "split": {"folds": 2},
    "model": {"image_channels": 1, "base_filters": 4, "num_layers": 2, "base_kernels": [3, 3]},
    "train": {
        "epochs": 1,
        "steps_per_epoch": 2,
        "metrics": [],
        "tensorboard": False,
        "epoch_change_infer": False,
        "precision": "float32",
    },
    "evaluate": {"num_bootstrap": 20},
}


def shrink(config_file):
    """Change the configuration, but for where data and results lie."""
    written = yaml.safe_load(config_file.read_text(encoding="utf-8"))
    kept = {key: written[key] for key in ("run_dir", "data")}
    config_file.write_text(yaml.safe_dump({**kept, **SMALLER}), encoding="utf-8")


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """A folder in which all commands of the README were run, in their order."""
    folder = tmp_path_factory.mktemp("reader")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        # A process of its own per fold would load TensorFlow again.
        patch.setattr(
            running,
            "run_folds_here",
            lambda study, folds, _: [run_fold(study.fold_config(n)) for n in folds][:0],
        )
        run_line("heartseg synth phantom --patients 1 --size 64 --seed 1")
        shutil.copy("phantom/pat0_cropped_norm.nii.gz", "scan.nii.gz")
        run_line("heartseg synth data/cropped_norm --patients 4 --size 32")
        Path("their_label_maps").mkdir()
        for file in Path("data/cropped_norm").glob("*_seg.nii.gz"):
            shutil.copy(file, "their_label_maps")
        for line in shown_commands(README):
            run_line(line)
            if line.endswith("> my.yaml"):
                shrink(Path("my.yaml"))
        yield folder


@pytest.mark.slow
def test_every_command_of_the_readme_runs_after_the_ones_before_it(reader):
    label_map = nibabel.load(reader / "results/scan_seg.nii.gz")
    assert label_map.shape == nibabel.load(reader / "scan.nii.gz").shape
    study = reader / "runs/recommended"
    with (study / "evaluation/cases.csv").open(newline="") as stream:
        assert {row["case"] for row in csv.DictReader(stream)} == {f"pat{n}" for n in range(4)}
    assert (study / "evaluation/table.tex").is_file()
    assert (reader / "results_study/scan_seg.nii.gz").is_file()
    # Copies of the references.
    with (reader / "their_scores/cases.csv").open(newline="") as stream:
        assert {row["dice"] for row in csv.DictReader(stream)} <= {"1.000000", ""}
    with (reader / "comparison/comparison.csv").open(newline="") as stream:
        assert {row["better"] for row in csv.DictReader(stream)} <= {"", "B"}


@pytest.mark.slow  # Beside the test above: slow tests run first.
def test_the_python_of_the_readme_gives_the_label_map_of_its_command(reader, monkeypatch, capsys):
    monkeypatch.chdir(reader)
    (program,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in program.splitlines() if line]) <= 10
    found = {}
    exec(program, found)  # noqa: S102 - the README's own
    saved = nibabel.load("results/scan_seg.nii.gz")
    np.testing.assert_array_equal(found["result"].labels, np.asarray(saved.dataobj))
    assert "'dice': 1.0" in capsys.readouterr().out


def test_the_table_of_labels_is_that_of_the_program():
    rows = re.findall(
        r"^\| (\d) \| (\w*) \| ([a-z ]+) \| [a-z]+ `#(\w{6})` \| `?#?(\w*)`? ?\|$",
        README,
        flags=re.MULTILINE,
    )
    shown = {key: "{:02x}{:02x}{:02x}".format(*color) for key, color in DISPLAY_COLORS.items()}
    assert [row for row in rows if row[0] != "0"] == [
        (str(s.value), s.key, s.name, "{:02x}{:02x}{:02x}".format(*s.color), shown[s.key])
        for s in heartseg.LABELS.foreground
    ]


def test_a_line_of_another_program_would_be_noticed():
    with pytest.raises(ValueError, match="expected lines of heartseg"):
        shown_commands("Text:\n\n    rm -rf data\n")
    assert shown_commands("Text:\n\n    make demo\n    heartseg info\n") == ["heartseg info"]


def test_a_command_that_fails_would_be_noticed():
    with pytest.raises(RuntimeError, match="ends with 2"):
        run_line("heartseg infer --fast")
