"""All measures on real label maps and perturbed copies, compared with surface-distance.

Run ``python benchmarks/evaluation.py [--cases N] [--data DIR]``. Each label map is scored against
a copy of itself that is shifted by one voxel, dilated in one structure and lacks another one. Both
sides measure the same structures (and the whole heart) on the same label maps in the same run;
heartseg with two processes, its default on two cores, and with one. Needs ``pip install
surface-distance``.
"""

import argparse
import os
import resource
import statistics
import sys
import time
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from scipy import ndimage

from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.scores import FULL, WHOLE_HEART
from heartseg.evaluation.scoring import score_case
from heartseg.files import image_stem, natural_key
from heartseg.labels import HVSMR
from heartseg.parallel import map_cases

DATA = os.environ.get("HEARTSEG_DATA", Path(__file__).parents[2] / "shared/data/hvsmr2")
SUFFIX = "_cropped_seg"
TOLERANCE_MM = 2.0


def read_pair(file: Path) -> LabelPair:
    image = nibabel.load(file)
    reference = np.asarray(image.dataobj).astype(np.uint8)
    spacing_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    case = image_stem(file).removesuffix(SUFFIX)
    return LabelPair(case, perturb(reference, seed=sum(map(ord, case))), reference, spacing_mm)


def perturb(labels: np.ndarray, *, seed: int) -> np.ndarray:
    """Shift by one voxel along a random axis, dilate one structure, drop another."""
    generator = np.random.default_rng(seed)
    axis = int(generator.integers(3))
    changed = np.zeros_like(labels)
    target, source = [slice(None)] * 3, [slice(None)] * 3
    target[axis], source[axis] = slice(1, None), slice(None, -1)
    changed[tuple(target)] = labels[tuple(source)]
    grown, dropped = generator.permutation(np.arange(1, 9))[:2]
    changed[ndimage.binary_dilation(changed == grown, iterations=2) & (changed == 0)] = grown
    changed[changed == dropped] = 0
    return changed


def score_file(file: Path) -> dict[str, tuple[float, ...]]:
    """Score one label map with heartseg; return HD95, ASSD, NSD and Dice by structure."""
    scores = score_case(read_pair(file), HVSMR, tolerance_mm=TOLERANCE_MM)
    return {
        row.structure: (row.hd95_mm, row.assd_mm, row.nsd, row.dice)
        for row in scores.rows
        if row.scope == FULL and not row.flag
    }


def score_file_by_surface_distance(file: Path) -> dict[str, tuple[float, ...]]:
    """Score one label map with surface-distance."""
    import surface_distance

    pair = read_pair(file)
    scores = {}
    for key, value in [*((s.key, s.value) for s in HVSMR.foreground), (WHOLE_HEART, None)]:
        reference = pair.reference > 0 if value is None else pair.reference == value
        prediction = pair.prediction > 0 if value is None else pair.prediction == value
        if not (reference.any() and prediction.any()):
            continue
        found = surface_distance.compute_surface_distances(reference, prediction, pair.spacing_mm)
        areas = found["surfel_areas_gt"], found["surfel_areas_pred"]
        weighted = (
            found["distances_gt_to_pred"] @ areas[0] + found["distances_pred_to_gt"] @ areas[1]
        )
        scores[key] = (
            surface_distance.compute_robust_hausdorff(found, 95),
            weighted / (areas[0].sum() + areas[1].sum()),
            surface_distance.compute_surface_dice_at_tolerance(found, TOLERANCE_MM),
            surface_distance.compute_dice_coefficient(reference, prediction),
        )
    return scores


