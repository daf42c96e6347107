"""The network of the second stage: a 3D U-Net that corrects the first on parts of a finer grid."""

from collections.abc import Sequence

import keras
from keras import layers, ops

from heartseg.networks.blocks import seed_sequence
from heartseg.networks.volume_unet import (
    OUTPUT_NAME,
    check_sizes,
    depth_to_space,
    encode_and_decode,
    space_to_depth,
)

LEAST_PROBABILITY = 1e-4
"""Added to each probability: a class that the first stage rules out can still be chosen."""


def build_correction_unet(
    *,
    patch: tuple[int, int, int],
    filters: Sequence[int] = (32, 64, 96),
    num_classes: int = 9,
    seed: int | None = None,
) -> keras.Model:
    """Build a U-Net from ``(B, *patch, 1 + classes)`` to ``(B, *patch, classes)`` logits.

    The first channel of its input is the image, the others are the probabilities of the first
    stage. Like the network of the first stage it works on blocks of 2 x 2 x 2 voxels. It computes
    corrections, which are added to the logarithm of the probabilities; a new network corrects
    nothing. Its weights fit patches of any size.

    Args:
        patch: Voxels along the three axes, multiples of ``2 ** len(filters)``.
        filters: As of ``build_volume_unet``, like the other arguments.
        num_classes: Classes.
        seed: Of the initial weights.

    Raises:
        ValueError: If the patch or the filters do not fit.

    References:
        Isensee et al. (2021). nnU-Net. https://doi.org/10.1038/s41592-020-01008-z
    """
    check_sizes(patch, filters)
    next_seed = seed_sequence(seed)
    seen = keras.Input((*patch, 1 + num_classes), name="image_and_probabilities")
    features = encode_and_decode(space_to_depth(seen), filters, next_seed=next_seed)
    features = layers.Conv3D(8 * num_classes, 1, kernel_initializer="zeros", name="correction")(
        features
    )
    # float32 keeps softmax and loss stable when the layers above run in mixed precision.
    correction = layers.Activation("linear", dtype="float32", name="correction_float32")(
        depth_to_space(features)
    )
    logits = AddToLogarithm(LEAST_PROBABILITY, dtype="float32", name=OUTPUT_NAME)(
        [correction, seen]
    )
    return keras.Model(seen, logits, name="correction_unet")


@keras.saving.register_keras_serializable("heartseg")
class AddToLogarithm(layers.Layer):
    """Add corrections to the logarithm of probabilities."""

    def __init__(self, least: float, **options: object) -> None:
        """Take what is added to each probability, and options of every layer."""
        super().__init__(**options)
        self.least = least

    def call(self, inputs: Sequence[keras.KerasTensor]) -> keras.KerasTensor:
        """Return ``(B, P, I, R, K)`` logits.

        Args:
            inputs: ``(B, P, I, R, K)`` corrections, and ``(B, P, I, R, C + K)``, of which the last
                K channels are probabilities.
        """
        correction, seen = inputs
        return correction + ops.log(seen[..., -correction.shape[-1] :] + self.least)

    def get_config(self) -> dict[str, object]:
        """Return what rebuilds the layer."""
        return {**super().get_config(), "least": self.least}
