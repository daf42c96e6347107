"""``heartseg inspect``: the network that a configuration describes, in words and as a drawing."""

from pathlib import Path

from heartseg.config.schema import Config
from heartseg.files import replacing
from heartseg.model.unet import build_unet, draw_architecture, summarize


def run_inspect(config: Config, *, output_dir: Path | None = None) -> tuple[str, Path | None]:
    """Build the network and describe it.

    Args:
        config: Uses the sections ``prepare``, ``model`` and ``labels``.
        output_dir: Where ``model_summary.txt`` and ``model.png`` go; None: nowhere.

    Returns:
        The summary, and the file of the drawing if one was made.

    Raises:
        DataError: If the folder cannot be written to.
    """
    model = build_unet(
        image_size=(config.prepare.image_height, config.prepare.image_width),
        num_classes=config.label_table.num_classes,
        **config.model.model_dump(),
    )
    summary = summarize(model)
    if output_dir is None:
        return summary, None
    with replacing(output_dir / "model_summary.txt") as temporary:
        temporary.write_text(summary, encoding="utf-8")
    diagram = output_dir / "model.png"
    draw_architecture(model, diagram)
    return summary, diagram
