"""Signals to processes of the command line, on a terminal as a user sees it."""

import os
import pty
import select
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import yaml
from builders import make_scan, read_tree, write_case

SETTINGS = {
    "run_dir": "run",
    "data": {"source_dir": "volumes", "master_dir": "master", "dataset_dir": "dataset"},
    # Large slices, so that a signal arrives during the work.
    "prepare": {"image_width": 768, "image_height": 768},
    "model": {"image_channels": 1, "base_filters": 2, "num_layers": 2},
    "train": {
        "epochs": 5000,
        "patience": 5000,
        "precision": "float32",
        "tensorboard": False,
        "num_infer_images": 1,
    },
    "parallel": {"jobs": 2},
}
HIDE_CURSOR, SHOW_CURSOR = b"\x1b[?25l", b"\x1b[?25h"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and terminals")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("signals")
    for index in range(8):
        write_case(folder / "volumes", f"pat{index}", make_scan((38, 35, 33), seed=index))
    (folder / "config.yaml").write_text(yaml.safe_dump(SETTINGS))
    return folder


def start(folder, *arguments, stream=None):
    return subprocess.Popen(
        [sys.executable, "-m", "heartseg", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=stream or subprocess.PIPE,
        stderr=stream or subprocess.STDOUT,
        env={**os.environ, "COLUMNS": "150", "TERM": "xterm", "PYTHONFAULTHANDLER": "1"},
        # A process group of its own, as a shell creates for each job.
        start_new_session=True,
    )


class Terminal:
    """A process on a pseudo-terminal, and its output so far."""

    def __init__(self, folder, *arguments):
        self._control, shown = pty.openpty()
        self.process = start(folder, *arguments, stream=shown)
        os.close(shown)
        self.shown = b""

    def read_until(self, text, seconds):
        end = time.monotonic() + seconds
        while text not in self.shown and time.monotonic() < end:
            if select.select([self._control], [], [], 0.05)[0]:
                try:
                    chunk = os.read(self._control, 65536)
                except OSError:  # raised by Linux if the other end is closed
                    chunk = b""
                if not chunk:
                    break
                self.shown += chunk
        return text in self.shown

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._control)


# Arguments, a text that is shown once work has begun, and the advice at the end.
BUSY = {
    "prepare": (("prepare", "config.yaml"), b"pat", b"the same command does what is missing"),
    "train": (("train", "config.yaml"), b"epoch ", b"the same command with --resume continues"),
}


@pytest.mark.slow
@pytest.mark.parametrize("command", BUSY)
def test_ctrl_c_ends_soon_with_130_a_clean_terminal_and_advice(folder, tmp_path, command):
    arguments, busy, advice = BUSY[command]
    if command == "train":
        settings = ("--set", "prepare.image_width=32", "--set", "prepare.image_height=32")
        master = ("--set", "data.master_dir=small")
        for step in ("prepare", "split"):
            done = start(folder, step, "config.yaml", *settings, *master)
            assert done.wait(timeout=120) == 0, done.stdout.read()
            done.stdout.close()
        arguments = (*arguments, *settings, "--set", "train.deterministic=true")
    output = ("--set", f"{'run_dir' if command == 'train' else 'data.master_dir'}={tmp_path}/out")
    terminal = Terminal(folder, *arguments, *output)
    try:
        assert terminal.read_until(busy, seconds=120), terminal.shown
        sent = time.monotonic()
        # The terminal sends it to the whole group, workers included.
        os.killpg(terminal.process.pid, signal.SIGINT)
        terminal.read_until(b"no such text", seconds=20)
        code = terminal.process.wait(timeout=20)
        seconds = time.monotonic() - sent
    finally:
        terminal.close()
    assert code == 130
    # The program waits up to 1.5 s; the rest allows for a busy machine.
    assert seconds < 6
    last_line = terminal.shown.rstrip().splitlines()[-1]
    assert advice in last_line
    assert b"Traceback" not in terminal.shown
    assert terminal.shown.endswith(b"\n")
    assert terminal.shown.rfind(SHOW_CURSOR) >= terminal.shown.rfind(HIDE_CURSOR)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_command_with_workers_is_completed_to_the_same_files(folder, tmp_path, number):
    """The workers outlive their parent for a moment; the next run begins at once."""
    uninterrupted, killed = tmp_path / "uninterrupted", tmp_path / "killed"

    def prepare(output):
        return start(folder, "prepare", "config.yaml", "--set", f"data.master_dir={output}")

    whole = prepare(uninterrupted)
    assert whole.wait(timeout=120) == 0, whole.stdout.read()
    whole.stdout.close()
    hits = 0
    for written in (1, 60, 140):
        process = prepare(killed)
        wait_for_slices(process, killed, written, seconds=180)
        process.send_signal(number)
        hits += process.wait(timeout=60) == -number
        process.stdout.close()
    assert hits >= 2
    time.sleep(3)
    before = read_tree(killed)
    time.sleep(2)
    assert read_tree(killed) == before, "a worker of a killed command goes on writing"
    last = prepare(killed)
    output = last.communicate(timeout=120)[0].decode()
    assert last.returncode == 0 or "already prepared and complete" in output, output
    assert decode_pictures(read_tree(killed)) == decode_pictures(read_tree(uninterrupted))


def decode_pictures(tree):
    """Give pixels in place of PNG files: once the same pixels were packed in other bytes."""
    return {
        name: cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED).tobytes()
        if name.endswith(".png")
        else content
        for name, content in tree.items()
    }


def wait_for_slices(process, master_dir, number, *, seconds):
    """Wait until a folder holds that many masks, or the process has ended."""
    end = time.monotonic() + seconds
    while process.poll() is None and len(list(master_dir.glob("masks/*.png"))) < number:
        if time.monotonic() > end:
            # The process and its workers tell where they hang.
            os.killpg(process.pid, signal.SIGABRT)
            pytest.fail(f"after {seconds} s: {process.communicate(timeout=60)[0].decode()}")
        time.sleep(0.005)
