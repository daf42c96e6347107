"""Training on slices: pairs of PNG files, and a U-Net that sees one at a time."""

import json
import logging
from collections.abc import Mapping
from itertools import cycle, islice
from typing import Any

import keras
import numpy as np

from heartseg import __version__
from heartseg.cohort.leakage import PartContents
from heartseg.cohort.split_record import SPLIT, read_split_record
from heartseg.cohort.training_record import TrainingRecord, record_to_json
from heartseg.config.schema import Config
from heartseg.errors import ModelError
from heartseg.networks.memory import available_bytes, estimate_training_bytes
from heartseg.networks.plan import plan_levels
from heartseg.runs.epoch_pictures import choose_slices, name_picture, write_beside
from heartseg.runs.layout import RunLayout
from heartseg.runs.lineage import find_origin
from heartseg.runs.material import Fed
from heartseg.runs.slice_kind import find_slices, slice_model
from heartseg.slices.augment import Augmentation
from heartseg.slices.batches import Share
from heartseg.slices.dataset import build_dataset, build_training_dataset
from heartseg.slices.pairs import SlicePair, read_pairs
from heartseg.slices.recipe import SliceRecipe, to_network_input
from heartseg.training.devices import find_gpus
from heartseg.training.placement import Placement
from heartseg.training.precision import Precision

logger = logging.getLogger(__name__)

MEMORY_ADVICE = (
    "a smaller train.batch_size, prepare.image_height and image_width, or model.base_filters "
    "needs less"
)


