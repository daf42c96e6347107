"""Whole-heart segmentation of cardiovascular MR for congenital heart disease.

From Python::

    import heartseg

    result = heartseg.segment("scan.nii.gz")  # also DICOM, a nibabel image, or (array, affine)
    result.labels      # (X, Y, Z) uint8 on the scan's own grid; result.image for nibabel
    result.volumes_ml  # {"LV": 32.8, ...}
    result.save("results")

    image = heartseg.read_scan("exam", series=7)  # nibabel, of any format that heartseg reads
    segmenter = heartseg.load_segmenter("runs/whole_heart")  # for many scans
    scores = heartseg.score("results/pat4_seg.nii.gz", "pat4_cropped_seg.nii.gz")
    [(structure.value, structure.name) for structure in heartseg.LABELS]

From the command line: ``heartseg --help``.
"""

import os
from typing import TYPE_CHECKING

# OpenCV reads this limit when it is first imported, which any module of heartseg may do. A picture
# whose header claims more pixels is then refused before memory is allocated for them.
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(2**26))

__version__ = "1.0.0"
__all__ = [
    "LABELS",
    "HeartsegError",
    "ScoreTable",
    "Segmentation",
    "Segmenter",
    "__version__",
    "load_segmenter",
    "read_scan",
    "score",
    "segment",
]

if TYPE_CHECKING:
    from heartseg.api.scoring import ScoreTable, score
    from heartseg.api.segmentation import Segmentation, load_segmenter, segment
    from heartseg.errors import HeartsegError
    from heartseg.inference.segmenter import Segmenter
    from heartseg.labels import HVSMR as LABELS
    from heartseg.scans.reading import read_scan_image as read_scan
else:
    # Loaded when first used (PEP 562), so that `import heartseg` takes no time.
    _HOMES = {
        "LABELS": ("heartseg.labels", "HVSMR"),
        "HeartsegError": ("heartseg.errors", "HeartsegError"),
        "ScoreTable": ("heartseg.api.scoring", "ScoreTable"),
        "Segmentation": ("heartseg.api.segmentation", "Segmentation"),
        "Segmenter": ("heartseg.inference.segmenter", "Segmenter"),
        "load_segmenter": ("heartseg.api.segmentation", "load_segmenter"),
        "read_scan": ("heartseg.scans.reading", "read_scan_image"),
        "score": ("heartseg.api.scoring", "score"),
        "segment": ("heartseg.api.segmentation", "segment"),
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        module, attribute = _HOMES[name]
        globals()[name] = value = getattr(import_module(module), attribute)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
