"""A training step of the published network by heartseg, compared with Keras's plain ``fit``.

Run ``python benchmarks/training_step.py [--rounds N] [--base-filters N]``. 124.6 million parameters
(16 base filters), batch 2, 512x512. The plain way: float32, ``fit`` on in-memory images and one-hot
masks, categorical cross-entropy and the published metric. heartseg: the precision that the machine
computes in, slices streamed from PNG, labels as indices. Three steps per side and round, within a
``fit`` of four: the time that ``fit`` takes to begin and to end is not counted. The limit is the
operations of the convolutions (three times those of a forward pass) at the measured speed of matrix
products; the ratio of the limits of both number formats is the gain that bfloat16 alone can give.
Needs about 6 GB.
"""

import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import keras
import numpy as np
from _network import CLASSES, SIZE, build_published, forward_flops, matrix_rate
from _turns import (
    Cost,
    begin,
    in_turn,
    parser,
    prepare_phantoms,
    print_ratio,
)

from heartseg.config.schema import Config
from heartseg.labels import HVSMR
from heartseg.slices.dataset import build_training_dataset
from heartseg.slices.pairs import SlicePair, find_pairs, read_pairs
from heartseg.training.loop import compile_model
from heartseg.training.losses import build_loss
from heartseg.training.metrics import build_metrics
from heartseg.training.precision import choose_precision

BATCH, STEPS = 2, 3


def cost_of_steps(fit: Callable[[keras.callbacks.Callback], object]) -> Cost:
    """Measure a ``fit`` from the end of its first step to the end of its last."""
    ends: list[Cost] = []
    recorder = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: ends.append(  # noqa: ARG005
            Cost(time.perf_counter(), time.process_time())
        )
    )
    fit(recorder)
    return Cost(ends[-1].wall_s - ends[0].wall_s, ends[-1].cpu_s - ends[0].cpu_s)


def published_dice(
    reference: keras.KerasTensor, prediction: keras.KerasTensor
) -> keras.KerasTensor:
    """Compute Dice over all classes and pixels of a batch at once, as published."""
    shared = keras.ops.sum(reference * prediction)
    return (2 * shared + 1) / (keras.ops.sum(reference) + keras.ops.sum(prediction) + 1)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--base-filters", type=int, default=16, help="fewer only for a quick try")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        master = prepare_phantoms(folder, 1, shape=(120, 100, 80))
        pairs = find_pairs(master)[20 : 20 + (1 + STEPS) * BATCH]
        measure(pairs, given.rounds, given.base_filters)


def measure(pairs: list[SlicePair], rounds: int, base_filters: int) -> None:
    train = Config().train
    shape = {"learning_rate": train.learning_rate, "clipvalue": train.clipvalue}
    plain = build_published("float32", base_filters=base_filters)
    compile_model(
        plain, loss=keras.losses.CategoricalCrossentropy(), metrics=[published_dice], **shape
    )
    images, labels = read_pairs(pairs, HVSMR, (SIZE, SIZE))
    inputs = np.repeat(images[:, 0, ..., np.newaxis] / np.float32(255), 3, axis=-1)
    one_hot = np.eye(CLASSES, dtype=np.float32)[labels]

    precision = choose_precision("auto")
    own = build_published(precision.policy, base_filters=base_filters)
    loss, metrics = build_loss(train.loss, CLASSES), build_metrics(train.metrics, HVSMR)
    compile_model(own, loss=loss, metrics=metrics, **shape)
    batches = build_training_dataset(
        pairs, table=HVSMR, image_size=(SIZE, SIZE), image_channels=3, batch_size=BATCH, seed=1
    )
    begin(f"training step: {own.count_params() / 1e6:.1f} million parameters, {precision.reason}")

    def fit_plain(recorder: keras.callbacks.Callback) -> None:
        plain.fit(inputs, one_hot, batch_size=BATCH, callbacks=[recorder], verbose=0)

    def fit_own(recorder: keras.callbacks.Callback) -> None:
        own.fit(batches, steps_per_epoch=1 + STEPS, callbacks=[recorder], shuffle=False, verbose=0)

    sides = {"heartseg": fit_own, "Keras fit, float32, one-hot": fit_plain}
    for fit in sides.values():
        cost_of_steps(fit)
    found = in_turn(
        {name: partial(cost_of_steps, fit) for name, fit in sides.items()}, rounds=rounds
    )
    mine, theirs = found.values()
    sample_ms = mine.wall_s / (STEPS * BATCH) * 1000
    print(f"  heartseg: {sample_ms:.0f} ms per sample (published, on a GPU: 170)")
    print_ratio("ratio of wall time", theirs.wall_s / mine.wall_s, "at least 2.4")
    print_ratio("ratio of CPU time", theirs.cpu_s / mine.cpu_s, "at least 2.4")
    print_limits(own, mine.wall_s, theirs.wall_s)


def print_limits(model: keras.Model, own_s: float, plain_s: float) -> None:
    """Print both wall times relative to the limits of their number formats."""
    flops = 3 * STEPS * BATCH * forward_flops(model)
    limits_s = {dtype: flops / matrix_rate(dtype) for dtype in ("bfloat16", "float32")}
    limits = ", ".join(f"{dtype} {limit:.1f} s" for dtype, limit in limits_s.items())
    print(f"  {flops / 1e9:.0f} GFLOP per round, at the speed of matrix products: {limits}")
    limit_s = limits_s[model.layers[1].compute_dtype]
    print_ratio("limit of float32 to the limit of this format", limits_s["float32"] / limit_s, "-")
    print_ratio(f"heartseg to its limit ({limit_s:.1f} s)", own_s / limit_s, "1")
    print_ratio("Keras to its limit", plain_s / limits_s["float32"], "-")


if __name__ == "__main__":
    main()
