"""Networks that see one slice at a time: how they are built, fed, loaded and measured."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from heartseg.cohort.cases import CaseFiles
from heartseg.cohort.split_record import SPLIT, read_split_record
from heartseg.config.loading import change_config
from heartseg.config.model_sections import SliceModelConfig
from heartseg.config.schema import Config
from heartseg.errors import ConfigError, DataError
from heartseg.inference.engine import Engine
from heartseg.modelfile.description import SLICES, ModelDescription
from heartseg.progress import Report, silent
from heartseg.runs.layout import RunLayout
from heartseg.slices.pairs import SlicePair, find_pairs

if TYPE_CHECKING:
    import keras

    from heartseg.inference.segmenter import SliceSegmenter
    from heartseg.runs.rehearsal import Rehearsal
    from heartseg.runs.slice_training import SliceMaterial


logger = logging.getLogger(__name__)


class SliceKind:
    """See ``Kind``."""

    name = SLICES
    takes_pictures = True

    def adopt_data(self, config: Config) -> Config:
        """Take the slice recipe from the slices: what was prepared is what the model records."""
        file = config.dataset_dir / SPLIT
        recipe = read_split_record(file).recipe if file.is_file() else {}
        configured = config.prepare.model_dump(mode="json")
        different = {
            key: value for key, value in recipe.items() if configured.get(key, value) != value
        }
        if not different:
            return config
        changes = ", ".join(f"prepare.{key}: {value}" for key, value in different.items())
        logger.warning(
            "%s: the slices were prepared with %s; the run uses that in place of the configuration",
            config.dataset_dir,
            changes,
        )
        return change_config(config, {"prepare": different}, file)

    def build_network(self, config: Config) -> "keras.Model":
        """Build the U-Net of slices that the configuration describes."""
        from heartseg.networks.unet import build_unet

        return build_unet(
            image_size=(config.prepare.image_height, config.prepare.image_width),
            num_classes=config.label_table.num_classes,
            seed=config.train.seed,
            **slice_model(config).architecture,
        )

    def compile_network(self, network: "keras.Model", config: Config) -> None:
        """Give the network the optimizer, loss and metrics of the configuration."""
        from heartseg.runs.material import compile_with
        from heartseg.training.losses import build_loss
        from heartseg.training.metrics import build_metrics

        train, table = config.train, config.label_table
        loss = build_loss(train.loss, table.num_classes)
        compile_with(network, train, loss, build_metrics(train.metrics, table))

    def rehearse(self, config: Config) -> "Rehearsal":
        """Return images of noise and empty masks."""
        from heartseg.runs.rehearsal import Rehearsal

        shape = (config.train.batch_size, config.prepare.image_height, config.prepare.image_width)
        images = np.random.default_rng(0).random((*shape, slice_model(config).channels))
        return Rehearsal(images.astype(np.float32), np.zeros(shape, np.uint8))

    def write_description(self, network: "keras.Model", layout: RunLayout) -> Path | None:
        """Write the summary and the drawing of the network."""
        from heartseg.pictures.network_diagram import draw_architecture
        from heartseg.runs.network_summary import write_summary

        write_summary(network, layout)
        draw_architecture(network, layout.diagram)
        return layout.diagram

    def check_material(self, config: Config) -> None:
        """Look for the slices of the split."""
        find_slices(config)

    def gather_material(self, config: Config, *, report: Report = silent) -> "SliceMaterial":  # noqa: ARG002
        """Find the slices of the split."""
        from heartseg.runs.slice_training import SliceMaterial

        return SliceMaterial(config)

    def build_segmenter(
        self, engine: Engine, model: ModelDescription, config: Config
    ) -> "SliceSegmenter":
        """Return what segments slices one by one, and scans slice by slice."""
        from heartseg.inference.segmenter import SliceSegmenter

        settings = config.infer
        return SliceSegmenter(
            engine.compute,
            model,
            batch_size=settings.batch_size,
            tile_overlap=settings.tile_overlap if settings.tiled else None,
            largest_component=settings.largest_component,
        )

    def compare_recipes(self, config: Config, model: ModelDescription) -> list[str]:
        """Compare how slices reach the network."""
        configured, trained = config.recipe_values, model.recipe.to_dict()
        section = {"image_channels": "model", "context": "model"}
        return [
            f"{section.get(key, 'prepare')}.{key}"
            for key, value in trained.items()
            if configured[key] != value
        ]

    def measure_published(
        self,
        network: "keras.Model",
        model: ModelDescription,
        cases: Sequence[CaseFiles],  # noqa: ARG002
        config: Config,
    ) -> Mapping[str, float]:
        """Return loss and ``dice_coef_multiclass`` over the test slices."""
        from heartseg.runs.published_measures import measure_slices

        return measure_slices(network, model.recipe, model.table, config)


def slice_model(config: Config) -> SliceModelConfig:
    """Return the section ``model`` of a network of slices.

    Raises:
        ConfigError: If it describes another kind.
    """
    if not isinstance(config.model, SliceModelConfig):
        raise ConfigError(f"model.kind: expected {SLICES}, found {config.model.kind}")
    return config.model


def find_slices(config: Config) -> tuple[list[SlicePair], list[SlicePair]]:
    """Return the training and the validation slices of a split.

    Raises:
        DataError: If there are none, or some lack their masks or the neighbours that the network
            sees.
    """
    folder, context = config.dataset_dir, slice_model(config).context
    if not (folder / "train").is_dir() or not (folder / "valid").is_dir():
        raise DataError(f"{folder}: no train/ and valid/ slices; run `heartseg split` first")
    train = find_part(folder, "train", context=context)
    # A split of two patients has none for validation, and says so by an empty folder.
    valid = find_part(folder, "valid", context=context, may_be_empty=True)
    return train, valid


def find_part(
    folder: Path, part: str, *, context: int, may_be_empty: bool = False
) -> list[SlicePair]:
    """Return the slices of one part of a split, with the neighbours that the network sees.

    Args:
        folder: The split.
        part: Name of the part.
        context: Neighbours on either side.
        may_be_empty: As in ``find_pairs``.

    Raises:
        DataError: As in ``find_pairs``; or if the network sees neighbours and the record of the
            split does not say in which direction slices are numbered.
    """
    file = folder / SPLIT
    # Slices that were laid out by hand have no record.
    descending = read_split_record(file).descending if context and file.is_file() else ()
    if descending is None:
        raise DataError(
            f"{file}: expected the cases whose slices are numbered toward left, posterior or "
            "inferior, since the network sees neighbours (model.context), found none: it is the "
            "split of an earlier version. Run `heartseg prepare` and `heartseg split` again"
        )
    return find_pairs(
        folder / part, may_be_empty=may_be_empty, context=context, descending=descending
    )
