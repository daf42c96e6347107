from dataclasses import dataclass, replace

import numpy as np
import pytest
from builders import make_scan

from heartseg.cohort.leakage import PartContents
from heartseg.cohort.training_record import TrainingRecord
from heartseg.inference.plausibility import measure_confidence
from heartseg.inference.results import segment_scan
from heartseg.inference.segmenter import Prediction
from heartseg.labels import HVSMR, LabelTable
from heartseg.modelfile.description import (
    WHOLE_HEART,
    WHOLE_HEART_VIEW,
    ModelDescription,
    SecondStage,
)
from heartseg.modelfile.packaged import CALIBRATION
from heartseg.scans.fingerprint import fingerprint_scan
from heartseg.scans.volume import build_volume

TABLE = LabelTable(HVSMR.structures[:4])
SCAN = make_scan(num_classes=4)
VOLUME = build_volume(SCAN.image.astype(np.float32), SCAN.affine)


MODEL = ModelDescription(
    WHOLE_HEART_VIEW, TABLE, WHOLE_HEART, identity="that model", calibration=CALIBRATION
)


@dataclass(frozen=True)
class FixedSegmenter:
    """Stands in for a model; it predicts the same for every scan."""

    stability: np.ndarray | None
    confidence: np.ndarray | None = None
    notices: tuple[str, ...] = ()
    model: ModelDescription = MODEL

    def segment(self, image, *, absent=(), report=None):
        return Prediction(
            SCAN.labels.astype(np.uint8), self.stability, self.confidence, self.notices
        )


@pytest.mark.parametrize(
    ("stability", "notices", "expected", "flags"),
    [
        # Mean 0.87, one below 0.75.
        (
            [0.95, 0.7, 0.96],
            (),
            ["on RV: its views of this scan agree"],
            ["", "doubtful", ""],
        ),
        # What is noticed of the whole scan does not hide what is noticed of a structure.
        ([0.95, 0.7, 0.96], ("size?",), ["size?", "on RV"], ["", "doubtful", ""]),
        ([0.95, 0.9, 0.96], (), [], ["", "", ""]),
        # Mean below 0.85: the model notices it, and every structure is doubtful.
        ([0.85, 0.7, 0.8], ("unsure",), ["unsure"], ["doubtful"] * 3),
        (None, (), [], ["", "", ""]),
    ],
)
def test_doubtful_structures_are_flagged_and_noticed(stability, notices, expected, flags):
    stability = None if stability is None else np.array(stability)

    result = segment_scan("pat4", VOLUME, FixedSegmenter(stability, notices=notices))

    assert len(result.notices) == len(expected)
    assert all(part in notice for part, notice in zip(expected, result.notices, strict=True))
    kept = [";".join({"doubtful"} & set(row.flags.split(";"))) for row in result.rows]
    assert kept == flags
    assert [row.case for row in result.rows] == ["pat4"] * 3


@pytest.mark.parametrize(
    ("stability", "confidence", "flagged"),
    [
        # The stability of the second would be called doubtful, the confidence of the third is.
        ([0.95, 0.86, 0.96], [0.9, 0.84, 0.82], [2]),
        ([0.95, 0.96, 0.96], [0.9, 0.83, np.nan], []),
        # Mean stability below 0.85, however sure the model is.
        ([0.84, 0.8, 0.84], [0.99, 0.99, 0.99], [0, 1, 2]),
    ],
)
def test_where_the_confidence_is_known_it_decides_what_is_doubtful(stability, confidence, flagged):
    result = segment_scan("a", VOLUME, FixedSegmenter(np.array(stability), np.array(confidence)))
    assert [n for n, row in enumerate(result.rows) if "doubtful" in row.flags] == flagged
    if len(flagged) == 1:
        assert "wrong on LA: it is not sure (confidence below 0.83)" in result.notices[0]
    alone = replace(MODEL, second_stage=SecondStage((8, 8, 8), (8, 8, 8))).without_second_stage()
    first = segment_scan(
        "a", VOLUME, FixedSegmenter(np.array([0.95, 0.8, 0.96]), np.array([0.7] * 3), model=alone)
    )
    assert [n for n, row in enumerate(first.rows) if "doubtful" in row.flags] == [1]


def test_the_confidence_is_the_mean_probability_where_a_structure_is_the_likeliest():
    probabilities = np.zeros((1, 1, 4, 4), np.float32)
    probabilities[0, 0] = [
        [0.1, 0.6, 0.2, 0.1],
        [0.2, 0.8, 0.0, 0.0],
        [0.7, 0.1, 0.1, 0.1],
        [0.3, 0.2, 0.5, 0.0],
    ]
    np.testing.assert_allclose(measure_confidence(probabilities), [0.7, 0.5, np.nan], rtol=1e-6)


def test_a_scan_that_the_model_has_seen_is_flagged_and_noticed():
    seen = TrainingRecord(
        PartContents(("pat4",), {"pat4": "ras-12"}, image_hashes={"pat4": fingerprint_scan(VOLUME)})
    )
    model = replace(MODEL, record=seen)

    result = segment_scan("mine", VOLUME, FixedSegmenter(None, model=model))
    new = segment_scan("mine", VOLUME, FixedSegmenter(None, model=replace(MODEL, record=None)))
    by_label = segment_scan("mine", VOLUME, FixedSegmenter(None, model=model), label_hash="ras-12")

    assert "the model has seen this patient: its scan was a training case" in result.notices[0]
    assert all("learned" in row.flags for row in result.rows)
    assert result.provenance.model == "that model"
    assert result.provenance.has_learned("ras-12")
    assert (new.notices, new.learned) == ((), None)
    assert by_label.learned is not None


def test_what_reaches_the_border_within_a_margin_is_truncated():
    around = [(4, 0), (2, 3), (0, 5)]
    labels = np.zeros(SCAN.labels.shape, np.uint8)
    labels[:3, 4:6, 2:4] = 1  # as far as the scan shows anything
    labels[5:7, 4:6, 2:4] = 2
    image = np.random.default_rng(0).uniform(1, 2, labels.shape).astype(np.float32)
    scan = build_volume(np.pad(image, around), SCAN.affine)
    found = segment_scan("mine", scan, FixedSegmenter(None))

    rows = replace(found, labels=np.pad(labels, around)).rows

    assert [row.flags for row in rows] == ["truncated", "", "absent"]


def test_a_label_map_in_place_of_a_scan_is_noticed():
    labels = replace(VOLUME, voxels=SCAN.labels.astype(np.float32))

    (notice,) = segment_scan("mine", labels, FixedSegmenter(None)).notices

    assert "holds a few whole numbers only, as a label map does" in notice
