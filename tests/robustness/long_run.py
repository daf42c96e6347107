"""A run of the length of the whole data set: memory, file handles, and whether progress is true.

Usage: ``python tests/robustness/long_run.py FOLDER LABEL_MAPS_FOLDER [SLICES]``. Makes volumes from
the label maps, with random intensities, until the given number of slices hold a label (8329 by
default, as in HVSMR-2.0). Then it runs ``prepare``, ``split`` and one epoch of a tiny network at
512 x 512. Each is a process of its own, which is measured with its workers whenever it reports its
progress. Prints a table; ends with an error if memory or file handles grew, or if the reported
progress differed from the files on disk.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import nibabel
import numpy as np
import psutil
from builders import make_config, write_nifti

ALL_SLICES = 8329
STEPS = ("prepare", "split", "train")
SLACK = 1.1
SLACK_BYTES = 2**26
MEASURED_EVERY = 20


def make_volumes(folder, label_maps, num_slices):
    """Write cases until enough slices along array axis 2 hold a label; return their number.

    If there are too few label maps, they are used again, mirrored.
    """
    rng, made, case = np.random.default_rng(137), 0, 0
    while made < num_slices:
        labels, affine = label_maps[case % len(label_maps)]
        turn = case // len(label_maps)
        labels = labels[:: -1 if turn % 2 else 1, :: -1 if turn // 2 % 2 else 1].copy()
        held = np.flatnonzero(labels.any(axis=(0, 1)))
        labels[:, :, held[num_slices - made :]] = 0
        means = rng.uniform(0.2, 0.9, int(labels.max()) + 1).astype(np.float32)
        image = means[labels] + rng.normal(0, 0.05, labels.shape).astype(np.float32)
        write_nifti(folder / f"pat{case}_cropped_norm.nii", image, affine)
        write_nifti(folder / f"pat{case}_cropped_seg.nii", labels, affine)
        made += min(len(held), num_slices - made)
        case += 1
    return case


class Witness:
    """A progress callback that measures the process, and compares the progress with the disk."""

    def __init__(self, count_done):
        self._process, self._count_done = psutil.Process(), count_done
        self._start, self._last = time.monotonic(), 0
        self.samples, self.lies = [], []

    def __call__(self, done, total, item):
        if done < self._last or done > total:
            self.lies.append(f"{done} of {total} after {self._last} ({item})")
        if self._count_done is not None and self._count_done() < done:
            self.lies.append(f"{done} of {total} reported, {self._count_done()} on disk ({item})")
        self._last = done
        self.measure(done, total)

    def measure(self, done, total):
        memory = handles = 0
        for process in (self._process, *self._process.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                memory += process.memory_info().rss
                handles += process.num_fds()
        seconds = time.monotonic() - self._start
        self.samples.append(
            {"s": seconds, "done": done, "total": total, "bytes": memory, "handles": handles}
        )


def find_growth(samples):
    """Describe what grew from the second to the last quarter of a run; None if nothing did."""
    quarter = max(1, len(samples) // 4)
    for what, slack in (("bytes", SLACK_BYTES), ("handles", 8)):
        early = median(sample[what] for sample in samples[quarter : 2 * quarter] or samples)
        late = median(sample[what] for sample in samples[-quarter:])
        if late > SLACK * early + slack:
            return f"{what} grew from {early:,.0f} to {late:,.0f}"
    return None


def configure(folder, side):
    return make_config(
        folder,
        {
            "prepare": {"image_width": side, "image_height": side},
            "model": {"image_channels": 1, "base_filters": 2, "num_layers": 2},
            "train": {
                "epochs": 1,
                "batch_size": 8,
                "precision": "float32",
                "tensorboard": False,
                "num_infer_images": 2,
            },
            "parallel": {"jobs": 2},
        },
    )


def count_prepared_cases(master_dir):
    return len({file.name.rpartition("_")[0] for file in (master_dir / "masks").glob("pat*.png")})


def count_filled_parts(dataset_dir):
    return len(list(dataset_dir.glob("*/masks")))


def run_step(step, folder, side):
    """Run a command in this process; write its measurements to ``STEP.json``."""
    config = configure(folder, side)
    if step == "prepare":
        from heartseg.pipelines.prepare import run_prepare

        witness = Witness(lambda: count_prepared_cases(config.data.master_dir))
        result = {"slices": run_prepare(config, report=witness).num_slices}
    elif step == "split":
        from heartseg.pipelines.split import run_split

        witness = Witness(lambda: count_filled_parts(config.data.dataset_dir))
        result = dict(run_split(config, report=witness).slices[0])
    else:
        from heartseg.pipelines.train import run_training

        witness = Witness(None)

        def track(progress):
            if progress.is_epoch_end or progress.step % MEASURED_EVERY == 0 or progress.steps < 200:
                witness(progress.step, progress.steps, f"epoch {progress.epoch}")

        trained = run_training(config, track=track)
        result = {"epochs": len(trained.history), "loss": trained.best_loss}
    last = witness.samples[-1]
    if last["done"] != last["total"]:
        witness.lies.append(f"ended at {last['done']} of {last['total']}")
    measured = {
        "result": result,
        "samples": witness.samples,
        "lies": witness.lies,
        "growth": find_growth(witness.samples),
    }
    (folder / f"{step}.json").write_text(json.dumps(measured))


def measure_steps(folder, side):
    """Run each command in a process of its own; return the measurements by command."""
    measured = {}
    for step in STEPS:
        command = [sys.executable, __file__, "--step", step, folder, str(side)]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        subprocess.run(command, check=True, env=environment)
        measured[step] = json.loads((folder / f"{step}.json").read_text())
    return measured


def show(measured):
    for step, facts in measured.items():
        samples = facts["samples"]
        quarter = max(1, len(samples) // 4)
        early, late = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
        memory = [median(s["bytes"] for s in part) / 2**20 for part in (early, late)]
        handles = [median(s["handles"] for s in part) for part in (early, late)]
        print(  # noqa: T201
            f"{step}: {facts['result']}, {samples[-1]['s']:.0f} s, {len(samples)} samples; "
            f"second quarter {memory[0]:.0f} MiB and {handles[0]:.0f} handles, last quarter "
            f"{memory[1]:.0f} MiB and {handles[1]:.0f}; {facts['growth'] or 'no growth'}; "
            f"progress: {facts['lies'] or 'true'}"
        )


def read_label_maps(folder):
    files = sorted(f for f in folder.glob("*_seg.nii.gz"))
    images = [nibabel.load(file) for file in files]
    return [(np.asarray(image.dataobj, np.int16), image.affine) for image in images]


def main():
    if sys.argv[1] == "--step":
        run_step(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))
        return 0
    folder, label_maps = Path(sys.argv[1]), read_label_maps(Path(sys.argv[2]))
    num_slices = int(sys.argv[3]) if len(sys.argv) > 3 else ALL_SLICES
    cases = make_volumes(folder / "volumes", label_maps, num_slices)
    print(f"{cases} cases, {num_slices} slices that hold a label")  # noqa: T201
    measured = measure_steps(folder, side=512)
    show(measured)
    return int(any(facts["lies"] or facts["growth"] for facts in measured.values()))


if __name__ == "__main__":
    sys.exit(main())
