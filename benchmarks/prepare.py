"""`heartseg prepare` compared with a plain loop, and with gunzip and PNG writing alone.

Run ``python benchmarks/prepare.py [--rounds N] [--volumes DIR]``. 16 phantom scans of 220x200x140
(float64, gzip). The plain loop is what the published generator does: one process, nibabel's
``get_fdata``, ``cv2.resize`` to 512x512, a mask coloured class by class, ``cv2.imwrite``. Both are
whole commands, including imports, and write to a new folder each time: deleting files just before
slows a file system down. The limit is gunzip of the same bytes and OpenCV's PNG writing of the same
pixels, with two processes. Needs 4 GB of disk.
"""

import gzip
import sys
import tempfile
from functools import partial
from itertools import count
from pathlib import Path

import cv2
import numpy as np
from _turns import (
    Cost,
    begin,
    cost_of,
    cost_of_command,
    heartseg,
    in_turn,
    parser,
    print_ratio,
    write_phantoms,
)

from heartseg.labels import HVSMR
from heartseg.parallel import map_cases
from heartseg.slices.store import read_color, read_gray

SHAPE, CASES, KINDS = (220, 200, 140), 16, 4
SIZE = (512, 512)


def plain_loop(volumes: Path, output: Path) -> None:
    """Work as the published generator does, in one process."""
    import nibabel

    for kind in ("images", "masks"):
        (output / kind).mkdir(parents=True, exist_ok=True)
    for label_file in sorted(volumes.glob("*_seg.nii.gz")):
        labels = nibabel.load(label_file).get_fdata()
        image = nibabel.load(str(label_file).replace("_seg", "_norm")).get_fdata()
        for index in range(labels.shape[2]):
            if not labels[:, :, index].any():
                continue
            name = f"{label_file.name.split('_')[0]}_{index}.png"
            resized = cv2.resize(labels[:, :, index], SIZE)
            mask = np.zeros((*SIZE, 3), np.float32)
            for structure in HVSMR.foreground:
                mask[resized == structure.value] = structure.color[::-1]
            cv2.imwrite(str(output / "masks" / name), mask)
            picture = cv2.resize(image[:, :, index], SIZE) * 255
            cv2.imwrite(str(output / "images" / name), picture)


def unavoidable(case: str, *, volumes: Path, master: Path) -> tuple[float, float]:
    """Measure gunzip of a case's files and PNG writing of its slices, in CPU seconds."""
    contents = [file.read_bytes() for file in volumes.glob(f"{case}_*.nii.gz")]
    gunzip = cost_of(lambda: [len(gzip.decompress(content)) for content in contents]).cpu_s
    files = [file.name for file in (master / "images").glob(f"{case}_*.png")]
    pictures = [read_gray(master / "images" / name) for name in files]
    pictures += [read_color(master / "masks" / name) for name in files]
    packing = cost_of(lambda: [cv2.imencode(".png", picture) for picture in pictures]).cpu_s
    return gunzip, packing


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--cases", type=int, default=CASES, help="number of volumes")
    options.add_argument("--volumes", type=Path, help="folder of phantoms; filled if empty")
    options.add_argument("--plain", nargs=2, type=Path, metavar=("VOLUMES", "OUTPUT"))
    given = options.parse_args()
    if given.plain:
        plain_loop(*given.plain)
        return
    with tempfile.TemporaryDirectory() as scratch:
        volumes = given.volumes or Path(scratch) / "volumes"
        write_phantoms(volumes, given.cases, shape=SHAPE, kinds=KINDS)
        measure(Path(scratch), volumes, given.cases, given.rounds)


def measure(scratch: Path, volumes: Path, cases: int, rounds: int) -> None:
    config, folders = scratch / "config.yaml", count()
    config.write_text(f"data: {{source_dir: {volumes}}}\n")

    def prepare(master: Path) -> Cost:
        chosen = f"data.master_dir={master}"
        return cost_of_command(heartseg("prepare", config, "--set", chosen, "--quiet"))

    def prepare_plainly(output: Path) -> Cost:
        return cost_of_command([sys.executable, __file__, "--plain", str(volumes), str(output)])

    master = scratch / "master"
    prepare(master)
    pairs = len(list((master / "masks").iterdir()))
    begin(f"prepare: {cases} volumes of {'x'.join(map(str, SHAPE))}, {pairs} slices and masks")

    parts: list[tuple[float, float]] = []

    def bound() -> Cost:
        work = partial(unavoidable, volumes=volumes, master=master)
        outcomes = map_cases(work, [f"pat{number}" for number in range(cases)], jobs=2)
        parts.append(tuple(np.sum([outcome.result for outcome in outcomes], axis=0)))
        return Cost(sum(parts[-1]) / 2, sum(parts[-1]))

    mine, theirs, limit = in_turn(
        {
            "heartseg prepare, 2 processes": lambda: prepare(scratch / f"own{next(folders)}"),
            "plain loop, 1 process": lambda: prepare_plainly(scratch / f"plain{next(folders)}"),
            "limit: gunzip and PNG, 2 processes": bound,
        },
        rounds=rounds,
    ).values()
    gunzip, packing = np.median(parts, axis=0)
    print(f"  {pairs / mine.wall_s:.0f} and {pairs / theirs.wall_s:.0f} pairs/s")
    print(f"  the limit: gunzip {gunzip:.2f} s and PNG {packing:.2f} s of CPU")
    print_ratio("ratio of wall time", theirs.wall_s / mine.wall_s, "at least 3")
    print_ratio("ratio of CPU time, on two cores", 2 * theirs.cpu_s / mine.cpu_s, "at least 3")
    print_ratio("heartseg to the limit, wall time", mine.wall_s / limit.wall_s, "at most 1.5")
    print_ratio("heartseg to the limit, CPU time", mine.cpu_s / limit.cpu_s, "at most 1.5")


if __name__ == "__main__":
    main()
