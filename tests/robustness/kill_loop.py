"""Run a command over and over in child processes that are killed at random moments.

Usage: ``python kill_loop.py COMMAND FOLDER KILLS SEED``. The folder holds ``volumes/`` (for
prepare) or ``master/`` (for split). Everything is imported once; each child is a fork, so a kill
falls into the work and not into the start. Prints the number of kills that hit a running child.
"""

import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

from builders import make_config

from heartseg.errors import DataError
from heartseg.pipelines.prepare import run_prepare
from heartseg.pipelines.split import run_split

COMMANDS = {"prepare": run_prepare, "split": run_split}


def run_child(command, config):
    """Run a command in a forked child; return its process id."""
    child = os.fork()
    if child:
        return child
    try:
        COMMANDS[command](config)
    except DataError as error:
        # The child before was killed after its last write: nothing is left to do.
        finished = "already prepared" in str(error) or "already holds" in str(error)
        os._exit(0 if finished else 3)
    except BaseException as error:  # noqa: BLE001 - a child ends here, whatever happened
        print(repr(error), file=sys.stderr)  # noqa: T201
        os._exit(4)
    os._exit(0)


def main():
    """Kill, look for half-written files, and at last let a child run to its end."""
    command, folder, kills, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    rng = random.Random(f"{command} {seed}")  # noqa: S311 - moments, not secrets
    config = make_config(folder)
    start = time.monotonic()
    # A first run elsewhere tells how long the work takes here and now.
    key = {"prepare": "master_dir", "split": "dataset_dir"}[command]
    child = run_child(command, make_config(folder, {"data": {key: folder / "undisturbed"}}))
    os.waitpid(child, 0)
    longest = time.monotonic() - start
    hits = 0
    for _ in range(kills):
        child = run_child(command, config)
        time.sleep(rng.uniform(0, longest))
        os.kill(child, rng.choice([signal.SIGKILL, signal.SIGTERM]))
        _, status = os.waitpid(child, 0)
        hits += os.WIFSIGNALED(status)
        if os.WIFEXITED(status) and os.WEXITSTATUS(status):
            return os.WEXITSTATUS(status)
        for file in folder.rglob("*.png"):
            # A PNG ends with its IEND chunk: a file under its final name is whole.
            if not file.name.startswith(".") and not file.read_bytes().endswith(b"IEND\xaeB`\x82"):
                print(f"half-written: {file}", file=sys.stderr)  # noqa: T201
                return 5
        if os.WIFEXITED(status):
            # It was faster than the kill: the next one starts from nothing.
            shutil.rmtree(getattr(config.data, key))
    _, status = os.waitpid(run_child(command, config), 0)
    print(hits)  # noqa: T201
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
