"""What all commands have in common: exit codes, stdout, stderr, --quiet, --log-file, privacy."""

import csv
import getpass
import gzip
import socket
from dataclasses import dataclass
from pathlib import Path

import nibabel
import pytest
import yaml
from builders import make_scan, read_tree, write_nifti
from typer.testing import CliRunner

from heartseg.cli.app import app

runner = CliRunner()
HOME = "home/jane-q-user"
PATIENT = b"DOE^JANE"
SETTINGS = {
    "run_dir": "run",
    "data": {"source_dir": "volumes", "master_dir": "master", "dataset_dir": "dataset"},
    "prepare": {"image_width": 24, "image_height": 32},
    "model": {"image_channels": 1, "base_filters": 2, "num_layers": 2},
    "train": {
        "epochs": 1,
        "precision": "float32",
        "deterministic": True,
        "tensorboard": False,
        "num_infer_images": 1,
    },
    "evaluate": {"num_bootstrap": 50},
    "infer": {
        "overlay": True,
        "movie": "gif",
        "outputs": ["label_map", "preview", "report"],
    },
    "parallel": {"jobs": 1},
}
# In the order of use: each command needs the results of those before it.
COMMANDS = {
    "synth": ("synth", "phantoms", "--patients", "1", "--size", "32"),
    "prepare": ("prepare", "config.yaml"),
    "split": ("split", "config.yaml"),
    "train": ("train", "config.yaml"),
    "evaluate": ("evaluate", "config.yaml"),
    "infer": ("infer", "config.yaml", "scans", "--output", "found"),
    "score": (
        *("evaluate", "--predictions", "found", "--references", "references"),
        *("--output", "scores"),
    ),
    "compare": ("evaluate", "--compare", "scores", "scores", "--output", "comparison"),
    "colorize": ("colorize", "found/new_seg.nii.gz", "--output", "colors"),
    "surfaces": ("surfaces", "references", "--wall", "2", "--output", "printed"),
    "view": (
        *("view", "scans/new_cropped_norm.nii.gz", "found/new_seg.nii.gz"),
        *("--output", "shown/new_report.html"),
    ),
    "inspect": ("inspect", "config.yaml", "--output", "drawn"),
}
FILLED = {
    "synth": "phantoms",
    "prepare": "master",
    "split": "dataset",
    "train": "run",
    "evaluate": "run/evaluation",
    "infer": "found",
    "score": "scores",
    "compare": "comparison",
    "colorize": "colors",
    "surfaces": "printed",
    "view": "shown",
    "inspect": "drawn",
}
BROKEN = {
    "synth": (("synth", "a-file"), "a-file"),
    "prepare": (("prepare", "empty.yaml"), "cropped_norm: cannot be read as a folder"),
    "split": (("split", "empty.yaml"), "run `heartseg prepare` first"),
    "train": (("train", "empty.yaml"), "run `heartseg split` first"),
    "evaluate": (("evaluate", "empty.yaml"), "run `heartseg train` first"),
    "infer": (("infer", "missing.nii.gz"), "missing.nii.gz: no such file or folder"),
    "score": (
        ("evaluate", "--predictions", "missing", "--references", "missing"),
        "missing: cannot be read as a folder",
    ),
    "compare": (("evaluate", "--compare", "missing", "missing"), "missing"),
    "colorize": (("colorize", "missing.nii.gz"), "missing.nii.gz: no such file or folder"),
    "surfaces": (("surfaces", "missing.nii.gz"), "missing.nii.gz: no such file or folder"),
    "view": (("view", "missing.nii.gz", "a-file"), "missing.nii.gz: no such file"),
    "inspect": (("inspect", "wrong.yaml"), "did you mean num_layers?"),
}


@dataclass(frozen=True)
class Day:
    """All commands, run with notices, then again, then quietly over their earlier results."""

    folder: Path
    first: dict
    again: dict
    quiet: dict
    changed: dict


