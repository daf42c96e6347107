"""The record of a prepared folder, ``prepare.json``: how its slices were made, and from what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from heartseg.errors import DataError
from heartseg.files import read_json, write_json

PREPARE_STATE = "prepare.json"


@dataclass(frozen=True)
class PreparedState:
    """How the slices of a folder were made, and from what.

    Attributes:
        recipe: The slice recipe, without the channels of a network's input.
        keep_empty: Whether slices without a structure were prepared too.
        labels: The structures, as plain values.
        complete: Whether every case was prepared.
        sources: Size and time of the source files of each case, in one text.
        label_hashes: Fingerprint of each case's label map.
        image_hashes: Fingerprint of each case's scan.
        grids: Shape and affine of each case.
    """

    recipe: Mapping[str, Any]
    keep_empty: bool
    labels: list[dict[str, Any]]
    complete: bool = False
    sources: Mapping[str, str] = field(default_factory=dict)
    label_hashes: Mapping[str, str] = field(default_factory=dict)
    image_hashes: Mapping[str, str] = field(default_factory=dict)
    grids: Mapping[str, Any] = field(default_factory=dict)

    def is_made_like(self, other: "PreparedState") -> bool:
        """Whether both say that slices are made in the same way."""
        return (self.recipe, self.keep_empty, self.labels) == (
            other.recipe,
            other.keep_empty,
            other.labels,
        )


def read_prepared_state(master_dir: Path) -> PreparedState | None:
    """Read the record of a prepared folder; None if it has none.

    Raises:
        DataError: If the record is damaged.
    """
    file = master_dir / PREPARE_STATE
    if not file.is_file():
        return None
    content = read_json(file)
    try:
        return PreparedState(
            recipe=dict(content.get("recipe", {})),
            keep_empty=bool(content.get("keep_empty", False)),
            labels=list(content.get("labels", ())),
            complete=bool(content.get("complete", False)),
            sources=_texts(content.get("cases", {})),
            label_hashes=dict(content.get("label_sha256", {})),
            image_hashes=dict(content.get("image_sha256", {})),
            grids=dict(content.get("grids", {})),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{file}: is damaged ({error}); pass --overwrite to prepare the cases again"
        ) from error


def _texts(content: Mapping[str, str]) -> dict[str, str]:
    return {str(name): str(text) for name, text in content.items()}


def write_prepared_state(master_dir: Path, state: PreparedState) -> None:
    """Write the record of a prepared folder."""
    write_json(
        master_dir / PREPARE_STATE,
        {
            "recipe": dict(state.recipe),
            "keep_empty": state.keep_empty,
            "labels": state.labels,
            "complete": state.complete,
            "cases": dict(state.sources),
            "label_sha256": dict(state.label_hashes),
            "image_sha256": dict(state.image_hashes),
            "grids": dict(state.grids),
        },
    )
