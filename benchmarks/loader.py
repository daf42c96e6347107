"""heartseg's batches compared with a Keras PyDataset with OpenCV and with ``cv2.imdecode`` alone.

Run ``python benchmarks/loader.py [--rounds N]``. Slices of 512x512, batches of 2, labels as
indices. The PyDataset reads image and mask of each sample with ``cv2.imread`` and compares the mask
with each colour, as the published system does; once into one-hot arrays, as published, and once
into indices. The limit is ``cv2.imdecode`` of the same bytes in as many threads as there are cores.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import keras
import numpy as np
from _turns import (
    begin,
    cost_of,
    in_turn,
    parser,
    prepare_phantoms,
    print_ratio,
)

from heartseg.labels import HVSMR
from heartseg.slices.dataset import build_training_dataset
from heartseg.slices.pairs import SlicePair, find_pairs

SIZE, BATCH, SLICES = 512, 2, 160
PASSES = 5
"""Passes of the fast sides over all slices, so that batches that are ready before a round hardly
count."""


class SampleBySample(keras.utils.PyDataset):
    """Reads samples one by one in Python, as a Keras generator is usually written."""

    def __init__(self, pairs: list[SlicePair], *, one_hot: bool) -> None:
        super().__init__()
        self._pairs, self._one_hot = pairs, one_hot

    def __len__(self) -> int:
        return len(self._pairs) // BATCH

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = self._pairs[index * BATCH : (index + 1) * BATCH]
        images, labels = zip(*map(self._read, chosen), strict=True)
        return np.stack(images), np.stack(labels)

    def _read(self, pair: SlicePair) -> tuple[np.ndarray, np.ndarray]:
        image = cv2.imread(str(pair.image_file)).astype(np.float32) / 255
        mask = cv2.cvtColor(cv2.imread(str(pair.mask_file)), cv2.COLOR_BGR2RGB)
        hits = [(mask == s.color).all(axis=-1) for s in HVSMR.structures]
        one_hot = np.stack(hits, axis=-1).astype(np.float32)
        return image, one_hot if self._one_hot else one_hot.argmax(axis=-1).astype(np.uint8)


def batches_of(dataset: SampleBySample) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Read the batches ahead in one thread per core, as Keras's ``fit`` does."""
    cores = os.cpu_count() or 1
    with ThreadPoolExecutor(cores) as threads:
        for start in range(0, len(dataset), cores):
            yield from threads.map(
                dataset.__getitem__, range(start, min(start + cores, len(dataset)))
            )


def consume(batches: Callable[[], Iterator[object]], count: int) -> None:
    seen = sum(1 for _ in islice(batches(), count))
    if seen != count:
        raise SystemExit(f"expected {count} batches, got {seen}")


def decode_all(contents: list[tuple[np.ndarray, np.ndarray]]) -> None:
    """Decode all ``PASSES`` times."""

    def decode(pair: tuple[np.ndarray, np.ndarray]) -> int:
        image = cv2.imdecode(pair[0], cv2.IMREAD_GRAYSCALE)
        return image.size + cv2.imdecode(pair[1], cv2.IMREAD_COLOR).size

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        sum(threads.map(decode, contents * PASSES))


def repack(contents: list[tuple[np.ndarray, np.ndarray]]) -> list[tuple[np.ndarray, np.ndarray]]:
    def pack(content: np.ndarray) -> np.ndarray:
        return cv2.imencode(".png", cv2.imdecode(content, cv2.IMREAD_UNCHANGED))[1]

    return [(pack(image), pack(mask)) for image, mask in contents]


def main() -> None:
    rounds = parser(__doc__).parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        master = prepare_phantoms(folder, 2, shape=(160, 150, 120))
        measure(find_pairs(master), rounds)


def measure(pairs: list[SlicePair], rounds: int) -> None:
    pairs = pairs[: min(len(pairs), SLICES) // BATCH * BATCH]
    count = len(pairs) // BATCH
    begin(f"loader: {len(pairs)} slices of {SIZE}x{SIZE}, batches of {BATCH}")
    contents = [
        (np.fromfile(pair.image_file, np.uint8), np.fromfile(pair.mask_file, np.uint8))
        for pair in pairs
    ]
    own = build_training_dataset(
        pairs,
        table=HVSMR,
        image_size=(SIZE, SIZE),
        image_channels=3,
        batch_size=BATCH,
        seed=1,
    )
    endless = iter(own.as_numpy_iterator())
    consume(lambda: endless, count)
    sides = {
        f"heartseg, {PASSES} passes": partial(consume, lambda: endless, PASSES * count),
        "PyDataset, one-hot as published": partial(
            consume, lambda: batches_of(SampleBySample(pairs, one_hot=True)), count
        ),
        "PyDataset, indices": partial(
            consume, lambda: batches_of(SampleBySample(pairs, one_hot=False)), count
        ),
        f"limit: cv2.imdecode, {PASSES} passes": partial(decode_all, contents),
        f"the same for PNGs by OpenCV, {PASSES} passes": partial(decode_all, repack(contents)),
    }
    found = in_turn({name: partial(cost_of, work) for name, work in sides.items()}, rounds=rounds)
    mine, published, indices, limit, default = found.values()
    wall_s, cpu_s = mine.wall_s / PASSES, mine.cpu_s / PASSES
    print(f"  {len(pairs) / wall_s:.0f} slices/s")
    print_ratio("ratio to one-hot as published", published.wall_s / wall_s, "at least 5")
    print_ratio("ratio to indices", indices.wall_s / wall_s, "at least 5")
    print_ratio("ratio to indices, CPU time", indices.cpu_s / cpu_s, "at least 5")
    print_ratio("decoding alone to heartseg, wall time", limit.wall_s / mine.wall_s, "at least 0.8")
    print_ratio("decoding alone to heartseg, CPU time", limit.cpu_s / mine.cpu_s, "at least 0.8")
    print_ratio(
        "decoding of PNGs by OpenCV to heartseg, CPU time",
        default.cpu_s / mine.cpu_s,
        "none",
    )


if __name__ == "__main__":
    main()
