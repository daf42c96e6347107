"""Fingerprints of scans and label maps: the same patient is found under another name.

The orientation in which a file stores its voxels does not matter; their values, grid and spacing
do. Hashes hold nothing of the image.
"""

import hashlib
from typing import Any

import numpy as np
from nibabel.orientations import apply_orientation, io_orientation
from numpy.typing import NDArray

from heartseg.hashing import hash_labels
from heartseg.scans.volume import Volume

PREFIX = "ras-"
"""Marks hashes that are taken along the patient's axes; version 0.1 took them along the array's."""


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
