"""The label maps of one case that are scored, and the masks of each structure in them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

Masks = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""The mask of a structure in the prediction and in the reference, cropped to the same box."""
Box = tuple[slice, ...]
NO_MASKS: Masks = (np.zeros((0, 0, 0), np.bool_), np.zeros((0, 0, 0), np.bool_))


@dataclass(frozen=True)
class LabelPair:
    """The prediction and the reference of one case, on one grid.

    Attributes:
        case: Name of the case.
        prediction: ``(X, Y, Z)`` label map; None if there is none, which counts as empty.
        reference: ``(X, Y, Z)`` label map.
        spacing_mm: Distance of neighbouring voxels along each array axis.
        endpoints: ``(X, Y, Z)`` map whose value v marks the optional zone of structure v.
        axes_mm: ``(3, 3)``, column i the step along axis i, where the axes are not perpendicular;
            None where they are.
    """

    case: str
    prediction: NDArray[np.integer] | None
    reference: NDArray[np.integer]
    spacing_mm: ArrayLike
    endpoints: NDArray[np.integer] | None = None
    axes_mm: NDArray[np.float64] | None = None

    def in_memory_order(self) -> "LabelPair":
        """Return the pair with its axes in the order in which the arrays are stored in memory.

        NIfTI arrays have the first axis fastest. No measure depends on the order of the axes, and
        reading memory in its own order is several times faster.
        """
        reverse = self.reference.flags.f_contiguous

        def order(labels: NDArray[np.integer]) -> NDArray[np.integer]:
            return np.ascontiguousarray(labels.T if reverse else labels)

        return replace(
            self,
            prediction=None if self.prediction is None else order(self.prediction),
            reference=order(self.reference),
            endpoints=None if self.endpoints is None else order(self.endpoints),
            spacing_mm=np.flip(self.spacing_mm) if reverse else self.spacing_mm,
            axes_mm=self.axes_mm[:, ::-1] if reverse and self.axes_mm is not None else self.axes_mm,
        )


@dataclass(frozen=True)
class Grid:
    """The grid of a pair.

    Attributes:
        spacing_mm: Distance of neighbouring voxels along each array axis.
        voxel_ml: Volume of a voxel.
        diagonal_mm: Longest diagonal of the image.
        axes_mm: As in ``LabelPair``.
    """

    spacing_mm: tuple[float, ...]
    voxel_ml: float
    diagonal_mm: float
    axes_mm: NDArray[np.float64] | None = None

    @classmethod
    def of(cls, pair: LabelPair) -> "Grid":
        """Compute the grid of a pair.

        Raises:
            ValueError: If the reference is not 3D, or there are not three positive spacings.
        """
        shape, spacing = pair.reference.shape, np.asarray(pair.spacing_mm, np.float64)
        if spacing.shape != (3,) or len(shape) != 3 or not (spacing > 0).all():
            raise ValueError(
                f"expected 3D label maps and 3 positive spacings, got the shape {shape} "
                f"and the spacing {spacing.tolist()}"
            )
        axes = np.diag(spacing) if pair.axes_mm is None else pair.axes_mm
        # Of a sheared grid the four diagonals differ.
        diagonals = np.array(np.meshgrid([1], [-1, 1], [-1, 1])).reshape(3, -1)
        corners = axes @ (diagonals * np.reshape(shape, (3, 1)))
        return cls(
            tuple(spacing.tolist()),
            voxel_ml=abs(float(np.linalg.det(axes))) / 1000,
            diagonal_mm=float(np.linalg.norm(corners, axis=0).max()),
            axes_mm=pair.axes_mm,
        )


@dataclass(frozen=True)
class StructureMasks:
    """The label maps of a pair, and for each label the box that holds it in both of them."""

    prediction: NDArray[np.integer]
    reference: NDArray[np.integer]
    endpoints: NDArray[np.integer] | None
    boxes: dict[int, Box]

    @classmethod
    def of(cls, pair: LabelPair) -> "StructureMasks":
        """Find the structures of a pair.

        Raises:
            ValueError: If the arrays differ in shape.
        """
        reference = pair.reference
        prediction = np.zeros_like(reference) if pair.prediction is None else pair.prediction
        for name, other in (("prediction", prediction), ("endpoints", pair.endpoints)):
            if other is not None and other.shape != reference.shape:
                raise ValueError(
                    f"{name}: expected the shape {reference.shape} of the reference, "
                    f"got {other.shape}"
                )
        found = [_find_boxes(labels) for labels in (prediction, reference)]
        boxes = {
            value: _joint_box(*(boxes.get(value) for boxes in found))
            for value in set(found[0]) | set(found[1])
        }
        return cls(prediction, reference, pair.endpoints, boxes)

    def full(self, value: int | None) -> Masks:
        """Return the masks of a structure; those of the whole heart for None."""
        if value is None:
            box = _joint_box(*self.boxes.values())
            return self.prediction[box] > 0, self.reference[box] > 0
        if value not in self.boxes:
            return NO_MASKS
        box = self.boxes[value]
        return self.prediction[box] == value, self.reference[box] == value

    def required(self, value: int | None) -> Masks | None:
        """Return the masks of a structure without its endpoint zone.

        Args:
            value: Label of the structure; None for the whole heart, whose zone is that of all.

        Returns:
            The masks; None if no voxel of the structure is in its zone.
        """
        if self.endpoints is None or (value is not None and value not in self.boxes):
            return None
        box = _joint_box(*self.boxes.values()) if value is None else self.boxes[value]
        zone = self.endpoints[box] > 0 if value is None else self.endpoints[box] == value
        prediction, reference = self.full(value)
        if not (zone & (prediction | reference)).any():
            return None
        return prediction & ~zone, reference & ~zone


def _find_boxes(labels: NDArray[np.integer]) -> dict[int, Box]:
    found = ndimage.find_objects(labels)
    return {value: box for value, box in enumerate(found, 1) if box is not None}


def _joint_box(*boxes: Box | None) -> Box:
    """Return the smallest box around some boxes; an empty one without any."""
    given = [box for box in boxes if box is not None]
    if not given:
        return (slice(0, 0),) * 3
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides))
        for sides in zip(*given, strict=True)
    )
