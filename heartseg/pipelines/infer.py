"""``heartseg infer``: slices and volumes to colour masks, label maps and volumes in mL."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from heartseg.cohort.inputs import find_images
from heartseg.config.schema import Config
from heartseg.config.use_sections import InferConfig
from heartseg.errors import BatchError, ConfigError, DataError
from heartseg.inference.batch import (
    BatchProgress,
    WrittenScan,
    log_notices,
    read_ahead,
    segment_pictures,
    segment_scans,
    segment_to_files,
)
from heartseg.inference.hints import find_absent, read_hints
from heartseg.inference.outputs.label_map import LABEL_MAP_SUFFIX
from heartseg.inference.outputs.registry import (
    DEFAULT_SCAN_FORMATS,
    SCAN_FORMATS,
    find_wanted,
)
from heartseg.inference.results import Wanted
from heartseg.inference.segmenter import SliceSegmenter
from heartseg.inference.tasks import (
    COMMAND,
    Task,
    check_outputs,
    mark_finished,
    mark_unfinished,
    plan_tasks,
)
from heartseg.inference.volumetry import (
    VOLUMES,
    VolumeRow,
    merge_volumes,
    read_volumes,
    write_volumes,
)
from heartseg.lock import locked
from heartseg.modelfile.description import WHOLE_HEART, ModelDescription
from heartseg.ownership import read_made
from heartseg.parallel import map_cases
from heartseg.plurals import counted
from heartseg.progress import Report, silent
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout
from heartseg.runs.study_layout import find_model, locate_model
from heartseg.runs.trained import describe_applied, load_segmenter_once, start_segmenter
from heartseg.surroundings import check_backend

logger = logging.getLogger(__name__)

OUTPUT_DIR = Path("heartseg_output")
"""Where results go, below the working directory, if the packaged model made them."""

LABEL_MAP_ENDINGS = (LABEL_MAP_SUFFIX, ".seg")
"""How the names of label maps end, unlike those of scans; 3D Slicer's end in ``.seg.nrrd``."""
PICTURE_SUFFIXES = ("_preview", "_overlay")
"""Beside these, pictures are results: version 0.1 kept no record of what it wrote."""


BODY_KEYS = ("height_cm", "weight_kg", "bsa_m2")
"""Settings of one patient."""


@dataclass(frozen=True)
class InferResult:
    """What ``infer`` did.

    Attributes:
        output_dir: Where the results are.
        num_pictures: Pictures that were segmented.
        num_volumes: Volumes that were segmented.
        volumes: The rows of ``volumes.csv`` of this call.
        files: The files that were written, by case, without ``volumes.csv``.
        device: What computed it: CPU, GPU or the cluster.
    """

    output_dir: Path
    num_pictures: int
    num_volumes: int
    volumes: tuple[VolumeRow, ...]
    files: Mapping[str, tuple[Path, ...]]
    device: str


