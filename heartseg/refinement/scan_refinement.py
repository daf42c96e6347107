"""One scan and what is drawn on it, from both arrays to a segmented scan; can be interrupted."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np

from heartseg import __version__
from heartseg.inference.correction import Correct
from heartseg.inference.hints import HintedNetwork, absent_values, describe_doubt
from heartseg.inference.plausibility import find_notices
from heartseg.inference.results import SegmentedScan, describe_seen, find_seen
from heartseg.inference.views import PredictVolume
from heartseg.inference.whole_heart import SeenHeart, see_heart
from heartseg.modelfile.description import ModelDescription
from heartseg.progress import Report
from heartseg.refinement.answers import SecondStage
from heartseg.refinement.drawing import Drawing, hardly_overlaps
from heartseg.refinement.refiner import Refined, Stage, refine_heart
from heartseg.refinement.saved_stage import load_stage, save_stage
from heartseg.scans.fingerprint import fingerprint_scan
from heartseg.scans.volume import Volume

SAVE_EVERY_S = 20.0
OTHER_PATIENT = (
    "the drawn heart hardly overlaps with what the model finds in this scan; are the labels of "
    "this scan, or of another patient?"
)
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class DrawnScan:
    """A scan, what is drawn on it, and the model that adapts to both.

    Attributes:
        case: Name of the case.
        scan: The scan.
        drawing: What is drawn.
        model: What the model was trained for.
        absent: Keys of the structures that the patient does not have.
        label_hash: As for ``segment_scan``.
    """

    case: str
    scan: Volume
    drawing: Drawing
    model: ModelDescription
    absent: tuple[str, ...] = ()
    label_hash: str | None = None

    def refine(
        self,
        network: keras.Model,
        predict: PredictVolume,
        *,
        correct: Correct | None = None,
        seconds: float,
        state_file: Path,
        report: Report,
    ) -> tuple[SegmentedScan, Refined]:
        """Refine the scan, or go on where an interrupted call was.

        Args:
            network: The network; it adapts, in place.
            predict: The same network, ready to compute.
            correct: The network of the second stage, which ``model.second_stage`` describes; it
                stays as it is. None: the first stage alone answers.
            seconds: Time in which it adapts.
            state_file: Where to keep what the next call needs to go on.
            report: Called with (seconds done, seconds, what is done).

        Raises:
            DataError: If there is no heart.
        """
        table, values = self.model.table, absent_values(self.absent, self.model.table)
        hinted = HintedNetwork(predict, values)
        structures = self.drawing.known & (self.drawing.labels > 0)
        heart = see_heart(
            hinted, self.scan, self.model, drawn=structures, report=_without_total(report)
        )
        doubts = describe_doubt(hinted.measure_doubt(heart.calls), table)
        notices = list(doubts)
        if hardly_overlaps(self.drawing, heart.label(heart.probabilities, table)):
            notices.append(OTHER_PATIENT)
        key = self._fingerprint(seconds)
        stage = load_stage(state_file, key)
        if stage is not None:
            logger.info(
                "%s: goes on after %d steps of an interrupted call", state_file, stage.num_steps
            )
        refined = refine_heart(
            network,
            heart,
            self.drawing.labels,
            absent=values,
            second=self._find_second_stage(correct),
            seconds=seconds,
            stage=stage,
            keep=_Keeper(state_file, key),
            report=report,
        )
        return self._conclude(heart, refined, notices), refined

    def _find_second_stage(self, correct: Correct | None) -> SecondStage | None:
        stage = self.model.second_stage
        if correct is None or stage is None:
            return None
        return lambda heart, probabilities: heart.correct(correct, stage, probabilities)

    def _conclude(
        self, heart: SeenHeart, refined: Refined, notices: Sequence[str]
    ) -> SegmentedScan:
        table, calibration = self.model.table, self.model.calibration
        labels = heart.label(refined.probabilities, table)
        known = self.drawing.known
        labels[known] = self.drawing.labels[known]
        found = find_notices(labels, refined.stability, self.scan.affine, calibration, table)
        seen = find_seen(self.model, self.scan, label_hash=self.label_hash)
        return SegmentedScan(
            self.case,
            self.scan,
            labels,
            refined.stability,
            (*notices, *found, *describe_seen(seen)),
            self.model,
            seen,
            absent=self.absent,
            doubt=heart.measure_doubt(refined.probabilities),
            drawn=self.drawing.slices,
        )

    def _fingerprint(self, seconds: float) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.drawing.labels).tobytes())
        parts = (fingerprint_scan(self.scan), self.model.identity, self.absent, seconds)
        digest.update(repr((__version__, *parts)).encode())
        return digest.hexdigest()


class _Keeper:
    """Writes the state to a file now and then."""

    def __init__(self, state_file: Path, key: str) -> None:
        self._file, self._key, self._saved = state_file, key, time.monotonic()

    def __call__(self, stage: Stage) -> None:
        if time.monotonic() - self._saved > SAVE_EVERY_S:
            save_stage(self._file, stage, self._key)
            self._saved = time.monotonic()


def _without_total(report: Report) -> Report:
    return lambda _done, _total, what: report(0, 0, what)
