"""``heartseg inspect``: the network that a configuration describes, as text and as a drawing."""

from pathlib import Path

from heartseg.config.schema import Config
from heartseg.networks.unet import summarize
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout


def run_inspect(config: Config, *, output_dir: Path | None = None) -> tuple[str, Path | None]:
    """Build the network and describe it.

    Args:
        config: Uses the sections ``prepare``, ``model`` and ``labels``.
        output_dir: Folder of ``model_summary.txt`` and, for a network of slices, ``model.png``;
            None writes neither.

    Returns:
        The summary, and the file of the drawing; None without one.

    Raises:
        DataError: If a file cannot be written.
    """
    kind = find_kind(config.model.kind)
    network = kind.build_network(config)
    drawing = None
    if output_dir is not None:
        drawing = kind.write_description(network, RunLayout(output_dir))
    return summarize(network), drawing
