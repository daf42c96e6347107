"""Make the best model of a run the model that is shipped with heartseg.

``python tools/package_weights.py RUN_DIR --scans DIR`` writes the weights of
``RUN_DIR/best.keras``, a model of ``model.kind: whole_heart``, to ``heartseg/packaged``, and the
model card to ``docs/model-card.md``. Network, data, seed and time on the card come from the run.
The scores are measured on those scans of DIR that the run did not use, with the weights as they are
shipped. ``--notes FILE``, a JSON object, adds what a run cannot know: ``recipe``, ``development``
and ``expected``, lists of sentences, and ``real_slices``, the patients of whom it saw slices only.

Without RUN_DIR, only the card is written again, from what is shipped already.
"""

import argparse
import hashlib
import io
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from heartseg.cohort.cases import Place, find_cases
from heartseg.cohort.training_record import TrainingRecord, find_learned, record_to_json
from heartseg.config.data_sections import DataConfig
from heartseg.config.loading import load_config
from heartseg.errors import HeartsegError, ModelError
from heartseg.evaluation.overlap import dice_per_label
from heartseg.files import read_json, replacing, write_json
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model, read_metadata
from heartseg.modelfile.description import WHOLE_HEART
from heartseg.modelfile.layers import Architecture
from heartseg.modelfile.packaged import (
    DESCRIPTION,
    LAYERS,
    PACKAGED_DIR,
    SECOND_LAYERS,
    SECOND_WEIGHTS,
    WEIGHTS,
    PackagedModel,
    load_packaged,
    render_card,
)
from heartseg.runs.layout import RunLayout
from heartseg.runs.lineage import read_record
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.volume import read_image, read_label_map

logger = logging.getLogger(__name__)

NAME = "heartseg whole heart"
CARD_FILE = Path(__file__).parents[1] / "docs" / "model-card.md"
NOTES = ("recipe", "development", "expected", "real_slices")
LARGEST_BYTES = 25_000_000
"""What the weights and layers may take of the wheel."""


def package_run(
    run_dir: Path,
    *,
    notes_file: Path | None = None,
    scans_dir: Path | None = None,
    output_dir: Path = PACKAGED_DIR,
    card_file: Path | None = None,
) -> PackagedModel:
    """Write weights, description and card of the best model of a run, and measure it on scans.

    Args:
        run_dir: A finished run of ``model.kind: whole_heart``.
        notes_file: Sentences for the card; see the module.
        scans_dir: Scans with true label maps, named as HVSMR-2.0 names them; those that the run
            used for training are not scored. None: no scores.
        output_dir: Folder of the weights and the description.
        card_file: File of the model card; None: no card.

    Raises:
        DataError: If a file cannot be read or written.
        ModelError: If the run is of another kind, or its model is too large for a wheel.
    """
    layout = RunLayout(run_dir)
    model = load_model(layout.best)
    facts = _gather_facts(layout, {} if notes_file is None else read_json(notes_file))
    second = load_model(layout.best, second_stage=True) if "second_stage" in facts else None
    packaged = write_packaged(model, facts, output_dir, second_stage=second)
    if scans_dir is not None:
        facts["scores"] = _measure(scans_dir, output_dir, packaged)
        packaged = write_packaged(model, facts, output_dir, second_stage=second)
    if card_file is not None:
        write_card(card_file, output_dir)
    return packaged


def write_packaged(
    model: keras.Model,
    facts: Mapping[str, Any],
    folder: Path = PACKAGED_DIR,
    *,
    second_stage: keras.Model | None = None,
) -> PackagedModel:
    """Write a model in half precision, with its description and checksums.

    Args:
        model: A model of ``build_volume_unet``.
        facts: Name, networks, training and so on; checksums and sizes are added.
        folder: Folder of the weights and the description.
        second_stage: A model of ``build_correction_unet``, which ``facts["second_stage"]``
            describes; None: the model has one stage.

    Raises:
        DataError: If a file cannot be written.
        ModelError: If a weight is too large for half precision, or the files for a wheel.
    """
    stored, added = _pack(model, (WEIGHTS, LAYERS))
    known = {key: value for key, value in facts.items() if key != "second_stage"}
    if second_stage is not None:
        more, described = _pack(second_stage, (SECOND_WEIGHTS, SECOND_LAYERS))
        stored |= more
        added["second_stage"] = {**facts["second_stage"], **described}
    size = sum(map(len, stored.values()))
    if size > LARGEST_BYTES:
        raise ModelError(f"the weights have {size:,} bytes; expected at most {LARGEST_BYTES:,}")
    packaged = PackagedModel.from_facts(
        {**known, **added, "precision": "float16 on disk, float32 in use"}, source=DESCRIPTION
    )
    for name, data in stored.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(data)
    write_json(folder / DESCRIPTION, packaged.facts)
    if second_stage is None:
        for name in (SECOND_WEIGHTS, SECOND_LAYERS):
            (folder / name).unlink(missing_ok=True)
    return packaged


