"""``heartseg.score``: how well a predicted label map agrees with the reference."""

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heartseg.api.inputs import LabelMapLike, NamedLabelMap, take_label_map
from heartseg.errors import DataError, MissingPackageError
from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.scores import COLUMNS, CaseScores
from heartseg.evaluation.scoring import score_case
from heartseg.exchange.grids import share_grid
from heartseg.exchange.label_maps import may_be_cut
from heartseg.files import image_stem
from heartseg.labels import HVSMR, LabelTable
from heartseg.scans.volume import check_same_grid, sheared_axes_mm

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class ScoreTable:
    """The scores of one case: a row per scope and structure, and one for the whole heart.

    Attributes:
        scores: The rows as objects, with macro averages and the confusion matrix.
    """

    scores: CaseScores

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries.

        The keys are the columns of ``cases.csv``: ``case``, ``structure``, ``dice``, ``iou``,
        ``hd95_mm``, ``assd_mm``, ``nsd``, ``volume_prediction_ml``, ``volume_reference_ml``,
        ``scope``, ``precision``, ``recall``, ``volume_difference_ml`` and ``flag``. What cannot be
        measured is NaN, such as the Dice coefficient of a structure that both maps lack.
        """
        return [asdict(row) for row in self.scores.rows]

    def to_frame(self) -> "pandas.DataFrame":
        """Return the rows as a pandas data frame.

        Raises:
            MissingPackageError: If pandas is not installed.
        """
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise MissingPackageError(
                "to_frame needs pandas, which is not installed; install it with `pip install "
                "pandas`, or use rows()"
            ) from error
        return pandas.DataFrame(self.rows(), columns=list(COLUMNS))


def score(
    prediction: LabelMapLike,
    reference: LabelMapLike,
    endpoints: LabelMapLike | None = None,
    *,
    spacing_mm: ArrayLike | None = None,
    tolerance_mm: float = 2.0,
    table: LabelTable = HVSMR,
    case: str | None = None,
) -> ScoreTable:
    """Score a predicted label map against the reference, in mm and mL.

    Each of the three label maps is a path (NIfTI, NRRD, MetaImage, MGH, DICOM SEG), a nibabel
    image, or an ``(X, Y, Z)`` array of whole numbers; they may be mixed.

    Args:
        prediction: The predicted label map.
        reference: The true label map.
        endpoints: Map whose value v marks the optional zone of structure v, where vessels may end
            earlier or later. With it, every structure is also scored in the scope ``required``:
            without the voxels of its zone.
        spacing_mm: Distance of neighbouring voxels along each array axis, three numbers; for
            arrays only. Files and images carry their own.
        tolerance_mm: Distance within which surfaces count as equal, for ``nsd``.
        table: The structures.
        case: Name of the case in the rows; by default that of the reference's file.

    Returns:
        The scores; see ``ScoreTable.rows`` and ``ScoreTable.to_frame``.

    Raises:
        DataError: If a label map is missing, broken, not 3D, holds a value that is not in
            ``table``, or lies on another grid than the reference; or if the spacing is missing.

    Example:
        >>> import heartseg, numpy as np
        >>> reference = np.zeros((8, 8, 8), np.uint8)
        >>> prediction = reference.copy()
        >>> reference[2:6, 2:6, 2:6] = 1
        >>> prediction[2:6, 2:6, 4:8] = 1
        >>> scores = heartseg.score(prediction, reference, spacing_mm=(1, 1, 1.5))
        >>> row = scores.rows()[0]
        >>> row["structure"], row["dice"], row["volume_reference_ml"]
        ('LV', 0.5, 0.096)
    """
    given = [take_label_map(reference, table, name="reference")]
    given.append(take_label_map(prediction, table, name="prediction"))
    if endpoints is not None:
        given.append(take_label_map(endpoints, table, name="endpoints"))
    true, found, *zones = given = _align(given)
    if not tolerance_mm > 0:
        raise DataError(f"tolerance_mm: expected a positive number, found {tolerance_mm}")
    if case is None:
        case = "case" if true.file is None else image_stem(true.file)
    pair = LabelPair(
        case,
        found.labels,
        true.labels,
        _find_spacing(given, spacing_mm),
        zones[0].labels if zones else None,
        None if true.volume is None else sheared_axes_mm(true.volume.affine),
    )
    return ScoreTable(score_case(pair, table, tolerance_mm=tolerance_mm))


def _align(label_maps: list[NamedLabelMap]) -> list[NamedLabelMap]:
    """Make sure that all lie on the grid of the first, and bring those there that are cut."""
    reference = label_maps[0]
    volumes = [m.volume for m in label_maps if m.volume is not None]
    is_cut = any(m.file is not None and may_be_cut(m.file) for m in label_maps)
    if is_cut and len(volumes) == len(label_maps):
        shared = share_grid(volumes, sources=[m.source for m in label_maps])
        return [
            replace(label_map, labels=volume.voxels, volume=volume)
            for label_map, volume in zip(label_maps, shared, strict=True)
        ]
    for other in label_maps[1:]:
        if other.volume is not None and reference.volume is not None:
            check_same_grid(other.volume, reference.volume, names=(other.source, reference.source))
        elif other.labels.shape != reference.labels.shape:
            raise DataError(
                f"{other.source}: shape {other.labels.shape} differs from the shape "
                f"{reference.labels.shape} of {reference.source}"
            )
    return label_maps


def _find_spacing(
    label_maps: list[NamedLabelMap], spacing_mm: ArrayLike | None
) -> NDArray[np.float64]:
    """Return the spacing of the first label map that has one, else the one that is given."""
    own = next((m.volume.spacing_mm for m in label_maps if m.volume is not None), None)
    if own is not None:
        if spacing_mm is not None:
            raise DataError(
                "spacing_mm: is for arrays; files and images carry their own spacing, so leave it "
                "out"
            )
        return own
    if spacing_mm is None:
        raise DataError(
            "spacing_mm: arrays have no spacing; pass the distance of neighbouring voxels along "
            "each axis, such as spacing_mm=(0.8, 0.8, 1.5)"
        )
    spacing = np.asarray(spacing_mm, np.float64)
    if spacing.shape != (3,) or not (np.isfinite(spacing) & (spacing > 0)).all():
        raise DataError(f"spacing_mm: expected three positive numbers, found {spacing_mm}")
    return spacing
