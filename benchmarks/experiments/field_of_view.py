"""Does the answer depend on what surrounds the heart?

Margins of zeros, of the noise of air and of mirrored body are added around real scans. What lies
within the original scan is scored: a vessel that goes on in the mirrored body counts neither way.
Use weights that were trained without these patients; otherwise only the differences mean anything.

    python benchmarks/experiments/field_of_view.py WEIGHTS.keras --cases pat4 pat58

A line per margin: Dice of each structure, their macro average, the whole heart.
"""

import argparse
import os
from pathlib import Path

import numpy as np

import heartseg
from heartseg.evaluation.overlap import dice_per_label
from heartseg.labels import HVSMR
from heartseg.scans.intensity import rough_level
from heartseg.scans.volume import read_image, read_label_map

DATA = Path(os.environ.get("HEARTSEG_DATA", Path(__file__).parents[3] / "shared/data/hvsmr2"))
FRACTIONS = (0.05, 0.1, 0.2, 0.4)
KINDS = ("zeros", "air", "body")
NOISE = 0.03
"""Standard deviation of the noise in air, as a fraction of blood."""


def surround(voxels: np.ndarray, widths: list[int], kind: str, *, seed: int = 0) -> np.ndarray:
    """Add a margin of so many voxels on both sides of each axis."""
    around = [(width, width) for width in widths]
    if kind == "body":
        return np.pad(voxels, around, mode="symmetric")
    padded = np.pad(voxels, around)
    if kind == "zeros":
        return padded
    outside = np.pad(np.zeros(voxels.shape, bool), around, constant_values=True)
    rng = np.random.default_rng(seed)
    # The magnitude of complex noise has a Rayleigh distribution.
    noise = np.hypot(*rng.normal(0, NOISE * rough_level(voxels), (2, *padded.shape)))
    return np.where(outside, noise, padded).astype(np.float32)


def score(found: np.ndarray, reference: np.ndarray) -> list[float]:
    """Return Dice of each structure (NaN where both lack it), their mean, and the whole heart."""
    dice = dice_per_label(found, reference, HVSMR.num_classes)
    whole = dice_per_label((found > 0).astype(np.uint8), (reference > 0).astype(np.uint8), 2)
    return [*dice, float(np.nanmean(dice)), float(whole[0])]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("weights", help="a .keras file, a run's folder, or packaged")
    parser.add_argument("--cases", nargs="+", default=["pat4", "pat58"])
    parser.add_argument("--fractions", type=float, nargs="+", default=FRACTIONS)
    options = parser.parse_args()
    segmenter = heartseg.load_segmenter(options.weights)
    print(f"{'':22s}", *(f"{s.key:>5s}" for s in HVSMR.structures if s.value), "macro whole")
    for case in options.cases:
        folder = DATA / "cropped_norm"
        scan = read_image(folder / f"{case}_cropped_norm.nii.gz")
        voxels = np.asarray(scan.voxels, np.float32)
        reference = read_label_map(folder / f"{case}_cropped_seg.nii.gz", HVSMR).voxels
        margins = [("tight", 0.0)]
        margins += [(kind, fraction) for kind in KINDS for fraction in options.fractions]
        macros = []
        for kind, fraction in margins:
            widths = [round(fraction * side) for side in voxels.shape]
            # A margin moves the first voxel; the place in space does not matter here.
            seen = surround(voxels, widths, kind)
            labels = heartseg.segment((seen, scan.affine), model=segmenter).labels
            inside = tuple(slice(w, w + n) for w, n in zip(widths, voxels.shape, strict=True))
            scores = score(labels[inside], reference)
            macros.append(scores[-2])
            shown = " ".join("    -" if np.isnan(value) else f"{value:.3f}" for value in scores)
            print(f"{case:6s} {kind:6s} {fraction:6.0%}  {shown}", flush=True)
        print(f"{case}: worst {min(macros):.3f}, best {max(macros):.3f}", flush=True)


if __name__ == "__main__":
    main()
