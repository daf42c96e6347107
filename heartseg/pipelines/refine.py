"""``heartseg refine``: a scan and some drawn slices to a full segmentation and an adapted model."""

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from heartseg import __version__
from heartseg.cohort.leakage import PartContents
from heartseg.cohort.training_record import TrainingRecord, record_to_json
from heartseg.config.schema import PACKAGED, Config
from heartseg.errors import DataError, ModelError
from heartseg.exchange.label_maps import read_labels
from heartseg.inference.hints import HintedNetwork, absent_values, describe_doubt, find_absent
from heartseg.inference.outputs.registry import SCAN_FORMATS, write_files
from heartseg.inference.plausibility import check_scan, find_notices
from heartseg.inference.results import SegmentedScan
from heartseg.inference.tasks import Task, check_outputs, mark_finished, mark_unfinished, plan_tasks
from heartseg.inference.volumetry import (
    VOLUMES,
    VolumeRow,
    merge_volumes,
    read_volumes,
    write_volumes,
)
from heartseg.lock import locked
from heartseg.modelfile.checkpoint import load_model, save_model
from heartseg.modelfile.description import WHOLE_HEART, ModelDescription
from heartseg.modelfile.packaged import load_packaged
from heartseg.progress import Report, silent
from heartseg.refinement.drawing import Drawing, EmptySlices, understand_drawing
from heartseg.runs.lineage import find_origin
from heartseg.runs.study_layout import locate_model
from heartseg.runs.trained import describe_model
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.oblique import obliqueness_deg
from heartseg.scans.volume import Volume
from heartseg.surroundings import check_backend

if TYPE_CHECKING:
    import keras

    from heartseg.inference.whole_heart import SeenHeart
    from heartseg.refinement.refiner import Refined

logger = logging.getLogger(__name__)

OUTPUT_DIR = Path("heartseg_refined")
MODEL_SUFFIX, STATE_SUFFIX = "_refined.keras", "_refine_state.npz"
SAVE_EVERY_S = 20.0
OVERLAP = 0.3
"""A drawn heart that overlaps less with what the network finds may be of another patient."""


@dataclass(frozen=True)
class RefineResult:
    """What ``refine`` did.

    Attributes:
        output_dir: Where the results are.
        files: The results, the adapted model among them.
        model_file: The adapted model.
        rows: The rows of ``volumes.csv``.
        assumption: What was taken as drawn, in words.
        steps: Steps in which the network adapted; 0 where adapting did not help.
        held_out: Dice on the part of the drawing that was held out first, by what was judged.
        chosen: Which of them made the answer.
        notices: What makes the answer doubtful, in words.
    """

    output_dir: Path
    files: tuple[Path, ...]
    model_file: Path
    rows: tuple[VolumeRow, ...]
    assumption: str
    steps: int
    held_out: dict[str, float]
    chosen: str
    notices: tuple[str, ...]


