"""Shared by the benchmarks: measuring several sides in turn, and phantoms as their input."""

import argparse
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from heartseg.scans.volume import write_image
from heartseg.synthesis.phantom import make_phantom


@dataclass(frozen=True)
class Cost:
    """Time and memory of a piece of work.

    Attributes:
        wall_s: Wall time in seconds.
        cpu_s: CPU time in seconds, which depends little on other work on the machine.
        peak_mb: Peak memory of the largest process of a command; NaN where it is unknown.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float = math.nan


def cost_of(work: Callable[[], object]) -> Cost:
    """Measure work in this process, including its threads."""
    started, used = time.perf_counter(), time.process_time()
    work()
    return Cost(time.perf_counter() - started, time.process_time() - used)


def cost_of_command(command: Sequence[str]) -> Cost:
    """Measure a command, including all processes that it starts and waits for.

    Raises:
        SystemExit: If it fails, with the end of its output.
    """
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode()[-4000:]}")
    return Cost(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turn(sides: Mapping[str, Callable[[], Cost]], *, rounds: int) -> dict[str, Cost]:
    """Measure all sides in turn, round after round, so that a busy moment affects all of them.

    Prints medians and ranges, and returns the medians.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in sides}
    for number in range(rounds):
        for name in list(sides) if number % 2 == 0 else list(sides)[::-1]:
            costs[name].append(sides[name]())
    return {name: describe(name, found) for name, found in costs.items()}


def describe(name: str, costs: Sequence[Cost]) -> Cost:
    """Print the median and the range of a side."""
    walls = [cost.wall_s for cost in costs]
    found = Cost(
        statistics.median(walls),
        statistics.median(cost.cpu_s for cost in costs),
        statistics.median(cost.peak_mb for cost in costs),
    )
    print(
        f"  {name:42} {found.wall_s:8.3f} s ({min(walls):.3f} to {max(walls):.3f}, median of "
        f"{len(walls)}), {found.cpu_s:8.3f} s of CPU",
        flush=True,
    )
    return found


def print_ratio(what: str, ratio: float, target: str) -> None:
    print(f"  {what}: {ratio:.2f} (target: {target})", flush=True)


def begin(what: str) -> None:
    """Print what is compared, the number of cores and the load."""
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{what} [{os.cpu_count()} cores{load}]", flush=True)


def parser(description: str | None, *, rounds: int = 5) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=(description or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=rounds, help="measurements per side")
    return options


def heartseg(*arguments: str | Path) -> list[str]:
    """Return the command line of a heartseg command."""
    return [sys.executable, "-m", "heartseg", *map(str, arguments)]


def write_phantoms(folder: Path, count: int, *, shape: tuple[int, int, int], kinds: int) -> None:
    """Write phantom scans of one shape as HVSMR-2.0 stores them: float64 images, int16 labels.

    Args:
        folder: Folder of the scans; not changed if it already holds this number of scans.
        count: Number of scans.
        shape: Voxels along the three axes.
        kinds: Number of different phantoms. Further scans are links to them, since making a phantom
            takes seconds.
    """
    if len(list(folder.glob("*_norm.nii.gz"))) == count:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        if number < kinds:
            _write_phantom(folder, number, shape)
            continue
        for kind in ("norm", "seg"):
            os.link(_name(folder, number % kinds, kind), _name(folder, number, kind))


def prepare_phantoms(folder: Path, count: int, *, shape: tuple[int, int, int]) -> Path:
    """Make phantom scans and prepare 512x512 slices of them; return the folder of the slices."""
    write_phantoms(folder / "scans", count, shape=shape, kinds=count)
    config, master = folder / "prepare.yaml", folder / "master"
    config.write_text(f"data: {{source_dir: {folder}/scans, master_dir: {master}}}\n")
    cost_of_command(heartseg("prepare", config, "--quiet"))
    return master


def _write_phantom(folder: Path, number: int, shape: tuple[int, int, int]) -> None:
    phantom = make_phantom(7, number, size=max(shape))
    made = phantom.image.shape
    # Nearest neighbours: interpolation would remove noise, which makes PNG files large.
    places = np.ix_(*(np.arange(new) * old // new for new, old in zip(shape, made, strict=True)))
    affine = phantom.affine @ np.diag([*np.divide(made, shape), 1])
    for kind, voxels in (("norm", phantom.image), ("seg", phantom.labels)):
        write_image(_name(folder, number, kind), np.asarray(voxels)[places], affine=affine)


def _name(folder: Path, number: int, kind: str) -> Path:
    return folder / f"pat{number}_cropped_{kind}.nii.gz"
