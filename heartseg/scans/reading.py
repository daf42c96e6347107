"""A scan from any format that heartseg reads."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np

from heartseg.errors import DataError
from heartseg.files import image_stem
from heartseg.scans.dicom import read_dicom
from heartseg.scans.dicom_files import holds_dicom
from heartseg.scans.dicom_header import reveals
from heartseg.scans.dicom_series import find_series
from heartseg.scans.metaimage import METAIMAGE_SUFFIXES, read_metaimage
from heartseg.scans.mgh import MGH_SUFFIXES, read_mgh
from heartseg.scans.nrrd import NRRD_SUFFIXES, read_nrrd
from heartseg.scans.volume import NIFTI_SUFFIXES, Volume, is_nifti, read_image, zero_non_finite

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima", ".zip")
SCAN_SUFFIXES = (
    *NIFTI_SUFFIXES,
    *NRRD_SUFFIXES,
    *METAIMAGE_SUFFIXES,
    *MGH_SUFFIXES,
    *DICOM_SUFFIXES,
)
"""How the names of scans end, in small letters; a folder of DICOM files is a scan too."""
_ANONYMOUS = "scan"
_PLAIN_READERS: dict[str, Callable[[Path], Volume]] = {
    **dict.fromkeys(NRRD_SUFFIXES, read_nrrd),
    **dict.fromkeys(METAIMAGE_SUFFIXES, read_metaimage),
    **dict.fromkeys(MGH_SUFFIXES, read_mgh),
}


def is_scan(path: Path) -> bool:
    """Tell whether a file is a scan by its name, or a folder by the DICOM files below it."""
    return holds_dicom(path) if path.is_dir() else path.name.lower().endswith(SCAN_SUFFIXES)


def is_dicom(path: Path) -> bool:
    """Tell whether a path is a folder, or a file whose name is that of DICOM or of an archive."""
    return path.is_dir() or path.name.lower().endswith(DICOM_SUFFIXES)


def read_scan(path: Path, *, series: int | None = None) -> Volume:
    """Read the intensities of a scan.

    Args:
        path: A NIfTI, NRRD, MetaImage or MGH file, a DICOM folder or ``.zip``, or a multi-frame
            DICOM file.
        series: Number of the DICOM series; None if there is only one.

    Returns:
        The volume; ``voxels`` is float32, and its header that of NIfTI.

    Raises:
        DataError: If the scan is missing, broken, too large, no single 3D volume, or a series is
            to be chosen.
    """
    if is_dicom(path):
        return read_dicom(path, series=series)
    if series is not None:
        raise DataError(f"{path}: a series can be chosen in DICOM only")
    if is_nifti(path):
        return read_image(path)
    stored = read_plain(path)
    with np.errstate(all="ignore"):
        voxels = stored.voxels.astype(np.float32)
    zero_non_finite(voxels, source=str(path))
    stored.header.set_data_dtype(np.float32)
    return Volume(voxels, stored.affine, stored.header)


def read_plain(path: Path) -> Volume:
    """Read a NRRD, MetaImage or MGH file with the type of voxels that it has.

    Raises:
        DataError: If the file is missing, broken, too large, or its name is none of these.
    """
    reader = _PLAIN_READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path}: expected a name that ends in {', '.join(SCAN_SUFFIXES)}")
    return reader(path)


def read_scan_image(path: Path | str, series: int | None = None) -> nibabel.Nifti1Image:
    """Read a scan of any format as a nibabel image.

    Args:
        path: A NIfTI, NRRD, MetaImage or MGH file, a DICOM folder or ``.zip``, or a multi-frame
            DICOM file.
        series: Number of the DICOM series; None if there is only one.

    Returns:
        A NIfTI-1 image of float32 voxels; its affine runs right, anterior, superior in mm.

    Raises:
        DataError: See ``read_scan``.
    """
    volume = read_scan(Path(path), series=series)
    image = nibabel.Nifti1Image(volume.voxels, volume.affine)
    image.set_qform(volume.affine, code=1)
    image.set_sform(volume.affine, code=1)
    image.header.set_xyzt_units("mm", "sec")
    return image


def name_scan(path: Path) -> str:
    """Return the name that the results of a scan start with.

    It is the name of the file or folder; ``scan`` for a DICOM folder or archive that is named after
    the patient, or by an identifier or date of its headers.
    """
    if not is_dicom(path):
        return image_stem(path)
    name = path.resolve().name if path.is_dir() else path.stem
    try:
        found = find_series(path)
    except DataError:
        # Whoever reads the scan learns what is wrong with it.
        return name
    return _ANONYMOUS if any(reveals(name, series.identity) for series in found) else name
