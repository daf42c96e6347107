"""Several networks as one."""

from dataclasses import replace

import numpy as np
import pytest

from heartseg.cohort.leakage import PartContents
from heartseg.cohort.training_record import TrainingRecord
from heartseg.errors import ModelError
from heartseg.inference.ensemble import (
    average_logits,
    average_probabilities,
    combine,
    describe_ensemble,
)
from heartseg.inference.segmenter import SliceSegmenter
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.labels import HVSMR
from heartseg.modelfile.description import ModelDescription
from heartseg.slices.recipe import SliceRecipe


def give(values):
    return lambda images: np.broadcast_to(np.float32(values), (*images.shape[:-1], 2))


def describe(case, **changes):
    record = TrainingRecord(
        PartContents((case,), {case: f"label {case}"}, {}, {case: f"scan {case}"})
    )
    return replace(
        ModelDescription(SliceRecipe(), HVSMR, identity=f"model {case}", record=record), **changes
    )


IMAGES = np.zeros((1, 3, 2, 1), np.float32)


def test_probabilities_are_averaged():
    members = [give([0.2, 0.8]), give([0.6, 0.4]), give([0.7, 0.3])]
    np.testing.assert_allclose(average_probabilities(members)(IMAGES)[0, 1, 1], [0.5, 0.5])


def test_logits_are_those_of_averaged_probabilities():
    # Probabilities 1/5, 4/5 and 4/5, 1/5; a third that is sure to the last digit.
    members = [give(np.log([1, 4])), give(np.log([4, 1])), give([-500, 500])]
    found = average_logits(members)(IMAGES)[0, 0, 0]
    expected = np.array([1 / 3, 2 / 3])
    np.testing.assert_allclose(np.exp(found) / np.exp(found).sum(), expected, rtol=1e-6)
    alone = average_logits(members[2:])(IMAGES)
    assert np.isfinite(alone).all()


def test_an_ensemble_has_learned_from_the_cases_of_all():
    model = describe_ensemble([describe("pat1"), describe("pat2")])
    assert model.identity == "2 models: model pat1; model pat2"
    assert model.record.train.cases == ("pat1", "pat2")
    assert model.record.train.image_hashes == {"pat1": "scan pat1", "pat2": "scan pat2"}
    assert describe_ensemble([describe("a"), describe("b", record=None)]).record is None


@pytest.mark.parametrize("changes", [{"kind": "whole_heart"}, {"grid": (8, 8, 8)}])
def test_models_that_differ_are_no_ensemble(changes):
    with pytest.raises(ModelError, match="model a and model b differ"):
        describe_ensemble([describe("a"), describe("b", **changes)])


@pytest.mark.parametrize("kind", [SliceSegmenter, WholeHeartSegmenter])
def test_segmenters_are_combined_by_their_networks(kind):
    combined = combine([kind(give([0, 1]), describe("a")), kind(give([1, 0]), describe("b"))])
    assert isinstance(combined, kind)
    answer = combined.predict(IMAGES)[0, 0, 0]
    assert answer[0] == pytest.approx(answer[1])
