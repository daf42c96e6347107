"""Time until `heartseg infer` and `heartseg train` report progress, before TensorFlow is loaded.

Run ``python benchmarks/start_of_work.py [--rounds N]``. From the start of the process to its first
line of progress, compared with the import of TensorFlow alone and with the start of Python.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from _turns import Cost, begin, cost_of_command, heartseg, in_turn, parser, write_phantoms


def until_first_line(command: list[str], expected: str) -> Cost:
    """Run a command up to its first line on stderr, then end it.

    Raises:
        SystemExit: If the first line is not the expected one.
    """
    started = time.perf_counter()
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        line = (process.stderr or sys.stderr).readline()
        wall_s = time.perf_counter() - started
        # CPU time so far, user and system, in hundredths of a second.
        fields = Path(f"/proc/{process.pid}/stat")
        ticks = fields.read_text().rpartition(")")[2].split() if fields.is_file() else []
        process.kill()
    text = line.decode()
    if expected not in text:
        sys.exit(f"{' '.join(command)}: expected {expected!r} first, got {text!r}")
    return Cost(wall_s, (int(ticks[11]) + int(ticks[12])) / 100 if ticks else float("nan"))


def main() -> None:
    rounds = parser(__doc__, rounds=7).parse_args().rounds
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_phantoms(folder / "scans", 1, shape=(64, 56, 48), kinds=1)
        config = folder / "config.yaml"
        config.write_text(f"run_dir: {folder / 'run'}\ndata: {{dataset_dir: {folder}}}\n")
        scan = folder / "scans" / "pat0_cropped_norm.nii.gz"
        infer = heartseg("infer", scan, "--output", folder / "out", "--overwrite")
        train = heartseg("train", config)
        tensorflow = [sys.executable, "-c", "import tensorflow"]
        begin("start of work: the first line of progress")
        found = in_turn(
            {
                "heartseg infer": lambda: until_first_line(infer, "loading the model"),
                "heartseg train": lambda: until_first_line(train, "loading TensorFlow"),
                "import tensorflow": lambda: cost_of_command(tensorflow),
                "limit: python -c pass": lambda: cost_of_command([sys.executable, "-c", ""]),
            },
            rounds=rounds,
        )
    for name in ("heartseg infer", "heartseg train"):
        print(f"  {name}: first line after {found[name].wall_s:.2f} s (target: under 1 s)")


if __name__ == "__main__":
    main()
