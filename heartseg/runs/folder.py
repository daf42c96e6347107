"""The folder of a training run: what it holds, and what a resumed run must share with the first."""

import logging
import os
import platform
from collections.abc import Collection, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heartseg import __version__
from heartseg.cohort.leakage import compare_contents
from heartseg.cohort.training_record import record_from_json
from heartseg.config.loading import load_config, write_config
from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError
from heartseg.files import write_json
from heartseg.ownership import begin_record, claim_folder, find_outputs
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout

if TYPE_CHECKING:
    # Keras takes seconds to load: a folder is checked before it is needed.
    import keras

    from heartseg.training.history import History
    from heartseg.training.precision import Precision

logger = logging.getLogger(__name__)

MAY_CHANGE = frozenset(
    {
        "prepare.num_samples",
        "train.epochs",
        "train.patience",
        "train.epoch_change_infer",
        "train.num_infer_images",
        "train.tensorboard",
    }
)
"""What a resumed run may have otherwise than before; all else would make it another run."""

RUN_SECTIONS = frozenset({"prepare", "model", "synthesis", "train"})
"""The sections of the configuration that make a run what it is."""


def check_run_dir(config: Config, *, resume: bool, overwrite: bool) -> None:
    """Make sure that a run may use its folder, without touching it.

    Raises:
        ConfigError: If a resumed run would be another one than it was.
        DataError: If the folder holds a run and neither ``resume`` nor ``overwrite`` is set.
    """
    run_dir = config.run_dir
    layout = RunLayout(run_dir)
    held = find_outputs(run_dir, layout.training_outputs)
    if held and not resume and not overwrite:
        tops = dict.fromkeys(name.split("/")[0] for name in held)
        raise DataError(
            f"{run_dir}: already holds a run ({', '.join(list(tops)[:3])}); pass --resume to "
            "continue it, --overwrite to replace it, or choose another run_dir"
        )
    if resume and layout.config.is_file():
        _check_same_run(load_config(layout.config), config)


def claim_run_dir(config: Config, *, resume: bool, overwrite: bool) -> None:
    """Take the folder of a run, and remove the run that is to be replaced.

    Raises:
        ConfigError: If a resumed run would be another one than it was.
        DataError: If the folder holds a run and neither ``resume`` nor ``overwrite`` is set, or
            files that are named like those of a run and are not.
    """
    check_run_dir(config, resume=resume, overwrite=overwrite)
    outputs = RunLayout(config.run_dir).training_outputs
    if resume:
        begin_record(config.run_dir, outputs)
    else:
        claim_folder(config.run_dir, outputs, overwrite=overwrite)


def _check_same_run(before: Config, now: Config) -> None:
    may_change = set(MAY_CHANGE)
    if now.train.schedule == "cosine":
        # The rate of every epoch hangs on their number.
        may_change.remove("train.epochs")
    changes = list_changes(before, now, RUN_SECTIONS, may_change=may_change)
    if changes:
        raise ConfigError(
            f"{now.run_dir}: the run to resume was begun with other settings; put them back, or "
            "choose another run_dir:\n  - " + "\n  - ".join(changes)
        )


def list_changes(
    before: Config, now: Config, sections: Collection[str], *, may_change: Collection[str]
) -> list[str]:
    """Say which settings differ between two configurations.

    Args:
        before: The earlier one.
        now: The later one.
        sections: The sections that count; the label map and ``parallel.num_processes`` always do.
        may_change: Dotted keys that do not count.

    Returns:
        One text per setting.
    """
    old, new = _flatten(before, sections), _flatten(now, sections)
    return [
        f"{key}: was {old.get(key)!r}, is {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in may_change
    ]


def _flatten(config: Config, names: Collection[str]) -> dict[str, object]:
    """Return the settings of some sections by dotted key."""
    sections = config.model_dump(mode="json", include=set(names))
    sections["parallel"] = {"num_processes": config.parallel.num_processes}
    flat: dict[str, object] = {"labels": config.label_table.description}
    for name, section in sections.items():
        for key, value in section.items():
            inner = value if isinstance(value, dict) else None
            for below, entry in (inner or {"": value}).items():
                flat[".".join(part for part in (name, key, below) if part)] = entry
    return flat


def read_history(run_dir: Path, metadata: Mapping[str, Any]) -> "History":
    """Return the finished epochs of the run to resume; none if it has not come that far.

    Raises:
        DataError: If it was begun with other material than ``metadata`` tells.
        ModelError: If its state is damaged.
    """
    from heartseg.training.loop import read_state

    state_file = RunLayout(run_dir).state
    if not state_file.is_file():
        return ()
    state = read_state(state_file)
    differences = _compare_material(state.metadata, metadata)
    if differences:
        raise DataError(
            f"{run_dir}: the run to resume was begun with other data; put it back, or choose "
            "another run_dir:\n  - " + "\n  - ".join(differences)
        )
    logger.info("resuming after epoch %d", len(state.history))
    return state.history


def _compare_material(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say in what a run differs from what it was begun with: counts, cases, contents."""
    old, new = before.get("train", {}), now["train"]
    differences = [
        f"{key}: was {old.get(key)!r}, is {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    # The state of a run of version 0.1 has no record.
    if "learned_from" in before:
        was, is_now = (record_from_json(m["learned_from"]) for m in (before, now))
        for part in ("train", "valid"):
            differences += compare_contents(getattr(was, part), getattr(is_now, part), part=part)
    return differences


def describe_environment(config: Config, precision: "Precision") -> dict[str, object]:
    """Say with what a run was computed, for the reader of its results."""
    from heartseg.training.devices import find_backend, list_devices

    backend = find_backend()
    packages = dict.fromkeys((backend, "tensorflow", "keras", "numpy"))
    return {
        "heartseg": __version__,
        "python": platform.python_version(),
        "packages": {**{name: version(name) for name in packages}, **_find_opencv()},
        "keras_backend": backend,
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "devices": list_devices(),
        "processes": config.parallel.num_processes,
        "precision": precision.policy,
        "precision_reason": precision.reason,
        "seed": config.train.seed,
        "deterministic": config.train.deterministic,
    }


def _find_opencv() -> dict[str, str]:
    """Return the version of OpenCV under the name of the package that brought it."""
    try:
        return {"opencv-python": version("opencv-python")}
    except PackageNotFoundError:
        return {"opencv-python-headless": version("opencv-python-headless")}


def describe_training(model: "keras.Model", config: Config, precision: "Precision") -> None:
    """Write what is known when training begins: configuration, environment, network."""
    layout = RunLayout(config.run_dir)
    write_config(config, layout.config)
    write_json(layout.environment, describe_environment(config, precision))
    find_kind(config.model.kind).write_description(model, layout)
