"""Batches like those of a training, made without its data, to time a step."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from heartseg.config.schema import Config
from heartseg.inference.engine import Compute, start_onnx
from heartseg.modelfile.checkpoint import save_model
from heartseg.runs.engines import load_graph
from heartseg.synthesis.patches import PER_VOLUME, PatchMaker
from heartseg.synthesis.phantom import make_phantom
from heartseg.synthesis.rendering import make_sample
from heartseg.synthesis.scene import Scene, paint_scene

if TYPE_CHECKING:
    import keras

PHANTOM_SIZE = 48
"""Voxels of the heart that is drawn; the cost of a sample depends on the grids of the training."""
Drawn = TypeVar("Drawn")


@dataclass(frozen=True)
class Rehearsal:
    """A batch like those of a training.

    Attributes:
        images: What the network sees.
        targets: What its answer is compared with.
        draw_s: Seconds in which one core draws such a batch; 0 where batches are read from files,
            which takes little time beside a step.
    """

    images: NDArray[Any]
    targets: NDArray[Any]
    draw_s: float = 0.0


def rehearse_hearts(config: Config, grid: tuple[int, int, int]) -> Rehearsal:
    """Draw a batch of whole hearts.

    Args:
        config: Uses ``train.batch_size`` and the labels.
        grid: Voxels of a sample.
    """
    num_classes = config.label_table.num_classes
    scene = _draw_scene(num_classes)
    samples, seconds = _time_second_call(
        lambda rng: [
            make_sample(scene, grid, num_classes=num_classes, rng=rng)
            for _ in range(config.train.batch_size)
        ]
    )
    images, shares = (
        np.stack([getattr(sample, name) for sample in samples]) for name in ("image", "shares")
    )
    return Rehearsal(images, shares, seconds)


def rehearse_patches(config: Config, first: "keras.Model", grid: tuple[int, int, int]) -> Rehearsal:
    """Draw a batch of patches for a second stage.

    Args:
        config: The configuration of the whole run.
        first: The network of the first stage, with any weights.
        grid: Voxels that it sees.
    """
    stage, num_classes = config.second_stage, config.label_table.num_classes
    scene, batch_size = _draw_scene(num_classes), config.train.batch_size
    maker = PatchMaker(
        _compute_on_one_core(first), grid, stage.grid, stage.training_patch, num_classes
    )
    # Those of one heart are drawn together.
    count = -(-batch_size // PER_VOLUME) * PER_VOLUME
    patches, seconds = _time_second_call(lambda rng: maker.draw(lambda _: scene, count, rng))
    batch = slice(batch_size)
    targets = np.eye(num_classes, dtype=np.float32)[patches.labels[batch]]
    return Rehearsal(patches.seen[batch], targets, seconds * batch_size / count)


def _draw_scene(num_classes: int) -> Scene:
    """Draw a chest around the heart of a phantom, with that many classes."""
    phantom = make_phantom(0, 0, size=PHANTOM_SIZE)
    scene = paint_scene(phantom.labels, (1.0, 1.0, 1.0), np.random.default_rng(0))
    return Scene(scene.tissues, np.minimum(scene.label_of, num_classes - 1).astype(np.uint8))


def _compute_on_one_core(network: "keras.Model") -> Compute:
    with tempfile.TemporaryDirectory(prefix="heartseg-") as folder:
        file = Path(folder) / "first.keras"
        save_model(network, file, {})
        return start_onnx(load_graph(file), threads=1).compute


def _time_second_call(draw: Callable[[np.random.Generator], Drawn]) -> tuple[Drawn, float]:
    """Return what is drawn and the seconds of one core, after a first call that loads libraries."""
    rng = np.random.default_rng(0)
    with threadpool_limits(1, user_api="blas"):
        draw(rng)
        started = time.perf_counter()
        drawn = draw(rng)
    return drawn, time.perf_counter() - started
