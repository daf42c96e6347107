"""``heartseg infer``: slices and volumes to colour masks, label maps and volumes in mL."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.cohort.inputs import find_inputs
from heartseg.config.schema import Config
from heartseg.errors import BatchError, DataError
from heartseg.files import UNFINISHED, image_stem, remove_unfinished, replacing
from heartseg.inference.results import (
    VOLUMES,
    Segmented,
    Task,
    naming,
    segment_to_files,
)
from heartseg.inference.segmenter import Segmenter, SliceSegmenter
from heartseg.inference.slice_prediction import lay_picture
from heartseg.inference.volumetry import (
    VolumeRow,
    merge_volumes,
    read_volumes,
    write_volumes,
)
from heartseg.inference.whole_heart import WholeHeartSegmenter
from heartseg.labels import HVSMR, LabelTable
from heartseg.lock import locked
from heartseg.modelfile.checkpoint import read_metadata
from heartseg.modelfile.description import WHOLE_HEART, ModelDescription
from heartseg.modelfile.packaged import describe_packaged
from heartseg.parallel import map_cases
from heartseg.pictures.overlays import overlay
from heartseg.progress import Report, silent
from heartseg.runs.kind import find_kind
from heartseg.runs.layout import RunLayout
from heartseg.scans.volume import Volume, is_nifti, read_image
from heartseg.slices.recipe import SliceRecipe
from heartseg.slices.store import read_gray, write_color, write_mask

logger = logging.getLogger(__name__)

OUTPUT_DIR = Path("heartseg_output")
"""Where results go, below the working directory, when the packaged model made them."""
LABEL_MAP_SUFFIX = "_seg"


@dataclass(frozen=True)
class InferResult:
    """What ``infer`` did.

    Attributes:
        output_dir: Where the results lie.
        num_pictures: Pictures that were segmented.
        num_volumes: Volumes that were segmented.
        volumes: The rows of ``volumes.csv`` of this call.
    """

    output_dir: Path
    num_pictures: int
    num_volumes: int
    volumes: tuple[VolumeRow, ...]


def run_infer(
    config: Config | None,
    inputs: Sequence[Path] = (),
    *,
    output_dir: Path | None = None,
    packaged: bool = False,
    overwrite: bool = False,
    report: Report = silent,
) -> InferResult:
    """Segment pictures and volumes with the best checkpoint of a run, or with the packaged model.

    Recipe and labels are those of the checkpoint, whatever the configuration says. In
    ``volumes.csv`` the rows of cases that earlier calls wrote to the same folder are kept.

    Args:
        config: Names the run; uses the sections ``infer``, ``parallel`` (volumes go to a cluster,
            if it names one) and ``data`` (suffixes). None: the packaged model with the default
            settings; it takes volumes only.
        inputs: Pictures, NIfTI volumes, and folders of them; none: ``infer.images_dir``.
        output_dir: Where results go; None: ``infer.output_dir``, else ``RUN_DIR/inference``, or
            ``heartseg_output`` with the packaged model.
        packaged: Use the packaged model, whatever run the configuration names; of its section
            ``infer`` then only what is read and written counts, not how slices are predicted.
        overwrite: Replace results of an earlier call.
        report: Told after each slice of a volume and after each input; counts inputs.

    Raises:
        DataError: If there is no trained model, nothing to segment, a result would be lost, or
            another process is at work in the folder.
        ModelError: If the model cannot be used.
        BatchError: If some inputs cannot be segmented; the others are.
    """
    packaged = packaged or config is None
    config = config or Config()
    default_dir = OUTPUT_DIR if packaged else RunLayout(config.run_dir).inference
    output_dir = output_dir or config.infer.output_dir or default_dir
    if packaged:
        describe_packaged()
        kind = find_kind(WHOLE_HEART)
    else:
        kind = find_kind(_describe_model(RunLayout(config.run_dir).require_best()).kind)
    tasks, problems = _plan(config, inputs, output_dir)
    if not kind.takes_pictures:
        tasks, refused = _without_pictures(tasks)
        problems += refused
    # Two calls at once would lose each other's rows of the table.
    with locked(output_dir):
        return _infer_tasks(
            config,
            tasks,
            problems,
            output_dir=output_dir,
            packaged=packaged,
            overwrite=overwrite,
            report=report,
        )


def _infer_tasks(
    config: Config,
    tasks: Sequence[Task],
    problems: list[str],
    *,
    output_dir: Path,
    packaged: bool,
    overwrite: bool,
    report: Report,
) -> InferResult:
    """Segment inputs into a folder that nobody else writes to."""
    known_rows = read_volumes(output_dir / VOLUMES)
    _check_outputs(output_dir, tasks, overwrite=overwrite)

    report(0, len(tasks), "loading the model")
    pictures = [task for task in tasks if not is_nifti(task.file)]
    volumes = [task for task in tasks if is_nifti(task.file)]
    on_cluster = config.parallel.backend == "dask"
    # Before the model loads, which takes seconds; on a cluster the workers read.
    readings = _read_ahead([] if on_cluster else volumes)
    segmenter = None if on_cluster and not pictures else _load_segmenter(config, packaged=packaged)
    _mark_unfinished(output_dir, tasks)
    progress = _Progress(report, len(tasks))
    failed: list[str] = []
    if isinstance(segmenter, SliceSegmenter):
        failed = _infer_pictures(segmenter, pictures, progress)
    if segmenter is None or (on_cluster and volumes):
        rows, failed_volumes = _infer_on_cluster(config, volumes, progress, packaged=packaged)
    else:
        rows, failed_volumes = _infer_volumes(segmenter, readings, progress)
    if rows:
        write_volumes(output_dir / VOLUMES, merge_volumes(known_rows, rows))
    # What a worker left that was killed while it wrote.
    remove_unfinished(output_dir)
    (output_dir / UNFINISHED).unlink(missing_ok=True)

    problems += failed + failed_volumes
    result = InferResult(
        output_dir, len(pictures) - len(failed), len(volumes) - len(failed_volumes), tuple(rows)
    )
    if problems:
        done = result.num_pictures + result.num_volumes
        raise BatchError(
            f"{len(problems)} of {done + len(problems)} inputs could not be segmented "
            f"(the results of the others are in {output_dir})",
            problems,
        )
    return result


class _Progress:
    """Counts the inputs of one call."""

    def __init__(self, report: Report, total: int) -> None:
        self._report, self._total, self._done = report, total, 0

    def finish(self, what: str) -> None:
        self._done += 1
        self._report(self._done, self._total, what)

    def within(self, what: str) -> Report:
        """Return a listener for the slices of one input."""

        def listen(_done: int, _total: int, part: str) -> None:
            self._report(self._done, self._total, f"{what}: {part}")

        return listen


def _plan(config: Config, inputs: Sequence[Path], output_dir: Path) -> tuple[list[Task], list[str]]:
    """Name the results of every input; two inputs with the same results are an error."""
    if not inputs:
        if config.infer.images_dir is None:
            raise DataError(
                "infer: there is nothing to segment; name pictures, volumes or folders of them, "
                "or set infer.images_dir"
            )
        inputs = [config.infer.images_dir]
    data = config.data
    label_maps = (data.label_suffix, data.endpoints_suffix, LABEL_MAP_SUFFIX)
    files, problems = find_inputs(inputs, skipped_suffixes=label_maps)
    if not files:
        raise DataError("\n".join(problems))
    tasks = [_plan_task(file, config, output_dir) for file in files]
    # Some file systems do not tell capital letters from small ones.
    sources: dict[str, Path] = {}
    for task in tasks:
        for output in task.outputs:
            key = output.name.casefold()
            if key in sources:
                raise DataError(
                    f"{task.file}: its result {output.name} would have the name of a result of "
                    f"{sources[key]}; segment them into different folders"
                )
            sources[key] = task.file
    return tasks, problems


def _plan_task(file: Path, config: Config, output_dir: Path) -> Task:
    name, settings = image_stem(file), config.infer
    if not is_nifti(file):
        endings = [".png", "_overlay.png"] if settings.overlay else [".png"]
    else:
        # Named by the case, so that a label map pairs with its reference by name.
        name = name.removesuffix(config.data.image_suffix) or name
        endings = [f"{LABEL_MAP_SUFFIX}.nii.gz", "_preview.png"]
        endings += [] if settings.movie == "none" else [f"_overlay.{settings.movie}"]
    return Task(file, name, tuple(output_dir / f"{name}{ending}" for ending in endings))


def _without_pictures(tasks: Sequence[Task]) -> tuple[list[Task], list[str]]:
    """Return the volumes, and one message a picture; pictures alone are an error."""
    hint = (
        "a model of whole hearts, as the packaged one, needs a NIfTI volume; for pictures name "
        "the CONFIG of a run that was trained on slices"
    )
    volumes = [task for task in tasks if is_nifti(task.file)]
    if not volumes:
        raise DataError(f"{tasks[0].file}: {hint}")
    return volumes, [f"{task.file}: {hint}" for task in tasks if not is_nifti(task.file)]


def _check_outputs(output_dir: Path, tasks: Sequence[Task], *, overwrite: bool) -> None:
    unfinished = _read_unfinished(output_dir)
    inputs = {task.file.resolve() for task in tasks}
    for task in tasks:
        for output in task.outputs:
            if output.resolve() in inputs:
                raise DataError(f"{output}: is an input and would be replaced; choose --output")
            if output.exists() and not overwrite and output.name not in unfinished:
                raise DataError(
                    f"{output}: already exists; pass --overwrite to replace it, or choose --output"
                )


def _read_unfinished(output_dir: Path) -> set[str]:
    """Return the results that an interrupted call was about to write: they may be replaced."""
    marker = output_dir / UNFINISHED
    try:
        return set(marker.read_text(encoding="utf-8").splitlines()) if marker.is_file() else set()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{marker}: cannot be read ({error})") from error


def _mark_unfinished(output_dir: Path, tasks: Sequence[Task]) -> None:
    names = sorted(output.name for task in tasks for output in task.outputs)
    with replacing(output_dir / UNFINISHED) as temporary:
        temporary.write_text("\n".join(names) + "\n", encoding="utf-8")
    remove_unfinished(output_dir)


def _load_segmenter(config: Config, *, packaged: bool) -> Segmenter:
    # TensorFlow takes seconds to load: only now, when the inputs are known to be there.
    from heartseg.inference.network import compile_volume_predict
    from heartseg.modelfile.checkpoint import load_model
    from heartseg.modelfile.packaged import load_packaged

    if packaged:
        predict = compile_volume_predict(load_packaged())
        return WholeHeartSegmenter(predict, describe_packaged().grid, HVSMR)
    model_file = RunLayout(config.run_dir).best
    model = _describe_model(model_file)
    _warn_of_differences(config, model, model_file)
    return find_kind(model.kind).build_segmenter(load_model(model_file), model, config)


def _describe_model(model_file: Path) -> ModelDescription:
    return ModelDescription.from_metadata(read_metadata(model_file), source=str(model_file))


def _warn_of_differences(config: Config, model: ModelDescription, model_file: Path) -> None:
    different = find_kind(model.kind).compare_recipes(config, model)
    if config.label_table != model.table:
        different.append("labels")
    if different:
        logger.warning(
            "%s was trained with other settings than the configuration's, and keeps its own: %s",
            model_file,
            ", ".join(different),
        )


def _infer_pictures(
    segmenter: SliceSegmenter, tasks: Sequence[Task], progress: _Progress
) -> list[str]:
    """Segment pictures in batches; return one message a picture that failed."""
    problems: list[str] = []
    for start in range(0, len(tasks), segmenter.batch_size):
        batch = [
            (task, _read_picture(task.file, segmenter.model.recipe))
            for task in tasks[start : start + segmenter.batch_size]
        ]
        good = [(task, image) for task, image in batch if not isinstance(image, str)]
        problems += [problem for _, problem in batch if isinstance(problem, str)]
        label_maps = segmenter.segment_slices([image for _, image in good])
        for (task, image), labels in zip(good, label_maps, strict=True):
            _write_picture(task, image, labels, segmenter.model.table)
        for task, _ in batch:
            progress.finish(task.name)
    return problems


def _read_picture(file: Path, recipe: SliceRecipe) -> NDArray[np.uint8] | str:
    """Return the grey levels of a picture, or why it cannot be segmented."""
    try:
        image = read_gray(file)
        with naming(file):
            lay_picture(image, recipe)
    except DataError as error:
        return str(error)
    return image


def _write_picture(
    task: Task, image: NDArray[np.uint8], labels: NDArray[np.uint8], table: LabelTable
) -> None:
    mask_file, *overlay_files = task.outputs
    write_mask(mask_file, labels, table)
    for overlay_file in overlay_files:
        write_color(overlay_file, overlay(image, labels, table))


def _infer_volumes(
    segmenter: Segmenter, readings: Iterable[tuple[Task, "Future[Volume]"]], progress: _Progress
) -> tuple[list[VolumeRow], list[str]]:
    """Segment volumes; return their rows and one message a volume that failed."""
    rows: list[VolumeRow] = []
    problems = []
    for task, reading in readings:
        try:
            done = segment_to_files(
                task, reading.result(), segmenter, report=progress.within(task.name)
            )
        except DataError as error:
            problems.append(str(error))
        else:
            rows += done.rows
            _tell(done)
        progress.finish(task.name)
    return rows, problems


def _infer_on_cluster(
    config: Config, tasks: Sequence[Task], progress: _Progress, *, packaged: bool
) -> tuple[list[VolumeRow], list[str]]:
    """Let the workers of a cluster segment volumes, each one at a time; see _infer_volumes."""
    # Absolute paths: the workers have working directories of their own.
    config = config.model_copy(update={"run_dir": config.run_dir.absolute()})
    tasks = [
        Task(task.file.absolute(), task.name, tuple(file.absolute() for file in task.outputs))
        for task in tasks
    ]
    outcomes = map_cases(
        partial(_infer_on_worker, config=config, stamp=_stamp(config, packaged=packaged)),
        tasks,
        backend=config.parallel.backend,
        address=config.parallel.address,
        report=lambda _done, _total, name: progress.finish(name),
        describe=lambda task: task.name,
    )
    done = [outcome.result for outcome in outcomes if outcome.result is not None]
    for volume in done:
        _tell(volume)
    return (
        [row for volume in done for row in volume.rows],
        [outcome.problem for outcome in outcomes if outcome.problem is not None],
    )


def _stamp(config: Config, *, packaged: bool) -> str | None:
    """Return what changes when a run gets another best model; None for the packaged model."""
    if packaged:
        return None
    stat = RunLayout(config.run_dir).best.stat()
    return f"{stat.st_size}:{stat.st_mtime_ns}"


def _infer_on_worker(task: Task, *, config: Config, stamp: str | None) -> "Segmented":
    segmenter = _load_segmenter_once(config, stamp)
    return segment_to_files(task, read_image(task.file), segmenter, report=silent)


@lru_cache(maxsize=1)
def _load_segmenter_once(config: Config, stamp: str | None) -> Segmenter:
    return _load_segmenter(config, packaged=stamp is None)


def _tell(volume: Segmented) -> None:
    for notice in volume.notices:
        logger.warning("%s", notice)


def _read_ahead(tasks: Sequence[Task]) -> Iterator[tuple[Task, "Future[Volume]"]]:
    """Read each volume while the one before is segmented; never more than one ahead.

    The first is read from this call on, while the model loads.
    """
    reader = ThreadPoolExecutor(max_workers=1)
    upcoming = [reader.submit(read_image, task.file) for task in tasks[:1]]

    def readings() -> Iterator[tuple[Task, "Future[Volume]"]]:
        with reader:
            for index, task in enumerate(tasks):
                reading = upcoming.pop()
                following = tasks[index + 1 : index + 2]
                upcoming.extend(reader.submit(read_image, later.file) for later in following)
                yield task, reading

    return readings()
