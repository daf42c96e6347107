"""``heartseg infer``: slices and volumes to colour masks, label maps and volumes in mL."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from heartseg.config.schema import Config
from heartseg.data.geometry import SliceLayout
from heartseg.data.inputs import find_inputs
from heartseg.data.intensity import find_window
from heartseg.data.movie import write_movie
from heartseg.data.pictures import overlay
from heartseg.data.slicing import SliceRecipe
from heartseg.data.store import read_gray, write_color
from heartseg.data.views import overlay_slices, preview_sheet, to_true_aspect
from heartseg.data.volume import Volume, is_nifti, read_image, write_label_map
from heartseg.errors import BatchError, ConfigError, DataError
from heartseg.files import UNFINISHED, image_stem, remove_unfinished, replacing
from heartseg.inference.predict import ModelDescription, lay_picture
from heartseg.inference.segmenter import Segmenter
from heartseg.inference.volumetry import (
    VolumeRow,
    measure_volumes,
    merge_volumes,
    read_volumes,
    write_volumes,
)
from heartseg.progress import Report, silent

logger = logging.getLogger(__name__)

BEST_MODEL = "best.keras"
VOLUMES = "volumes.csv"
LABEL_MAP_SUFFIX = "_seg"
# A GIF keeps the noise of a scan: 120 slices take 12 MB at 384 pixels, 5 MB at 256.
MOVIE_SIDE = {".mp4": 384, ".gif": 256}


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


@dataclass(frozen=True)
class Task:
    """One input and its results.

    Attributes:
        file: The input.
        name: What the names of its results begin with.
        outputs: Every file that is written for it, the main one first.
    """

    file: Path
    name: str
    outputs: tuple[Path, ...]


def run_infer(
    config: Config | None,
    inputs: Sequence[Path] = (),
    *,
    output_dir: Path | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> InferResult:
    """Segment pictures and volumes with the best checkpoint of a run.

    Recipe and labels are those of the checkpoint, whatever the configuration says. In
    ``volumes.csv`` the rows of cases that earlier calls wrote to the same folder are kept.

    Args:
        config: Names the run; uses the sections ``infer`` and ``data`` (suffixes).
        inputs: Pictures, NIfTI volumes, and folders of them; none: ``infer.images_dir``.
        output_dir: Where results go; None: ``infer.output_dir``, else ``RUN_DIR/inference``.
        overwrite: Replace results of an earlier call.
        report: Told after each slice of a volume and after each input; counts inputs.

    Raises:
        ConfigError: If there is no configuration.
        DataError: If there is no trained model, nothing to segment, or a result would be lost.
        ModelError: If the model cannot be used.
        BatchError: If some inputs cannot be segmented; the others are.
    """
    if config is None:
        raise ConfigError("infer: expected the CONFIG of a trained run as the first argument")
    output_dir = output_dir or config.infer.output_dir or config.run_dir / "inference"
    model_file = config.run_dir / BEST_MODEL
    if not model_file.is_file():
        raise DataError(f"{model_file}: no such file; run `heartseg train` first")
    tasks, problems = _plan(config, inputs, output_dir)
    known_rows = read_volumes(output_dir / VOLUMES)
    _check_outputs(output_dir, tasks, overwrite=overwrite)

    report(0, len(tasks), "loading the model")
    segmenter = _load_segmenter(config, model_file)
    _mark_unfinished(output_dir, tasks)
    progress = _Progress(report, len(tasks))
    pictures = [task for task in tasks if not is_nifti(task.file)]
    failed = _infer_pictures(segmenter, pictures, progress)
    volumes = [task for task in tasks if is_nifti(task.file)]
    rows, failed_volumes = _infer_volumes(segmenter, volumes, progress)
    if rows:
        write_volumes(output_dir / VOLUMES, merge_volumes(known_rows, rows))
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


def _load_segmenter(config: Config, model_file: Path) -> Segmenter:
    # TensorFlow takes seconds to load: only now, when the inputs are known to be there.
    from heartseg.inference.network import compile_predict
    from heartseg.model.checkpoint import load_model, read_metadata

    model = ModelDescription.from_metadata(read_metadata(model_file), source=str(model_file))
    _warn_of_differences(config, model, model_file)
    predict = compile_predict(
        load_model(model_file), model.recipe, batch_size=config.infer.batch_size
    )
    return Segmenter(
        predict,
        model,
        batch_size=config.infer.batch_size,
        tile_overlap=config.infer.tile_overlap if config.infer.tiled else None,
        largest_component=config.infer.largest_component,
    )


def _warn_of_differences(config: Config, model: ModelDescription, model_file: Path) -> None:
    configured = {f"prepare.{key}": value for key, value in config.prepare.model_dump().items()}
    trained = {f"prepare.{key}": value for key, value in model.recipe.to_dict().items()}
    configured["model.image_channels"] = config.model.image_channels
    trained["model.image_channels"] = trained.pop("prepare.image_channels")
    different = [key for key, value in trained.items() if configured[key] != value]
    if config.label_table != model.table:
        different.append("labels")
    if different:
        logger.warning(
            "%s was trained with other settings than the configuration's, and keeps its own: %s",
            model_file,
            ", ".join(different),
        )


def _infer_pictures(segmenter: Segmenter, tasks: Sequence[Task], progress: _Progress) -> list[str]:
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
            _write_picture(task, image, labels, segmenter)
        for task, _ in batch:
            progress.finish(task.name)
    return problems


def _read_picture(file: Path, recipe: SliceRecipe) -> NDArray[np.uint8] | str:
    """Return the grey levels of a picture, or why it cannot be segmented."""
    try:
        image = read_gray(file)
        with _naming(file):
            lay_picture(image, recipe)
    except DataError as error:
        return str(error)
    return image


@contextmanager
def _naming(file: Path) -> Iterator[None]:
    """Name the input in the errors of the core, which knows no files."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{file}: {error}") from error


