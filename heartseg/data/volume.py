"""NIfTI volumes: read with every check that an untrusted file needs, written without loss."""

import gzip
import logging
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.files import replacing
from heartseg.labels import LabelTable

logger = logging.getLogger(__name__)

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 2**28
"""A larger grid is taken for a broken header: the largest cardiac scans hold a tenth of this."""
GRID_TOLERANCE = 1e-4
"""Affines whose entries differ by less are equal: float32 headers differ by about 1e-7."""
_COMMENT_EXTENSION = 6
_LABEL_INTENT = 1002


@dataclass(frozen=True)
class Volume:
    """A 3D array and where its voxels lie in the patient.

    Attributes:
        voxels: ``(X, Y, Z)`` intensities (float32) or labels (uint8).
        affine: ``(4, 4)`` from voxel indices to millimetres, axes right, anterior, superior.
        header: The NIfTI header that the volume was read with.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    header: nibabel.Nifti1Header

    @property
    def spacing_mm(self) -> NDArray[np.float64]:
        """``(3,)`` distance of neighbouring voxels along each array axis."""
        return spacing_of(self.affine)


def spacing_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(3,)`` voxel spacing in mm that an affine implies."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def is_nifti(file: Path) -> bool:
    """Tell by the name whether a file is a NIfTI volume."""
    return file.name.lower().endswith(NIFTI_SUFFIXES)


def read_image(file: Path) -> Volume:
    """Read intensities.

    Voxels that are not finite become 0, with a warning.

    Args:
        file: A ``.nii`` or ``.nii.gz`` file that holds one 3D image.

    Returns:
        The volume; ``voxels`` is float32.

    Raises:
        DataError: If the file is missing, broken, not 3D, or not of real numbers.
    """
    image = _open(file)
    voxels = _read_voxels(image, file).astype(np.float32, copy=False)
    finite = np.isfinite(voxels)
    if not finite.all():
        if not finite.any():
            raise DataError(f"{file}: no voxel is a finite number")
        logger.warning("%s: %d voxels are not finite and count as 0", file, (~finite).sum())
        voxels = np.where(finite, voxels, np.float32(0))
    return Volume(voxels, np.array(image.affine, np.float64), image.header)


def read_label_map(file: Path, table: LabelTable) -> Volume:
    """Read labels; floating-point files are accepted if every value is a whole number.

    Args:
        file: A ``.nii`` or ``.nii.gz`` file that holds one 3D label map.
        table: The labels that may occur.

    Returns:
        The volume; ``voxels`` is uint8.

    Raises:
        DataError: If the file is missing, broken, not 3D, or holds a value that is no label.
    """
    image = _open(file)
    voxels = _read_voxels(image, file)
    if voxels.dtype.kind == "f":
        whole = np.rint(voxels)
        if not np.array_equal(whole, voxels):
            fraction = voxels[whole != voxels][0]
            raise DataError(
                f"{file}: expected whole numbers as labels, found {fraction:.6g}; was the label "
                "map interpolated?"
            )
        voxels = whole
    table.check_values(voxels, source=str(file))
    return Volume(voxels.astype(np.uint8), np.array(image.affine, np.float64), image.header)


def check_same_grid(volume: Volume, other: Volume, *, names: tuple[str, str]) -> None:
    """Raise ``DataError`` unless two volumes have the same shape and the same affine.

    Args:
        volume: One volume.
        other: The other volume.
        names: What to call them in the message, usually their files.
    """
    if volume.voxels.shape != other.voxels.shape:
        raise DataError(
            f"{names[0]}: shape {volume.voxels.shape} differs from the shape "
            f"{other.voxels.shape} of {names[1]}"
        )
    if not np.allclose(volume.affine, other.affine, rtol=0, atol=GRID_TOLERANCE):
        raise DataError(
            f"{names[0]}: affine {_one_line(volume.affine)} differs from the affine "
            f"{_one_line(other.affine)} of {names[1]}"
        )


def write_image(
    file: Path,
    voxels: NDArray[np.generic],
    *,
    affine: NDArray[np.float64],
    codes: tuple[int, int] = (1, 1),
) -> None:
    """Write an array of any real type as NIfTI; equal arrays give equal bytes.

    Args:
        file: Where to; ``.nii.gz`` is compressed.
        voxels: ``(X, Y, Z)`` array, stored in its own type.
        affine: ``(4, 4)`` from voxel indices to millimetres.
        codes: The qform and sform codes (1: scanner coordinates).

    Raises:
        DataError: If the file cannot be written.
    """
    image = nibabel.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    image.set_qform(affine, code=codes[0])
    image.set_sform(affine, code=codes[1])
    image.header.set_xyzt_units("mm", "sec")
    _write(image, file)


def write_label_map(
    file: Path, labels: NDArray[np.uint8], *, like: Volume, table: LabelTable
) -> None:
    """Write a label map on the grid of another volume.

    Affine, qform and sform with their codes, and units are those of ``like``; the values and
    names of the structures stand in a comment extension of the header.

    Args:
        file: Where to; ``.nii.gz`` is compressed.
        labels: ``(X, Y, Z)`` labels, the shape of ``like``.
        like: The volume that was segmented.
        table: The names of the labels.

    Raises:
        DataError: If the file cannot be written.
        ValueError: If the shapes differ.
    """
    if labels.shape != like.voxels.shape:
        raise ValueError(f"labels: expected shape {like.voxels.shape}, got {labels.shape}")
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, table.num_classes - 1
    header["intent_code"] = _LABEL_INTENT
    names = "\n".join(f"{s.value} {s.key} {s.name}" for s in table.structures)
    header.extensions[:] = [
        nibabel.nifti1.Nifti1Extension(_COMMENT_EXTENSION, f"heartseg labels\n{names}".encode())
    ]
    is_nifti2 = isinstance(header, nibabel.Nifti2Header)
    image_class = nibabel.Nifti2Image if is_nifti2 else nibabel.Nifti1Image
    _write(image_class(labels.astype(np.uint8, copy=False), like.affine, header), file)


def _open(file: Path) -> nibabel.Nifti1Image:
    """Open a NIfTI file and check all that its header claims, before any voxel is read."""
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    if not is_nifti(file):
        raise DataError(f"{file}: expected a NIfTI file (.nii or .nii.gz)")
    try:
        image = nibabel.load(file)
        affine = np.array(image.affine, np.float64)
    except (ImageFileError, HeaderDataError, OSError, EOFError, zlib.error, ValueError) as error:
        raise DataError(f"{file}: not a readable NIfTI file ({_reason(error)})") from error
    if not isinstance(image, nibabel.Nifti1Image):
        raise DataError(f"{file}: expected NIfTI, found {type(image).__name__}")
    shape = image.shape
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(f"{file}: expected a 3D volume, found the shape {shape}")
    if np.prod(shape, dtype=np.float64) > MAX_VOXELS:
        raise DataError(f"{file}: the header claims {shape} voxels, more than can be meant")
    if image.get_data_dtype().kind not in "iuf":
        raise DataError(
            f"{file}: expected real numbers, found the voxel type {image.get_data_dtype()}"
        )
    with np.errstate(all="ignore"):
        volume_mm3 = abs(np.linalg.det(affine[:3, :3])) if np.isfinite(affine).all() else 0.0
        spacing = spacing_of(affine)
    # A tiny but honest voxel is 0.1 mm wide; a singular affine maps the volume onto a plane.
    if not volume_mm3 > 1e-6 * np.prod(spacing) > 0:
        raise DataError(f"{file}: the affine {_one_line(affine)} is singular or not finite")
    return image


def _read_voxels(image: nibabel.Nifti1Image, file: Path) -> NDArray[Any]:
    try:
        with np.errstate(all="ignore"):
            voxels: NDArray[Any] = np.asanyarray(image.dataobj)
    except (OSError, EOFError, zlib.error, ValueError, MemoryError) as error:
        raise DataError(f"{file}: broken or truncated ({_reason(error)})") from error
    return voxels


def _write(image: nibabel.Nifti1Image, file: Path) -> None:
    with replacing(file) as temporary:
        content = image.to_bytes()
        # Neither name nor time of writing: equal volumes give equal files.
        temporary.write_bytes(
            gzip.compress(content, compresslevel=6, mtime=0)
            if file.name.endswith(".gz")
            else content
        )


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__


def _one_line(affine: NDArray[np.float64]) -> str:
    return np.array2string(affine[:3], precision=4, suppress_small=True, separator=",").replace(
        "\n", ""
    )
