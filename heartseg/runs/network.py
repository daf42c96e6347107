"""The network that a configuration asks for, of either kind, and what is shown of it."""

from pathlib import Path

import keras

from heartseg.config.schema import Config
from heartseg.files import replacing
from heartseg.networks.unet import build_unet, summarize
from heartseg.networks.volume_unet import build_volume_unet
from heartseg.pictures.network_diagram import draw_architecture

SUMMARY = "model_summary.txt"
ARCHITECTURE = "model.png"


def build_network(config: Config) -> keras.Model:
    """Build the network, under the dtype policy in force, with weights that follow the seed."""
    model, num_classes = config.model, config.label_table.num_classes
    if model.kind == "whole_heart":
        return build_volume_unet(
            grid=model.grid, filters=model.filters, num_classes=num_classes, seed=config.train.seed
        )
    return build_unet(
        image_size=(config.prepare.image_height, config.prepare.image_width),
        num_classes=num_classes,
        seed=config.train.seed,
        **model.model_dump(exclude={"kind", "grid", "filters"}),
    )


def write_network(network: keras.Model, config: Config, folder: Path) -> Path | None:
    """Write the summary of a network and, for one of slices, its drawing.

    Returns:
        The file of the drawing, if one was made.

    Raises:
        DataError: If the folder cannot be written to.
    """
    with replacing(folder / SUMMARY) as temporary:
        temporary.write_text(summarize(network), encoding="utf-8")
    if config.model.kind != "slices":
        return None
    draw_architecture(network, folder / ARCHITECTURE)
    return folder / ARCHITECTURE
