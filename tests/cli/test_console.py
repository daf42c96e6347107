import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from heartseg.cli import console
from heartseg.errors import DataError

ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LONG_NAME = "a-rather-long-name-of-a-scan_cropped_norm.nii.gz: view 3 of 5"


@pytest.fixture
def stream(monkeypatch):
    """Let stderr be a terminal of 80 columns, and return what is written to it."""
    written = io.StringIO()
    terminal = Console(file=written, force_terminal=True, width=80, highlight=False, soft_wrap=True)
    monkeypatch.setattr(console, "err", terminal)
    monkeypatch.setattr(console.out, "quiet", False)
    return written


def lines_of(stream):
    return [line.rstrip() for line in re.split(r"[\r\n]+", ANSI.sub("", stream.getvalue()))]


def make_progress(epoch, *, step=150, is_epoch_end=False):
    logs = {"loss": 0.123456, "val_loss": 0.2, "dice_mean": 0.87654, "dice_LV": 0.9}
    # As heartseg.training.callbacks.TrainingProgress, whose import takes seconds.
    return SimpleNamespace(
        epoch=epoch,
        epochs=100,
        step=step,
        steps=3331,
        logs=logs,
        learning_rate=7e-5,
        seconds=12.34,
        is_epoch_end=is_epoch_end,
    )


def test_progress_fits_80_columns_with_bar_counter_and_time_left(stream):
    with console.progress("infer") as report:
        report(1, 2, LONG_NAME)

    lines = lines_of(stream)
    assert max(map(len, lines)) <= 80
    # The name is cut, not the bar, the counter or the time.
    line = re.compile(rf"infer \S{{{console.BAR_WIDTH}}} 1/2 (-:--:--|\d:\d\d:\d\d) (.+)…")
    found = [line.fullmatch(text) for text in lines if "1/2" in text]
    assert found
    assert all(match and LONG_NAME.startswith(match[2]) for match in found)


def test_training_fits_80_columns_with_bar_counter_and_time_left(stream):
    with console.training() as (track, _report):
        track(make_progress(12))

    lines = lines_of(stream)
    assert max(map(len, lines)) <= 80
    assert any(re.match(r"epochs +\S{20} +11/100 ", line) for line in lines)
    assert any(re.match(r"epoch 12 \S{20} +150/3331 \S{7} loss 0\.1235", line) for line in lines)


def test_a_finished_epoch_is_one_line_with_its_most_important_values(capfd):
    console.configure(quiet=False, log_file=None)
    with console.training() as (track, _report):
        track(make_progress(3))
        track(make_progress(3, step=3331, is_epoch_end=True))

    assert capfd.readouterr().err.splitlines() == [
        "loading TensorFlow",
        "epoch 3/100: loss 0.1235, val_loss 0.2, dice_mean 0.8765, learning rate 7e-05, 12.3 s",
    ]


def test_without_a_terminal_progress_is_a_line_every_few_seconds(monkeypatch, capfd):
    console.configure(quiet=False, log_file=None)
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress("prepare") as report:
        report(0, 0, "loading TensorFlow")
        for seconds, done in ((5, 1), (6, 2), (11, 3), (12, 4)):
            now[0] = seconds
            report(done, 4, f"pat{done}")

    assert capfd.readouterr().err.splitlines() == [
        "prepare: loading TensorFlow",
        "prepare: 1 of 4 (pat1)",
        "prepare: 3 of 4 (pat3)",
        "prepare: 4 of 4 (pat4)",
    ]


def test_quiet_progress_prints_nothing(capfd):
    console.configure(quiet=True, log_file=None)
    with console.progress("prepare") as report:
        report(4, 4, "pat4")
    assert capfd.readouterr() == ("", "")


def test_a_log_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(DataError, match=r"taken/run\.log: cannot be written"):
        console.configure(quiet=False, log_file=tmp_path / "taken" / "run.log")


CARD = "# Model card\n\nIt labels **eight** structures.\n\n![hearts](images/hearts.png)\n"


def test_markdown_is_set_on_a_terminal_and_stays_as_it_is_in_a_pipe(monkeypatch):
    shown = {}
    for is_terminal in (True, False):
        stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        monkeypatch.setattr(
            console, "out", Console(file=stream, force_terminal=is_terminal, width=40)
        )
        console.show_markdown(CARD)
        stream.flush()
        shown[is_terminal] = stream.buffer.getvalue().decode("utf-8")

    lines = [line.strip() for line in ANSI.sub("", shown[True]).splitlines() if line.strip()]
    assert lines == ["Model card", "It labels eight structures."]
    assert shown[True] != ANSI.sub("", shown[True])
    assert shown[False] == f"{CARD}\n"
