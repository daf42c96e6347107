"""A volume through the network: heartseg beside one ``model.predict`` a slice, as published.

Run ``python benchmarks/inference.py [--rounds N] [--slices N] [--base-filters N] [--scan FILE]``.
The published way on some slices: a 512x512 PNG read, ``predict`` in float32, ``argmax``, a colour
mask written. Two things stand beside it: heartseg's ``predict_volume`` with the same network and
weights, from intensities to labels on the scan's own grid; and the whole command ``heartseg infer
SCAN`` with the packaged model at its own resolution, start and writing included, against the
published way on all slices of that scan (time a slice, measured on some, times their number).
Needs about 4 GB. The limit is the arithmetic of the convolutions at the rate of matrix products.
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
    """Read, predict and colour one slice after the other."""
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
    options.add_argument("--slices", type=int, default=8, help="slices a round")
    options.add_argument("--base-filters", type=int, default=16, help="fewer, only to try it out")
    options.add_argument("--scan", type=Path, help="a scan; the default is a phantom 170x150x120")
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
    print(f"  {len(files)} slices a round of a scan of {'x'.join(map(str, native))}")
    work = {
        "heartseg, published network": partial(
            predict_volume, predict, part, RECIPE, num_classes=CLASSES, batch_size=BATCH
        ),
        "model.predict a slice, as published": partial(
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
    flops = len(files) * forward_flops(own)
    dtype = "bfloat16" if "bfloat16" in precision.policy else "float32"
    limit_s = flops / matrix_rate(dtype)
    print(f"  {flops / len(files) / 1e9:.0f} GFLOP a slice; limit of a round {limit_s:.1f} s")
    for how, a, b, c in (
        ("by the clock", mine.wall_s, theirs.wall_s, packaged.wall_s),
        ("by processor time", mine.cpu_s, theirs.cpu_s, packaged.cpu_s),
    ):
        whole = b / len(files) * native[2]
        print_ratio(f"published network, ratio {how}", b / a, "at least 2.5")
        print_ratio(f"packaged model, ratio {how}", whole / c, "at least 10")
    print_ratio("heartseg to the limit, by the clock", mine.wall_s / limit_s, "1")


if __name__ == "__main__":
    main()
