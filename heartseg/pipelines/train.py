"""``heartseg train``: the dataset's slices to a model, its curves and all that resuming needs."""

import json
import logging
import os
import platform
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import keras
import numpy as np

from heartseg import __version__
from heartseg.config.loading import load_config, write_config
from heartseg.config.schema import Config
from heartseg.data.augment import Augmentation
from heartseg.data.dataset import (
    Share,
    SlicePair,
    build_dataset,
    build_training_dataset,
    data_errors,
    find_pairs,
    read_pair,
)
from heartseg.data.slicing import SliceRecipe, to_network_input
from heartseg.data.store import write_color
from heartseg.errors import ConfigError, DataError, ModelError
from heartseg.files import claim_folder, replacing, write_json
from heartseg.lock import locked
from heartseg.model.callbacks import Track, ignore_progress
from heartseg.model.devices import (
    find_backend,
    find_gpus,
    list_devices,
    memory_errors,
    set_seeds,
)
from heartseg.model.history import (
    HISTORY_JSON,
    LOSSES_CSV,
    LOSSES_PLOT,
    METRICS_CSV,
    METRICS_PLOT,
    History,
)
from heartseg.model.losses import build_loss
from heartseg.model.memory import available_bytes, estimate_training_bytes
from heartseg.model.metrics import build_metrics
from heartseg.model.placement import Hosts, Placement, placed
from heartseg.model.plan import plan_levels
from heartseg.model.precision import Precision, choose_precision, dtype_policy
from heartseg.model.training import (
    BEST,
    LAST,
    TENSORBOARD,
    FitSettings,
    TrainingResult,
    compile_model,
    fit,
    load_state,
    read_state,
)
from heartseg.model.unet import build_unet, draw_architecture, summarize

logger = logging.getLogger(__name__)

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
EPOCH_CHANGE_INFER = "epoch_change_infer"
SUMMARY = "model_summary.txt"
ARCHITECTURE = "model.png"
OWNED = (
    CONFIG,
    ENVIRONMENT,
    BEST,
    "last",
    LOSSES_CSV,
    METRICS_CSV,
    LOSSES_PLOT,
    METRICS_PLOT,
    HISTORY_JSON,
    EPOCH_CHANGE_INFER,
    TENSORBOARD,
    SUMMARY,
    ARCHITECTURE,
)
_MEMORY_ADVICE = (
    "a smaller train.batch_size, prepare.image_height and image_width, or model.base_filters "
    "needs less"
)
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


@dataclass(frozen=True)
class _Slices:
    """The slices that train and validate the model; there may be none for validation."""

    train: list[SlicePair]
    valid: list[SlicePair]


def run_training(
    config: Config, *, resume: bool = False, overwrite: bool = False, track: Track = ignore_progress
) -> TrainingResult:
    """Fit the model to the training slices, and keep the best and the last state.

    Args:
        config: Uses the sections ``data``, ``split``, ``prepare``, ``model``, ``train`` and
            ``labels``, and ``run_dir``.
        resume: Go on with the run in ``run_dir``, after its last finished epoch; begin if it has
            none.
        overwrite: Replace the run in ``run_dir``.
        track: Told after each step and each epoch.

    Returns:
        The best epoch and the record of all.

    Raises:
        ConfigError: If a resumed run would be another one than it was.
        DataError: If the dataset is missing or broken, or ``run_dir`` holds a run and neither
            ``resume`` nor ``overwrite`` is set, or another process is at work there.
        ModelError: If the network does not fit into memory, a loss is no number, or the state to
            resume from is damaged.
    """
    if resume and overwrite:
        raise ConfigError("--resume continues a run and --overwrite replaces it: give one of them")
    slices = _find_slices(config)
    set_seeds(config.train.seed, deterministic=config.train.deterministic)
    parallel = config.parallel
    hosts = Hosts(parallel.num_processes, parallel.process_index, parallel.coordinator)
    with ExitStack() as stack:
        placement = stack.enter_context(placed(hosts))

        def claim() -> None:
            stack.enter_context(locked(config.run_dir))
            _claim_run_dir(config, resume=resume, overwrite=overwrite)

        placement.in_first(claim)
        stack.enter_context(memory_errors(_MEMORY_ADVICE))
        stack.enter_context(data_errors())
        return _train(config, slices, placement, track)


