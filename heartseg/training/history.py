"""The record of a training run: one entry per epoch, as JSON, CSV and curves."""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from heartseg.files import replacing, write_json
from heartseg.pictures.charts import draw_curves


@dataclass(frozen=True)
class EpochRecord:
    """The result of one epoch.

    Attributes:
        epoch: Its number, from 1.
        logs: ``loss``, ``val_loss`` and every metric as ``NAME`` and ``val_NAME``; NaN where a
            metric has nothing to score.
        learning_rate: Its learning rate.
        seconds: Its duration, validation included.
    """

    epoch: int
    logs: Mapping[str, float]
    learning_rate: float
    seconds: float

    @property
    def judged_loss(self) -> float:
        """The loss by which epochs are compared: the validation loss if there is one."""
        return self.logs.get("val_loss", self.logs["loss"])

    def to_dict(self) -> dict[str, object]:
        """Return plain values for JSON, with None in place of NaN."""
        logs = {name: value if math.isfinite(value) else None for name, value in self.logs.items()}
        return {
            "epoch": self.epoch,
            **logs,
            "learning_rate": self.learning_rate,
            "seconds": self.seconds,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> "EpochRecord":
        """Rebuild a record from ``to_dict``."""
        numbers = {name: math.nan if v is None else float(v) for name, v in values.items()}
        return cls(
            epoch=int(numbers.pop("epoch")),
            learning_rate=numbers.pop("learning_rate"),
            seconds=numbers.pop("seconds"),
            logs=numbers,
        )


History = tuple[EpochRecord, ...]


def best_of(history: Sequence[EpochRecord]) -> EpochRecord:
    """Return the first record with the lowest ``judged_loss``."""
    return min(history, key=lambda record: record.judged_loss)


@dataclass(frozen=True)
class HistoryFiles:
    """The files of the record of a training run.

    Attributes:
        record: JSON of all epochs.
        losses_table: CSV of the losses, in the published form.
        metrics_table: CSV of the metrics.
        losses_plot: PNG of the losses.
        metrics_plot: PNG of the metrics.
        colors: Red, green, blue of metrics of one structure, by their names.
    """

    record: Path
    losses_table: Path
    metrics_table: Path
    losses_plot: Path
    metrics_plot: Path
    colors: Mapping[str, tuple[int, int, int]] = field(default_factory=dict)


def write_history(files: HistoryFiles, history: Sequence[EpochRecord]) -> None:
    """Write the record as JSON, and in the published form as CSV files and their plots.

    Raises:
        DataError: If a file cannot be written.
    """
    logged = history[0].logs
    metrics = [name for name in logged if name != "loss" and not name.startswith("val_")]
    _write_csv(files.losses_table, history, ["loss"])
    _write_csv(files.metrics_table, history, metrics)
    _draw(files.losses_plot, history, ["loss"], files.colors)
    _draw(files.metrics_plot, history, metrics, files.colors)
    write_json(files.record, {"epochs": [record.to_dict() for record in history]})


def _write_csv(file: Path, history: Sequence[EpochRecord], names: Sequence[str]) -> None:
    columns = [column for name in names for column in (name, f"val_{name}")]
    with replacing(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["epoch", *columns])
        for record in history:
            values = [record.logs.get(column, math.nan) for column in columns]
            writer.writerow([record.epoch, *("" if math.isnan(v) else f"{v:.6g}" for v in values)])


def _draw(
    file: Path,
    history: Sequence[EpochRecord],
    names: Sequence[str],
    colors: Mapping[str, tuple[int, int, int]],
) -> None:
    curves = {
        key: [record.logs.get(key, math.nan) for record in history]
        for name in names
        for key in (name, f"val_{name}")
    }
    draw_curves(file, [record.epoch for record in history], curves, colors)
