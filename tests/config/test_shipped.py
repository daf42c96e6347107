"""What a CONFIG may be: a file, the folder of a run, the name of what ships with heartseg."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from heartseg.cli.app import app
from heartseg.config.loading import load_config, write_config
from heartseg.config.shipped import describe_shipped, is_config, list_shipped, read_shipped
from heartseg.errors import ConfigError

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(file.stem for file in (ROOT / "configs").glob("*.yaml"))
runner = CliRunner()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_configurations_at_the_top_of_the_repository_ship():
    assert list(list_shipped()) == SHIPPED
    assert SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_configuration_is_printed_as_it_is(name):
    ran = runner.invoke(app, ["config", name])
    assert ran.exit_code == 0
    assert ran.stdout == (ROOT / f"configs/{name}.yaml").read_text(encoding="utf-8")


def test_without_a_name_each_is_listed_with_what_its_comment_says():
    lines = runner.invoke(app, ["config"]).stdout.splitlines()
    assert [line.split()[0] for line in lines] == SHIPPED
    assert all(len(line.split()) > 5 for line in lines)
    assert describe_shipped("# One\n# two.\nrun_dir: a # three\n# four") == "One two."


def test_a_name_that_does_not_ship_is_an_error_that_lists_those_that_do(here):
    ran = runner.invoke(app, ["config", "nope"])
    assert ran.exit_code == 1
    assert f"there are {', '.join(SHIPPED)}" in ran.stderr
    with pytest.raises(ConfigError, match="heartseg ships none of this name; it ships"):
        load_config(Path("nope"))
    with pytest.raises(ConfigError, match=r"nope.yaml: no such configuration file"):
        load_config(Path("nope.yaml"))
    assert read_shipped("smoke") == read_shipped("smoke.yaml")


def test_a_name_finds_what_ships(here):
    assert load_config(Path("smoke")) == load_config(ROOT / "configs/smoke.yaml")


@pytest.mark.parametrize("file", ["smoke", "smoke.yaml"])
def test_a_file_of_that_name_wins_and_is_named(here, caplog, file):
    (here / file).write_text("run_dir: mine\n")
    with caplog.at_level("INFO", logger="heartseg"):
        assert load_config(Path("smoke")).run_dir == Path("mine")
    assert f"the file {file} of the working directory" in caplog.text


def test_a_run_is_found_where_its_folder_lies_now(here):
    written = load_config(Path("smoke"), ["train.epochs=3", "run_dir=elsewhere"])
    write_config(written, here / "moved/config.yaml")
    config = load_config(Path("moved"), ["infer.batch_size=2"])
    assert (config.run_dir, config.train.epochs, config.infer.batch_size) == (Path("moved"), 3, 2)
    assert load_config(Path("moved"), ["run_dir=new"]).run_dir == Path("new")


def test_another_folder_is_no_configuration(here):
    (here / "scans").mkdir()
    with pytest.raises(ConfigError, match=r"scans: expected a YAML file, or the folder of a run"):
        load_config(Path("scans"))


def test_an_input_of_a_shipped_name_stays_an_input(here):
    assert is_config(Path("smoke"))
    (here / "smoke").mkdir()
    assert not is_config(Path("smoke"))
    (here / "smoke/config.yaml").touch()
    assert is_config(Path("smoke"))
    assert not is_config(Path("scan.nii.gz"))


def test_the_folder_of_a_run_is_no_input_of_infer(here):
    write_config(load_config(Path("smoke")), here / "run/config.yaml")
    ran = runner.invoke(app, ["infer", "run", "scan.nii.gz"])
    assert ran.exit_code == 1
    assert "run/best.keras: no such file" in ran.stderr.replace("\\", "/")
