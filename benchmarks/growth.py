"""`heartseg prepare` and `heartseg infer` on 1, 4, 16 and 64 volumes: time and memory.

Run ``python benchmarks/growth.py [--counts N ...] [--commands NAME ...]``: whole commands on
phantom scans of 96x88x72. Time is linear if each further volume takes as long as the one before;
memory is constant if the largest process does not grow.
"""

import tempfile
from pathlib import Path

from _turns import (
    Cost,
    begin,
    cost_of_command,
    describe,
    heartseg,
    parser,
    print_ratio,
    write_phantoms,
)

SHAPE, KINDS = (96, 88, 72), 4


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--counts", type=int, nargs="+", default=[1, 4, 16, 64])
    options.add_argument("--commands", nargs="+", default=["prepare", "infer"])
    given = options.parse_args()
    counts = given.counts
    begin(f"growth: {', '.join(map(str, counts))} volumes of {'x'.join(map(str, SHAPE))}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for count in counts:
            write_phantoms(folder / str(count), count, shape=SHAPE, kinds=KINDS)
        for name in given.commands:
            costs = []
            for count in counts:
                scans = folder / str(count)
                costs.append(cost_of_command(command(name, scans, folder)))
                describe(f"{name} {count}", costs[-1:])
                print(f"    largest process {costs[-1].peak_mb:.0f} MB", flush=True)
            print_growth(name, counts, costs)


def command(name: str, scans: Path, folder: Path) -> list[str]:
    if name == "infer":
        files = sorted(scans.glob("*_norm.nii.gz"))
        return heartseg("infer", *files, "--output", folder / f"out_{scans.name}", "--quiet")
    config = folder / f"{scans.name}.yaml"
    config.write_text(f"data: {{source_dir: {scans}, master_dir: {folder}/master_{scans.name}}}\n")
    return heartseg("prepare", config, "--quiet")


def print_growth(name: str, counts: list[int], costs: list[Cost]) -> None:
    """Print the time of a further volume between neighbouring counts, and the growth of memory."""
    added = [
        (b.cpu_s - a.cpu_s) / (n - m)
        for a, b, m, n in zip(costs, costs[1:], counts, counts[1:], strict=False)
    ]
    print(f"  {name}, CPU seconds per further volume: " + ", ".join(f"{x:.2f}" for x in added))
    if len(added) > 1:
        print_ratio(
            f"{name}, the last of these to the one before", added[-1] / added[-2], "1: linear"
        )
    print_ratio(
        f"{name}, memory of the last count to the second", costs[-1].peak_mb / costs[1].peak_mb, "1"
    )


if __name__ == "__main__":
    main()
