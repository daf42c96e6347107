"""Which answer a refinement takes: the one that the held-out part of the drawing speaks for."""

from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from nibabel import Nifti1Header

from heartseg.inference.whole_heart import see_heart
from heartseg.labels import HVSMR, LabelTable
from heartseg.modelfile.description import ModelDescription
from heartseg.refinement.answers import ADAPTED, BEFORE, INTERPOLATED
from heartseg.refinement.refiner import refine_heart
from heartseg.refinement.saved_stage import load_stage, save_stage
from heartseg.scans.volume import UNLABELLED, Volume

SHAPE, GRID = (32, 32, 32), (16, 16, 16)
TABLE = LabelTable(HVSMR.structures[:2])
X, Y, Z = np.meshgrid(*(np.arange(side) for side in SHAPE), indexing="ij")
DRAWN = slice(4, 28, 6)


def tube(radius):
    return (radius**2 > (X - 15.5) ** 2 + (Y - 15.5) ** 2) & (Z > 3) & (Z < 28)


STRAIGHT = tube(9)
"""Interpolation between its slices is right."""
WAISTED = tube(np.where(abs(Z - 16) < 3, 5, 9))
"""Interpolation across the slice that is held out, the third of four, is wrong."""


@pytest.fixture(scope="module", autouse=True)
def coarse_answers():
    """Answers on a grid that is fine enough for the tube and takes less time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (
            "inference.suggestion",
            "inference.views",
            "refinement.adaptation",
            "refinement.laid_drawing",
        ):
            patch.setattr(f"heartseg.{module}.FINE_GRID", (24, 24, 24))
        yield


class Network:
    """Answers in one way before it adapts, and in another way afterwards."""

    def __init__(self, before, after):
        self._ways, self._weights = (before, after), [np.zeros(1, np.float32)]
        self.optimizer = SimpleNamespace(learning_rate=0.0)

    def __call__(self, images):
        way = self._ways[int(self._weights[0][0] > 0)]
        heart = way(images[0, ..., 0]).astype(np.float32)
        return 12 * np.stack([1 - heart, heart], axis=-1)[np.newaxis]

    def compile(self, **_):
        pass

    def get_weights(self):
        return self._weights

    def set_weights(self, weights):
        self._weights = weights

    def train_on_batch(self, _images, _targets):
        self._weights = [self._weights[0] + 1]


def see(image):
    return image > 0.5


def see_nothing(image):
    return np.zeros(image.shape, bool)


def see_it_everywhere(image):
    return np.ones(image.shape, bool)


def draw(shape, network):
    """Return what a network sees of a shape, and the shape on every sixth slice."""
    scan = Volume(shape.astype(np.float32), np.diag([-1.0, -1.0, 1.0, 1.0]), Nifti1Header())
    drawn = np.full(SHAPE, UNLABELLED, np.uint8)
    drawn[:, :, DRAWN] = shape[:, :, DRAWN]
    model = ModelDescription.for_whole_heart(GRID, TABLE)
    return see_heart(network, scan, model, drawn=drawn == 1), drawn


def tick():
    """Return a clock that advances by a second whenever it is read."""
    ticks = count()
    return lambda: float(next(ticks))


def measure_dice(heart, refined, shape):
    found = heart.label(refined.probabilities, TABLE) > 0
    return 2 * np.count_nonzero(found & shape) / (np.count_nonzero(found) + shape.sum())


@pytest.mark.parametrize(
    ("shape", "before", "after", "chosen"),
    [
        pytest.param(WAISTED, see, see_it_everywhere, BEFORE, id="it forgets"),
        pytest.param(STRAIGHT, see_nothing, see_it_everywhere, INTERPOLATED, id="it never learns"),
        pytest.param(WAISTED, see_nothing, see, ADAPTED, id="it learns"),
    ],
)
def test_the_held_out_part_decides_whose_answer_is_taken(tmp_path, shape, before, after, chosen):
    network = Network(before, after)
    heart, drawn = draw(shape, network)
    file = tmp_path / "state.npz"

    refined = refine_heart(
        network,
        heart,
        drawn,
        seconds=30,
        clock=tick(),
        keep=lambda stage: save_stage(file, stage, "key"),
    )

    assert refined.chosen == chosen
    assert set(refined.held_out) == {"before", "interpolated", "corrected", "adapted", "mixed"}
    adapts = chosen == ADAPTED
    assert (refined.steps > 0) == adapts
    assert (network.get_weights()[0][0] > 0) == adapts
    assert load_stage(file, "key").scores == refined.held_out
    assert measure_dice(heart, refined, shape) > 0.8
    if chosen == BEFORE:
        np.testing.assert_allclose(refined.probabilities, heart.probabilities, atol=1e-6)


def test_the_second_stage_corrects_what_the_network_answers():
    network = Network(see_nothing, see_it_everywhere)
    heart, drawn = draw(WAISTED, network)

    def second(heart, probabilities):
        assert probabilities.shape == (24, 24, 24, 2)
        found = (heart.scan.close_up(heart.view, (20, 20, 20)) > 0.5).astype(np.float32)
        return np.stack([1 - found, found], axis=-1)

    refined = refine_heart(network, heart, drawn, second=second, seconds=30, clock=tick())

    assert measure_dice(heart, refined, WAISTED) > 0.8