def restore_names_for_surface_distance() -> None:
    """Define the names that surface-distance 0.1 needs and that NumPy 2 and SciPy removed."""
    warnings.simplefilter("ignore", DeprecationWarning)
    setattr(np, "Inf", np.inf)  # noqa: B010, since NumPy 2 the name itself is banned
    for name in ("filters", "morphology"):
        module = types.SimpleNamespace(
            correlate=ndimage.correlate, distance_transform_edt=ndimage.distance_transform_edt
        )
        setattr(ndimage, name, module)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=None, help="only the first N label maps")
    parser.add_argument("--data", type=Path, default=Path(DATA))
    options = parser.parse_args()
    if not options.data.is_dir():
        print(f"no data at {options.data}; name the folder of the data with --data")
        return
    files = [*options.data.glob(f"labels/*{SUFFIX}.nii.gz")]
    files += options.data.glob(f"cropped_norm/*{SUFFIX}.nii.gz")
    files = sorted(files, key=lambda file: natural_key(file.name))[: options.cases]

    # Reading and perturbing is not compared: its time is measured and subtracted from both sides.
    _, reading = run_each(lambda file: read_pair(file).case, files)
    (ours_two, wall_two) = timed(
        lambda: [outcome.result for outcome in map_cases(score_file, files, jobs=2)]
    )
    (own, own_seconds), wall_one = timed(lambda: run_each(score_file, files))
    print(f"{len(files)} label maps, {os.cpu_count()} cores")
    print(f"reading and perturbing, included in all figures below: {sum(reading):.1f} s")
    print(f"heartseg, 2 processes: {wall_two:.1f} s")
    print(f"heartseg, 1 process:   {wall_one:.1f} s ({sum(own_seconds):.1f} s of CPU)")
    print(f"peak memory, largest process: {peak_megabytes():.0f} MB")
    if largest_differences(own, ours_two).max() > 1e-9:
        sys.exit("the results of one and of two processes differ")
    compare(files, own, own_seconds=own_seconds, reading=reading, wall_two=wall_two)


def compare(
    files: list[Path],
    own: list[Any],
    *,
    own_seconds: list[float],
    reading: list[float],
    wall_two: float,
) -> None:
    """Score the same label maps with surface-distance, and print ratios and differences.

    Args:
        files: The label maps.
        own: Scores of heartseg.
        own_seconds: CPU seconds of heartseg per label map.
        reading: CPU seconds of reading and perturbing per label map.
        wall_two: Wall time of heartseg with two processes.
    """
    try:
        import surface_distance  # noqa: F401
    except ImportError:
        print("surface-distance is not installed, so there is no comparison")
        return
    restore_names_for_surface_distance()
    (theirs, their_seconds), their_wall = timed(
        lambda: run_each(score_file_by_surface_distance, files)
    )
    print(f"surface-distance:      {their_wall:.1f} s ({sum(their_seconds):.1f} s of CPU)")
    ratios = [
        (b - read) / (a - read)
        for a, b, read in zip(own_seconds, their_seconds, reading, strict=True)
    ]
    print(f"CPU time per label map, without reading: median ratio {statistics.median(ratios):.1f}")
    print(
        f"wall time of all label maps, heartseg with 2 processes: ratio {their_wall / wall_two:.1f}"
    )
    worst = largest_differences(own, theirs)
    print(
        "largest difference: HD95 {:.1e} mm, ASSD {:.1e} mm, NSD {:.1e}, Dice {:.1e}".format(*worst)
    )
    if not all(a.keys() == b.keys() for a, b in zip(own, theirs, strict=True)):
        sys.exit("the two sides scored different structures")


def largest_differences(first: list[Any], second: list[Any]) -> np.ndarray:
    """Return the largest differences of HD95, ASSD, NSD and Dice."""
    differences = [
        np.abs(np.subtract(a[key], b[key])) for a, b in zip(first, second, strict=True) for key in a
    ]
    return np.max(differences, axis=0)


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def run_each(work: Callable[[Path], Any], files: list[Path]) -> tuple[list[Any], list[float]]:
    """Work on one file after the other; return the results and the CPU seconds of each.

    Wall time of one process means little on a machine with other work.
    """
    results, seconds = [], []
    for file in files:
        start = time.process_time()
        results.append(work(file))
        seconds.append(time.process_time() - start)
    return results, seconds


def peak_megabytes() -> float:
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(resource.getrusage(which).ru_maxrss for which in processes) / 1024


if __name__ == "__main__":
    main()
