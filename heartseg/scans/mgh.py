"""FreeSurfer's volumes: one 3D image per ``.mgz`` or ``.mgh`` file."""

from pathlib import Path
from typing import IO, Any

import numpy as np
from isal import igzip
from isal.igzip_lib import IsalError
from nibabel.arrayproxy import ArrayProxy
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from heartseg.errors import DataError
from heartseg.files import MAX_DEFLATE_RATIO
from heartseg.scans.volume import Volume, build_volume, check_grid, reason_of

MGH_SUFFIXES = (".mgz", ".mgh")
_HEADER_BYTES = 284
_GOOD_RAS = slice(28, 30)


def read_mgh(file: Path) -> Volume:
    """Read one 3D image.

    Args:
        file: A ``.mgz`` file (packed) or a ``.mgh`` file.

    Returns:
        The volume; ``voxels`` has the type of the file.

    Raises:
        DataError: If the file is missing, broken, not one 3D image that says how it lies in the
            patient, or too large.
    """
    if not file.is_file():
        raise DataError(f"{file}: no such file")
    packed = file.name.lower().endswith(".mgz")
    try:
        with file.open("rb") as content:
            stream: IO[bytes] = igzip.open(content) if packed else content
            start = stream.read(_HEADER_BYTES)
            header = MGHHeader(start)
            shape = tuple(int(size) for size in header.get_data_shape())
            dtype = header.get_data_dtype()
            most = file.stat().st_size * (MAX_DEFLATE_RATIO if packed else 1)
            check_grid(shape, dtype, source=str(file), most=most)
            # nibabel's header fills in a position where this is 0.
            if not any(start[_GOOD_RAS]):
                raise DataError(f"{file}: does not say how it lies in the patient")
            with np.errstate(all="ignore"):
                affine = np.array(header.get_affine(), np.float64)
            voxels: NDArray[Any] = np.asanyarray(ArrayProxy(stream, header, mmap=False))
            stream.read(1)
    except (
        HeaderDataError,
        WrapStructError,
        OSError,
        EOFError,
        IsalError,
        ValueError,
        LookupError,
        OverflowError,
    ) as error:
        raise DataError(f"{file}: not a readable MGH file ({reason_of(error)})") from error
    return build_volume(voxels.astype(dtype.newbyteorder("=")), affine, source=str(file))
