"""Which value ranks the errors of a model, and what does a threshold on it find?

Real scans are segmented as they are and made worse: margins, noise, blur, other contrast, coil
shading, a quarter cut off. For each structure several values are set beside its Dice. Use weights
that were trained without these patients.

    python benchmarks/experiments/stability.py WEIGHTS.keras --output stability.jsonl

The values: ``views``, the reported stability; ``mean``, the mean probability within the structure;
``second``, the same after the second stage; ``stages``, Dice between the answers of both stages.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from field_of_view import DATA, surround
from numpy.typing import NDArray
from real_slices import interpolate, read_slices
from scipy import ndimage
from scipy.stats import spearmanr

import heartseg
from heartseg.errors import DataError
from heartseg.evaluation.overlap import dice_per_label
from heartseg.inference.plausibility import measure_confidence
from heartseg.inference.whole_heart import WholeHeartSegmenter, see_heart
from heartseg.labels import HVSMR
from heartseg.scans.resampling import resample, sampling_matrix
from heartseg.scans.volume import Volume, read_image, read_label_map

K = HVSMR.num_classes
BAD = 0.6
"""A structure with a lower Dice is to be found."""
FALSE_ALARMS = 0.15


@dataclass(frozen=True)
class Variant:
    """A scan to segment; of one made of slices, ``known`` are the ones that are scored."""

    name: str
    voxels: NDArray[np.float32]
    labels: NDArray[np.uint8]
    known: NDArray[np.intp] | None = None


def vary(voxels: NDArray[np.float32], labels: NDArray[np.uint8]) -> Iterator[Variant]:
    """Yield a scan as it is, and made worse."""
    rng = np.random.default_rng(0)
    top = float(voxels.max())
    yield Variant("tight", voxels, labels)
    for kind, fraction in (("zeros", 0.1), ("body", 0.2), ("air", 0.4)):
        widths = [round(fraction * side) for side in voxels.shape]
        padded = np.pad(labels, [(width, width) for width in widths])
        yield Variant(f"{kind} {fraction:g}", surround(voxels, widths, kind), padded)
    for deviation in (0.05, 0.125):
        noise = rng.normal(0, deviation * top, voxels.shape)
        yield Variant(f"noise {deviation:g}", np.maximum(voxels + noise, 0), labels)
    for width in (2.0, 4.0):
        yield Variant(f"blur {width:g}", ndimage.gaussian_filter(voxels, width), labels)
    for exponent in (0.6, 1.8):
        yield Variant(f"gamma {exponent:g}", (voxels / top).clip(0) ** exponent, labels)
    shading = np.linspace(0.4, 1.6, voxels.shape[0])[:, np.newaxis, np.newaxis]
    yield Variant("coil", voxels * shading, labels)
    first, second, third = (side // 4 for side in voxels.shape)
    for name, part in {
        "superior": np.s_[:, second:],
        "inferior": np.s_[:, :-second],
        "anterior": np.s_[first:],
        "right": np.s_[:, :, :-third],
    }.items():
        yield Variant(f"cut {name}", voxels[part], labels[part])


def read_variants(patient: str) -> tuple[NDArray[np.float64], list[Variant]]:
    """Return the affine of a patient's scan, or of slices set into a volume, and its variants."""
    folder = DATA / "cropped_norm"
    file = folder / f"{patient}_cropped_norm.nii.gz"
    if file.exists():
        scan = read_image(file)
        labels = read_label_map(folder / f"{patient}_cropped_seg.nii.gz", HVSMR).voxels
        return scan.affine, list(vary(np.asarray(scan.voxels, np.float32), labels))
    slices = read_slices(patient, "slices")
    voxels = interpolate(slices, slices.planes)
    top, rng = float(voxels.max()), np.random.default_rng(0)
    made = {
        "slices": voxels,
        "slices, gamma 1.6": (voxels / top) ** 1.6,
        "slices, noise 0.1": np.maximum(voxels + rng.normal(0, 0.1 * top, voxels.shape), 0),
        "slices, blur 3": ndimage.gaussian_filter(voxels, 3),
    }
    return slices.affine, [
        Variant(name, seen, slices.labels, slices.known) for name, seen in made.items()
    ]


def measure(
    segmenter: WholeHeartSegmenter, variant: Variant, affine: NDArray[np.float64]
) -> Iterator[dict[str, object]]:
    """Yield Dice and the values of each structure that is found."""
    image = Volume(np.asarray(variant.voxels, np.float32), affine, None)
    heart = see_heart(segmenter.predict, image, segmenter.model)
    found, stage = heart.probabilities, segmenter.model.second_stage
    values = {"views": heart.stability, "mean": measure_confidence(found)}
    if segmenter.correct is not None and stage is not None:
        corrected = heart.correct(segmenter.correct, stage, found)
        values["second"] = measure_confidence(corrected)
        matrices = [sampling_matrix(*sides) for sides in zip(stage.grid, found.shape, strict=False)]
        pair = (corrected.argmax(-1), resample(found, matrices).argmax(-1))
        values["stages"] = np.array(dice_per_label(*(p.astype(np.uint8) for p in pair), K))
        found = corrected
    labels = heart.label(found, segmenter.model.table)
    pair = (labels, variant.labels)
    if variant.known is not None:
        pair = (labels[..., variant.known], variant.labels[..., variant.known])
    dice = dice_per_label(*pair, K)
    for number, score in enumerate(dice):
        row = {name: float(value[number]) for name, value in values.items()}
        if np.isfinite([score, *row.values()]).all():
            yield {"structure": HVSMR.structures[number + 1].key, "dice": float(score), **row}


def summarize(rows: list[dict[str, float]]) -> None:
    """Print, for each value, its rank correlation with Dice and what a threshold on it finds."""
    dice = np.array([row["dice"] for row in rows])
    bad = dice < BAD
    print(f"{len(rows)} structures, {bad.sum()} with a Dice coefficient below {BAD}")
    for name in [name for name in rows[0] if name in ("views", "mean", "second", "stages")]:
        value = np.array([row[name] for row in rows])
        threshold = np.quantile(value[~bad], FALSE_ALARMS)
        rank = spearmanr(value, dice).statistic
        print(
            f"{name:8s} Spearman {rank:.2f}; below {threshold:.3f}: "
            f"{(value[bad] < threshold).mean():.0%} of them, and "
            f"{(value[~bad] < threshold).mean():.0%} of the others"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="a .keras file, a run's folder, or packaged")
    parser.add_argument("--cases", nargs="+", default=["pat4", "pat58", "pat0", "pat10", "pat11"])
    parser.add_argument("--output", type=Path, default=Path("stability.jsonl"))
    options = parser.parse_args()
    segmenter = heartseg.load_segmenter(options.weights)
    rows = []
    with options.output.open("w") as output:
        for case in options.cases:
            affine, variants = read_variants(case)
            for variant in variants:
                try:
                    found = list(measure(segmenter, variant, affine))
                except DataError as error:
                    print(f"{case} {variant.name}: {error}", flush=True)
                    continue
                for row in found:
                    rows.append({"case": case, "variant": variant.name, **row})
                    print(json.dumps(rows[-1]), file=output, flush=True)
                mean = np.mean([row["dice"] for row in found])
                print(f"{case} {variant.name}: macro average {mean:.3f}", flush=True)
    summarize(rows)


if __name__ == "__main__":
    main()