def run_refine(
    scan_file: Path,
    labels_file: Path,
    *,
    config: Config | None = None,
    init: str = PACKAGED,
    minutes: float = 3.0,
    output_dir: Path | None = None,
    empty_slices: EmptySlices = "unknown",
    overwrite: bool = False,
    report: Report = silent,
) -> RefineResult:
    """Adapt a copy of a model to one scan, of which some slices are drawn, and segment it.

    The drawn voxels are kept as they are. What an interrupted call has done is used by the next
    call with the same scan, drawing, model and settings.

    Args:
        scan_file: The scan.
        labels_file: A label map of its voxels; 255 is unknown.
        config: Uses the section ``infer``: what is absent, and which files are written.
        init: ``packaged``, the folder of a run, or a ``.keras`` file: the model that adapts.
        minutes: Time in which it adapts.
        output_dir: Where results go; None: ``heartseg_refined`` in the working directory.
        empty_slices: Whether a slice on which nothing is drawn is unknown or background.
        overwrite: Replace results of an earlier call.
        report: Called with (seconds done, seconds, what is done).

    Raises:
        ConfigError: If a hint or an output format is unknown.
        DataError: If the scan or the drawing cannot be used, or a result would be lost.
        ModelError: If the model is missing, damaged, or none of whole hearts.
    """
    check_backend()
    config, output_dir = config or Config(), output_dir or OUTPUT_DIR
    model_file = locate_model(init)
    model = describe_model(model_file)
    if model.kind != WHOLE_HEART:
        raise ModelError(f"{init}: is a network of slices; refine needs one of whole hearts")
    settings = config.infer
    absent = find_absent(settings.absent, settings.diagnosis, model.table, source="refine")
    report(0, round(60 * minutes), "reading")
    task = _plan(scan_file, output_dir, config, model)
    scan = _read(task)
    check_scan(scan)
    if obliqueness_deg(scan.affine) > _most_oblique():
        raise DataError(
            f"{scan_file}: is turned by {obliqueness_deg(scan.affine):.0f} degrees against the "
            "patient's axes; refine needs a scan along them. Resample scan and labels first"
        )
    stored = read_labels(labels_file, model.table, partial=True, like=scan)
    drawing = understand_drawing(
        stored.voxels,
        model.table,
        absent=absent,
        empty_slices=empty_slices,
        source=str(labels_file),
    )
    logger.info("%s: %s", labels_file, drawing.assumption)
    _refuse_inputs(task, (labels_file, *([model_file] if model_file else [])))
    with locked(output_dir):
        known_rows = read_volumes(output_dir / VOLUMES)
        check_outputs(
            output_dir, [task], overwrite=overwrite, known_cases={row.case for row in known_rows}
        )
        mark_unfinished(output_dir, [task])
        job = _Job(scan, drawing, model, model_file, absent, 60 * minutes)
        result, refined, network = job.run(output_dir / f"{task.case}{STATE_SUFFIX}", report)
        result = replace(result, case=task.case)
        formats = {name: files for name, files in task.files.items() if name in SCAN_FORMATS}
        write_files(SCAN_FORMATS, formats, result)
        [refined_file] = task.files["model"]
        save_model(network, refined_file, job.describe_adapted(result, task.case))
        write_volumes(output_dir / VOLUMES, merge_volumes(known_rows, result.rows))
        mark_finished(output_dir, [task])
        (output_dir / f"{task.case}{STATE_SUFFIX}").unlink(missing_ok=True)
    return RefineResult(
        output_dir,
        tuple(file for file in task.outputs if file.is_file()),
        refined_file,
        result.rows,
        drawing.assumption,
        refined.steps,
        dict(refined.held_out),
        refined.chosen,
        result.notices,
    )


def _most_oblique() -> float:
    from heartseg.inference.whole_heart import MOST_OBLIQUE_DEG

    return MOST_OBLIQUE_DEG


def _read(task: Task) -> Volume:
    if task.source is None:
        raise DataError(f"{task.file}: is a picture; expected a scan")
    return task.source.read()


def _plan(scan_file: Path, output_dir: Path, config: Config, model: ModelDescription) -> Task:
    tasks, problems = plan_tasks(
        [scan_file],
        output_dir,
        structures=model.table.foreground,
        scan_formats=[*config.infer.outputs, "suggestion"],
        picture_formats=(),
        image_suffix=config.data.image_suffix,
        formats_option="infer.outputs",
    )
    if problems:
        raise DataError(problems[0])
    [task] = tasks
    files = {**task.files, "model": (output_dir / f"{task.case}{MODEL_SUFFIX}",)}
    return replace(task, files=files)


def _refuse_inputs(task: Task, inputs: Sequence[Path]) -> None:
    """Raise ``DataError`` if a result would replace the drawing or the model."""
    known = {file.resolve() for file in inputs}
    for output in task.outputs:
        if output.resolve() in known:
            raise DataError(f"{output}: is an input and would be replaced; choose --output")