@pytest.fixture(scope="module")
def day(tmp_path_factory):
    folder = tmp_path_factory.mktemp("day") / HOME / "work"
    write_scans(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("HOME", str(folder.parent))
        first, again, quiet, changed = {}, {}, {}, {}
        for name, command in COMMANDS.items():
            first[name] = runner.invoke(app, [*command, "--log-file", f"logs/{name}.log"])
            if name in FILLED:
                before = read_tree(folder / FILLED[name])
                again[name] = runner.invoke(app, [*command])
                changed[name] = read_tree(folder / FILLED[name]) != before
        for name, command in COMMANDS.items():
            overwrite = ("--overwrite",) if name in FILLED else ()
            log = ("--log-file", f"logs/quiet/{name}.log")
            quiet[name] = runner.invoke(app, [*command, *overwrite, "--quiet", *log])
    return Day(folder, first, again, quiet, changed)


def write_scans(folder):
    """Write scans whose headers name a patient, as scanners do, and the configuration."""
    for index in range(5):
        scan = make_scan((18, 15, 13), seed=index)
        name, where = (f"pat{index}", "volumes") if index < 4 else ("new", "scans")
        for suffix, voxels in (("norm", scan.image), ("seg", scan.labels)):
            file = folder / where / f"{name}_cropped_{suffix}.nii.gz"
            write_nifti(file, voxels, scan.affine, descrip=PATIENT, db_name=PATIENT)
    references = folder / "references"
    references.mkdir()
    (folder / "scans/new_cropped_seg.nii.gz").rename(references / "new_cropped_seg.nii.gz")
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_succeeds_has_exit_code_0_and_its_result_on_stdout(day, name):
    result = day.first[name]
    assert result.exit_code == 0, result.output
    assert result.stdout.strip()
    assert "Error" not in result.stderr


def test_the_line_of_a_scan_says_what_the_table_says(day):
    with (day.folder / "found/volumes.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["case"] == "new"]
    found = [f"{r['structure']} {float(r['volume_ml']):.1f}" for r in rows if int(r["voxels"])]
    flagged = {
        flag: [row["structure"] for row in rows if flag in row["flags"].split(";")]
        for flag in ("absent", "truncated", "doubtful", "learned")
    }
    flags = "; ".join(
        f"{flag} {'all' if len(names) == len(rows) else ', '.join(names)}"
        for flag, names in flagged.items()
        if names
    )
    assert found
    assert flags
    (line,) = [text for text in day.first["infer"].stdout.splitlines() if text.startswith("new: ")]
    assert line.startswith(f"new: {', '.join(found)} mL | flags: ")
    assert sorted(line.split(" | ")[1].removeprefix("flags: ").split("; ")) == sorted(
        flags.split("; ")
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_a_quiet_command_prints_only_warnings(day, name):
    result = day.quiet[name]
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert all(line.startswith("Warning: ") for line in result.stderr.splitlines())


@pytest.mark.parametrize("name", COMMANDS)
def test_the_log_file_keeps_every_message(day, name):
    log = (day.folder / f"logs/{name}.log").read_text()
    printed = day.first[name]
    lines = [line for line in printed.stderr.splitlines() if not line.startswith("Warning: ")]
    # Tables have frames on the terminal only; the last line names the folder of the results.
    lines += printed.stdout.splitlines()[-1:]
    assert lines
    assert [line for line in lines if line not in log] == []
    quiet_log = (day.folder / f"logs/quiet/{name}.log").read_text()
    assert printed.stdout.splitlines()[-1] in quiet_log


@pytest.mark.parametrize("name", FILLED)
def test_results_are_replaced_only_with_overwrite(day, name):
    result = day.again[name]
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--overwrite" in result.stderr
    assert not day.changed[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_that_the_user_can_fix_is_exit_code_1_and_one_message_on_stderr(
    name, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    Path("empty.yaml").touch()
    Path("wrong.yaml").write_text("model:\n  num_layer: 3\n")
    command, message = BROKEN[name]
    result = runner.invoke(app, [*command, "--quiet", "--log-file", "run.log"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("Error: ") == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert f"ERROR {result.stderr.removeprefix('Error: ').rstrip()}" in Path("run.log").read_text()


@pytest.mark.parametrize(
    "command", sorted({command[0] for command in COMMANDS.values()} | {"info"})
)
def test_wrong_usage_is_exit_code_2_on_stderr(command):
    result = runner.invoke(app, [command, "--no-such-option"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "No such option" in result.stderr


@pytest.mark.parametrize("name", COMMANDS)
def test_a_log_file_that_cannot_be_written_is_an_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a-file").touch()
    Path("config.yaml").touch()
    for log_file in (".", "a-file/run.log"):
        result = runner.invoke(app, [*COMMANDS[name], "--log-file", log_file])
        assert (result.exit_code, result.stdout) == (1, "")
        assert f"{log_file}: cannot be written" in result.stderr
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a-file", "config.yaml"]


def test_nothing_private_is_in_any_result(day):
    """Not the texts of the header, the user, the home folder or the name of the machine."""
    inputs = {"volumes", "scans", "references"}
    secrets = [PATIENT, HOME.encode(), b"jane-q-user"]
    # A short name, such as root, is part of many words.
    secrets += [
        name.encode() for name in (getpass.getuser(), socket.gethostname()) if len(name) > 5
    ]
    read = 0
    for path, content in read_tree(day.folder).items():
        if Path(path).parts[0] in inputs:
            continue
        plain = gzip.decompress(content) if path.endswith(".gz") else content
        assert [secret for secret in secrets if secret in plain or secret.decode() in path] == []
        read += 1
    assert read > 100
    scan = nibabel.load(day.folder / "scans/new_cropped_norm.nii.gz")
    assert scan.header["descrip"].item() == PATIENT
    for result in (*day.first.values(), *day.quiet.values()):
        assert all(secret.decode() not in result.output for secret in secrets)
