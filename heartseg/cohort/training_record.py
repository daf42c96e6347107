"""What a model learned from, by name and by content, so that its scores can be audited anywhere.

The record travels in the model file. It holds hashes, never images or names of people: the case
names are those of the files that the user gave.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from heartseg.cohort.leakage import SLICE_SPLIT, PartContents, find_leaks

PARTS = {"train": "training", "valid": "validation"}
"""The parts that a model has seen, and what to call them."""


@dataclass(frozen=True)
class TrainingRecord:
    """The cases that a model learned from, and those that chose its best epoch.

    Attributes:
        train: What it was fitted to.
        valid: What stopped the training and chose the checkpoint.
        by_slice: Whether slices, not patients, were divided into parts.
        origin: What the weights started from, such as ``packaged``; empty for new weights.
        ancestor: The record of those weights; None for new weights, or where it is not known.
    """

    train: PartContents
    valid: PartContents = field(default_factory=lambda: PartContents(()))
    by_slice: bool = False
    origin: str = ""
    ancestor: "TrainingRecord | None" = None

    def lineage(self) -> "Iterator[tuple[str, TrainingRecord]]":
        """Yield this record and those that it inherits from, each with the name of its weights."""
        yield "", self
        if self.ancestor is not None:
            for name, record in self.ancestor.lineage():
                yield name or self.origin, record

    @property
    def has_unknown_ancestor(self) -> bool:
        """Whether the weights started from a model that does not say what it learned from."""
        return any(record.origin and record.ancestor is None for _, record in self.lineage())


def join_records(records: Sequence[TrainingRecord]) -> TrainingRecord:
    """Return what an ensemble learned from: all that any of its models did.

    Args:
        records: One per model, at least one; all started from the same weights.
    """
    train, valid = (
        PartContents(
            tuple(dict.fromkeys(case for part in parts for case in part.cases)),
            {case: digest for part in parts for case, digest in part.case_hashes.items()},
            {name: digest for part in parts for name, digest in part.slice_hashes.items()},
            {case: digest for part in parts for case, digest in part.image_hashes.items()},
        )
        for parts in ([r.train for r in records], [r.valid for r in records])
    )
    by_slice = any(record.by_slice for record in records)
    return replace(records[0], train=train, valid=valid, by_slice=by_slice)


def audit_scores(record: TrainingRecord, test: PartContents) -> list[str]:
    """Look for scored cases that a model, or one that it inherits from, has seen.

    Args:
        record: What the model learned from.
        test: What is scored.

    Returns:
        One warning per finding; empty if nothing was seen as far as names and hashes show.
    """
    warnings = [SLICE_SPLIT] if record.by_slice else []
    for origin, learned in record.lineage():
        owner = f"weights that the training started from ({origin})" if origin else "model"
        for part, title in PARTS.items():
            known: PartContents = getattr(learned, part)
            warnings += find_leaks(
                known,
                test,
                part=f"{title} cases of the {owner}",
                same_data_set=not origin,
            )
    if record.has_unknown_ancestor:
        warnings.append(
            f"The weights started from {_unknown_origin(record)}, which does not record what it "
            "learned from: whether it saw these cases is not known."
        )
    return warnings


def find_learned(
    record: TrainingRecord, *, image_hash: str | None = None, label_hash: str | None = None
) -> str | None:
    """Say in what way a model has seen a scan or its label map; None if it has not.

    Args:
        record: What the model learned from.
        image_hash: Hash of the scan, as ``hash_image`` gives it.
        label_hash: Hash of its label map, as ``hash_labels`` gives it.
    """
    for _, learned in record.lineage():
        for part, title in PARTS.items():
            known: PartContents = getattr(learned, part)
            if image_hash is not None and image_hash in known.image_hashes.values():
                return f"its scan was a {title} case"
            if label_hash is not None and label_hash in known.case_hashes.values():
                return f"its label map was a {title} case"
    return None


def read_training_record(metadata: Mapping[str, Any]) -> TrainingRecord | None:
    """Return what a model file says of its training; None if it says nothing.

    Files of whole hearts of version 0.1 name their cases, without hashes.

    Raises:
        ValueError: If the record is damaged.
    """
    if "learned_from" in metadata:
        return record_from_json(metadata["learned_from"])
    train = metadata.get("train", {})
    if "label_maps" not in train:
        return None
    learned = (*train.get("scans", ()), *train["label_maps"])
    return TrainingRecord(PartContents(learned), PartContents(tuple(train.get("valid_scans", ()))))


def record_to_json(record: TrainingRecord) -> dict[str, Any]:
    """Return plain values for a model file; ``record_from_json`` reads them back."""
    return {
        **{part: _part_to_json(getattr(record, part)) for part in PARTS},
        "by": "slice" if record.by_slice else "patient",
        "origin": record.origin,
        "ancestor": None if record.ancestor is None else record_to_json(record.ancestor),
    }


def record_from_json(content: Mapping[str, Any]) -> TrainingRecord:
    """Read ``record_to_json`` back.

    Raises:
        ValueError: If the content is something else.
    """
    ancestor = content.get("ancestor")
    try:
        return TrainingRecord(
            train=_part_from_json(content["train"]),
            valid=_part_from_json(content["valid"]),
            by_slice=content["by"] == "slice",
            origin=str(content["origin"]),
            ancestor=None if ancestor is None else record_from_json(ancestor),
        )
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(f"not a record of a training ({error})") from error


def _unknown_origin(record: TrainingRecord) -> str:
    return next(r.origin for _, r in record.lineage() if r.origin and r.ancestor is None)


def _part_to_json(contents: PartContents) -> dict[str, Any]:
    return {
        "cases": list(contents.cases),
        "label_maps": dict(contents.case_hashes),
        "scans": dict(contents.image_hashes),
        "slices": dict(contents.slice_hashes),
    }


def _part_from_json(content: Mapping[str, Any]) -> PartContents:
    return PartContents(
        tuple(map(str, content["cases"])),
        case_hashes=_strings(content["label_maps"]),
        slice_hashes=_strings(content["slices"]),
        image_hashes=_strings(content["scans"]),
    )


def _strings(content: Mapping[str, Any]) -> dict[str, str]:
    return {str(name): str(digest) for name, digest in content.items()}