def run_infer(
    config: Config | None,
    inputs: Sequence[Path] = (),
    *,
    output_dir: Path | None = None,
    series: int | None = None,
    packaged: bool = False,
    model_file: Path | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> InferResult:
    """Segment pictures and volumes with the best checkpoint of a run, or with the packaged model.

    The folder of a study segments with the models of all its folds: their probabilities are
    averaged.

    Recipe and labels are those of the checkpoint, whatever the configuration says. In
    ``volumes.csv`` the rows of cases that earlier calls wrote to the same folder are kept.

    Args:
        config: Names the run; uses the sections ``infer``, ``parallel`` (volumes go to a cluster,
            if it names one) and ``data`` (suffixes). None: the packaged model with the default
            settings; it takes volumes only.
        inputs: Pictures, scans of any format that heartseg reads, and folders of them; none:
            ``infer.images_dir``.
        output_dir: Where results go; None: ``infer.output_dir``, else ``RUN_DIR/inference``, or
            ``heartseg_output`` with the packaged model.
        series: Number of the DICOM series; None if there is only one.
        packaged: Use the packaged model, whatever run the configuration names.
        model_file: Use this model in place of that of the configuration: a ``.keras`` or ``.onnx``
            file, or the folder of a run or study.
        overwrite: Replace results of an earlier call.
        report: Called after each part of a volume and after each input with (inputs done, inputs,
            what was done).

    Raises:
        ConfigError: If ``infer.outputs`` names no output format, or the model or the inputs would
            leave a setting of the section ``infer`` without effect.
        DataError: If ``infer.structures`` names none of the model, height and weight are of no
            patient, there is no trained model, nothing to segment, a result would be lost, or
            another process is at work in the folder.
        MissingPackageError: If DICOM needs a package that is not installed.
        ModelError: If the model cannot be used.
        BatchError: If some inputs cannot be segmented; the others are.
    """
    check_backend()
    packaged = packaged or config is None
    config = config or Config()
    layout = RunLayout(config.run_dir)
    default_dir = OUTPUT_DIR if packaged or model_file else layout.inference
    output_dir = output_dir or config.infer.output_dir or default_dir
    if model_file is None and not packaged:
        model_file = find_model(config.run_dir)
    elif model_file is not None:
        model_file = locate_model(model_file)
    model = describe_applied(model_file, config)
    wanted = _find_wanted(config.infer, model)
    tasks, problems = _plan(config, inputs, output_dir, model, wanted, series)
    # Two calls at once would lose each other's rows of the table.
    with locked(output_dir):
        known_rows = read_volumes(output_dir / VOLUMES)
        check_outputs(
            output_dir,
            tasks,
            overwrite=overwrite,
            known_cases={row.case for row in known_rows},
        )
        result, failed = _segment_tasks(config, model_file, tasks, wanted, output_dir, report)
        if result.volumes:
            write_volumes(output_dir / VOLUMES, merge_volumes(known_rows, result.volumes))
        mark_finished(output_dir, tasks)
    problems += failed
    if problems:
        done = result.num_pictures + result.num_volumes
        others = f" (the results of the others are in {output_dir})" if done else ""
        raise BatchError(
            f"{len(problems)} of {counted(done + len(problems), 'input')} could not be segmented"
            f"{others}",
            problems,
        )
    return result


def _find_wanted(settings: InferConfig, model: ModelDescription) -> Wanted:
    """Return what is wanted of every scan.

    Raises:
        ConfigError: If a format does not go with the model or the structures.
        DataError: If a structure is not one of the model, or height and weight are of no patient.
    """
    scan_formats, _ = _choose_formats(settings)
    if "suggestion" in scan_formats and model.kind != WHOLE_HEART:
        raise ConfigError(
            "infer.outputs: suggestion: slices to correct are suggested by networks of whole "
            f"hearts, and this model is of model.kind: {model.kind}; leave it out"
        )
    wanted = find_wanted(
        scan_formats,
        structures=settings.structures,
        height_cm=settings.height_cm,
        weight_kg=settings.weight_kg,
        bsa_m2=settings.bsa_m2,
        diameters=settings.diameters,
    )
    wanted.list_structures(model.table)
    return wanted


def _refuse_idle(settings: InferConfig, tasks: Sequence[Task], model: ModelDescription) -> None:
    """Refuse settings for pictures if there are only scans, and the other way round.

    A configuration that has both serves both, if the model takes both.

    Raises:
        ConfigError: If there are some.
    """
    kinds = {task.is_scan for task in tasks}
    movie = settings.movie != "none"
    serves_both = movie and not _refuses_pictures(model)
    if kinds == {True} and settings.overlay and not serves_both:
        raise ConfigError(
            "infer.overlay: draws over pictures, and all inputs are volumes; use "
            "infer.movie=mp4 or gif for the labels over every slice of a volume"
        )
    if kinds == {False} and movie and not settings.overlay:
        raise ConfigError(
            "infer.movie: shows volumes, and all inputs are pictures; use infer.overlay=true for "
            "the labels over a picture"
        )
    of_scans = set(SCAN_FORMATS) - set(DEFAULT_SCAN_FORMATS)
    special = [name for name in settings.outputs if name in of_scans]
    if kinds == {False} and special:
        raise ConfigError(
            f"infer.outputs: {special[0]} is written of scans, and all inputs are pictures; leave "
            "it out"
        )
    if kinds == {False} and settings.diameters:
        raise ConfigError(
            "infer.diameters: measures volumes, and all inputs are pictures; leave it out"
        )
    scans = [task for task in tasks if task.is_scan]
    sizes = [name for name in BODY_KEYS if getattr(settings, name) is not None]
    if sizes and len(scans) != 1:
        raise ConfigError(
            f"infer.{sizes[0]}: is of one patient, and there are {counted(len(scans), 'volume')}; "
            "segment one volume per call, or leave it out"
        )


def _plan(
    config: Config,
    inputs: Sequence[Path],
    output_dir: Path,
    model: ModelDescription,
    wanted: Wanted,
    series: int | None,
) -> tuple[list[Task], list[str]]:
    """Find the inputs and name their results; also return one message per unsuitable input."""
    if not inputs:
        if config.infer.images_dir is None:
            raise DataError(
                "infer: there is nothing to segment; name pictures, volumes or folders of them, "
                "or set infer.images_dir"
            )
        inputs = [config.infer.images_dir]
    data = config.data
    skipped = (data.label_suffix, data.endpoints_suffix, *LABEL_MAP_ENDINGS, *PICTURE_SUFFIXES)
    files, problems = find_images(inputs, skipped_suffixes=[s for s in skipped if s])
    files = _without_results(files, inputs)
    if not files:
        raise DataError(
            "\n".join(problems)
            or f"{', '.join(map(str, inputs))}: holds only results of an earlier infer"
        )
    scan_formats, picture_formats = _choose_formats(config.infer)
    tasks, unreadable = plan_tasks(
        files,
        output_dir,
        structures=wanted.list_structures(model.table),
        scan_formats=scan_formats,
        picture_formats=picture_formats,
        series=series,
        image_suffix=data.image_suffix,
        label_suffix=data.label_suffix,
        formats_option="infer.outputs",
    )
    problems += unreadable
    if not tasks:
        raise DataError("\n".join(problems))
    _refuse_idle(config.infer, tasks, model)
    tasks = _add_hints(config.infer, tasks, model)
    hint = _refuses_pictures(model)
    if hint:
        tasks, refused = _without_pictures(tasks, hint)
        problems += refused
    return tasks, problems


def _add_hints(settings: InferConfig, tasks: Sequence[Task], model: ModelDescription) -> list[Task]:
    """Give each scan the structures that its patient does not have: of all, and of the table.

    Raises:
        ConfigError: If the model knows no such structure.
        DataError: If the table cannot be used.
    """
    for_all = find_absent(settings.absent, settings.diagnosis, model.table, source="infer")
    table = {} if settings.hints is None else read_hints(settings.hints, model.table)
    unknown = sorted(table.keys() - {task.case for task in tasks})
    if unknown:
        logger.warning(
            "%s: no input is of the case %s; its hints are not used",
            settings.hints,
            ", ".join(unknown),
        )
    return [replace(task, absent=table.get(task.case, for_all)) for task in tasks]


def _refuses_pictures(model: ModelDescription) -> str:
    """Return why a model cannot segment pictures; empty if it can."""
    if not find_kind(model.kind).takes_pictures:
        return (
            "a model of whole hearts, such as the packaged one, needs a scan, not a picture; for "
            "pictures name the CONFIG of a run that was trained on slices"
        )
    if model.recipe.context:
        return (
            f"the model sees {counted(model.recipe.context, 'neighbour')} on either side of a "
            "slice (model.context), and a picture has none; segment its scan, or name the CONFIG "
            "of a run without context"
        )
    return ""


def _without_results(files: Sequence[Path], inputs: Sequence[Path]) -> list[Path]:
    """Leave out what an earlier call wrote into the folders of the inputs, and log it."""
    kept: list[Path] = []
    skipped: list[Path] = []
    named = set(inputs)
    made = {folder: read_made(folder).get(COMMAND) for folder in {file.parent for file in files}}
    for file in files:
        results = made[file.parent]
        is_result = results is not None and file.name in results.files
        (skipped if is_result and file not in named else kept).append(file)
    if skipped:
        logger.info(
            "skipped, since an earlier infer wrote them: %s",
            ", ".join(file.name for file in skipped),
        )
    return kept


def _choose_formats(settings: InferConfig) -> tuple[list[str], list[str]]:
    """Return the output formats of scans and of pictures."""
    movies = [] if settings.movie == "none" else [f"movie_{settings.movie}"]
    return [*settings.outputs, *movies], ["mask", "overlay"] if settings.overlay else ["mask"]


def _without_pictures(tasks: Sequence[Task], hint: str) -> tuple[list[Task], list[str]]:
    """Return the volumes, and one message per picture; pictures alone are an error."""
    volumes = [task for task in tasks if task.is_scan]
    if not volumes:
        raise DataError(f"{tasks[0].file}: {hint}")
    return volumes, [f"{task.file}: {hint}" for task in tasks if not task.is_scan]


def _segment_tasks(
    config: Config,
    model_file: Path | None,
    tasks: Sequence[Task],
    wanted: Wanted,
    output_dir: Path,
    report: Report,
) -> tuple[InferResult, list[str]]:
    """Segment inputs into a folder that nobody else writes to; also return what failed."""
    report(0, len(tasks), "loading the model")
    pictures = [task for task in tasks if not task.is_scan]
    volumes = [task for task in tasks if task.is_scan]
    on_cluster = config.parallel.backend == "dask"
    # Before the model loads, which takes seconds; on a cluster the workers read.
    readings = read_ahead([] if on_cluster else volumes)
    segmenter, device = None, "the cluster"
    if pictures or not on_cluster:
        segmenter, engine = start_segmenter(model_file, config)
        device = device if on_cluster else engine.device
        _warn_of_differences(config, segmenter.model, model_file)
    mark_unfinished(output_dir, tasks)
    progress = BatchProgress(report, len(tasks))
    failed: list[str] = []
    if isinstance(segmenter, SliceSegmenter):
        failed = segment_pictures(segmenter, pictures, progress, wanted=wanted)
    if segmenter is None or (on_cluster and volumes):
        rows, failed_volumes = _segment_on_cluster(config, model_file, volumes, wanted, progress)
    else:
        rows, failed_volumes = segment_scans(segmenter, readings, progress, wanted=wanted)
    result = InferResult(
        output_dir,
        len(pictures) - len(failed),
        len(volumes) - len(failed_volumes),
        tuple(rows),
        {task.case: tuple(f for f in task.outputs if f.is_file()) for task in tasks},
        device,
    )
    return result, failed + failed_volumes


def _warn_of_differences(config: Config, model: ModelDescription, model_file: Path | None) -> None:
    if model_file is None:
        return
    different = find_kind(model.kind).compare_recipes(config, model)
    if config.label_table != model.table:
        different.append("labels")
    if different:
        logger.warning(
            "%s was trained with other settings than the configuration's, and keeps its own: %s",
            model_file,
            ", ".join(different),
        )


def _segment_on_cluster(
    config: Config,
    model_file: Path | None,
    tasks: Sequence[Task],
    wanted: Wanted,
    progress: BatchProgress,
) -> tuple[list[VolumeRow], list[str]]:
    """Let the workers of a cluster segment volumes, each one at a time; see ``segment_scans``."""
    # Absolute paths: the workers have working directories of their own.
    model_file = None if model_file is None else model_file.absolute()
    outcomes = map_cases(
        partial(_segment_on_worker, config=config, model_file=model_file, wanted=wanted),
        [task.absolute() for task in tasks],
        backend=config.parallel.backend,
        address=config.parallel.address,
        report=lambda _done, _total, case: progress.finish(case),
        describe=lambda task: task.case,
    )
    written = [outcome.result for outcome in outcomes if outcome.result is not None]
    for scan in written:
        log_notices(scan)
    return (
        [row for scan in written for row in scan.rows],
        [outcome.problem for outcome in outcomes if outcome.problem is not None],
    )


def _segment_on_worker(
    task: Task, *, config: Config, model_file: Path | None, wanted: Wanted
) -> WrittenScan:
    if task.source is None:
        raise TypeError("a picture has no place on a cluster")
    segmenter = load_segmenter_once(model_file, config)
    return segment_to_files(task, task.source.read(), segmenter, wanted=wanted)
