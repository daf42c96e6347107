"""``heartseg inspect``: the network that a configuration describes, in words and as a drawing."""

from pathlib import Path

from heartseg.config.schema import Config
from heartseg.networks.unet import summarize
from heartseg.runs.network import build_network, write_network


def run_inspect(config: Config, *, output_dir: Path | None = None) -> tuple[str, Path | None]:
    """Build the network and describe it.

    Args:
        config: Uses the sections ``prepare``, ``model`` and ``labels``.
        output_dir: Where ``model_summary.txt`` and, for a network of slices, ``model.png`` go;
            None: nowhere.

    Returns:
        The summary, and the file of the drawing if one was made.

    Raises:
        DataError: If the folder cannot be written to.
    """
    network = build_network(config)
    drawing = None if output_dir is None else write_network(network, config, output_dir)
    return summarize(network), drawing
