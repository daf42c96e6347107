"""Networks that see the whole heart at once: how they are built, fed, loaded and measured."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from heartseg.cohort.cases import CaseFiles
from heartseg.config.model_sections import WholeHeartModelConfig
from heartseg.config.schema import Config
from heartseg.errors import ConfigError
from heartseg.inference.engine import Engine
from heartseg.modelfile.description import WHOLE_HEART, ModelDescription
from heartseg.progress import Report, silent
from heartseg.runs.heart_files import find_parts, find_patient_split
from heartseg.runs.layout import RunLayout
from heartseg.runs.source_data import find_source

if TYPE_CHECKING:
    import keras

    from heartseg.inference.whole_heart import WholeHeartSegmenter
    from heartseg.runs.rehearsal import Rehearsal
    from heartseg.runs.whole_heart_training import HeartMaterial


class WholeHeartKind:
    """See ``Kind``."""

    name = WHOLE_HEART
    takes_pictures = False

    def adopt_data(self, config: Config) -> Config:
        """Nothing is decided: the network sees volumes as they are."""
        return config

    def build_network(self, config: Config) -> "keras.Model":
        """Build the 3D U-Net that the configuration describes."""
        from heartseg.networks.volume_unet import build_volume_unet

        model = whole_heart_model(config)
        return build_volume_unet(
            grid=model.grid,
            filters=model.filters,
            num_classes=config.label_table.num_classes,
            seed=config.train.seed,
        )

    def compile_network(self, network: "keras.Model", config: Config) -> None:
        """Give the network the optimizer of the configuration and the loss of partial volumes."""
        from heartseg.runs.material import compile_with
        from heartseg.training.partial_volume_loss import PartialVolumeDiceCrossentropy

        loss = PartialVolumeDiceCrossentropy(name="dice_crossentropy")
        compile_with(network, config.train, loss, [])

    def rehearse(self, config: Config) -> "Rehearsal":
        """Draw whole hearts around a phantom."""
        from heartseg.runs.rehearsal import rehearse_hearts

        return rehearse_hearts(config, whole_heart_model(config).grid)

    def write_description(self, network: "keras.Model", layout: RunLayout) -> Path | None:
        """Write the summary of the network; there is no drawing."""
        from heartseg.runs.network_summary import write_summary

        write_summary(network, layout)
        return None

    def check_material(self, config: Config) -> None:
        """Look for the volumes of the split, and whether scenes can be drawn around the labels."""
        find_parts(config, find_source(config), find_patient_split(config).cases)
        if config.synthesis.scan_share < 1:
            from heartseg.synthesis.scene import tissues_of

            tissues_of(config.label_table)

    def gather_material(self, config: Config, *, report: Report = silent) -> "HeartMaterial":
        """Find the scans of the split, and label maps that have no image."""
        from heartseg.runs.whole_heart_training import HeartMaterial

        return HeartMaterial(config, report=report)

    def build_segmenter(
        self,
        engine: Engine,
        model: ModelDescription,
        config: Config,  # noqa: ARG002
    ) -> "WholeHeartSegmenter":
        """Return what segments whole scans."""
        from heartseg.inference.whole_heart import WholeHeartSegmenter

        return WholeHeartSegmenter(engine.compute, model, correct=engine.correct)

    def compare_recipes(self, config: Config, model: ModelDescription) -> list[str]:  # noqa: ARG002
        """Nothing of the configuration matters: the network sees every scan in the same way."""
        return []

    def measure_published(
        self,
        network: "keras.Model",
        model: ModelDescription,
        cases: Sequence[CaseFiles],
        config: Config,
    ) -> Mapping[str, float]:
        """Return the same figures over the test scans on the network's grid."""
        from heartseg.runs.published_measures import measure_hearts

        return measure_hearts(network, model, cases, config)


def whole_heart_model(config: Config) -> WholeHeartModelConfig:
    """Return the section ``model`` of a network of whole hearts.

    Raises:
        ConfigError: If it describes another kind.
    """
    if not isinstance(config.model, WholeHeartModelConfig):
        raise ConfigError(f"model.kind: expected {WHOLE_HEART}, found {config.model.kind}")
    return config.model
