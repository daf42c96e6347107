"""No option is ignored: what makes no sense together is an error, before any work."""

import time

import nibabel
import numpy as np
import pytest
import typer
from builders import make_scan, write_nifti
from typer.testing import CliRunner

from heartseg.cli.app import app
from heartseg.cli.options import join_settings

runner = CliRunner()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").touch()
    (tmp_path / "c.json").write_text("{}")
    scan = make_scan((18, 15, 13))
    write_nifti(tmp_path / "scan.nii.gz", scan.image, scan.affine)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "code", "message"),
    [
        ("evaluate c.yaml --endpoints e", 2, "--endpoints: scores label maps only"),
        ("evaluate c.yaml --resample", 2, "--resample: scores label maps only"),
        ("evaluate c.yaml --map 3=1", 2, "--map: scores label maps only"),
        ("evaluate --compare a b --predictions p --references r", 2, "--compare reads the scores"),
        ("evaluate --compare a b --resample", 2, "--compare reads the scores"),
        ("evaluate --compare a b --overwrite", 2, "without --output writes no files"),
        ("evaluate --predictions p --references r --map 3", 2, "expected pairs of label values"),
        ("evaluate --predictions p --references r --map 3=x", 2, "expected pairs of label values"),
        ("evaluate --predictions p --references r --map 3=1,3=2", 2, "names the label 3 twice"),
        ("evaluate --predictions p --references r --map 3=9", 1, "expected labels 0 to 8"),
        ("infer scan.nii.gz c.yaml", 2, "is no input; a configuration is one YAML file"),
        ("infer c.json", 2, "is no input; a configuration is one YAML file"),
        ("infer c.json scan.nii.gz", 2, "is no input; a configuration is one YAML file"),
        ("colorize scan.nii.gz c.yaml", 2, "is no input; a configuration is one YAML file"),
        ("infer scan.nii.gz -o seg.nii.gz", 2, "expected a folder; results get their names"),
        ("infer scan.nii.gz -o c.json", 2, "expected a folder; results get their names"),
        ("infer scan.nii.gz --set infer.overlay=true", 1, "and use infer.movie for the labels"),
        (
            "infer scan.nii.gz --set infer.overlay=true --set infer.movie=gif",
            1,
            "infer.overlay: the packaged model is of model.kind: whole_heart",
        ),
        ("infer scan.nii.gz --set infer.tiled=true", 1, "infer.tiled: the packaged model is of"),
        ("infer scan.nii.gz --set prepare.plane=axial", 2, "the packaged model does not use this"),
        ("suggest scan.nii.gz --set infer.tiled=true", 2, "infer.tiled: suggest does not use this"),
        ("suggest scan.nii.gz --set infer.outputs=[report]", 2, "suggest does not use this"),
        ("refine scan.nii.gz --labels l.nii --set infer.movie=gif", 2, "refine does not use this"),
        ("refine scan.nii.gz --labels l.nii --set train.epochs=3", 2, "refine does not use this"),
        ("train c.yaml --init a.keras --set train.init=b.keras", 2, "--init sets train.init"),
        ("train c.yaml --resume --overwrite", 1, "give one of them"),
    ],
)
def test_what_would_be_ignored_is_refused_before_any_work(here, command, code, message):
    before = sorted(entry.name for entry in here.iterdir())
    ran = runner.invoke(app, command.split(), env={"COLUMNS": "400"})
    assert ran.exit_code == code, ran.output
    assert message in ran.stderr
    assert sorted(entry.name for entry in here.iterdir()) == before


@pytest.mark.parametrize("setting", ["run_dir=r", "run_dir = r", " run_dir=r"])
def test_a_run_is_used_however_its_setting_is_spaced(here, setting):
    ran = runner.invoke(app, ["infer", "scan.nii.gz", "--set", setting])
    assert ran.exit_code == 1
    assert "r/best.keras: no such file; run `heartseg train` first" in ran.stderr


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train c.yaml", "run `heartseg split` first"),
        ("evaluate c.yaml", "run `heartseg train` first"),
        ("infer c.yaml scan.nii.gz", "run `heartseg train` first"),
    ],
)
def test_a_wrong_start_is_answered_without_tensorflow_and_leaves_nothing(here, command, message):
    begin = time.process_time()
    before = sorted(entry.name for entry in here.iterdir())
    ran = runner.invoke(app, command.split())
    assert ran.exit_code == 1
    assert message in ran.stderr
    assert time.process_time() - begin < 5
    assert sorted(entry.name for entry in here.iterdir()) == before


def test_the_home_folder_is_expanded_where_no_shell_does(here, monkeypatch):
    monkeypatch.setenv("HOME", str(here))
    monkeypatch.setenv("USERPROFILE", str(here))
    ran = runner.invoke(app, ["synth", "~/out", "--patients", "1", "--size", "32"])
    assert ran.exit_code == 0, ran.output
    assert (here / "out/pat0_cropped_norm.nii.gz").is_file()


def test_label_values_of_another_convention_are_mapped(here):
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 3, (8, 9, 10)).astype(np.uint8)
    write_nifti(here / "r/a.nii.gz", truth, np.eye(4))
    # 1 and 2 exchanged.
    write_nifti(here / "p/a.nii.gz", np.array([0, 2, 1], np.uint8)[truth], np.eye(4))
    command = "evaluate --predictions p --references r --map 2=1,1=2"
    ran = runner.invoke(app, command.split())
    assert ran.exit_code == 0, ran.output
    rows = (here / "p/evaluation/cases.csv").read_text().splitlines()
    assert {row.split(",")[2] for row in rows if row.split(",")[1] in ("LV", "RV")} == {"1.000000"}


def test_scans_that_phantoms_are_named_like_are_never_replaced(here):
    scan = here / "data/pat0_cropped_norm.nii.gz"
    write_nifti(scan, np.ones((4, 5, 6)), np.eye(4))
    before = scan.read_bytes()
    for overwrite in ([], ["--overwrite"]):
        ran = runner.invoke(app, ["synth", "data", "--patients", "1", "--size", "32", *overwrite])
        assert ran.exit_code == 1
        assert "did not make" in ran.stderr
    assert scan.read_bytes() == before
    assert nibabel.load(scan).shape == (4, 5, 6)


def test_options_join_the_settings_and_may_not_contradict_them():
    options = {"--device": ("parallel.device", "cpu"), "--threads": ("parallel.threads", None)}
    assert join_settings(["a.b=1"], options) == ["a.b=1", "parallel.device=cpu"]
    with pytest.raises(typer.BadParameter, match=r"--threads sets parallel\.threads"):
        join_settings(["parallel.threads=2"], {"--threads": ("parallel.threads", 1)})
