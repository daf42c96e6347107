"""Settings and streams around the command line: no result changes, and there is no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="uses a POSIX shell")
HEARTSEG = f"{sys.executable} -m heartseg"
SYNTH = "synth out --patients 1 --size 32 --overwrite"


def shell(command, folder, **environment):
    ran = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    assert "Exception ignored" not in ran.stderr
    return ran


@posix_only
@pytest.mark.parametrize("command", ["info", SYNTH, "--help"])
def test_a_full_stdout_is_one_message(tmp_path, command):
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    ran = shell(f"{HEARTSEG} {command} > /dev/full", tmp_path)
    assert ran.returncode == 1
    assert "Error: the output cannot be written (No space left on device)" in ran.stderr


@posix_only
@pytest.mark.parametrize("command", ["info", SYNTH])
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams_change_nothing(tmp_path, command, closed):
    ran = shell(f"{HEARTSEG} {command} {closed}", tmp_path)
    assert ran.returncode == 0
    scans = list(tmp_path.glob("out/*_cropped_norm.nii.gz"))
    assert len(scans) == (command == SYNTH)
    assert all(scan.read_bytes()[:2] == b"\x1f\x8b" for scan in scans)


@posix_only
def test_a_reader_that_leaves_ends_the_command_silently(tmp_path):
    ran = shell(f"{HEARTSEG} info | true", tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")


@posix_only
def test_a_deleted_working_directory_is_one_message(tmp_path):
    (tmp_path / "gone").mkdir()
    ran = shell(f"cd gone; rmdir ../gone; {HEARTSEG} infer x.nii.gz", tmp_path)
    assert ran.returncode == 1
    assert "Error: the working directory does not exist any more" in ran.stderr


@posix_only
@pytest.mark.slow
def test_settings_of_other_programs_do_not_change_a_network(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "prepare: {image_width: 16, image_height: 32}\nmodel: {base_filters: 2, num_layers: 2}\n"
    )
    summaries = []
    for settings in (None, {"image_data_format": "channels_first", "floatx": "float16"}):
        home = tmp_path / f"home{len(summaries)}"
        (home / ".keras").mkdir(parents=True)
        if settings is not None:
            (home / ".keras/keras.json").write_text(
                json.dumps({**settings, "backend": "torch", "epsilon": 0.1})
            )
        ran = shell(
            f"{HEARTSEG} inspect config.yaml",
            tmp_path,
            HOME=str(home),
            MPLBACKEND="module://matplotlib_inline.backend_inline",
        )
        assert ran.returncode == 0, ran.stderr
        summaries.append(ran.stdout)
    assert summaries[0] == summaries[1]


@posix_only
def test_pictures_are_drawn_whatever_backend_a_notebook_passes_on(tmp_path):
    (tmp_path / "config.yaml").write_text(
        "data: {source_dir: out, master_dir: master}\n"
        "prepare: {image_width: 512, image_height: 512}\n"
    )
    shell(f"{HEARTSEG} {SYNTH}", tmp_path)
    ran = shell(
        f"{HEARTSEG} prepare config.yaml",
        tmp_path,
        MPLBACKEND="module://matplotlib_inline.backend_inline",
    )
    assert ran.returncode == 0, ran.stderr
    assert (tmp_path / "master/statistics.png").is_file()


@posix_only
@pytest.mark.parametrize("command", ["train", "evaluate", "infer", "inspect"])
def test_a_backend_that_heartseg_does_not_run_on_is_named(tmp_path, command):
    (tmp_path / "config.yaml").touch()
    ran = shell(f"{HEARTSEG} {command} config.yaml", tmp_path, KERAS_BACKEND="torch")
    assert ran.returncode == 1
    assert "Error: KERAS_BACKEND is torch; heartseg runs on tensorflow or jax" in ran.stderr
