"""``heartseg refine``: a scan and some drawn slices to a full segmentation and an adapted model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from threadpoolctl import threadpool_limits

from heartseg.cohort.inputs import DRAWN
from heartseg.config.schema import PACKAGED, Config
from heartseg.errors import DataError, ModelError
from heartseg.exchange.label_maps import read_labels
from heartseg.inference.outputs.registry import SCAN_FORMATS, find_wanted, write_files
from heartseg.inference.plausibility import check_scan
from heartseg.inference.results import restrict
from heartseg.inference.tasks import (
    Task,
    check_outputs,
    fingerprint_label_map,
    mark_finished,
    mark_unfinished,
)
from heartseg.inference.volumetry import (
    VOLUMES,
    VolumeRow,
    merge_volumes,
    read_volumes,
    write_volumes,
)
from heartseg.lock import locked
from heartseg.modelfile.onnx_file import SUFFIX as ONNX_SUFFIX
from heartseg.progress import Report, silent
from heartseg.refinement.drawing import EmptySlices, understand_drawing
from heartseg.runs.adapted_model import describe_adapted
from heartseg.runs.one_scan import (
    describe_whole_heart_model,
    find_hints,
    plan_scan,
    read_planned,
)
from heartseg.scans.oblique import check_straight
from heartseg.scans.volume import Volume, write_label_map
from heartseg.surroundings import check_backend

OUTPUT_DIR = Path("heartseg_refined")
MODEL_SUFFIX, DRAWN_SUFFIX = "_refined.keras", f"{DRAWN}.nii.gz"
"""What ``infer`` does not write: the adapted model, and what was taken as drawn."""
STATE_SUFFIX = "_refine_state.npz"


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
    series: int | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> RefineResult:
    """Adapt a copy of a model to one scan, of which some slices are drawn, and segment it.

    Of a model with two stages the first adapts. The second corrects its answers, and is kept in the
    adapted model as it is.

    The drawn voxels are kept as they are. What an interrupted call has done is used by the next
    call with the same scan, drawing, model and settings.

    Args:
        scan_file: The scan.
        labels_file: A label map of its voxels; 255 is unknown.
        config: Uses the section ``infer``: what is absent, whether a second stage takes part, and
            which files are written; and ``parallel``: where the model computes.
        init: ``packaged``, the folder of a run, or a ``.keras`` file: the model that adapts.
        minutes: Time in which it adapts.
        output_dir: Where results go; None: ``heartseg_refined`` in the working directory.
        empty_slices: Whether a slice on which nothing is drawn is unknown or background.
        series: Number of the DICOM series; None if there is only one.
        overwrite: Replace results of an earlier call.
        report: Called with (seconds done, seconds, what is done).

    Raises:
        ConfigError: If a hint or an output format is unknown.
        DataError: If the scan or the drawing cannot be used, or a result would be lost.
        ModelError: If the model is missing, damaged, or none of whole hearts.
    """
    check_backend()
    config, output_dir = config or Config(), output_dir or OUTPUT_DIR
    model_file, model = describe_whole_heart_model(init, command="refine")
    _refuse_fixed(init, model_file)
    settings = config.infer
    if not settings.second_stage:
        model = model.without_second_stage()
    formats = [*settings.outputs, "suggestion"]
    wanted = find_wanted(
        formats,
        structures=settings.structures,
        height_cm=settings.height_cm,
        weight_kg=settings.weight_kg,
        bsa_m2=settings.bsa_m2,
        diameters=settings.diameters,
    )
    seconds = 60 * minutes
    report(0, round(seconds), "reading")
    task = plan_scan(
        scan_file,
        output_dir,
        config,
        model,
        formats=formats,
        series=series,
        more=[MODEL_SUFFIX, DRAWN_SUFFIX],
    )
    absent = find_hints(settings, task.case, model.table, command="refine")
    scan = read_planned(task)
    check_scan(scan)
    check_straight(scan.affine, needed_by="refine", source=str(scan_file))
    stored = read_labels(labels_file, model.table, partial=True, like=scan)
    drawing = understand_drawing(
        stored.voxels,
        model.table,
        absent=absent,
        empty_slices=empty_slices,
        source=str(labels_file),
    )
    _refuse_inputs(task, (labels_file, *([model_file] if model_file else [])))
    with locked(output_dir):
        known_rows = read_volumes(output_dir / VOLUMES)
        check_outputs(
            output_dir, [task], overwrite=overwrite, known_cases={row.case for row in known_rows}
        )
        mark_unfinished(output_dir, [task])
        report(0, round(seconds), "loading the model")
        # TensorFlow takes seconds to load: only when the inputs are known to be good.
        from heartseg.modelfile.checkpoint import save_model
        from heartseg.refinement.scan_refinement import DrawnScan
        from heartseg.runs.engines import load_keras, load_network

        network, engine = load_keras(model_file, model, config)
        state_file = output_dir / f"{task.case}{STATE_SUFFIX}"
        drawn_scan = DrawnScan(
            task.case,
            scan,
            drawing,
            model,
            absent,
            fingerprint_label_map(task.label_map, model.table),
        )
        # As in infer: many small products, whose threads would wait busily for each other.
        with threadpool_limits(1, user_api="blas"):
            result, refined = drawn_scan.refine(
                network,
                engine.compute,
                correct=engine.correct,
                seconds=seconds,
                state_file=state_file,
                report=report,
            )
        # Not what the model finds by itself: a score of it says little about the model.
        made_by = replace(model, identity=f"{model.identity}, refined by a drawing")
        result = restrict(replace(result, model=made_by, learned="it is drawn in part"), wanted)
        written = {name: files for name, files in task.files.items() if name in SCAN_FORMATS}
        write_files(SCAN_FORMATS, written, result)
        adapted_file, drawn_file = task.files["more"]
        write_label_map(drawn_file, drawing.labels, like=scan, table=model.table)
        learned = Volume(drawing.labels, scan.affine, scan.header)
        metadata = describe_adapted(
            model,
            PACKAGED if model_file is None else str(model_file),
            case=task.case,
            scan=scan,
            drawn=learned,
        )
        second = model.second_stage and load_network(model_file, second_stage=True)
        save_model(network, adapted_file, metadata, second_stage=second)
        write_volumes(output_dir / VOLUMES, merge_volumes(known_rows, result.rows))
        mark_finished(output_dir, [task])
        state_file.unlink(missing_ok=True)
    return RefineResult(
        output_dir,
        tuple(file for file in task.outputs if file.is_file()),
        adapted_file,
        result.rows,
        drawing.assumption,
        refined.steps,
        dict(refined.held_out),
        refined.chosen,
        result.notices,
    )


def _refuse_fixed(init: str, model_file: Path | None) -> None:
    """Raise ``ModelError`` if a model cannot adapt."""
    if model_file is None:
        return
    if model_file.is_dir():
        raise ModelError(
            f"{init}: is a study of several models, and one model adapts; name the folder of a "
            f"fold, such as {model_file / 'fold_0'}"
        )
    if model_file.suffix == ONNX_SUFFIX:
        raise ModelError(
            f"{init}: an ONNX model cannot adapt; name the .keras file or the run that it was "
            "exported from, or leave out --init if that was the packaged model"
        )


def _refuse_inputs(task: Task, inputs: Sequence[Path]) -> None:
    """Raise ``DataError`` if a result would replace the drawing or the model."""
    known = {file.resolve() for file in inputs}
    for output in task.outputs:
        if output.resolve() in known:
            raise DataError(f"{output}: is an input and would be replaced; choose --output")