def _train(config: Config, slices: _Slices, placement: Placement, track: Track) -> TrainingResult:
    train, run_dir, table = config.train, config.run_dir, config.label_table
    metadata = describe_run(config, slices.train, slices.valid)
    history = _read_history(run_dir, metadata)
    precision = choose_precision(train.precision)
    logger.info("precision: %s", precision.reason)
    _check_memory(config, precision)
    placement.check_equal(_describe_plan(config, slices, history, precision))
    model = load_state(run_dir, precision.policy) if history else _build_model(config, precision)
    replicas = placement.num_replicas
    batch_size = train.batch_size * replicas
    steps = train.steps_per_epoch or -(-len(slices.train) // batch_size)
    placement.in_first(lambda: _describe(model, config, precision))
    batches: dict[str, Any] = {
        "table": table,
        "image_size": (config.prepare.image_height, config.prepare.image_width),
        "image_channels": config.model.image_channels,
        "batch_size": batch_size,
        "share": Share(placement.process_index, placement.num_processes),
    }
    return fit(
        model,
        build_training_dataset(
            slices.train,
            **batches,
            # Several replicas need whole batches: a few slices then come twice in an epoch.
            steps_per_epoch=steps if replicas > 1 else train.steps_per_epoch,
            seed=train.seed,
            first_epoch=len(history),
            augmentation=Augmentation(**train.augment.model_dump()),
        ),
        build_dataset(_fill_up(slices.valid, replicas), **batches) if slices.valid else None,
        run_dir=run_dir,
        settings=FitSettings(
            epochs=train.epochs,
            steps_per_epoch=steps,
            learning_rate=train.learning_rate,
            patience=train.patience,
            reduce_learning_rate=train.learning_rate_reducer,
            reducer_factor=train.reducer_factor,
            reducer_patience=train.reducer_patience,
            min_learning_rate=train.min_learning_rate,
            seed=train.seed,
            tensorboard=train.tensorboard,
        ),
        metadata=metadata,
        history=history,
        track=track,
        after_epoch=_EpochInference(config, slices.valid or slices.train, placement)
        if train.epoch_change_infer and placement.is_first
        else None,
        placement=placement,
    )


def _fill_up(pairs: list[SlicePair], replicas: int) -> list[SlicePair]:
    """Repeat the first slices until each replica gets as many: none may be left with nothing."""
    total = -(-len(pairs) // replicas) * replicas
    return list(islice(cycle(pairs), total))


def describe_run(
    config: Config, train: list[SlicePair], valid: list[SlicePair]
) -> dict[str, object]:
    """Say what a model file must know beside its weights: recipe, labels, network, training."""
    recipe = SliceRecipe.from_dict(config.recipe_values)
    described = {
        "heartseg": __version__,
        "recipe": recipe.to_dict(),
        "labels": [asdict(structure) for structure in config.label_table.structures],
        "model": config.model.model_dump(mode="json"),
        "train": {
            "loss": config.train.loss,
            "metrics": config.train.metrics,
            "seed": config.train.seed,
            "train_slices": len(train),
            "valid_slices": len(valid),
        },
    }
    # As it reads back from a model file: lists, not tuples.
    plain: dict[str, object] = json.loads(json.dumps(described))
    return plain


def _describe_plan(config: Config, slices: _Slices, history: History, precision: Precision) -> str:
    """Say all that the processes of one training must have in common."""
    names = [[pair.name for pair in pairs] for pairs in (slices.train, slices.valid)]
    settings = config.model_dump(mode="json", exclude={"run_dir", "data", "parallel"})
    return json.dumps([settings, names, len(history), precision.policy, __version__])


def describe_environment(config: Config, precision: Precision) -> dict[str, object]:
    """Say with what a run was computed, for the reader of its results."""
    backend = find_backend()
    packages = dict.fromkeys((backend, "tensorflow", "keras", "numpy", "opencv-python"))
    return {
        "heartseg": __version__,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
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


def _find_slices(config: Config) -> _Slices:
    folder = config.dataset_dir
    if not (folder / "train").is_dir() or not (folder / "valid").is_dir():
        raise DataError(f"{folder}: no train/ and valid/ slices; run `heartseg split` first")
    train = find_pairs(folder / "train")
    # A split of two patients has none for validation, and says so by an empty folder.
    if not any((folder / "valid").glob("*/*.png")):
        logger.warning(
            "%s: no validation slices; epochs are judged by the training loss, so nothing tells "
            "when the network begins to learn the patients by heart",
            folder / "valid",
        )
        return _Slices(train, [])
    return _Slices(train, find_pairs(folder / "valid"))


def _claim_run_dir(config: Config, *, resume: bool, overwrite: bool) -> None:
    run_dir = config.run_dir
    held = [name for name in OWNED if (run_dir / name).exists()]
    if held and not resume and not overwrite:
        raise DataError(
            f"{run_dir}: already holds a run ({', '.join(held[:3])}); pass --resume to go on with "
            "it, --overwrite to replace it, or choose another run_dir"
        )
    if overwrite:
        claim_folder(run_dir, OWNED, overwrite=True)
    if resume and (run_dir / CONFIG).is_file():
        _check_same_run(load_config(run_dir / CONFIG), config)


def _check_same_run(before: Config, now: Config) -> None:
    old, new = _flatten(before), _flatten(now)
    changes = [
        f"{key}: was {old.get(key)!r}, is {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and key not in MAY_CHANGE
    ]
    if changes:
        raise ConfigError(
            f"{now.run_dir}: the run to resume was begun with other settings; put them back, or "
            "choose another run_dir:\n  - " + "\n  - ".join(changes)
        )


def _flatten(config: Config) -> dict[str, object]:
    """Return the settings that make a run what it is, by dotted key."""
    sections = config.model_dump(mode="json", include={"prepare", "model", "train", "labels"})
    sections["parallel"] = {"num_processes": config.parallel.num_processes}
    flat: dict[str, object] = {"labels": sections.pop("labels")}
    for name, section in sections.items():
        for key, value in section.items():
            inner = value if isinstance(value, dict) else None
            for below, entry in (inner or {"": value}).items():
                flat[".".join(part for part in (name, key, below) if part)] = entry
    return flat


def _read_history(run_dir: Path, metadata: Mapping[str, Any]) -> History:
    """Return the finished epochs of the run to resume; none if it has not come that far."""
    if not (run_dir / LAST).is_file():
        return ()
    state = read_state(run_dir)
    before, now = state.metadata.get("train"), metadata["train"]
    if before != now:
        raise DataError(
            f"{run_dir}: the run to resume was begun with other slices ({before}, now {now}); "
            "choose another run_dir"
        )
    logger.info("going on after epoch %d", len(state.history))
    return state.history


def _check_memory(config: Config, precision: Precision) -> None:
    """Refuse what cannot fit, before it is allocated; a GPU's free memory is not known ahead."""
    if find_gpus():
        return
    options = config.model.model_dump()
    channels, normalization = options.pop("image_channels"), options.pop("normalization")
    del options["activation"]
    needed = estimate_training_bytes(
        plan_levels(**options),
        image_size=(config.prepare.image_height, config.prepare.image_width),
        batch_size=config.train.batch_size,
        image_channels=channels,
        num_classes=config.label_table.num_classes,
        precision=precision.policy.removeprefix("mixed_"),
        normalized=normalization != "none",
    )
    free = available_bytes()
    if needed > free:
        raise ModelError(
            f"training needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB are "
            f"free; {_MEMORY_ADVICE}"
        )


def _build_model(config: Config, precision: Precision) -> keras.Model:
    train, options = config.train, config.model.model_dump()
    with dtype_policy(precision.policy):
        model = build_unet(
            image_size=(config.prepare.image_height, config.prepare.image_width),
            num_classes=config.label_table.num_classes,
            seed=train.seed,
            **options,
        )
        compile_model(
            model,
            learning_rate=train.learning_rate,
            clipvalue=train.clipvalue,
            loss=build_loss(train.loss, config.label_table.num_classes),
            metrics=build_metrics(train.metrics, config.label_table),
        )
    return model


def _describe(model: keras.Model, config: Config, precision: Precision) -> None:
    run_dir = config.run_dir
    write_config(config, run_dir / CONFIG)
    write_json(run_dir / ENVIRONMENT, describe_environment(config, precision))
    with replacing(run_dir / SUMMARY) as temporary:
        temporary.write_text(summarize(model), encoding="utf-8")
    draw_architecture(model, run_dir / ARCHITECTURE)


class _EpochInference:
    """Segment the same few validation slices after each epoch, to see the masks change.

    Writes ``epoch_change_infer/Epoch_N_NAME.png`` (and ``Reference_NAME.png`` once).
    """

    def __init__(self, config: Config, valid: list[SlicePair], placement: Placement) -> None:
        self._placement = placement
        self._folder = config.run_dir / EPOCH_CHANGE_INFER
        self._table = config.label_table
        self._pairs = valid[: config.train.num_infer_images]
        shape = (config.prepare.image_height, config.prepare.image_width)
        slices = [read_pair(pair, self._table, shape) for pair in self._pairs]
        images = np.stack([image for image, _ in slices])
        self._images = to_network_input(images, config.model.image_channels)
        for pair, (_, labels) in zip(self._pairs, slices, strict=True):
            write_color(self._folder / f"Reference_{pair.name}.png", self._table.colorize(labels))

    def __call__(self, epoch: int, model: keras.Model) -> None:
        """Write the masks of one epoch."""
        for pair, image in zip(self._pairs, self._images, strict=True):
            probabilities = self._placement.predict(model, image[np.newaxis])
            labels = probabilities[0].argmax(axis=-1).astype(np.uint8)
            file = self._folder / f"Epoch_{epoch}_{pair.name}.png"
            write_color(file, self._table.colorize(labels))
