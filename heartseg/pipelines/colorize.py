"""``heartseg colorize``: label maps as colours or over images, and colour masks as label maps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import escape
from pathlib import Path

from heartseg.cohort.inputs import find_inputs
from heartseg.cohort.pairing import SEGMENTATION
from heartseg.errors import BatchError, DataError
from heartseg.exchange.label_maps import may_be_cut, read_labels
from heartseg.files import UNFINISHED, check_distinct, image_stem
from heartseg.labels import LabelTable
from heartseg.ownership import Outputs, add_to_record, check_own, filling
from heartseg.pictures.overlays import overlay as draw_overlay
from heartseg.pictures.overlays import overlay_slices
from heartseg.plurals import counted
from heartseg.progress import Report, silent
from heartseg.scans.geometry import Plane, SliceLayout
from heartseg.scans.intensity import find_window
from heartseg.scans.reading import LABEL_MAP_SUFFIXES, is_scan, read_scan
from heartseg.scans.volume import check_same_grid
from heartseg.slices.manifest import slice_file_name
from heartseg.slices.store import (
    IMAGE_SUFFIXES,
    read_gray,
    read_index,
    read_mask,
    write_color,
    write_gray,
    write_mask,
)

COLORS_DIR = Path("colorized")
LABELS_DIR = Path("decoded")
OVERLAY_SUFFIX = "_overlay"
PREVIEW_SUFFIX = "_preview"
COMMAND = "colorize"
OVERLAY_PERCENTILES = (0.0, 99.5)
"""Window of a scan in an overlay, since its units are unknown: all but the brightest 0.5 %."""


@dataclass(frozen=True)
class ColorizeResult:
    """What ``colorize`` did.

    Attributes:
        output_dir: Folder of the pictures.
        num_inputs: Number of converted inputs.
        num_pictures: Number of written pictures.
    """

    output_dir: Path
    num_inputs: int
    num_pictures: int


@dataclass(frozen=True)
class Task:
    """One input, its result, and the image of its overlay.

    Attributes:
        file: Label map or colour mask.
        output: For a volume the folder of its slices, otherwise the picture to write.
        image_file: Image under the overlay, a scan or picture as ``file`` is; None without one.
    """

    file: Path
    output: Path
    image_file: Path | None

    @property
    def is_volume(self) -> bool:
        """Whether the input is a volume, not a picture."""
        return _is_volume(self.file)


def run_colorize(
    inputs: Sequence[Path],
    *,
    table: LabelTable,
    output_dir: Path | None = None,
    overlay: Path | None = None,
    decode: bool = False,
    plane: Plane | str = Plane.SAGITTAL,
    overwrite: bool = False,
    report: Report = silent,
) -> ColorizeResult:
    """Colour label maps, or decode colour masks; both are exact.

    A volume becomes a folder with one picture per slice and one pixel per voxel, numbered by the
    index of the slice in the file. A picture becomes a picture of the same name.

    Args:
        inputs: Label maps (volumes of any format, or pictures of label values), colour masks with
            ``decode``, and folders of them.
        table: The labels and their colours.
        output_dir: Folder of the pictures; None: ``colorized`` (``decoded`` with ``decode``) in
            the working directory.
        overlay: Image to draw the labels over, in addition to the masks: a scan for a volume, a
            picture for a picture; for several inputs a folder of images with their names.
        decode: Turn colour masks into pictures of label values instead.
        plane: Anatomical plane of the slices of a volume.
        overwrite: Replace earlier results.
        report: Called after each input.

    Raises:
        DataError: If there is nothing to convert, or a result would be lost.
        BatchError: If some inputs cannot be converted; the others are.
    """
    if decode and overlay is not None:
        raise DataError(
            "colorize: --decode writes label maps and draws no overlays; leave out --overlay"
        )
    output_dir = output_dir or (LABELS_DIR if decode else COLORS_DIR)
    files, problems = find_inputs(
        inputs,
        endings=IMAGE_SUFFIXES if decode else (*IMAGE_SUFFIXES, *LABEL_MAP_SUFFIXES),
        skipped_suffixes=(OVERLAY_SUFFIX, PREVIEW_SUFFIX),
    )
    if not files:
        raise DataError(
            "\n".join(problems) or "colorize: expected label maps or folders of them, found none"
        )
    tasks = [_plan_task(file, output_dir, overlay, alone=len(files) == 1) for file in files]
    _check_tasks(tasks, overwrite=overwrite)

    def convert(task: Task) -> int:
        if decode:
            return _decode_picture(task, table)
        if task.is_volume:
            return _colorize_volume(task, table, plane=plane, overwrite=overwrite)
        return _colorize_picture(task, table)

    num_pictures, failures = _convert_all(tasks, convert, report)
    problems += failures
    pictures = [file for task in tasks for file in _outputs(task) if file.is_file()]
    if pictures:
        add_to_record(output_dir, COMMAND, pictures)
    if problems:
        raise BatchError(
            f"{counted(len(problems), 'input')} could not be converted "
            f"({counted(num_pictures, 'picture')} of the others in {output_dir})",
            problems,
        )
    return ColorizeResult(output_dir, len(tasks), num_pictures)


def _convert_all(
    tasks: Sequence[Task], convert: Callable[[Task], int], report: Report
) -> tuple[int, list[str]]:
    """Return the number of written pictures, and the problems of the tasks that failed."""
    num_pictures, problems = 0, []
    for done, task in enumerate(tasks, start=1):
        try:
            num_pictures += convert(task)
        except DataError as error:
            problems.append(str(error))
        report(done, len(tasks), task.file.name)
    return num_pictures, problems


def _plan_task(file: Path, output_dir: Path, overlay: Path | None, *, alone: bool) -> Task:
    name = image_stem(file).removesuffix(SEGMENTATION)
    output = output_dir / name if _is_volume(file) else output_dir / f"{name}.png"
    if overlay is not None and overlay.is_dir() and not (alone and is_scan(overlay)):
        overlay = overlay / file.name
    elif overlay is not None and not alone:
        raise DataError(
            f"{overlay}: one image cannot be used for several label maps; expected a folder of "
            "images with the names of the label maps"
        )
    return Task(file, output, overlay)


def _is_volume(file: Path) -> bool:
    return not file.name.lower().endswith(IMAGE_SUFFIXES)


def _check_tasks(tasks: Sequence[Task], *, overwrite: bool) -> None:
    check_distinct(
        ((task.file, _outputs(task)) for task in tasks),
        advice="convert them into different folders",
    )
    inputs = {task.file.resolve() for task in tasks}
    for task in tasks:
        for output in _outputs(task):
            if output.resolve() in inputs:
                raise DataError(
                    f"{output}: is an input and would be replaced; choose another --output"
                )
            if _is_finished(output) and not overwrite:
                raise DataError(
                    f"{output}: already exists; pass --overwrite to replace it, or choose another "
                    "--output"
                )
            if not output.is_dir():
                check_own(output, COMMAND)


def _outputs(task: Task) -> list[Path]:
    if task.is_volume or task.image_file is None:
        return [task.output]
    return [task.output, _overlay_file(task.output)]


def _is_finished(output: Path) -> bool:
    """Return whether there is a finished picture or folder of slices, which must not be lost."""
    if output.is_dir():
        return any(output.iterdir()) and not (output / UNFINISHED).is_file()
    return output.exists()


def _overlay_file(mask_file: Path) -> Path:
    return mask_file.with_name(f"{mask_file.stem}{OVERLAY_SUFFIX}{mask_file.suffix}")


def _decode_picture(task: Task, table: LabelTable) -> int:
    write_gray(task.output, read_mask(task.file, table))
    return 1


def _colorize_picture(task: Task, table: LabelTable) -> int:
    labels = read_index(task.file)
    table.check_values(labels, source=str(task.file))
    if task.image_file is None:
        write_mask(task.output, labels, table)
        return 1
    image = read_gray(task.image_file)
    if image.shape != labels.shape:
        raise DataError(
            f"{task.image_file}: expected the shape {labels.shape} of {task.file}, found "
            f"{image.shape}"
        )
    write_mask(task.output, labels, table)
    write_color(_overlay_file(task.output), draw_overlay(image, labels, table))
    return 2


def _colorize_volume(task: Task, table: LabelTable, *, plane: Plane | str, overwrite: bool) -> int:
    image = None if task.image_file is None else read_scan(task.image_file)
    labels = read_labels(task.file, table, like=image if may_be_cut(task.file) else None)
    name = task.output.name
    overlays = None
    if image is not None:
        check_same_grid(image, labels, names=(str(task.image_file), str(task.file)))
        limits = find_window(image.voxels, "percentile", OVERLAY_PERCENTILES)
        overlays = overlay_slices(image, labels.voxels, table, plane=plane, limits=limits)
    label_slices = SliceLayout.from_affine(labels.affine, plane).stack(labels.voxels)
    with filling(task.output, Outputs(COMMAND, (f"{escape(name)}_*.png",)), overwrite=overwrite):
        for index, label_slice in enumerate(label_slices):
            mask_file = task.output / slice_file_name(name, index)
            write_mask(mask_file, label_slice, table)
            if overlays is not None:
                write_color(_overlay_file(mask_file), next(overlays))
    return len(label_slices) * (1 if overlays is None else 2)
