"""The state of a refinement on disk, so that an interrupted one goes on where it was."""

import json
import zipfile
from pathlib import Path

import numpy as np

from heartseg.files import replacing
from heartseg.refinement.adaptation import Progress
from heartseg.refinement.refiner import Stage

_PARTS = ("weights", "average")


def save_stage(file: Path, stage: Stage, key: str) -> None:
    """Write the state, as a complete file or not at all.

    Args:
        file: Where to.
        stage: The state.
        key: What it belongs to: scan, drawing, model and settings.
    """
    facts = {
        "key": key,
        "is_rehearsed": stage.is_rehearsed,
        "scores": stage.scores,
        "best_seconds": stage.best_seconds,
        "is_stopped": stage.is_stopped,
        **{name: [p.steps, p.seconds] for name, p in _progresses(stage).items()},
    }
    arrays = {
        f"{name}_{part}_{number}": array
        for name, progress in _progresses(stage).items()
        for part in _PARTS
        for number, array in enumerate(getattr(progress, part))
    }
    with replacing(file) as temporary, temporary.open("wb") as stream:
        np.savez(stream, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), **arrays)


def load_stage(file: Path, key: str) -> Stage | None:
    """Read the state; None where there is none, or it belongs to something else."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            facts = json.loads(archive["facts"].tobytes())
            if facts["key"] != key:
                return None
            stage = Stage.new()
            stage.is_rehearsed, stage.is_stopped = facts["is_rehearsed"], facts["is_stopped"]
            stage.scores, stage.best_seconds = facts["scores"], facts["best_seconds"]
            for name, progress in _progresses(stage).items():
                progress.steps, progress.seconds = facts[name]
                for part in _PARTS:
                    names = [n for n in archive.files if n.startswith(f"{name}_{part}_")]
                    arrays = [archive[f"{name}_{part}_{n}"] for n in range(len(names))]
                    setattr(progress, part, arrays)
            return stage
    except (AttributeError, OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        # A state that cannot be used costs a few minutes; the drawing is what counts.
        return None


def _progresses(stage: Stage) -> dict[str, Progress]:
    return {"rehearsal": stage.rehearsal, "final": stage.final}
