"""What a page of a scan shows, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from heartseg.labels import LabelTable, Structure

FLAGS = {
    "absent": "not found",
    "truncated": "reaches the border of the scan: part of it may lie outside",
    "doubtful": "the model is likely to be wrong: check it",
}
"""What the flags of ``volumes.csv`` mean, in words."""


@dataclass(frozen=True)
class Column:
    """A column of the table of measurements.

    Attributes:
        title: Its heading, with the unit.
        digits: Digits after the decimal point.
    """

    title: str
    digits: int = 1


@dataclass(frozen=True)
class Row:
    """The measurements of one structure.

    Attributes:
        value: Its label value.
        values: One entry per column; None where there is none.
        flags: Keys of ``FLAGS``, or words.
    """

    value: int
    values: Sequence[float | None]
    flags: Sequence[str] = ()


@dataclass(frozen=True)
class Surface:
    """The surface of one structure.

    Attributes:
        value: Its label value.
        vertices_mm: ``(V, 3)`` points in the patient: right, anterior, superior.
        triangles: ``(T, 3)`` indices of vertices, counter-clockwise as seen from outside.
    """

    value: int
    vertices_mm: NDArray[np.floating]
    triangles: NDArray[np.integer]


@dataclass(frozen=True)
class ScanPage:
    """One scan with its label map and what was measured.

    All texts may hold any characters; the page shows them as they are.

    Attributes:
        title: Heading, usually the name of the scan's file without its folder.
        image: ``(X, Y, Z)`` finite intensities.
        labels: ``(X, Y, Z)`` label map on the image's grid, values of ``table``.
        affine: ``(4, 4)`` from voxel indices to millimetres: right, anterior, superior.
        table: The labels and their display colours.
        structures: The structures that are listed; None: all of the table.
        window: Intensities that are black and white when the page opens.
        columns: The columns of the table of measurements.
        rows: Its rows.
        facts: Further measurements by name, such as ratios.
        notices: What makes the result doubtful, in words.
        provenance: How the answer was made, by name: model, version, hash of the input, time.
        surfaces: Surfaces that are at hand; None: made for the page.

    Raises:
        ValueError: If shapes differ or a row has another number of values than there are columns.
    """

    title: str
    image: NDArray[np.floating]
    labels: NDArray[np.uint8]
    affine: NDArray[np.float64]
    table: LabelTable
    window: tuple[float, float]
    columns: Sequence[Column] = ()
    rows: Sequence[Row] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    notices: Sequence[str] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)
    surfaces: Sequence[Surface] | None = None
    structures: Sequence[Structure] | None = None

    def __post_init__(self) -> None:
        if self.image.shape != self.labels.shape or self.image.ndim != 3:
            raise ValueError(
                "image, labels: expected one 3D shape, got "
                f"{self.image.shape} and {self.labels.shape}"
            )
        for row in self.rows:
            if len(row.values) != len(self.columns):
                raise ValueError(
                    f"rows: expected {len(self.columns)} values each, got {len(row.values)}"
                )
