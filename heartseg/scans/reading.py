"""The one way in for a scan, whatever its format."""

from pathlib import Path

from heartseg.errors import DataError
from heartseg.scans.volume import NIFTI_SUFFIXES, Volume, is_nifti, read_image


def is_scan(path: Path) -> bool:
    """Decide by its name whether a path holds a scan that ``read_scan`` reads."""
    return is_nifti(path)


def read_scan(path: Path) -> Volume:
    """Read the intensities of a scan.

    Args:
        path: A NIfTI file.

    Returns:
        The volume; ``voxels`` is float32.

    Raises:
        DataError: If the path is missing, broken, or holds no 3D image of real numbers.
    """
    if not is_scan(path):
        raise DataError(f"{path}: expected a scan ({' or '.join(NIFTI_SUFFIXES)})")
    return read_image(path)
