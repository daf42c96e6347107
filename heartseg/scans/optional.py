"""Libraries that only some formats need: imported when such a file is read or written."""

import importlib
import logging
import warnings
from typing import Any

from heartseg.errors import MissingPackageError


def import_dicom_library(name: str = "pydicom") -> Any:  # noqa: ANN401 - a module
    """Import pydicom or highdicom, and keep both from quoting headers.

    Their warnings and log records repeat values of a header, a patient's name among them. They are
    therefore silent in this process from now on; what they would warn of, heartseg checks itself.

    Args:
        name: Full name of the module, such as ``pydicom.pixels``.

    Raises:
        MissingPackageError: If it is not installed.
    """
    try:
        module = importlib.import_module(name)
    except ImportError as error:
        library = name.partition(".")[0]
        raise MissingPackageError(
            f"DICOM needs {library}, which cannot be imported; install it with "
            "`pip install 'heartseg[dicom]'`"
        ) from error
    for library in ("pydicom", "highdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
        warnings.filterwarnings("ignore", module=rf"{library}\b")
    return module
