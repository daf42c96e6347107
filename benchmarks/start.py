"""Time of `heartseg --help`, compared with a Typer hello-world and the start of Python.

Run ``python benchmarks/start.py [--rounds N]``. The three run in turn, so that a busy moment of
the machine affects all of them; medians are compared.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HELLO = '''
import typer

app = typer.Typer()

@app.command()
def hello(name: str = "world") -> None:
    """Greet."""
    print(name)

@app.command()
def goodbye(name: str = "world") -> None:
    """Part."""
    print(name)

app()
'''


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        hello = Path(folder) / "hello.py"
        hello.write_text(HELLO)
        commands = {
            "heartseg --help": [sys.executable, "-m", "heartseg", "--help"],
            "Typer hello-world --help": [sys.executable, str(hello), "--help"],
            "python -c pass": [sys.executable, "-c", "pass"],
        }
        for command in commands.values():
            seconds(command)
        times = {name: [] for name in commands}
        for _ in range(rounds):
            for name, command in commands.items():
                times[name].append(seconds(command))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        print(
            f"{name:28} median {value * 1000:7.0f} ms  (fastest {min(times[name]) * 1000:.0f} ms)"
        )
    ratio = medians["heartseg --help"] / medians["Typer hello-world --help"]
    print(f"ratio {ratio:.2f} (target: at most 1.3); the limit is the start of Python")


if __name__ == "__main__":
    main()
