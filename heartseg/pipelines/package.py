"""The model of a run to the model that comes with the package.

``python -m heartseg.pipelines.package RUN_DIR --scans DIR`` writes ``heartseg/packaged`` and
``docs/model-card.md`` from ``RUN_DIR/best.keras``, a model of ``model.kind: whole_heart``. What the
card tells of network, data, seed and time comes from the run; scores are measured on those scans of
DIR that it did not see, with the weights as they were packaged. ``--notes FILE``, a JSON object,
adds what a run cannot know: ``recipe`` and ``development``, lists of sentences.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heartseg.cohort.cases import find_cases
from heartseg.config.loading import load_config
from heartseg.config.schema import DataConfig
from heartseg.errors import HeartsegError, ModelError
from heartseg.evaluation.overlap import dice_per_label
from heartseg.files import read_json, replacing
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.labels import HVSMR
from heartseg.modelfile.checkpoint import load_model, read_metadata
from heartseg.modelfile.packaged import (
    PACKAGED_DIR,
    PackagedModel,
    load_packaged,
    render_card,
    write_packaged,
)
from heartseg.scans.volume import read_image, read_label_map

logger = logging.getLogger(__name__)

NAME = "heartseg whole heart"
BEST = "best.keras"
HISTORY = "history.json"
CONFIG = "config.yaml"


def run_package(
    run_dir: Path,
    *,
    notes_file: Path | None = None,
    scans_dir: Path | None = None,
    output_dir: Path = PACKAGED_DIR,
    card_file: Path | None = None,
) -> PackagedModel:
    """Package the best model of a run, measure it on scans, and write the model card.

    Args:
        run_dir: A finished run of ``model.kind: whole_heart``.
        notes_file: Sentences for the card; see the module.
        scans_dir: Scans with true label maps, named as HVSMR-2.0 names them; those that the run
            saw in training are not scored. None: no scores.
        output_dir: Where weights and description go.
        card_file: Where the model card goes too; None: nowhere.

    Raises:
        DataError: If a file cannot be read or written.
        ModelError: If the run is of another kind, or its model is too large for a wheel.
    """
    model = load_model(run_dir / BEST)
    facts = _gather_facts(run_dir, {} if notes_file is None else read_json(notes_file))
    packaged = write_packaged(model, facts, output_dir)
    if scans_dir is not None:
        facts["scores"] = _measure(scans_dir, output_dir, packaged)
        packaged = write_packaged(model, facts, output_dir)
    card = render_card(output_dir)
    if card_file is not None:
        with replacing(card_file) as temporary:
            temporary.write_text(card, encoding="utf-8")
    return packaged


def _gather_facts(run_dir: Path, notes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card tells, as the run's own files tell it."""
    metadata = read_metadata(run_dir / BEST)
    if metadata.get("kind") != "whole_heart":
        raise ModelError(f"{run_dir / BEST}: expected a model of model.kind: whole_heart")
    config = load_config(run_dir / CONFIG).train
    epochs = read_json(run_dir / HISTORY)["epochs"]
    learned = metadata["train"]
    minutes = sum(epoch["seconds"] for epoch in epochs) / 60
    return {
        "name": NAME,
        "network": {**metadata["network"], "num_classes": len(metadata["labels"])},
        "structures": [entry["key"] for entry in metadata["labels"] if entry["value"]],
        "code_version": metadata["heartseg"],
        "scores": [],
        "training": {
            "recipe": notes.get("recipe", []),
            "development": notes.get("development", []),
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
    segmenter = WholeHeartSegmenter(
        compile_volume_predict(load_packaged(folder)), packaged.grid, HVSMR
    )
    # A label map is seen too where scenes were drawn around it.
    seen = set(packaged.facts["training"]["label_maps"])
    scores = []
    data = DataConfig()
    cases, problems = find_cases(
        scans_dir, image_suffix=data.image_suffix, label_suffix=data.label_suffix
    )
    for problem in problems:
        logger.warning("%s", problem)
    for case in cases:
        if case.name in seen:
            logger.warning("%s was seen in training and is not scored", case.name)
            continue
        reference = read_label_map(case.label_file, HVSMR).voxels
        labels = segmenter.segment(read_image(case.image_file)).labels
        dice = dice_per_label(labels, reference, HVSMR.num_classes)
        whole = dice_per_label((labels > 0).astype(np.uint8), (reference > 0).astype(np.uint8), 2)
        scores.append(
            {
                "case": case.name,
                "dice": [None if np.isnan(value) else round(float(value), 4) for value in dice],
                "macro": round(float(np.nanmean(dice)), 4),
                "whole": round(float(whole[0]), 4),
            }
        )
        logger.info("%s: macro Dice %.3f", case.name, scores[-1]["macro"])
    return scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line of a maintainer; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m heartseg.pipelines.package")
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR")
    parser.add_argument("--notes", type=Path, metavar="FILE", help="sentences for the card")
    parser.add_argument("--scans", type=Path, metavar="DIR", help="scans to be scored")
    parser.add_argument("--output", type=Path, default=PACKAGED_DIR, metavar="DIR")
    parser.add_argument("--card", type=Path, default=Path("docs/model-card.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        packaged = run_package(
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