def _pack(model: keras.Model, names: tuple[str, str]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return the files of a network by name, weights and layers, and what is said of them.

    Raises:
        ModelError: If a weight is too large for half precision.
    """
    arrays = {variable.path: np.asarray(variable, np.float32) for variable in model.variables}
    largest = max(float(np.abs(array).max()) for array in arrays.values())
    if not largest <= float(np.finfo(np.float16).max):
        raise ModelError(f"a weight of {largest:g} is too large for half precision")
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, **{key: a.astype(np.float16) for key, a in arrays.items()}
    )
    content = buffer.getvalue()
    layers = json.dumps(Architecture.from_config(model.get_config()).to_dict()).encode()
    described = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "layers_sha256": hashlib.sha256(layers).hexdigest(),
        "bytes": len(content),
        "parameters": model.count_params(),
    }
    return dict(zip(names, (content, layers), strict=True)), described


def write_card(card_file: Path, folder: Path = PACKAGED_DIR) -> None:
    """Write the model card of what a folder holds.

    Raises:
        DataError: If the file cannot be written.
        ModelError: If the description is damaged or lacks an entry.
    """
    card = render_card(folder)
    with replacing(card_file) as temporary:
        temporary.write_text(card, encoding="utf-8")


def _gather_facts(layout: RunLayout, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts on the card, as the files of the run give them."""
    metadata = read_metadata(layout.best)
    if metadata.get("kind") != WHOLE_HEART:
        raise ModelError(f"{layout.best}: expected a model of model.kind: whole_heart")
    record = read_record(layout.best)
    if record is None:
        raise ModelError(f"{layout.best}: expected the record of what the model learned from")
    config = load_config(layout.config).train
    epochs = read_json(layout.history)["epochs"]
    learned = metadata["train"]
    minutes = sum(epoch["seconds"] for epoch in epochs) / 60
    second = metadata.get("second_stage")
    return {
        **({} if second is None else {"second_stage": second}),
        "name": NAME,
        "network": {**metadata["network"], "num_classes": len(metadata["labels"])},
        "structures": [entry["key"] for entry in metadata["labels"] if entry["value"]],
        "code_version": metadata["heartseg"],
        "scores": [],
        "learned_from": record_to_json(record),
        "training": {
            **{key: notes.get(key, []) for key in NOTES},
            "label_maps": [*learned["scans"], *learned["label_maps"]],
            "real_images": learned["scans"],
            "held_out": learned["valid_scans"],
            "seed": learned["seed"],
            "steps": len(epochs) * (config.steps_per_epoch or 0),
            "epochs": len(epochs),
            "minutes": round(minutes, 1),
            "learning_rate": config.learning_rate,
            "scan_share": learned["synthesis"]["scan_share"],
        },
    }


def _measure(scans_dir: Path, folder: Path, packaged: PackagedModel) -> list[dict[str, Any]]:
    """Return the scores of every scan, with the weights as they are read back."""
    predict, described = compile_volume_predict(load_packaged(folder)), packaged.description
    correct = None
    if described.second_stage is not None:
        correct = compile_volume_predict(load_packaged(folder, second_stage=True))
    segmenter = WholeHeartSegmenter(predict, described, correct=correct)
    learned = {name for _, record in packaged.record.lineage() for name in _cases_of(record)}
    scores = []
    data = DataConfig()
    cases, problems = find_cases(
        Place(scans_dir, data.image_suffix), Place(scans_dir, data.label_suffix)
    )
    for problem in problems:
        logger.warning("%s", problem)
    for case in cases:
        image, reference = read_image(case.image_file), read_label_map(case.label_file, HVSMR)
        copied = find_learned(
            packaged.record,
            image_hash=fingerprint_scan(image),
            label_hash=fingerprint_labels(reference),
        )
        if case.name in learned or copied is not None:
            logger.warning("%s was used for training and is not scored", case.name)
            continue
        labels, true = segmenter.segment(image).labels, reference.voxels
        dice = dice_per_label(labels, true, HVSMR.num_classes)
        whole = dice_per_label((labels > 0).astype(np.uint8), (true > 0).astype(np.uint8), 2)
        scores.append(
            {
                "case": case.name,
                "dice": [None if np.isnan(value) else round(float(value), 4) for value in dice],
                "macro": round(float(np.nanmean(dice)), 4),
                "whole": round(float(whole[0]), 4),
            }
        )
        logger.info("%s: macro average of Dice %.3f", case.name, scores[-1]["macro"])
    return scores


def _cases_of(record: TrainingRecord) -> tuple[str, ...]:
    return (*record.train.cases, *record.valid.cases)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit code."""
    parser = argparse.ArgumentParser(
        prog="python tools/package_weights.py",
        description="Make the best model of a run the model that is shipped with heartseg.",
    )
    parser.add_argument(
        "run_dir",
        type=Path,
        nargs="?",
        metavar="RUN_DIR",
        help="a finished run of model.kind: whole_heart; without it only the card is written again",
    )
    parser.add_argument("--notes", type=Path, metavar="FILE", help="sentences for the card (JSON)")
    parser.add_argument("--scans", type=Path, metavar="DIR", help="scans to score the model on")
    parser.add_argument(
        "--output",
        type=Path,
        default=PACKAGED_DIR,
        metavar="DIR",
        help="folder of the weights and their description",
    )
    parser.add_argument(
        "--card", type=Path, default=CARD_FILE, metavar="FILE", help="file of the model card"
    )
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if options.run_dir is None:
            write_card(options.card, options.output)
            logger.info("model card in %s", options.card)
            return 0
        packaged = package_run(
            options.run_dir,
            notes_file=options.notes,
            scans_dir=options.scans,
            output_dir=options.output,
            card_file=options.card,
        )
    except HeartsegError as error:
        logger.error("Error: %s", error)  # noqa: TRY400 - the user's mistake has no traceback
        return 1
    logger.info("%s: %s bytes in %s", packaged.name, packaged.facts["bytes"], options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
