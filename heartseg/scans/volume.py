"""NIfTI volumes: read with all the checks that an untrusted file needs, written without loss."""

import gzip
import io
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import nibabel
import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.arrayproxy import ArrayProxy
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.files import MAX_DEFLATE_RATIO, replacing, require_file
from heartseg.labels import LabelTable
from heartseg.scans.nifti_header import settle_header
from heartseg.scans.provenance import Provenance, note_provenance
from heartseg.scans.source_values import translate

logger = logging.getLogger(__name__)

NIFTI_SUFFIXES = (".nii", ".nii.gz")
MAX_VOXELS = 2**27
"""Largest number of voxels that is read, 512 x 512 x 512: a header with more counts as broken."""
MAX_BYTES = 2**29
"""Largest size of the voxels that is read, so that reading a file never takes 2 GB."""
MAX_HEADER_BYTES = 2**24
"""If the voxels start later, the header counts as broken: real extensions hold some kB."""
MIN_SPACING_MM, MAX_SPACING_MM = 1e-6, 1e3
"""A header with shorter or longer voxels counts as broken."""
MAX_INTENSITY = 1e30
"""Larger magnitudes are missing values: some programs write the largest float for those."""
UNLABELLED = 255
"""Value of the voxels of a partial label map that nobody has labelled."""
GRID_TOLERANCE = 0.02
"""Corners of equal grids may lie so far apart, as a fraction of the smallest voxel side."""
SHEAR_TOLERANCE = 1e-3
"""Axes are perpendicular if the cosines between them are smaller; headers round to about 1e-7."""
WHOLE_TOLERANCE = 1e-3
"""Labels so close to an integer are that integer: a header's slope rounds them."""
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
        """``(3,)`` distance between neighbouring voxels along each array axis."""
        return spacing_of(self.affine)