class SliceMaterial:
    """The slices of a split and the published network."""

    def __init__(self, config: Config) -> None:
        """Find the slices.

        Raises:
            DataError: If there are none, or some lack their masks.
        """
        self._config = config
        self._train, self._valid = find_slices(config)
        if not self._valid:
            logger.warning(
                "%s: no validation slices; epochs are judged by the training loss, so nothing "
                "shows when the network begins to overfit",
                config.dataset_dir / "valid",
            )
        self._record = self._gather_record()

    @property
    def metadata(self) -> Mapping[str, Any]:
        """Recipe, labels, network, training."""
        config = self._config
        described = {
            "heartseg": __version__,
            "recipe": SliceRecipe.from_dict(config.recipe_values).to_dict(),
            "labels": config.label_table.description,
            "model": config.model.model_dump(mode="json"),
            "train": {
                "loss": config.train.loss,
                "metrics": config.train.metrics,
                "seed": config.train.seed,
                "train_slices": len(self._train),
                "valid_slices": len(self._valid),
            },
            "learned_from": record_to_json(self._record),
        }
        # As it reads back from a model file: lists, not tuples.
        plain: dict[str, object] = json.loads(json.dumps(described))
        return plain

    def _gather_record(self) -> TrainingRecord:
        """Return names and hashes of the cases, as the split knows them."""
        origin, ancestor = find_origin(self._config.train.init)
        split_file = self._config.dataset_dir / SPLIT
        if not split_file.is_file():
            # Slices that were laid out by hand: their names are all that is known.
            train, valid = (PartContents(_cases_of(part)) for part in (self._train, self._valid))
            return TrainingRecord(train, valid, origin=origin, ancestor=ancestor)
        split = read_split_record(split_file)
        return TrainingRecord(
            split.contents("train"),
            split.contents("valid"),
            by_slice=split.by == "slice",
            origin=origin,
            ancestor=ancestor,
        )

    @property
    def names(self) -> list[list[str]]:
        """What the processes of one training must agree on: the slices of both parts."""
        return [[pair.name for pair in pairs] for pairs in (self._train, self._valid)]

    def check_memory(self, precision: Precision) -> None:
        """Refuse what cannot fit; a GPU's free memory is not known ahead."""
        if find_gpus():
            return
        config = self._config
        options = slice_model(config).architecture
        channels, normalization = options.pop("image_channels"), options.pop("normalization")
        attention, block = options.pop("attention"), options.pop("block")
        del options["activation"]
        needed = estimate_training_bytes(
            plan_levels(**options),
            image_size=(config.prepare.image_height, config.prepare.image_width),
            batch_size=config.train.batch_size,
            image_channels=channels,
            num_classes=config.label_table.num_classes,
            precision=precision.policy.removeprefix("mixed_"),
            normalized=normalization != "none",
            attention=attention,
            residual=block == "residual",
        )
        free = available_bytes()
        if needed > free:
            raise ModelError(
                f"training needs about {needed / 2**30:.1f} GiB of memory, {free / 2**30:.1f} GiB "
                f"are free; {MEMORY_ADVICE}"
            )

    def feed(self, placement: Placement, *, first_epoch: int) -> Fed:
        """Return the batches, from an epoch on."""
        config, train = self._config, self._config.train
        replicas = placement.num_replicas
        batch_size = train.batch_size * replicas
        steps = train.steps_per_epoch or -(-len(self._train) // batch_size)
        batches: dict[str, Any] = {
            "table": config.label_table,
            "image_size": (config.prepare.image_height, config.prepare.image_width),
            "image_channels": slice_model(config).channels,
            "batch_size": batch_size,
            "share": Share(placement.process_index, placement.num_processes),
        }
        learned = build_training_dataset(
            self._train,
            **batches,
            # Several replicas need whole batches: a few slices then come twice in an epoch.
            steps_per_epoch=steps if replicas > 1 else train.steps_per_epoch,
            seed=train.seed,
            first_epoch=first_epoch,
            augmentation=Augmentation(**train.augment.model_dump()),
        )
        valid = build_dataset(fill_up(self._valid, replicas), **batches) if self._valid else None
        return Fed(learned, valid, steps)

    def watch(self, placement: Placement) -> "_EpochInference":
        """Return what segments a few validation slices after each epoch."""
        return _EpochInference(self._config, self._valid or self._train, placement)


def fill_up(entries: list[Any], replicas: int) -> list[Any]:
    """Repeat the first entries until each replica gets as many: none may be left with nothing."""
    total = -(-len(entries) // replicas) * replicas
    return list(islice(cycle(entries), total))


def _cases_of(pairs: list[SlicePair]) -> tuple[str, ...]:
    """Return the cases of slices that are named ``CASE_SSS``."""
    return tuple(dict.fromkeys(pair.name.rpartition("_")[0] or pair.name for pair in pairs))


class _EpochInference:
    """Segment the same few validation slices after each epoch, to see the masks change.

    Writes ``epoch_change_infer/Epoch_NNN_NAME.png``, the slice and its mask side by side, and
    ``Reference_NAME.png`` once.
    """

    def __init__(self, config: Config, valid: list[SlicePair], placement: Placement) -> None:
        self._placement = placement
        self._folder = RunLayout(config.run_dir).epoch_change_infer
        self._table = config.label_table
        self._pairs = choose_slices(valid, config.train.num_infer_images)
        shape = (config.prepare.image_height, config.prepare.image_width)
        stacks, labels = read_pairs(self._pairs, self._table, shape)
        self._images = stacks[:, stacks.shape[1] // 2]
        self._inputs = to_network_input(stacks, slice_model(config).channels)
        for pair, image, reference in zip(self._pairs, self._images, labels, strict=True):
            write_beside(name_picture(self._folder, pair.name), image, reference, self._table)

    def __call__(self, epoch: int, model: keras.Model) -> None:
        """Write the pictures of one epoch."""
        for pair, image, given in zip(self._pairs, self._images, self._inputs, strict=True):
            probabilities = self._placement.predict(model, given[np.newaxis])
            labels = probabilities[0].argmax(axis=-1).astype(np.uint8)
            write_beside(name_picture(self._folder, pair.name, epoch), image, labels, self._table)
