"""Losses of networks of slices: each module here is one, and `train.loss` names the module.

They take references ``(B, H, W)``, label values in ``[0, K)`` of any numeric type, and
probabilities ``(B, H, W, K)``, which are float32 whatever the precision of the network.

The names are known without Keras, so that a configuration is checked before Keras is loaded.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

LOSSES = tuple(sorted(module.name for module in pkgutil.iter_modules(__path__)))


def build_loss(name: str, num_classes: int) -> "keras.losses.Loss":
    """Return a loss by its configured name.

    Args:
        name: One of ``LOSSES``.
        num_classes: Classes, background included.

    Raises:
        ValueError: If the name is not one of these.
    """
    if name not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}")
    loss: keras.losses.Loss = importlib.import_module(f"{__name__}.{name}").build(num_classes)
    return loss


def register_losses() -> None:
    """Make the classes of all losses known to Keras, which finds them by name in model files."""
    for name in LOSSES:
        importlib.import_module(f"{__name__}.{name}")
