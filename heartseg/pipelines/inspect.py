"""``heartseg inspect``: the network that a configuration describes, as text and as a drawing."""

from pathlib import Path

from heartseg.config.schema import Config
from heartseg.ownership import Outputs, filling
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout
from heartseg.surroundings import check_backend

OWNED = Outputs("inspect", ("model_summary.txt", "model.png"), shared=True)


def run_inspect(
    config: Config, *, output_dir: Path | None = None, overwrite: bool = False
) -> tuple[str, Path | None]:
    """Build the network and describe it.

    Args:
        config: Uses the sections ``prepare``, ``model`` and ``labels``.
        output_dir: Folder of ``model_summary.txt`` and, for a network of slices, ``model.png``;
            None writes neither.
        overwrite: Replace what an earlier call wrote there.

    Returns:
        The summary, and the file of the drawing; None without one.

    Raises:
        DataError: If a file is there already and ``overwrite`` is not set, or cannot be written.
    """
    check_backend()
    if output_dir is None:
        return _describe(config, None)
    with filling(output_dir, OWNED, overwrite=overwrite):
        return _describe(config, RunLayout(output_dir))


def _describe(config: Config, layout: RunLayout | None) -> tuple[str, Path | None]:
    # Not at the top: TensorFlow takes seconds to load.
    from heartseg.networks.unet import summarize

    kind = find_kind(config.model.kind)
    network = kind.build_network(config)
    drawing = None if layout is None else kind.write_description(network, layout)
    return summarize(network), drawing
