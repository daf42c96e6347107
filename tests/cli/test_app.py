"""The command line: exit codes, messages, where they go."""

import errno
import os
import re
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from heartseg import __version__
from heartseg.cli import app as cli
from heartseg.cli.app import app
from heartseg.errors import BatchError

runner = CliRunner()
COMMANDS = (
    "synth",
    "prepare",
    "split",
    "train",
    "evaluate",
    "study",
    "infer",
    "refine",
    "suggest",
    "colorize",
    "surfaces",
    "view",
    "export",
    "config",
    "inspect",
    "info",
    "dataset",
)


def test_the_version_is_that_of_the_package():
    result = runner.invoke(app, ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, f"heartseg {__version__}")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help(command):
    long, short = (
        runner.invoke(app, [command, option], env={"COLUMNS": "120"}) for option in ("--help", "-h")
    )
    assert long.exit_code == short.exit_code == 0
    assert long.stdout == short.stdout
    assert "Usage" in long.stdout


def test_the_help_of_the_program_lists_every_command_in_the_order_of_use():
    long, short = (
        runner.invoke(app, [option], env={"COLUMNS": "120"}) for option in ("--help", "-h")
    )
    assert long.exit_code == short.exit_code == 0
    assert long.stdout == short.stdout
    assert "Whole-heart segmentation of cardiovascular MR" in long.stdout
    listed = re.findall(r"^\W+(\w+) +[A-Z]", long.stdout.partition("Commands")[2], re.MULTILINE)
    assert tuple(listed) == COMMANDS


def test_wrong_usage_is_exit_code_2():
    assert runner.invoke(app, ["prepare"]).exit_code == 2
    assert runner.invoke(app, ["prepare", "a.yaml", "--no-such-option"]).exit_code == 2
    assert runner.invoke(app, ["evaluate"]).exit_code == 2
    assert runner.invoke(app, ["evaluate", "--predictions", "x"]).exit_code == 2


def test_an_error_that_the_user_can_fix_is_one_message_on_stderr(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("train:\n  reduer_patience: 3\n")
    result = runner.invoke(app, ["train", str(config)])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "did you mean reducer_patience?" in result.stderr
    assert "Traceback" not in result.stderr


def test_settings_on_the_command_line_win_over_the_file(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("data:\n  source_dir: in_the_file\n")
    result = runner.invoke(app, ["prepare", str(config), "--set", "data.source_dir=on_the_line"])
    assert result.exit_code == 1
    assert "on_the_line" in result.stderr


def test_every_problem_of_a_batch_is_reported(monkeypatch, tmp_path):
    def fail(*_arguments, **_options):
        raise BatchError("2 of 3 cases failed", ["a.nii.gz: [broken]", "b.nii.gz: truncated"])

    monkeypatch.setattr("heartseg.pipelines.prepare.run_prepare", fail)
    config = tmp_path / "config.yaml"
    config.write_text("")
    result = runner.invoke(app, ["prepare", str(config)])
    assert result.exit_code == 1
    # Brackets are text, not markup.
    for text in ("2 of 3 cases failed", "a.nii.gz: [broken]", "b.nii.gz: truncated"):
        assert text in result.stderr


def test_an_error_of_the_system_is_reported_in_its_words():
    too_long = f"{'a' * 300}.nii"
    result = runner.invoke(app, ["colorize", too_long])
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr.replace("\n", "") == f"Error: {too_long}: {os.strerror(errno.ENAMETOOLONG)}"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="sends POSIX signals")
@pytest.mark.parametrize("raises", [True, False], ids=["raised", "lost in a callback"])
def test_interruption_is_exit_code_130_and_says_how_to_continue(tmp_path, raises):
    (tmp_path / "config.yaml").write_text("")
    script = f"""
import os, signal, sys, time
from heartseg.cli import app
from heartseg.pipelines import prepare

def work(*_arguments, **_options):
    try:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        if {raises}:
            raise
        time.sleep(60)

prepare.run_prepare = work
sys.argv = ["heartseg", "prepare", "config.yaml"]
app.main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 130
    assert ran.stderr.count("interrupted") == 1
    assert "Traceback" not in ran.stderr
    assert "--resume" in cli._how_to_continue("train")


def test_a_log_file_keeps_quiet_messages_too(tmp_path):
    log_file = tmp_path / "logs/run.log"
    result = runner.invoke(
        app,
        [
            *("synth", str(tmp_path / "out"), "--patients", "1", "--size", "32"),
            *("--quiet", "--log-file", str(log_file)),
        ],
    )
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.search(r"INFO 1 phantom patient in", log_file.read_text())


def test_a_backend_that_is_not_installed_is_named(tmp_path):
    (tmp_path / "run.yaml").write_text("{}")
    # None in place of a module: the import fails as if it were not installed.
    script = (
        "import sys; sys.modules['jax'] = None; sys.argv = ['heartseg', 'inspect', 'run.yaml']\n"
        "from heartseg.cli.app import main; main()"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 1
    assert "pip install 'heartseg[jax]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_no_time_is_spent_on_garbage_while_modules_load_and_at_exit():
    script = (
        "import gc, sys; sys.argv = ['heartseg', '--version']\n"
        "from heartseg.cli.app import main\n"
        "try: main()\n"
        "finally: print(gc.isenabled(), gc.get_threshold()[0] >= 10_000, gc.get_freeze_count() > 0)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout.splitlines()[-1] == "True True True"