def spacing_of(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the ``(3,)`` voxel spacing in mm of a ``(4, 4)`` affine."""
    return np.asarray(np.linalg.norm(affine[:3, :3], axis=0))


def sheared_axes_mm(affine: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return the ``(3, 3)`` steps along the axes of a sheared grid; None if they are perpendicular.

    A tilted gantry shears: slices stay parallel, but each lies a little beside the one before.
    """
    axes = affine[:3, :3]
    directions = axes / spacing_of(affine)
    cosines = directions.T @ directions - np.eye(3)
    return None if np.abs(cosines).max() < SHEAR_TOLERANCE else np.array(axes)


def is_nifti(file: Path) -> bool:
    """Return whether the name of a file is that of a NIfTI volume."""
    return file.name.lower().endswith(NIFTI_SUFFIXES)


def read_image(file: Path) -> Volume:
    """Read intensities.

    Voxels that are not finite, or beyond ``MAX_INTENSITY``, become 0, and a warning is logged.

    Args:
        file: A ``.nii`` or ``.nii.gz`` file that holds one 3D image.

    Returns:
        The volume; ``voxels`` is float32.

    Raises:
        DataError: If the file is missing, broken, not 3D, or not of real numbers.
    """
    volume = _read(file, np.float32)
    zero_non_finite(volume.voxels, source=str(file))
    return volume


def zero_non_finite(voxels: NDArray[np.float32], *, source: str) -> None:
    """Set voxels that are not finite, or beyond ``MAX_INTENSITY``, to 0, in place, with a warning.

    Args:
        voxels: Intensities of any shape.
        source: What to call the image in messages, usually its file.

    Raises:
        DataError: If no voxel is finite.
    """
    finite = (voxels > -MAX_INTENSITY) & (voxels < MAX_INTENSITY)
    if finite.all():
        return
    if not finite.any():
        raise DataError(f"{source}: expected finite intensities, found no finite voxel")
    logger.warning(
        "%s: voxels that are not finite are set to 0: %d of %d",
        source,
        (~finite).sum(),
        finite.size,
    )
    voxels[~finite] = 0


def build_volume(
    voxels: NDArray[Any], affine: NDArray[np.float64], *, source: str = "scan"
) -> Volume:
    """Return a volume that was not read from NIfTI, with the header that NIfTI gives it.

    Args:
        voxels: ``(X, Y, Z)`` array of any real type.
        affine: ``(4, 4)`` from voxel indices to millimetres, axes right, anterior, superior. The
            volume's own is rounded to float32, as the header stores it.
        source: What to call the volume in an error, usually its file.

    Raises:
        DataError: If the affine maps nowhere, or its voxels have an impossible size.
    """
    check_affine(affine, source=source)
    header = nibabel.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    with np.errstate(all="ignore"):
        header.set_qform(affine, code=1)
        header.set_sform(affine, code=1)
    header.set_xyzt_units("mm", "sec")
    rounded = np.array(header.get_best_affine(), np.float64)
    check_affine(rounded, source=source)
    return Volume(voxels, rounded, header)


def as_labels(voxels: NDArray[Any], *, source: str) -> NDArray[Any]:
    """Return voxels as whole numbers, whatever type they were stored with.

    Args:
        voxels: Label map of any shape.
        source: What to call the label map in an error, usually its file.

    Raises:
        DataError: If a value is not within ``WHOLE_TOLERANCE`` of a whole number.
    """
    if voxels.dtype.kind != "f":
        return voxels
    whole: NDArray[Any] = np.rint(voxels)
    wrong = ~np.isfinite(voxels) | ~np.isclose(whole, voxels, rtol=0, atol=WHOLE_TOLERANCE)
    if wrong.any():
        fraction = voxels[wrong][0]
        raise DataError(
            f"{source}: expected whole numbers as labels, found {fraction:.6g}; was the label "
            "map interpolated?"
        )
    return whole


def read_label_map(
    file: Path,
    table: LabelTable,
    *,
    partial: bool = False,
    mapping: Mapping[int, int] | None = None,
    from_source: bool = False,
) -> Volume:
    """Read labels; floating-point files are accepted if every value is a whole number.

    Args:
        file: A ``.nii`` or ``.nii.gz`` file that holds one 3D label map.
        table: The labels that may occur.
        partial: Whether ``UNLABELLED`` may occur too, where nobody has labelled yet.
        mapping: Label of the table by value in the file; values that are not named stay.
        from_source: Whether the file is one of the data set, with the source values of the table.

    Returns:
        The volume; ``voxels`` is uint8.

    Raises:
        DataError: If the file is missing, broken, not 3D, or holds a value that is not a label.
    """
    volume = _read(file)
    labels = check_labels(
        volume.voxels,
        table,
        source=str(file),
        partial=partial,
        mapping=mapping,
        from_source=from_source,
    )
    return Volume(labels, volume.affine, volume.header)


def check_labels(
    voxels: NDArray[Any],
    table: LabelTable,
    *,
    source: str,
    partial: bool = False,
    mapping: Mapping[int, int] | None = None,
    from_source: bool = False,
) -> NDArray[np.uint8]:
    """Turn the voxels of a label map, whatever type they are stored with, into labels of a table.

    Args:
        voxels: Label map of any shape.
        table: The labels that may occur.
        source: What to call the label map in an error, usually its file.
        partial: As for ``read_label_map``.
        mapping: As for ``read_label_map``.
        from_source: As for ``read_label_map``.

    Raises:
        DataError: If a value is not a label.
    """
    whole = as_labels(voxels, source=source)
    if mapping:
        given = whole
        whole = given.copy()
        for value, meant in mapping.items():
            whole[given == value] = meant
    else:
        whole = translate(whole, table, source=source, from_source=from_source, partial=partial)
    table.check_values(np.where(whole == UNLABELLED, 0, whole) if partial else whole, source=source)
    return whole.astype(np.uint8)


def is_same_grid(volume: Volume, other: Volume) -> bool:
    """Return whether two volumes have one shape, and affines that agree at every corner.

    Headers round: corners may differ by ``GRID_TOLERANCE`` of the smallest voxel side.
    """
    return volume.voxels.shape == other.voxels.shape and _corner_distance_mm(
        volume, other
    ) <= GRID_TOLERANCE * float(min(volume.spacing_mm.min(), other.spacing_mm.min()))


def _corner_distance_mm(volume: Volume, other: Volume) -> float:
    """Return how far the corners of two volumes of one shape lie apart, at most."""
    ends = [(-0.5, side - 0.5) for side in volume.voxels.shape]
    corners = np.array(np.meshgrid(*ends, [1.0])).reshape(4, -1)
    apart = (volume.affine - other.affine) @ corners
    return float(np.linalg.norm(apart[:3], axis=0).max())


def check_same_grid(volume: Volume, other: Volume, *, names: tuple[str, str]) -> None:
    """Raise ``DataError`` unless two volumes lie on the same grid; see ``is_same_grid``.

    Args:
        volume: One volume.
        other: The other volume.
        names: How the message refers to them, usually their files.
    """
    if volume.voxels.shape != other.voxels.shape:
        raise DataError(
            f"{names[0]}: shape {volume.voxels.shape} differs from the shape "
            f"{other.voxels.shape} of {names[1]}"
        )
    if not is_same_grid(volume, other):
        raise DataError(
            f"{names[0]}: lies up to {_corner_distance_mm(volume, other):.4g} mm away from "
            f"{names[1]}: affine {_one_line(volume.affine)} differs from the affine "
            f"{_one_line(other.affine)}"
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
        file: The new file; ``.nii.gz`` is compressed.
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
    file: Path,
    labels: NDArray[np.uint8],
    *,
    like: Volume,
    table: LabelTable,
    provenance: Provenance | None = None,
) -> None:
    """Write a label map on the grid of another volume; see ``build_label_image``.

    Args:
        file: The new file; ``.nii.gz`` is compressed.
        labels: ``(X, Y, Z)`` labels with the shape of ``like``.
        like: The volume that was segmented.
        table: The names of the labels.
        provenance: The model that made it.

    Raises:
        DataError: If the file cannot be written.
        ValueError: If the shapes differ.
    """
    _write(build_label_image(labels, like=like, table=table, provenance=provenance), file)


def build_label_image(
    labels: NDArray[np.uint8],
    *,
    like: Volume,
    table: LabelTable,
    provenance: Provenance | None = None,
) -> nibabel.Nifti1Image:
    """Build the NIfTI image of a label map on the grid of another volume.

    Affine, qform and sform with their codes, and units are those of ``like``, but none of the texts
    of its header; a comment extension lists the values and names of the structures.

    Args:
        labels: ``(X, Y, Z)`` labels, the shape of ``like``.
        like: The volume that was segmented.
        table: The names of the labels.
        provenance: The model that made it.

    Raises:
        ValueError: If the shapes differ.
    """
    if labels.shape != like.voxels.shape:
        raise ValueError(f"labels: expected shape {like.voxels.shape}, got {labels.shape}")
    header = like.header.copy()
    header.set_data_dtype(np.uint8)
    header.set_slope_inter(1, 0)
    header["cal_min"], header["cal_max"] = 0, table.num_classes - 1
    header["intent_code"] = _LABEL_INTENT
    for name in header:
        # A text of the source may hold the name of a patient.
        if header[name].dtype.kind == "S" and name not in ("magic", "regular"):
            header[name] = b""
    names = "\n".join(f"{s.value} {s.key} {s.name}" for s in table.structures)
    header.extensions[:] = [
        nibabel.nifti1.Nifti1Extension(_COMMENT_EXTENSION, f"heartseg labels\n{names}".encode())
    ]
    if provenance is not None:
        note_provenance(header, provenance)
    is_nifti2 = isinstance(header, nibabel.Nifti2Header)
    image_class = nibabel.Nifti2Image if is_nifti2 else nibabel.Nifti1Image
    return image_class(labels.astype(np.uint8, copy=False), like.affine, header)


def _read(file: Path, dtype: type[np.float32] | None = None) -> Volume:
    """Read a volume; everything in its header is checked before any voxel is read."""
    require_file(file)
    if not is_nifti(file):
        raise DataError(f"{file}: expected a NIfTI file (.nii or .nii.gz)")
    packed = file.name.lower().endswith(".gz")
    try:
        with file.open("rb") as content:
            # ISA-L unpacks twice as fast as zlib.
            stream: IO[bytes] = igzip.open(content) if packed else content
            header = _read_header(stream)
            header = settle_header(header, source=str(file))
            affine = np.array(header.get_best_affine(), np.float64)
            most = file.stat().st_size * (MAX_DEFLATE_RATIO if packed else 1)
            shape, stored = header.get_data_shape(), header.get_data_dtype()
            check_grid(shape, stored, source=str(file), most=most)
            check_affine(affine, source=str(file))
            # Not mapped into memory: a file that shrinks later would kill the process.
            proxy = ArrayProxy(stream, header, mmap=False)
            with np.errstate(all="ignore"):
                voxels: NDArray[Any] = np.asanyarray(proxy, dtype)
            # gzip checks the checksum when the end of its stream is read.
            stream.read(1)
    except (HeaderDataError, OSError, EOFError, IsalError, ValueError, OverflowError) as error:
        raise DataError(f"{file}: not a readable NIfTI file ({reason_of(error)})") from error
    return Volume(voxels, affine, header)


def _read_header(stream: IO[bytes]) -> nibabel.Nifti1Header:
    """Parse the header; read no more bytes than a header has, whatever sizes it claims.

    Raises:
        HeaderDataError: If the header or its extensions are invalid.
    """
    start = stream.read(nibabel.Nifti2Header.template_dtype.itemsize)
    if nibabel.Nifti2Header.may_contain_header(start):
        header_class = nibabel.Nifti2Header
    elif nibabel.Nifti1Header.may_contain_header(start):
        header_class = nibabel.Nifti1Header
    else:
        raise HeaderDataError("it has no NIfTI header")
    header = header_class(start[: header_class.template_dtype.itemsize])
    offset = float(header["vox_offset"])
    if header["magic"].item() != header.single_magic:
        raise HeaderDataError("it is the header of a .hdr and .img pair, expected a single file")
    if not 0 <= offset <= MAX_HEADER_BYTES:
        raise HeaderDataError(f"the header claims that voxels start at byte {offset:.0f}")
    start += stream.read(max(0, int(offset) - len(start)))
    return header_class.from_fileobj(io.BytesIO(start))


def check_grid(shape: tuple[int, ...], dtype: np.dtype[Any], *, source: str, most: int) -> None:
    """Check what a header claims about its voxels, before memory is set aside for them.

    Args:
        shape: Claimed number of voxels along each axis.
        dtype: Claimed type of a voxel.
        source: What to call the image in an error, usually its file.
        most: Bytes of voxels that the file can hold.

    Raises:
        DataError: If the image is not 3D, not of real numbers, unexpectedly large, or truncated.
    """
    if len(shape) != 3 or min(shape) < 1:
        raise DataError(f"{source}: expected a 3D volume, found the shape {shape}")
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise DataError(
            f"{source}: expected real numbers of at most 64 bits, found the voxel type {dtype}"
        )
    # Headers give NumPy's integers, which overflow.
    voxels = math.prod(int(size) for size in shape)
    if voxels > MAX_VOXELS or voxels * dtype.itemsize > MAX_BYTES:
        raise DataError(
            f"{source}: the header claims {shape} voxels of {dtype}, which is too large (at most "
            f"{MAX_VOXELS:,} voxels and {MAX_BYTES:,} bytes are read)"
        )
    # Checked before memory is allocated for them.
    if voxels * dtype.itemsize > most:
        raise DataError(
            f"{source}: truncated; the file is too short for the {shape} voxels it claims"
        )


def check_affine(affine: NDArray[np.float64], *, source: str) -> None:
    """Raise ``DataError`` if an affine maps nowhere, or its voxels have an impossible size."""
    with np.errstate(all="ignore"):
        spacing = spacing_of(affine)
        # Near 0 if the three axes nearly lie in one plane; NaN if any entry is not finite.
        solidity = abs(np.linalg.det(affine[:3, :3])) / np.prod(spacing)
    if not (np.isfinite(affine).all() and solidity > 1e-6):
        raise DataError(f"{source}: the affine {_one_line(affine)} is singular or not finite")
    if spacing.min() < MIN_SPACING_MM or spacing.max() > MAX_SPACING_MM:
        claimed = " x ".join(f"{step:.6g}" for step in spacing)
        raise DataError(
            f"{source}: the header claims a spacing of {claimed} mm, expected "
            f"{MIN_SPACING_MM:g} to {MAX_SPACING_MM:g} mm"
        )


def _write(image: nibabel.Nifti1Image, file: Path) -> None:
    with replacing(file) as temporary:
        content = image.to_bytes()
        # Without the file name and the time, equal volumes give equal files.
        temporary.write_bytes(
            gzip.compress(content, compresslevel=6, mtime=0)
            if file.name.endswith(".gz")
            else content
        )


def reason_of(error: BaseException) -> str:
    """Return what a library's error says, in one line of at most 160 characters."""
    text = " ".join(str(error).split())
    return text[:160] or type(error).__name__


def _one_line(affine: NDArray[np.float64]) -> str:
    rows = (", ".join(f"{value:.6g}" for value in row) for row in affine[:3])
    return f"[[{'], ['.join(rows)}]]"