def _write_picture(
    task: Task, image: NDArray[np.uint8], labels: NDArray[np.uint8], segmenter: Segmenter
) -> None:
    table = segmenter.model.table
    mask_file, *overlay_files = task.outputs
    write_color(mask_file, table.colorize(labels))
    for overlay_file in overlay_files:
        write_color(overlay_file, overlay(image, labels, table))


def _infer_volumes(
    segmenter: Segmenter, tasks: Sequence[Task], progress: _Progress
) -> tuple[list[VolumeRow], list[str]]:
    """Segment volumes; return their rows and one message a volume that failed."""
    rows: list[VolumeRow] = []
    problems = []
    for task, reading in _read_ahead(tasks):
        try:
            image = reading.result()
            with _naming(task.file):
                labels = segmenter.segment_volume(image, report=progress.within(task.name))
            _write_volume(task, image, labels, segmenter)
        except DataError as error:
            problems.append(str(error))
        else:
            rows += measure_volumes(task.name, labels, image.affine, segmenter.model.table)
        progress.finish(task.name)
    return rows, problems


def _read_ahead(tasks: Sequence[Task]) -> Iterator[tuple[Task, "Future[Volume]"]]:
    """Read each volume while the one before is segmented; never more than one ahead."""
    with ThreadPoolExecutor(max_workers=1) as reader:
        upcoming = None
        for index, task in enumerate(tasks):
            reading = upcoming or reader.submit(read_image, task.file)
            rest = tasks[index + 1 :]
            upcoming = reader.submit(read_image, rest[0].file) if rest else None
            yield task, reading


def _write_volume(
    task: Task, image: Volume, labels: NDArray[np.uint8], segmenter: Segmenter
) -> None:
    recipe, table = segmenter.model.recipe, segmenter.model.table
    limits = find_window(image.voxels, recipe.window, recipe.window_range)
    label_file, preview_file, *movie_files = task.outputs
    write_label_map(label_file, labels, like=image, table=table)
    sheet = preview_sheet(image, labels, table, plane=recipe.plane, limits=limits)
    write_color(preview_file, sheet)
    spacing_mm = SliceLayout.from_affine(image.affine, recipe.plane).spacing_mm(image.affine)
    for movie_file in movie_files:
        side = MOVIE_SIDE[movie_file.suffix]
        pictures = overlay_slices(image, labels, table, plane=recipe.plane, limits=limits)
        frames = (to_true_aspect(p, spacing_mm, longest_side=side) for p in pictures)
        write_movie(movie_file, frames)
