"""Fingerprints of scans and label maps, which reveal a patient who occurs under two names.

They depend on the values, the shape and the spacing, but not on the orientation in which a file
stores its voxels. An image cannot be recovered from its hash.
"""

import hashlib
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from heartseg.hashing import hash_labels
from heartseg.scans.volume import Volume

PREFIX = "ras-"
"""Marks hashes along the patient's axes; version 0.1 took them along the axes of the array."""


def fingerprint_labels(labels: Volume) -> str:
    """Return the hash of a label map and its spacing."""
    voxels, spacing_mm = _along_patient(labels)
    return PREFIX + hash_labels(voxels, spacing_mm)


def fingerprint_scan(scan: Volume) -> str:
    """Return the hash of the intensities of a scan, as float32, and its spacing."""
    voxels, spacing_mm = _along_patient(scan)
    digest = hashlib.sha256(repr((voxels.shape, [f"{s:.4f}" for s in spacing_mm])).encode())
    digest.update(np.ascontiguousarray(voxels, np.float32).data)
    return PREFIX + digest.hexdigest()


def _along_patient(volume: Volume) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Return voxels and spacing with the axes nearest to right, anterior, superior."""
    turn = io_orientation(volume.affine)
    voxels: NDArray[Any] = apply_orientation(volume.voxels, turn)
    order = np.argsort(turn[:, 0])
    return voxels, volume.spacing_mm[order]
