"""What the file of a model says that adapted to one scan: it has learned from this scan."""

from pathlib import Path
from typing import Any

from heartseg import __version__
from heartseg.cohort.leakage import PartContents
from heartseg.cohort.training_record import TrainingRecord, record_to_json
from heartseg.config.schema import PACKAGED
from heartseg.modelfile.checkpoint import read_metadata
from heartseg.modelfile.description import SECOND_STAGE, WHOLE_HEART, ModelDescription
from heartseg.modelfile.packaged import STAGE_KEYS, describe_packaged
from heartseg.runs.lineage import find_origin
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.volume import Volume


def describe_adapted(
    model: ModelDescription, init: str, *, case: str, scan: Volume, drawn: Volume
) -> dict[str, Any]:
    """Return the metadata of a model of whole hearts that adapted to a scan.

    Args:
        model: What it was before.
        init: As in ``find_origin``: where its weights come from.
        case: Name of the case.
        scan: The scan.
        drawn: What was drawn of it.

    Raises:
        ModelError: If the file of the first model is missing or damaged.
    """
    known = describe_packaged().metadata if init == PACKAGED else read_metadata(Path(init))
    second = known.get(SECOND_STAGE) if model.second_stage is not None else None
    origin, ancestor = find_origin(init)
    learned = PartContents(
        (case,),
        case_hashes={case: fingerprint_labels(drawn)},
        image_hashes={case: fingerprint_scan(scan)},
    )
    return {
        "heartseg": __version__,
        "kind": WHOLE_HEART,
        "labels": [{**entry, "color": list(entry["color"])} for entry in model.table.description],
        "network": {"grid": list(model.grid)},
        "learned_from": record_to_json(TrainingRecord(learned, origin=origin, ancestor=ancestor)),
        **({} if second is None else {SECOND_STAGE: {k: second[k] for k in STAGE_KEYS}}),
    }
