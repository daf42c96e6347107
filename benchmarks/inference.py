"""Inference on a volume: heartseg compared with one ``model.predict`` per slice, as published.

Run ``python benchmarks/inference.py [--rounds N] [--slices N] [--base-filters N] [--scan FILE]``.
The published way, on some slices: read a 512x512 PNG, ``predict`` in float32, ``argmax``, write a
colour mask. It is compared with heartseg's ``predict_volume`` with the same network and weights,
from intensities to labels on the scan's own grid; and with the whole command ``heartseg infer
SCAN`` with the packaged model at its own resolution, including start and writing. The latter is
compared with the published way on all slices of that scan (measured time per slice times their
number). Needs about 4 GB. The limit is the operations of the convolutions at the speed of matrix
products.
"""

import tempfile
from functools import partial
from pathlib import Path

import cv2
import keras
import nibabel
import numpy as np
from _network import CLASSES, SIZE, build_published, forward_flops, matrix_rate
from _turns import (
    begin,
    cost_of,
    cost_of_command,
    heartseg,
    in_turn,
    parser,
    print_ratio,
    write_phantoms,
)

from heartseg.inference.network import compile_predict
from heartseg.inference.slice_prediction import predict_volume
from heartseg.labels import HVSMR
from heartseg.scans.volume import Volume, read_image
from heartseg.slices.recipe import PreparedVolume, SliceRecipe
from heartseg.slices.store import write_gray
from heartseg.training.precision import choose_precision

RECIPE = SliceRecipe()
BATCH = 8


def predict_as_published(model: keras.Model, files: list[Path], output: Path) -> None:
    """Read, predict and colour the slices one by one."""
    for file in files:
        image = cv2.resize(cv2.imread(str(file)), (SIZE, SIZE)) / 255.0
        probabilities = model.predict(image[np.newaxis].astype(np.float32), verbose=0)
        labels = probabilities[0].argmax(axis=-1)
        mask = np.zeros((SIZE, SIZE, 3), np.uint8)
        for structure in HVSMR.foreground:
            mask[labels == structure.value] = structure.color[::-1]
        cv2.imwrite(str(output / file.name), mask)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--slices", type=int, default=8, help="slices per round")
    options.add_argument("--base-filters", type=int, default=16, help="fewer only for a quick try")
    options.add_argument(
        "--scan", type=Path, help="a scan; the default is a phantom of 170x150x120"
    )
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.scan is None:
            write_phantoms(folder / "scans", 1, shape=(170, 150, 120), kinds=1)
        scan = given.scan or folder / "scans" / "pat0_cropped_norm.nii.gz"
        measure(scan, folder, given.slices, given.rounds, given.base_filters)


def middle_slices(scan: Path, count: int) -> Volume:
    """Read the middle slices of a scan along its array axis 2."""
    image = read_image(scan)
    start = (image.voxels.shape[2] - count) // 2
    return Volume(image.voxels[:, :, start : start + count], image.affine, image.header)


def measure(scan: Path, folder: Path, count: int, rounds: int, base_filters: int) -> None:
    part = middle_slices(scan, count)
    prepared = PreparedVolume(part, RECIPE)
    files = [folder / f"{index}.png" for index in range(len(prepared))]
    for index, file in enumerate(files):
        write_gray(file, prepared[index])
    precision = choose_precision("auto")
    published = build_published("float32", base_filters=base_filters)
    own = build_published(precision.policy, base_filters=base_filters)
    own.set_weights(published.get_weights())
    predict = compile_predict(own, RECIPE, batch_size=BATCH)
    output = folder / "published"
    output.mkdir()
    native = nibabel.load(scan).shape
    begin(f"inference: {own.count_params() / 1e6:.1f} million parameters, {precision.reason}")
    print(f"  {len(files)} slices per round of a scan of {'x'.join(map(str, native))}")
    work = {
        "heartseg, published network": partial(
            predict_volume, predict, part, RECIPE, num_classes=CLASSES, batch_size=BATCH
        ),
        "model.predict per slice, as published": partial(
            predict_as_published, published, files, output
        ),
    }
    for warm_up in work.values():
        warm_up()
    command = heartseg("infer", scan, "--output", folder / "own", "--overwrite", "--quiet")
    mine, theirs, packaged = in_turn(
        {
            **{name: partial(cost_of, todo) for name, todo in work.items()},
            "heartseg infer SCAN, the whole command": partial(cost_of_command, command),
        },
        rounds=rounds,
    ).values()
    for which, a, b, c in (
        ("wall time", mine.wall_s, theirs.wall_s, packaged.wall_s),
        ("CPU time", mine.cpu_s, theirs.cpu_s, packaged.cpu_s),
    ):
        whole = b / len(files) * native[2]
        print_ratio(f"published network, ratio of {which}", b / a, "at least 2.5")
        print_ratio(f"packaged model, ratio of {which}", whole / c, "at least 10")
    print_limit(own, precision.policy, len(files), mine.wall_s)


def print_limit(model: keras.Model, policy: str, num_slices: int, wall_s: float) -> None:
    """Print the wall time of heartseg relative to its limit."""
    flops = forward_flops(model)
    limit_s = num_slices * flops / matrix_rate("bfloat16" if "bfloat16" in policy else "float32")
    print(f"  {flops / 1e9:.0f} GFLOP per slice; limit per round {limit_s:.1f} s")
    print_ratio("heartseg to the limit, wall time", wall_s / limit_s, "1")


if __name__ == "__main__":
    main()
