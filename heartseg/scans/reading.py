"""A scan from any format that heartseg reads."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np

from heartseg.errors import DataError
from heartseg.files import image_stem
from heartseg.scans.dicom import read_series
from heartseg.scans.dicom_files import has_magic, holds_dicom
from heartseg.scans.dicom_header import reveals
from heartseg.scans.dicom_series import Series, find_identity, find_series, pick_series
from heartseg.scans.metaimage import METAIMAGE_SUFFIXES, read_metaimage
from heartseg.scans.mgh import MGH_SUFFIXES, read_mgh
from heartseg.scans.nrrd import NRRD_SUFFIXES, read_nrrd
from heartseg.scans.volume import NIFTI_SUFFIXES, Volume, is_nifti, read_image, zero_non_finite

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")
ARCHIVE_SUFFIXES = (".zip",)
_FILE_SUFFIXES = (*NIFTI_SUFFIXES, *NRRD_SUFFIXES, *METAIMAGE_SUFFIXES, *MGH_SUFFIXES)
SCAN_SUFFIXES = (*_FILE_SUFFIXES, *DICOM_SUFFIXES, *ARCHIVE_SUFFIXES)
"""How the names of scans end, in small letters; a folder of DICOM files is a scan too."""
LABEL_MAP_SUFFIXES = (*_FILE_SUFFIXES, ".dcm", ".dicom")
"""How the names of label maps end, in small letters."""
_ANONYMOUS = "scan"
_PLAIN_READERS: dict[str, Callable[[Path], Volume]] = {
    **dict.fromkeys(NRRD_SUFFIXES, read_nrrd),
    **dict.fromkeys(METAIMAGE_SUFFIXES, read_metaimage),
    **dict.fromkeys(MGH_SUFFIXES, read_mgh),
}


@dataclass(frozen=True)
class ScanSource:
    """A scan that was found and is not read yet.

    Attributes:
        path: Its file, or the folder or archive that its DICOM series lies in.
        name: What the names of its results start with: that of the file or folder; ``scan`` for
            DICOM that is named after the patient, or by an identifier or date of its headers.
        series: Its DICOM series; None in other formats.
    """

    path: Path
    name: str
    series: Series | None = None

    def read(self) -> Volume:
        """Read its intensities; see ``read_scan``."""
        return _read_file(self.path) if self.series is None else read_series(self.series)

    def absolute(self) -> "ScanSource":
        """Return the source with absolute paths, for a process with another working directory."""
        path = self.path.absolute()
        series = None if self.series is None else replace(self.series, path=path)
        return replace(self, path=path, series=series)


def is_scan(path: Path) -> bool:
    """Tell whether a file is a scan by its name, else whether it is DICOM; so for a folder."""
    if path.is_dir():
        return holds_dicom(path)
    return path.name.lower().endswith(SCAN_SUFFIXES) or is_dicom(path)


def is_dicom(path: Path) -> bool:
    """Tell whether a path is a folder, an archive, or a DICOM file by its name or its content."""
    name = path.name.lower()
    if path.is_dir() or name.endswith((*DICOM_SUFFIXES, *ARCHIVE_SUFFIXES)):
        return True
    return not name.endswith(_FILE_SUFFIXES) and has_magic(path)


def find_scan(path: Path, *, series: int | None = None) -> ScanSource:
    """Find a scan; of DICOM the headers are read.

    Args:
        path: A NIfTI, NRRD, MetaImage or MGH file, a DICOM folder or ``.zip``, or a multi-frame
            DICOM file.
        series: Number of the DICOM series; None if there is only one.

    Raises:
        DataError: If the name is of no format that is read, or no single DICOM series can be read.
        MissingPackageError: If DICOM needs a package that is not installed.
    """
    if is_dicom(path):
        found = find_series(path)
        return ScanSource(path, _name_dicom(path, found), pick_series(found, series))
    if not path.name.lower().endswith(_FILE_SUFFIXES):
        raise DataError(f"{path}: expected a name that ends in {', '.join(SCAN_SUFFIXES)}")
    if series is not None:
        raise DataError(f"{path}: a series can be chosen in DICOM only")
    return ScanSource(path, image_stem(path))


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
        MissingPackageError: If DICOM needs a package that is not installed.
    """
    return find_scan(path, series=series).read()


def _read_file(path: Path) -> Volume:
    """Read a scan that is not DICOM."""
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
        raise DataError(f"{path}: expected a name that ends in {', '.join(_PLAIN_READERS)}")
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


def name_file(path: Path) -> str:
    """Return the name of a file to be shown, but not of DICOM that is named after the patient."""
    if not is_dicom(path):
        return path.name
    return _ANONYMOUS if reveals(path.resolve().name, find_identity(path)) else path.name


def _name_dicom(path: Path, found: Sequence[Series]) -> str:
    name = path.resolve().name if path.is_dir() else path.stem
    return _ANONYMOUS if any(reveals(name, series.identity) for series in found) else name
