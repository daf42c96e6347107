"""The structures of the heart: their values, names and colours, and colour <-> label."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from heartseg.errors import ConfigError, DataError
from heartseg.palette import distinct_colors

UNKNOWN = 255
"""Entry of the lookup tables for a colour that is not in the label table; never a label."""

DISPLAY_COLORS = {
    "LV": (180, 60, 60),
    "RV": (30, 165, 255),
    "LA": (255, 225, 15),
    "RA": (0, 240, 255),
    "AO": (210, 120, 15),
    "PA": (75, 75, 255),
    "SVC": (165, 60, 135),
    "IVC": (150, 225, 150),
}
"""How the structures of HVSMR-2.0 are shown to people: no white and no grey, which are the colours
of the scan itself, and apart for the colour-blind too. Warm where blood is rich in oxygen in a
normal heart."""


@dataclass(frozen=True)
class Structure:
    """One class of the label map.

    Attributes:
        value: Label value, 0 to 254; 0 is the background.
        key: Short name for tables (``LV``).
        name: Full name (``left ventricle``).
        color: Red, green, blue, each 0 to 255, in masks on disk.
        display_color: Red, green, blue in previews, pages and overlays; None: chosen by the table,
            see ``LabelTable.display_palette``.
        source_values: Values in the label maps of a data set that numbers its structures otherwise,
            none if it lacks the structure; None: ``value``.
    """

    value: int
    key: str
    name: str
    color: tuple[int, int, int]
    # How a structure is shown or stored is no part of what it is: such tables are equal.
    display_color: tuple[int, int, int] | None = field(default=None, compare=False)
    source_values: tuple[int, ...] | None = field(default=None, compare=False)

    @property
    def stored_values(self) -> tuple[int, ...]:
        """Values in the label maps of the data set."""
        return (self.value,) if self.source_values is None else self.source_values


@dataclass(frozen=True)
class LabelTable:
    """All classes of a label map, background first.

    Attributes:
        structures: One entry per value, in ascending order from 0 without gaps.

    Raises:
        ConfigError: If values are not 0, 1, 2, ... or a key, colour or source value occurs twice.
    """

    structures: tuple[Structure, ...]

    def __post_init__(self) -> None:
        values = [structure.value for structure in self.structures]
        if values != list(range(len(values))) or not 2 <= len(values) <= UNKNOWN:
            raise ConfigError(
                "labels: expected the values 0 (background), 1, 2, ... without gaps, found "
                f"{values}"
            )
        for what in ("key", "color", "display_color"):
            given = [getattr(structure, what) for structure in self.structures]
            seen = [entry for entry in given if entry is not None]
            twice = sorted({str(entry) for entry in seen if seen.count(entry) > 1})
            if twice:
                raise ConfigError(f"labels: the {what} {', '.join(twice)} is used more than once")
        stored = [value for structure in self.structures for value in structure.stored_values]
        again = sorted({value for value in stored if stored.count(value) > 1})
        if again:
            raise ConfigError(
                f"labels: the source value {', '.join(map(str, again))} stands for more than one "
                "structure; one without source_values is stored as its value"
            )

    def __iter__(self) -> Iterator[Structure]:
        """Iterate over the structures, background first."""
        return iter(self.structures)

    def __len__(self) -> int:
        return len(self.structures)

    @property
    def num_classes(self) -> int:
        """Number of classes, background included."""
        return len(self.structures)

    @property
    def foreground(self) -> tuple[Structure, ...]:
        """All structures except the background, in the order of their values."""
        return self.structures[1:]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is computed: a process that receives the table makes its own."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @cached_property
    def palette(self) -> NDArray[np.uint8]:
        """``(num_classes, 3)`` RGB colours, row ``i`` for label ``i``."""
        return np.array([structure.color for structure in self.structures], np.uint8)

    @cached_property
    def display_palette(self) -> NDArray[np.uint8]:
        """``(num_classes, 3)`` RGB colours for people, row ``i`` for label ``i``; row 0 is black.

        A structure without a display colour of its own takes that of HVSMR-2.0 if it has one of
        its keys; else one that differs from all others, for the colour-blind too.
        """
        shown = {s.value: s.display_color for s in self.foreground if s.display_color is not None}
        for structure in self.foreground:
            named = DISPLAY_COLORS.get(structure.key)
            if structure.value not in shown and named and named not in shown.values():
                shown[structure.value] = named
        rest = [s.value for s in self.foreground if s.value not in shown]
        # The named ones first: they are the furthest apart.
        free = [color for color in DISPLAY_COLORS.values() if color not in shown.values()]
        free += distinct_colors(max(0, len(rest) - len(free)), [*shown.values(), *free])
        shown.update(zip(rest, free, strict=False))
        return np.array([(0, 0, 0), *(shown[s.value] for s in self.foreground)], np.uint8)

    @cached_property
    def color_codes(self) -> NDArray[np.uint8]:
        """``(2**24,)`` label by ``red | green << 8 | blue << 16``; else ``UNKNOWN``."""
        table = np.full(1 << 24, UNKNOWN, np.uint8)
        table[_color_code(self.palette)] = np.arange(self.num_classes, dtype=np.uint8)
        return table

    @property
    def description(self) -> list[dict[str, Any]]:
        """What the labels mean, as plain values: how they are displayed is left out."""
        return [
            {"value": s.value, "key": s.key, "name": s.name, "color": s.color}
            for s in self.structures
        ]

    @cached_property
    def source_labels(self) -> Mapping[int, int]:
        """Label by value in the label maps of the data set."""
        return {value: s.value for s in self.structures for value in s.stored_values}

    def stored_as(self, values: Mapping[str, Sequence[int]]) -> "LabelTable":
        """Return this table with the source values of a data set, by key; it lacks other keys."""
        return LabelTable(
            tuple(replace(s, source_values=tuple(values.get(s.key, ()))) for s in self.structures)
        )

    def displayed_as(self, other: "LabelTable") -> "LabelTable":
        """Return this table with the display colours that another gives the same keys."""
        chosen = {structure.key: structure.display_color for structure in other.structures}
        return LabelTable(
            tuple(
                replace(structure, display_color=chosen.get(structure.key))
                for structure in self.structures
            )
        )

    def display_color(self, structure: Structure) -> tuple[int, int, int]:
        """Return the colour in which people see a structure; see ``display_palette``."""
        red, green, blue = (int(level) for level in self.display_palette[structure.value])
        return red, green, blue

    def colorize(self, labels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Turn labels into the colours of masks on disk.

        Args:
            labels: Label map of any shape.

        Returns:
            ``labels.shape + (3,)`` RGB.

        Raises:
            DataError: If a value is not in the table.
        """
        self.check_values(labels)
        colors: NDArray[np.uint8] = self.palette.take(labels, axis=0)
        return colors

    def display(self, labels: NDArray[np.integer]) -> NDArray[np.uint8]:
        """Paint a label map for people to look at; else as ``colorize``."""
        self.check_values(labels)
        colors: NDArray[np.uint8] = self.display_palette.take(labels, axis=0)
        return colors

    def decode(self, colors: NDArray[np.uint8], *, source: str = "mask") -> NDArray[np.uint8]:
        """Turn a colour mask back into labels, exactly.

        Args:
            colors: ``(..., 3)`` RGB.
            source: How an error refers to the mask, usually its file.

        Returns:
            Labels of shape ``colors.shape[:-1]``.

        Raises:
            DataError: If a colour is not in the table, with the first such pixel and its colour.
        """
        labels = self.color_codes[_color_code(colors)]
        if labels.max(initial=0) == UNKNOWN:
            unknown = labels == UNKNOWN
            where = tuple(int(i) for i in np.argwhere(unknown)[0])
            color = tuple(int(c) for c in colors[where])
            raise DataError(
                f"{source}: the pixel at row, column {where} has the colour {color}, which is not "
                f"the colour of a label (number of such pixels: {int(unknown.sum())}). Masks must "
                "be stored without loss and resized with nearest neighbour only."
            )
        return labels

    def check_values(self, labels: NDArray[np.integer], *, source: str = "label map") -> None:
        """Raise ``DataError`` if a label map holds a value that is not in the table."""
        if labels.size == 0 or (labels.min() >= 0 and labels.max() < self.num_classes):
            return
        unknown = np.unique(labels[(labels < 0) | (labels >= self.num_classes)])[:8]
        raise DataError(
            f"{source}: expected label values 0 to {self.num_classes - 1}, found "
            f"{', '.join(f'{value:.12g}' for value in unknown)}"
        )


