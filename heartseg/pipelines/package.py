"""Trained weights to the model that comes with the package.

``python -m heartseg.pipelines.package WEIGHTS.weights.h5 FACTS.json --scans DIR`` writes
``heartseg/packaged`` and ``docs/model-card.md``. FACTS is a JSON object with ``name``, ``network``
(``grid``, ``filters``) and ``training`` (``recipe``, a list of sentences; ``label_maps``,
``real_images``, ``held_out``, ``seed``, ``duration``; and, if a model of the same recipe that saw
less was measured, ``development``, a list of sentences). Scores are never taken from it: they are
measured on the scans of DIR, with the weights as they were packaged.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from heartseg import __version__
from heartseg.config.schema import DataConfig
from heartseg.data.cases import find_cases
from heartseg.data.volume import read_image, read_label_map
from heartseg.errors import HeartsegError, ModelError
from heartseg.evaluation.overlap import dice_per_label
from heartseg.files import read_json, replacing
from heartseg.inference.network import compile_volume_predict
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.labels import HVSMR
from heartseg.model.packaged import (
    PACKAGED_DIR,
    PackagedModel,
    load_packaged,
    render_card,
    write_packaged,
)
from heartseg.model.volume_unet import build_volume_unet

logger = logging.getLogger(__name__)

SECTIONS = {
    "network": ("grid", "filters"),
    "training": ("recipe", "label_maps", "real_images", "held_out", "seed", "duration"),
}


def run_package(
    weights_file: Path,
    facts_file: Path,
    *,
    scans_dir: Path | None = None,
    output_dir: Path = PACKAGED_DIR,
    card_file: Path | None = None,
) -> PackagedModel:
    """Package trained weights, measure them on scans, and write the model card.

    Args:
        weights_file: Weights of ``build_volume_unet`` as Keras saves them (``.weights.h5``).
        facts_file: What is told of network and training; see the module.
        scans_dir: Scans with true label maps, named as HVSMR-2.0 names them, none of them seen in
            training; None: no scores.
        output_dir: Where weights and description go.
        card_file: Where the model card goes too; None: nowhere.

    Raises:
        DataError: If a file cannot be read or written.
        ModelError: If the weights do not fit, or the facts lack an entry.
    """
    facts = _read_facts(facts_file)
    network = {"num_classes": HVSMR.num_classes, **facts["network"]}
    facts |= {"network": network, "code_version": __version__, "scores": []}
    facts["structures"] = [structure.key for structure in HVSMR.foreground]
    try:
        model = build_volume_unet(
            grid=tuple(network["grid"]),
            filters=tuple(network["filters"]),
            num_classes=network["num_classes"],
        )
        model.load_weights(weights_file)
    except (OSError, TypeError, ValueError) as error:
        raise ModelError(f"{weights_file}: not weights of this network ({error})") from error
    packaged = write_packaged(model, facts, output_dir)
    if scans_dir is not None:
        facts["scores"] = _measure(scans_dir, output_dir, packaged)
        packaged = write_packaged(model, facts, output_dir)
    card = render_card(output_dir)
    if card_file is not None:
        with replacing(card_file) as temporary:
            temporary.write_text(card, encoding="utf-8")
    return packaged


def _read_facts(file: Path) -> dict[str, Any]:
    facts = read_json(file)
    missing = [key for key in ("name", *SECTIONS) if key not in facts]
    for section, keys in SECTIONS.items():
        held = facts.get(section, {})
        if not isinstance(held, Mapping):
            raise ModelError(f"{file}: {section}: expected a JSON object")
        missing += [f"{section}.{key}" for key in keys if key not in held]
    if missing:
        raise ModelError(f"{file}: lacks {', '.join(missing)}")
    return facts


def _measure(scans_dir: Path, folder: Path, packaged: PackagedModel) -> list[dict[str, Any]]:
    """Return the scores of every scan, with the weights as they are read back."""
    segmenter = WholeHeartSegmenter(
        compile_volume_predict(load_packaged(folder)), packaged.grid, HVSMR
    )
    seen = set(packaged.facts["training"]["real_images"])
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
    parser.add_argument("weights", type=Path, metavar="WEIGHTS.weights.h5")
    parser.add_argument("facts", type=Path, metavar="FACTS.json")
    parser.add_argument("--scans", type=Path, metavar="DIR", help="scans to be scored")
    parser.add_argument("--output", type=Path, default=PACKAGED_DIR, metavar="DIR")
    parser.add_argument("--card", type=Path, default=Path("docs/model-card.md"), metavar="FILE")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        packaged = run_package(
            options.weights,
            options.facts,
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
