"""Hashes of label maps, which reveal a patient who occurs under two names."""

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray


def hash_labels(labels: NDArray[np.integer], spacing_mm: ArrayLike | None = None) -> str:
    """Return the SHA-256 of the values, the shape and the spacing of a label map.

    Args:
        labels: Label map of any shape, values 0 to 255; memory order and integer type do not
            matter.
        spacing_mm: Distance between neighbouring voxels along each axis; None if unknown.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256(repr(labels.shape).encode())
    if spacing_mm is not None:
        # Rounded, because headers that passed through float32 differ by about 1e-7.
        digest.update(repr([f"{float(step):.4f}" for step in np.ravel(spacing_mm)]).encode())
    digest.update(np.ascontiguousarray(labels, np.uint8).data)
    return digest.hexdigest()
