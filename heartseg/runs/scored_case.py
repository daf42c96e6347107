"""A test case as the report of an evaluation shows it: its scan and both label maps."""

from pathlib import Path

import numpy as np

from heartseg.cohort.cases import CaseFiles
from heartseg.modelfile.description import ModelDescription
from heartseg.pictures.case_pictures import OrientedCase, orient_case
from heartseg.scans.intensity import apply_window, find_window
from heartseg.scans.volume import read_image, read_label_map


def prediction_file(evaluation_dir: Path, case: str) -> Path:
    """Return where an evaluation keeps the prediction of a test case."""
    return evaluation_dir / "predictions" / f"{case}_seg.nii.gz"


def read_scored_case(
    case: str, files: CaseFiles, evaluation_dir: Path, model: ModelDescription
) -> OrientedCase:
    """Read a test case, windowed as its model sees it.

    Args:
        case: Its name.
        files: Its scan and reference.
        evaluation_dir: Where its prediction lies; without one it is shown as empty.
        model: What predicted it.

    Raises:
        DataError: If a file cannot be read.
    """
    image = read_image(files.image_file)
    limits = find_window(image.voxels, model.recipe.window, model.recipe.window_range)
    predicted = prediction_file(evaluation_dir, case)
    prediction = read_label_map(predicted, model.table).voxels if predicted.exists() else None
    return orient_case(
        case,
        prediction,
        read_label_map(files.label_file, model.table, from_source=True).voxels,
        affine=image.affine,
        image=np.clip(apply_window(image.voxels, limits), 0, 1),
    )
