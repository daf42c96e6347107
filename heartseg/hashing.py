"""Fingerprints of label maps, by which the same patient is found under another name."""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray


def hash_labels(labels: NDArray[np.integer], spacing_mm: ArrayLike | None = None) -> str:
    """Return the SHA-256 of a label map: of its values, its shape and its spacing.

    Args:
        labels: Label map of any shape, values 0 to 255; storage order and type do not matter.
        spacing_mm: Distance of neighbouring voxels along each axis; None for a slice without.

    Returns:
        64 hexadecimal digits. The same for an array and its copy in another integer type.
    """
    digest = hashlib.sha256(repr(labels.shape).encode())
    if spacing_mm is not None:
        # Headers that passed through float32 differ by about 1e-7.
        digest.update(repr([f"{float(step):.4f}" for step in np.ravel(spacing_mm)]).encode())
    digest.update(np.ascontiguousarray(labels, np.uint8).data)
    return digest.hexdigest()
