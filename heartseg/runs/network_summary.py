"""What is written about a network beside its weights."""

import keras

from heartseg.files import replacing
from heartseg.networks.unet import summarize
from heartseg.runs.layout import RunLayout


def write_summary(network: keras.Model, layout: RunLayout) -> None:
    """Write the layers of a network.

    Raises:
        DataError: If the folder cannot be written to.
    """
    with replacing(layout.summary) as temporary:
        temporary.write_text(summarize(network), encoding="utf-8")
