"""What is declared absent is never predicted, and a wrong hint is noticed."""

import numpy as np
import pytest

from heartseg.errors import ConfigError, DataError
from heartseg.inference.hints import (
    HintedNetwork,
    absent_values,
    check_absent,
    describe_doubt,
    find_absent,
    read_hints,
    redistribute,
)
from heartseg.inference.views import softmax
from heartseg.labels import HVSMR
from heartseg.training.adaptation_loss import AdaptationLoss


@pytest.mark.parametrize(
    ("heir", "expected"),
    [
        # 0.1 and 0.3 of 0.4; where nothing else was possible, background.
        (None, [[0.25, 0.75, 0], [1, 0, 0]]),
        (1, [[0.1, 0.9, 0], [0, 1, 0]]),
    ],
)
def test_the_probability_of_absent_classes_goes_to_what_takes_their_place(heir, expected):
    probabilities = np.array([[0.1, 0.3, 0.6], [0.0, 0.0, 1.0]], np.float32)

    np.testing.assert_allclose(redistribute(probabilities, {2: heir}), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        (("RV", "RA"), {2: 1, 4: 3}),
        (("LV",), {1: 2}),
        (("LV", "RV", "PA"), {1: None, 2: None, 6: None}),
    ],
)
def test_the_only_ventricle_or_atrium_takes_the_place_of_the_other(keys, expected):
    assert absent_values(keys, HVSMR) == expected


@pytest.mark.parametrize("heir", [None, 1])
def test_networks_probabilities_and_loss_treat_absent_classes_alike(heir):
    rng = np.random.default_rng(0)
    logits, drawn = rng.normal(0, 2, (1, 2, 2, 2, 3)).astype(np.float32), np.zeros((1, 2, 2, 2, 3))
    drawn[..., 1] = 1
    images, soft = np.zeros((1, 2, 2, 2, 1), np.float32), np.zeros_like(drawn)

    left = redistribute(softmax(logits), {2: heir})

    hinted = HintedNetwork(lambda _images: logits, {2: heir})(images)
    np.testing.assert_allclose(softmax(hinted), left, rtol=1e-5, atol=1e-7)
    targets = np.concatenate([drawn, soft], axis=-1).astype(np.float32)
    losses = [
        float(AdaptationLoss(3, absent=absent, keep=1)(targets, given))
        for absent, given in (({2: heir}, logits), ({2: None}, np.log(left + 1e-12)))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_a_network_with_a_hint_never_predicts_the_class_and_counts_where_it_would_have():
    logits = np.zeros((1, 2, 2, 1, 3), np.float32)
    # One voxel of background, two of class 2, one of class 1.
    for place, value in (((0, 0), 0), ((0, 1), 2), ((1, 0), 2), ((1, 1), 1)):
        logits[0, place[0], place[1], 0, value] = 5
    network = HintedNetwork(lambda _images: logits, {2: None})

    hinted = network(np.zeros((1, 2, 2, 1, 1), np.float32))

    assert set(np.unique(hinted.argmax(axis=-1))) <= {0, 1}
    logits[0, 1, 1, 0] = (0, 0, 5)
    network(np.zeros((1, 2, 2, 1, 1), np.float32))
    assert network.measure_doubt(slice(0, 1)) == {2: pytest.approx(2 / 3)}
    assert network.measure_doubt(slice(1, 2)) == {2: 1}
    assert logits[0, 0, 1, 0, 2] == 5


def test_a_wrong_hint_is_put_in_words():
    [notice] = describe_doubt({2: 0.12, 4: 0.01}, HVSMR)

    assert notice.startswith("RV declared absent; 12% of the heart was likely RV")


@pytest.mark.parametrize(
    ("keys", "terms", "expected"),
    [
        (["ra", "RV"], [], ("RV", "RA")),
        ([], ["single ventricle", "CommonAtrium"], ("RV", "RA")),
        (["SVC"], ["Glenn"], ("SVC",)),
        ([], [], ()),
    ],
)
def test_hints_and_diagnoses_name_absent_structures(keys, terms, expected):
    assert find_absent(keys, terms, HVSMR, source="test") == expected


@pytest.mark.parametrize(
    ("keys", "terms", "message"),
    [
        (["RVV"], [], "expected structures of the model"),
        ([], ["gout"], "'gout' is not known"),
    ],
)
def test_unknown_hints_are_errors(keys, terms, message):
    with pytest.raises(ConfigError, match=message):
        find_absent(keys, terms, HVSMR, source="test")


def test_a_heart_without_any_structure_is_an_error():
    with pytest.raises(ConfigError, match="no heart would be left"):
        check_absent([structure.key for structure in HVSMR.foreground], HVSMR, source="test")


def test_a_table_gives_hints_per_case(tmp_path):
    file = tmp_path / "hints.csv"
    file.write_text('case,absent,diagnosis\npat1,"RV,RA",\n\npat2,,common atrium\npat3,,\n,,\n,,\n')

    assert read_hints(file, HVSMR) == {"pat1": ("RV", "RA"), "pat2": ("RA",), "pat3": ()}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name,absent\npat1,RV\n", "expected a table with the columns case"),
        ("case,absent\npat1,RV\npat1,RA\n", "several rows"),
        ("case,absent\n\n\n,RV\n", "hints.csv, line 4: expected the name of a case"),
        ("case,absent\n\n\npat1,RVV\n", "hints.csv, line 4: expected structures of the model"),
    ],
)
def test_a_table_that_cannot_be_used_is_an_error(tmp_path, text, message):
    file = tmp_path / "hints.csv"
    file.write_text(text)

    with pytest.raises((ConfigError, DataError), match=message):
        read_hints(file, HVSMR)