@dataclass(frozen=True, eq=False)
class _Job:
    """One scan, what is drawn on it, and the model that adapts to it."""

    scan: Volume
    drawing: Drawing
    model: ModelDescription
    model_file: Path | None
    absent: tuple[str, ...]
    seconds: float

    @property
    def values(self) -> list[int]:
        return absent_values(self.absent, self.model.table)

    def run(
        self, state_file: Path, report: Report
    ) -> tuple[SegmentedScan, "Refined", "keras.Model"]:
        """Refine the scan, or go on with it; also return the adapted network."""
        # TensorFlow takes seconds to load: only when the inputs are known to be good.
        from heartseg.inference.network import compile_volume_predict
        from heartseg.inference.views import VIEWS
        from heartseg.inference.whole_heart import see_heart
        from heartseg.refinement.refiner import Stage, refine_heart
        from heartseg.refinement.saved_stage import load_stage, save_stage

        report(0, round(self.seconds), "loading the model")
        network = load_packaged() if self.model_file is None else load_model(self.model_file)
        hinted = HintedNetwork(compile_volume_predict(network), self.values)
        structures = self.drawing.known & (self.drawing.labels > 0)
        heart = see_heart(
            hinted, self.scan, self.model, drawn=structures, report=_without_total(report)
        )
        doubts = describe_doubt(hinted.measure_doubt(len(VIEWS)), self.model.table)
        notices = [*doubts, *self._compare_with_drawing(heart)]
        key = self._fingerprint()
        stage = load_stage(state_file, key)
        if stage is not None:
            logger.info("%s: goes on with what an interrupted call has done", state_file)
        saved = time.monotonic()

        def keep(current: Stage) -> None:
            nonlocal saved
            if time.monotonic() - saved > SAVE_EVERY_S:
                save_stage(state_file, current, key)
                saved = time.monotonic()

        refined = refine_heart(
            network,
            heart,
            self.drawing.labels,
            absent=self.values,
            seconds=self.seconds,
            stage=stage,
            keep=keep,
            report=report,
        )
        return self._conclude(heart, refined, notices), refined, network

    def _conclude(
        self, heart: "SeenHeart", refined: "Refined", notices: list[str]
    ) -> SegmentedScan:
        labels = heart.label(refined.probabilities, self.model.table)
        known = self.drawing.known
        labels[known] = self.drawing.labels[known]
        found = find_notices(
            labels,
            refined.stability,
            self.scan.affine,
            self.model.calibration,
            self.model.table,
        )
        return SegmentedScan(
            "",
            self.scan,
            labels,
            refined.stability,
            (*notices, *found),
            self.model,
            absent=self.absent,
            doubt=heart.measure_doubt(refined.probabilities),
            drawn=self.drawing.slices,
        )

    def _compare_with_drawing(self, heart: "SeenHeart") -> list[str]:
        """Return a notice where the drawn heart is not where the network sees one."""
        labels = heart.label(heart.probabilities, self.model.table)
        known = self.drawing.known
        drawn, found = self.drawing.labels[known] > 0, labels[known] > 0
        both = np.count_nonzero(drawn & found)
        if 2 * both >= OVERLAP * (np.count_nonzero(drawn) + np.count_nonzero(found)):
            return []
        return [
            "the drawn heart hardly overlaps with what the model finds in this scan; are the "
            "labels of this scan, or of another patient?"
        ]

    def _fingerprint(self) -> str:
        known: NDArray[np.uint8] = np.ascontiguousarray(self.drawing.labels)
        digest = hashlib.sha256(known.tobytes())
        parts = (fingerprint_scan(self.scan), self.model.identity, self.absent, self.seconds)
        digest.update(repr((__version__, *parts)).encode())
        return digest.hexdigest()

    def describe_adapted(self, result: SegmentedScan, case: str) -> dict[str, object]:
        """Return the metadata of the adapted model: it has learned from this scan."""
        origin, ancestor = find_origin(self._origin())
        drawn = Volume(self.drawing.labels, self.scan.affine, self.scan.header)
        learned = PartContents(
            (case,),
            case_hashes={case: fingerprint_labels(drawn)},
            image_hashes={case: fingerprint_scan(self.scan)},
        )
        return {
            "heartseg": __version__,
            "kind": WHOLE_HEART,
            "labels": [
                {**entry, "color": list(entry["color"])} for entry in result.table.description
            ],
            "network": {"grid": list(self.model.grid)},
            "learned_from": record_to_json(
                TrainingRecord(learned, origin=origin, ancestor=ancestor)
            ),
        }

    def _origin(self) -> str:
        return PACKAGED if self.model_file is None else str(self.model_file)


def _without_total(report: Report) -> Report:
    return lambda _done, _total, what: report(0, 0, what)
