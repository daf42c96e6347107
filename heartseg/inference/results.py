"""What is known of a scan or picture once it is segmented: all that a result file is made from."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.training_record import find_learned
from heartseg.exchange.structure_files import choose_structures, keep_structures
from heartseg.inference.plausibility import is_doubtful, looks_like_labels, mean_stability
from heartseg.inference.segmenter import Segmenter
from heartseg.inference.suggestion import NUM_SLICES, SuggestedSlice, suggest_slices
from heartseg.inference.trimming import trim_margin
from heartseg.inference.volumetry import Doubt, VolumeRow, build_rows
from heartseg.labels import LabelTable, Structure
from heartseg.measurements.structures import (
    StructureMeasurement,
    VolumeRatio,
    compute_ratios,
    measure_structures,
)
from heartseg.modelfile.description import ModelDescription
from heartseg.progress import Report, silent
from heartseg.scans.dicom_series import Series
from heartseg.scans.fingerprint import fingerprint_scan
from heartseg.scans.intensity import find_window
from heartseg.scans.provenance import Provenance, abbreviate
from heartseg.scans.volume import Volume
from heartseg.slices.recipe import SliceRecipe

if TYPE_CHECKING:
    from heartseg.measurements.shapes import StructureShape
    from heartseg.surfaces.label_surfaces import FittedHeart

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """What is wanted of a segmented scan.

    Attributes:
        structures: Keys of the structures that every result is about; None: all.
        body_m2: Body surface area of the patient, to which volumes are indexed; None: unknown.
        shapes: Whether surface areas and diameters are measured, which takes a second or more.
    """

    structures: tuple[str, ...] | None = None
    body_m2: float | None = None
    shapes: bool = False

    def list_structures(self, table: LabelTable) -> tuple[Structure, ...]:
        """Return the wanted structures of a model.

        Raises:
            DataError: If one is not in its table.
        """
        return choose_structures(table, self.structures)

    def keep(self, labels: NDArray[np.uint8], table: LabelTable) -> NDArray[np.uint8]:
        """Return a label map in which what is not wanted is background."""
        if self.structures is None:
            return labels
        return keep_structures(labels, self.list_structures(table))


@dataclass(frozen=True, eq=False)
class SegmentedScan:
    """A scan and its segmentation.

    Attributes:
        case: Name of the case; the names of its files begin with it.
        scan: The scan.
        labels: ``(X, Y, Z)`` uint8 labels on the scan's grid; see ``restrict``.
        stability: ``(structures,)`` stability between views, NaN where absent; None if the model
            views a scan once.
        notices: What makes the segmentation doubtful, in words.
        model: What segmented it.
        learned: In what way the model has seen this scan in training; None if it has not.
        series: The DICOM series that the scan was read from; None in other formats.
        absent: Keys of the structures that were declared absent.
        confidence: As in ``Prediction``; None after a person drew parts of it.
        doubt: As in ``Prediction``.
        drawn: Indices of the slices along each axis that a person drew.
        num_suggested: How many slices are suggested.
        wanted: What is wanted of it.
    """

    case: str
    scan: Volume
    labels: NDArray[np.uint8]
    stability: NDArray[np.float64] | None
    notices: tuple[str, ...]
    model: ModelDescription
    learned: str | None = None
    series: Series | None = None
    absent: tuple[str, ...] = ()
    confidence: NDArray[np.float64] | None = None
    doubt: tuple[NDArray[np.float64], ...] | None = None
    drawn: tuple[tuple[int, ...], ...] = ((), (), ())
    num_suggested: int = NUM_SLICES
    wanted: Wanted = Wanted()

    @property
    def suggested(self) -> list[SuggestedSlice]:
        """The slices to draw next; none where the doubt is not known."""
        if self.doubt is None:
            return []
        return suggest_slices(
            self.doubt, self.scan.affine, count=self.num_suggested, drawn=self.drawn
        )

    @property
    def provenance(self) -> Provenance:
        """What the label map says of the model."""
        known = [] if self.model.record is None else self.model.record.lineage()
        hashes = (digest for _, r in known for digest in r.train.case_hashes.values())
        return Provenance(self.model.identity, frozenset(map(abbreviate, hashes)))

    @property
    def table(self) -> LabelTable:
        """The structures."""
        return self.model.table

    @property
    def recipe(self) -> SliceRecipe:
        """Plane and window in which slices of the scan are shown."""
        return self.model.recipe

    @cached_property
    def window_limits(self) -> tuple[float, float]:
        """Intensities that pictures show as black and as white."""
        return find_window(self.scan.voxels, self.recipe.window, self.recipe.window_range)

    @property
    def structures(self) -> tuple[Structure, ...]:
        """The structures that are wanted."""
        return self.wanted.list_structures(self.table)

    @cached_property
    def scan_hash(self) -> str:
        """Fingerprint of the scan."""
        return fingerprint_scan(self.scan)

    @cached_property
    def measurements(self) -> tuple[StructureMeasurement, ...]:
        """What is counted of the structures."""
        return measure_structures(
            self.labels,
            self.scan.affine,
            self.structures,
            self.scan.voxels,
            body_m2=self.wanted.body_m2,
            shown=trim_margin(self.scan.voxels),
        )

    @property
    def ratios(self) -> tuple[VolumeRatio, ...]:
        """Right ventricle over left, right atrium over left."""
        return compute_ratios(self.measurements)

    @cached_property
    def heart(self) -> "FittedHeart | None":
        """The smooth surfaces of the structures, made when first used.

        None if there is no structure, or the labels are scattered as in noise, which is logged.
        """
        # scikit-image, which most calls do not need.
        from heartseg.surfaces.label_surfaces import describe_scatter, fit_heart

        scatter = describe_scatter(self.labels)
        if scatter is not None:
            logger.warning("%s: no surface, area or diameter: %s", self.case, scatter)
            return None
        return fit_heart(self.labels, self.scan.affine, self.table)

    @cached_property
    def shapes(self) -> "Mapping[str, StructureShape]":
        """What is measured on the surfaces of the structures; nothing unless it is wanted."""
        if not self.wanted.shapes:
            return {}
        from heartseg.measurements.shapes import measure_shapes

        return measure_shapes(self.heart)

    @cached_property
    def rows(self) -> tuple[VolumeRow, ...]:
        """Its rows of the table of volumes."""
        doubtful = None
        if self.stability is not None:
            doubtful = is_doubtful(self.stability, self.model.calibration, self.confidence)
        learned = self.learned is not None
        doubt = Doubt(self.stability, self.confidence, doubtful, learned=learned)
        return tuple(
            build_rows(self.case, self.measurements, self.table, shapes=self.shapes, doubt=doubt)
        )


@dataclass(frozen=True, eq=False)
class SegmentedPicture:
    """A picture of one slice and its segmentation.

    Attributes:
        image: ``(H, W)`` grey levels.
        labels: ``(H, W)`` uint8 labels.
        table: The structures.
    """

    image: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    table: LabelTable


def segment_scan(
    case: str,
    scan: Volume,
    segmenter: Segmenter,
    *,
    absent: Sequence[str] = (),
    label_hash: str | None = None,
    series: Series | None = None,
    report: Report = silent,
) -> SegmentedScan:
    """Segment a scan, and notice the structures that are doubtful.

    Args:
        case: Name of the case.
        scan: The scan.
        segmenter: The model.
        absent: Keys of structures that the patient does not have; they are never predicted.
        label_hash: Fingerprint of the scan's own label map, where there is one, to find out
            whether the model learned from it.
        series: The DICOM series that the scan was read from, if it was.
        report: As for ``Segmenter.segment``.

    Raises:
        DataError: If the scan does not suit the model.
        ModelError: If the model cannot be used.
    """
    found = segmenter.segment(scan, absent=absent, report=report)
    model = segmenter.model
    learned = find_seen(model, scan, label_hash=label_hash)
    result = SegmentedScan(
        case,
        scan,
        found.labels,
        found.stability,
        found.notices,
        model,
        learned,
        series,
        absent=tuple(absent),
        confidence=found.confidence,
        doubt=found.doubt,
    )
    return replace(result, notices=(*result.notices, *_find_more_notices(result)))


def find_seen(
    model: ModelDescription, scan: Volume, *, label_hash: str | None = None
) -> str | None:
    """Say in what way a model has seen a scan in training; None if it has not.

    Args:
        model: The model.
        scan: The scan.
        label_hash: As for ``segment_scan``.
    """
    if model.record is None:
        return None
    return find_learned(model.record, image_hash=fingerprint_scan(scan), label_hash=label_hash)


def describe_seen(seen: str | None) -> list[str]:
    """Return the notice of what ``find_seen`` found; empty if that is nothing."""
    if seen is None:
        return []
    return [
        f"the model has seen this patient: {seen}. A score of this result says nothing about new "
        "patients"
    ]


def restrict(result: SegmentedScan, wanted: Wanted) -> SegmentedScan:
    """Return a segmented scan with what is wanted of it; other structures become background.

    Raises:
        DataError: If a wanted structure is not one of the model.
    """
    return replace(result, labels=wanted.keep(result.labels, result.table), wanted=wanted)


def _find_more_notices(result: SegmentedScan) -> Iterator[str]:
    if looks_like_labels(result.scan.voxels):
        yield (
            "the scan holds a few whole numbers only, as a label map does; is it the right file?"
        )
    yield from describe_seen(result.learned)
    calibration = result.model.calibration
    if result.stability is None or calibration is None:
        return
    if mean_stability(result.stability) < calibration.sure:
        # The whole scan is doubtful and has a notice that says so.
        return
    doubtful = [row.structure for row in result.rows if "doubtful" in row.flags]
    if doubtful:
        reason = f"its views of this scan agree poorly (stability below {calibration.doubtful:g})"
        if result.confidence is not None and calibration.confident is not None:
            reason = f"it is not sure (confidence below {calibration.confident:g})"
        yield f"the model may be wrong on {', '.join(doubtful)}: {reason}. Check the result"
