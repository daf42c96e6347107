"""Run all benchmarks, or the named ones (`python -m benchmarks evaluation`)."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
KNOWN = sorted(file.stem for file in FOLDER.glob("[!_]*.py"))


def main(names: list[str]) -> int:
    unknown = sorted(set(names) - set(KNOWN))
    if unknown:
        print(
            f"unknown benchmarks: {', '.join(unknown)}; expected any of {', '.join(KNOWN)}",
            file=sys.stderr,
        )
        return 2
    # One process per benchmark: none of them profits from modules that another has loaded.
    codes = [subprocess.call([sys.executable, FOLDER / f"{name}.py"]) for name in names or KNOWN]
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
