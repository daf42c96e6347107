"""Time and memory of `infer` and `segment()` beside those of an earlier commit, in one run.

Run ``python benchmarks/runtime.py [--commit 073e47e] [--scans 64] [--rounds N]``. The commit before
the packaged model ran on ONNX Runtime is checked out beside this one; both sides take turns on the
same phantoms of 170 x 150 x 120 voxels, so that a busy moment affects both.
"""

import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from _turns import begin, cost_of_command, in_turn, parser, print_ratio, write_phantoms

ROOT = Path(__file__).parents[1]
SHAPE = (170, 150, 120)
FIRST = "import sys, heartseg; heartseg.segment(sys.argv[1])"
RUN = "import sys; sys.path.insert(0, sys.argv.pop(1)); exec(sys.argv.pop(1))"
COMMAND = "from heartseg.cli.app import main; main()"


def command(source: Path, code: str, *arguments: str | Path) -> list[str]:
    """Return the command that runs code with the heartseg of a folder."""
    return [sys.executable, "-P", "-c", RUN, str(source), code, *map(str, arguments)]


def main() -> None:
    options = parser(__doc__, rounds=3)
    options.add_argument("--commit", default="073e47e", help="what is compared with")
    options.add_argument("--scans", type=int, default=64, help="scans of the long batch")
    chosen = options.parse_args()
    git = shutil.which("git") or sys.exit("git is not installed")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        before = folder / "before"
        subprocess.run(
            [git, "-C", ROOT, "worktree", "add", "--quiet", "--detach", before, chosen.commit],
            check=True,
        )
        try:
            compare(folder, {chosen.commit: before, "now": ROOT}, chosen.scans, chosen.rounds)
        finally:
            subprocess.run([git, "-C", ROOT, "worktree", "remove", "--force", before], check=True)


def _write(folder: Path, scans: int, kinds: int) -> None:
    """Write phantoms in another process: a command's peak memory counts that of who starts it."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        pool.submit(write_phantoms, folder, scans, shape=SHAPE, kinds=kinds).result()


def compare(folder: Path, sides: dict[str, Path], scans: int, rounds: int) -> None:
    os.environ.pop("PYTHONPATH", None)
    _write(folder / "one", 1, 1)
    scan = folder / "one/pat0_cropped_norm.nii.gz"
    # The earlier commit cannot go on with the tables of this one.
    outputs = {
        side: ("--output", folder / f"out_{side}", "--overwrite", "--quiet") for side in sides
    }
    pieces = [
        ("infer, one scan", COMMAND, ("infer", scan), rounds, 1.0),
        ("segment(), first result", FIRST, (scan,), rounds, 1.0),
    ]
    if scans:
        _write(folder / "many", scans, min(2, scans))
        many = ("infer", folder / "many")
        pieces.append((f"infer, {scans} scans", COMMAND, many, 1, 0.8))
    for name, code, arguments, turns, target in pieces:
        begin(name)
        commands = {
            side: command(source, code, *arguments, *(outputs[side] if code == COMMAND else ()))
            for side, source in sides.items()
        }
        found = in_turn(
            {side: lambda call=call: cost_of_command(call) for side, call in commands.items()},
            rounds=turns,
        )
        earlier, now = found.values()
        print_ratio("time", now.wall_s / earlier.wall_s, f"at most {target}")
        print_ratio("CPU time", now.cpu_s / earlier.cpu_s, "less")
        print(f"  peak memory: {earlier.peak_mb:.0f} MB, now {now.peak_mb:.0f} MB (at most 600 MB)")


if __name__ == "__main__":
    main()
