"""Peak memory of `heartseg train` on 500 and on 5000 slices of 512x512.

Run ``python benchmarks/training_memory.py [--slices FEW MANY]``. One epoch over all slices,
with a tiny network, so that memory that grows with the slices stands out. The published way holds
every slice in memory: image (float32, 3 channels would be 3.1 MB) and one-hot mask.
"""

import math
import os
import tempfile
from pathlib import Path

from _turns import (
    Cost,
    begin,
    cost_of_command,
    describe,
    heartseg,
    parser,
    prepare_phantoms,
    print_ratio,
)

CONFIG = """
run_dir: {folder}/run_{count}
data: {{dataset_dir: {folder}/dataset_{count}}}
model: {{num_layers: 2, base_filters: 2, base_kernels: [1, 1], image_channels: 3}}
train: {{batch_size: 4, epochs: 1, epoch_change_infer: false, tensorboard: false, metrics: []}}
"""
PUBLISHED_MB = 3.1


def link_slices(master: Path, dataset: Path, count: int) -> None:
    """Make a dataset of many slices whose files are links to a few."""
    found = sorted((master / "masks").iterdir())
    for part, number in (("train", count), ("valid", 4)):
        for kind in ("images", "masks"):
            folder = dataset / part / kind
            folder.mkdir(parents=True)
            for index in range(number):
                source = master / kind / found[index % len(found)].name
                os.link(source, folder / f"pat{index // 200}_{index % 200:03d}.png")


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--slices", type=int, nargs=2, default=(500, 5000), metavar=("FEW", "MANY")
    )
    few, many = options.parse_args().slices
    begin(f"memory of training: {few} and {many} slices of 512x512")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        master = prepare_phantoms(folder, 1, shape=(120, 100, 80))
        costs: list[Cost] = []
        for count in (few, many):
            link_slices(master, folder / f"dataset_{count}", count)
            config = folder / f"train_{count}.yaml"
            config.write_text(CONFIG.format(folder=folder, count=count))
            costs.append(cost_of_command(heartseg("train", config, "--quiet")))
            describe(f"{count} slices", costs[-1:])
            print(f"  peak memory {costs[-1].peak_mb:.0f} MB", flush=True)
    growth = costs[1].peak_mb / costs[0].peak_mb
    print_ratio("peak of many slices to peak of few", growth, "within 1.10")
    print(
        f"  the published way would hold {PUBLISHED_MB * few:.0f} and {PUBLISHED_MB * many:.0f} MB "
        "of arrays (computed, not measured)"
    )
    if math.isnan(growth):
        print("  this system does not report the memory of a process")


if __name__ == "__main__":
    main()