def _color_code(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Return ``red | green << 8 | blue << 16`` of ``(..., 3)`` colours."""
    from heartseg.opencv import cv2

    shape = colors.shape[:-1]
    if colors.size == 0:
        return np.zeros(shape, np.uint32)
    # OpenCV adds a fourth byte to each colour, and four bytes are read as one number. This takes a
    # fifth of the time of shifting and adding.
    one_line = np.ascontiguousarray(colors).reshape(1, -1, 3)
    codes: NDArray[np.uint32] = cv2.cvtColor(one_line, cv2.COLOR_RGB2RGBA).view("<u4")
    return codes.reshape(shape) & np.uint32(0xFFFFFF)


def build_label_table(structures: Sequence[Structure]) -> LabelTable:
    """Build a table from structures in any order; ``LabelTable`` says which are valid."""
    return LabelTable(tuple(sorted(structures, key=lambda structure: structure.value)))


HVSMR = LabelTable(
    (
        Structure(0, "background", "background", (0, 0, 0)),
        Structure(1, "LV", "left ventricle", (255, 0, 0)),
        Structure(2, "RV", "right ventricle", (0, 0, 255)),
        Structure(3, "LA", "left atrium", (255, 255, 0)),
        Structure(4, "RA", "right atrium", (0, 255, 255)),
        Structure(5, "AO", "aorta", (0, 255, 0)),
        Structure(6, "PA", "pulmonary artery", (255, 255, 255)),
        Structure(7, "SVC", "superior vena cava", (255, 0, 255)),
        Structure(8, "IVC", "inferior vena cava", (128, 128, 128)),
    )
)
"""The structures of HVSMR-2.0 in the colours of the published masks."""
