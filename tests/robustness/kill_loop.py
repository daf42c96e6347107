"""Run a command over and over in child processes that are killed at random moments.

Usage: ``python kill_loop.py COMMAND FOLDER KILLS SEED``. The folder holds what the command reads,
as prepared by ``test_kill.py``. Everything is imported once and each child is a fork, so that a
kill hits the work, not the start. Prints the number of kills that hit a running child.
"""

import gzip
import json
import os
import random
import shutil
import signal
import sys
import time
import zipfile
from pathlib import Path

from builders import make_config

from heartseg.errors import DataError

PNG_END = b"IEND\xaeB`\x82"
TINY = {
    "model": {"image_channels": 1, "base_filters": 2, "num_layers": 2},
    "train": {
        "epochs": 3,
        "precision": "float32",
        "deterministic": True,
        "tensorboard": False,
        "num_infer_images": 2,
        "augment": {"flip_horizontal": True, "noise": 0.1},
    },
    "evaluate": {"num_bootstrap": 100},
}


def find_work(command, folder):
    """Import a command; return it as a function of its output folder."""
    if command == "prepare":
        from heartseg.pipelines.prepare import run_prepare as run
    elif command == "split":
        from heartseg.pipelines.split import run_split as run
    elif command == "train":
        from heartseg.pipelines.train import run_training as run
    elif command == "evaluate":
        import heartseg.evaluation.report
        from heartseg.pipelines.score_model import run_evaluation as run
    else:
        import heartseg.inference.network  # imported late by the pipeline
        import heartseg.modelfile.checkpoint  # noqa: F401
        from heartseg.pipelines.infer import run_infer as run

    def work(output):
        key = {"prepare": "master_dir", "split": "dataset_dir"}.get(command)
        if key:
            return run(make_config(folder, {**TINY, "data": {key: output}}))
        config = make_config(folder, TINY)
        if command == "train":
            return run(config.model_copy(update={"run_dir": output}), resume=True)
        if command == "evaluate":
            return run(config, output_dir=output)
        return run(config, [folder / "scans"], output_dir=output)

    return work


def run_child(work, output):
    """Run a command in a forked child; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        work(output)
    except DataError as error:
        # The previous child was killed after its last write, so nothing is left to do.
        finished = "already " in str(error)
        if not finished:
            print(repr(error), file=sys.stderr)  # noqa: T201
        os._exit(0 if finished else 3)
    except BaseException as error:  # noqa: BLE001 - a child ends here, whatever happened
        print(repr(error), file=sys.stderr)  # noqa: T201
        os._exit(4)
    os._exit(0)


def is_whole(file):
    """Return whether a file can be read to its end."""
    try:
        if file.suffix == ".png":
            return file.read_bytes().endswith(PNG_END)
        if file.suffix == ".gz":
            return bool(gzip.decompress(file.read_bytes()))
        if file.suffix == ".keras":
            with zipfile.ZipFile(file) as archive:
                return archive.testzip() is None
        if file.suffix == ".json":
            return bool(json.loads(file.read_text()))
        if file.suffix == ".html":
            return file.read_text().rstrip().endswith("</html>")
        if file.suffix == ".csv":
            return file.read_text().endswith("\n")
    except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
        print(repr(error), file=sys.stderr)  # noqa: T201
        return False
    return True


def main():
    """Kill children, look for half-written files, and finally let a child run to its end."""
    command, folder, kills, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    rng = random.Random(f"{command} {seed}")  # noqa: S311 - moments, not secrets
    work, output = find_work(command, folder), folder / "killed"
    start = time.monotonic()
    # A first run into another folder measures how long the work takes.
    _, status = os.waitpid(run_child(work, folder / "uninterrupted"), 0)
    if status:
        return os.waitstatus_to_exitcode(status)
    longest = time.monotonic() - start
    hits = attempts = 0
    while hits < kills and attempts < 3 * kills:
        attempts += 1
        child = run_child(work, output)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, rng.choice([signal.SIGKILL, signal.SIGTERM]))
        _, status = os.waitpid(child, 0)
        hits += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            return os.WEXITSTATUS(status)
        for file in output.rglob("*"):
            if file.is_file() and not file.name.startswith(".") and not is_whole(file):
                print(f"half-written: {file}", file=sys.stderr)  # noqa: T201
                return 5
        if os.WIFEXITED(status):
            # The child ended before the kill: the next one starts from an empty folder.
            shutil.rmtree(output)
    _, status = os.waitpid(run_child(work, output), 0)
    print(hits)  # noqa: T201
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
