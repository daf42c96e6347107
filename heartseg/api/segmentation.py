"""``heartseg.segment`` and ``heartseg.load_segmenter``: from a scan to a label map."""

import logging
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from nibabel.nifti1 import Nifti1Image
from numpy.typing import NDArray

from heartseg.api.inputs import ScanLike, take_scan
from heartseg.config.data_sections import DataConfig
from heartseg.config.loading import load_config
from heartseg.config.schema import Config
from heartseg.errors import DataError, ModelError
from heartseg.inference.hints import check_absent
from heartseg.inference.outputs.registry import (
    DEFAULT_SCAN_FORMATS,
    SCAN_FORMATS,
    check_source,
    find_wanted,
    name_files,
    write_files,
)
from heartseg.inference.results import SegmentedScan, restrict, segment_scan
from heartseg.inference.segmenter import Segmenter
from heartseg.inference.tasks import (
    COMMAND,
    Task,
    fingerprint_label_map,
    mark_finished,
    mark_unfinished,
    read_unfinished,
)
from heartseg.inference.volumetry import VOLUMES, merge_volumes, read_volumes, write_volumes
from heartseg.lock import locked
from heartseg.native_notes import ask_for_errors_only, native_notes_hidden
from heartseg.ownership import check_own
from heartseg.progress import Report, silent
from heartseg.runs import trained
from heartseg.runs.layout import RunLayout
from heartseg.runs.study_layout import find_model
from heartseg.scans.volume import build_label_image
from heartseg.surroundings import check_backend

PACKAGED = "packaged"
UNNAMED = "scan"
"""Name of the case if a scan has no file."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented scan.

    Attributes:
        image: The label map as a nibabel image on the scan's grid: uint8, with the scan's affine,
            qform, sform and units, and none of the texts of its header.
        labels: ``(X, Y, Z)`` uint8 labels, the voxels of ``image``; what the values mean stands in
            ``heartseg.LABELS``, or in the model that was used.
        volumes_ml: Volume in mL of every structure, by its key (``{"LV": 32.8, ...}``); 0 where the
            scan has no such structure.
        stability: Stability between views, 0 to 1, of every structure that was found, by its key:
            how far views of the scan through different windows agree. It does not say how far they
            are right. Empty for a network of slices, which views a scan once.
        confidence: How sure the model is, 0 to 1, of every structure that was found, by its key:
            the mean probability within it. It ranks errors better than the stability. Empty for a
            network of slices.
        notices: What makes the segmentation doubtful, in words; empty in the usual case.
    """

    image: Nifti1Image = field(repr=False)
    labels: NDArray[np.uint8] = field(repr=False)
    volumes_ml: Mapping[str, float]
    stability: Mapping[str, float]
    confidence: Mapping[str, float]
    notices: tuple[str, ...]
    _result: SegmentedScan = field(repr=False)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        formats: Sequence[str] = DEFAULT_SCAN_FORMATS,
        structures: Sequence[str] | None = None,
        height_cm: float | None = None,
        weight_kg: float | None = None,
        bsa_m2: float | None = None,
        diameters: bool = False,
        name: str | None = None,
        overwrite: bool = False,
    ) -> tuple[Path, ...]:
        """Write the files that ``heartseg infer`` writes.

        By default these are the label map ``NAME_seg.nii.gz``, ``NAME_preview.png``, and all
        numbers, ``NAME.json``. The numbers are also merged into ``volumes.csv`` of the folder; rows
        of other cases stay.

        Args:
            folder: Where to; made if missing.
            formats: Names of output formats: ``label_map``, ``preview``, ``numbers``, ``report``,
                ``movie_webm``, ``movie_gif``, ``movie_mp4``, ``surfaces``, ``slicer``, ``split``,
                ``dicom_seg``.
            structures: Keys of the structures that every file is about; by default all.
            height_cm: Height of the patient, with ``weight_kg``: volumes are also given per body
                surface area.
            weight_kg: Weight of the patient.
            bsa_m2: Body surface area in place of height and weight.
            diameters: Whether surface areas and diameters of vessels are measured; with the formats
                ``report`` and ``surfaces`` they are.
            name: Name of the case; by default that of the scan's file, or ``scan``.
            overwrite: Replace files of an earlier call; files that heartseg did not write stay.

        Returns:
            The files, without ``volumes.csv``.

        Raises:
            ConfigError: If a format is unknown.
            DataError: If a file exists and heartseg did not write it or ``overwrite`` is not set;
                if one cannot be written; if a structure is unknown, or height and weight are of no
                patient; if a ``dicom_seg`` is wanted of a scan that was not read from DICOM.
        """
        folder = Path(folder)
        wanted = find_wanted(
            formats,
            structures=structures,
            height_cm=height_cm,
            weight_kg=weight_kg,
            bsa_m2=bsa_m2,
            diameters=diameters,
        )
        result = restrict(self._result, wanted)
        if name is not None:
            result = replace(result, case=_check_name(name))
        files = name_files(
            SCAN_FORMATS, formats, folder=folder, case=result.case, structures=result.structures
        )
        check_source(formats, result.series, source=result.case)
        task = Task(Path(result.case), result.case, files)
        # Two calls at once would lose each other's rows of the table.
        with locked(folder):
            rows = read_volumes(folder / VOLUMES)
            unfinished = read_unfinished(folder)
            for file in task.outputs:
                if file.name in unfinished:
                    continue
                if file.exists() and not overwrite:
                    raise DataError(
                        f"{file}: already exists; pass overwrite=True to replace it, or choose "
                        "another folder or name"
                    )
                check_own(file, COMMAND)
            mark_unfinished(folder, [task])
            write_files(SCAN_FORMATS, files, result)
            write_volumes(folder / VOLUMES, merge_volumes(rows, result.rows))
            mark_finished(folder, [task])
        return tuple(file for file in task.outputs if file.is_file())


def segment(
    scan: ScanLike,
    *,
    model: str | os.PathLike[str] | Segmenter = PACKAGED,
    absent: Sequence[str] = (),
    series: int | None = None,
    report: Report = silent,
) -> Segmentation:
    """Segment the heart in a scan.

    Args:
        scan: Path of anything that ``read_scan`` reads, a nibabel image, or ``(array, affine)``:
            an ``(X, Y, Z)`` array of intensities and the ``(4, 4)`` affine from voxel indices to
            millimetres, axes right, anterior, superior, as nibabel has it. Any orientation and
            spacing. It is not changed.
        model: ``"packaged"``, or what ``load_segmenter`` takes or returns. Load a segmenter once to
            segment many scans; the packaged model stays loaded anyway.
        absent: Keys of structures that the patient does not have, such as ``["RV", "RA"]``; they
            are never predicted. A notice says so where the scan contradicts.
        series: Number of the DICOM series of a path; None if there is only one.
        report: Called with (units done, units, what was done) while the scan is segmented.

    Returns:
        Labels on the scan's own grid, volumes, and what makes them doubtful.

    Raises:
        ConfigError: If the model knows no structure that ``absent`` names.
        DataError: If the scan is missing, broken, not 3D, or not one that the model knows, such as
            a CT, or a DICOM series is to be chosen.
        MissingPackageError: If DICOM needs a package that is not installed.
        ModelError: If the model is missing, damaged or none of heartseg.

    Examples:
        >>> import heartseg
        >>> result = heartseg.segment("scan.nii.gz")  # doctest: +SKIP
        >>> result.volumes_ml["LV"]  # doctest: +SKIP
        32.8
        >>> result.save("results")  # doctest: +SKIP
    """
    data = DataConfig()
    with _logged_warnings() as warnings:
        named = take_scan(
            scan, series=series, image_suffix=data.image_suffix, label_suffix=data.label_suffix
        )
    if isinstance(model, (str, os.PathLike)):
        report(0, 1, "loading the model")
        segmenter = load_segmenter(model)
    else:
        segmenter = _check_segmenter(model)
    hints = check_absent(absent, segmenter.model.table, source="absent") if absent else ()
    try:
        result = segment_scan(
            named.name or UNNAMED,
            named.volume,
            segmenter,
            absent=hints,
            label_hash=fingerprint_label_map(named.label_map, segmenter.model.table),
            series=named.series,
            report=report,
        )
    except DataError as error:
        raise DataError(f"{named.source}: {error}") from error
    return Segmentation(
        image=build_label_image(result.labels, like=result.scan, table=result.table),
        labels=result.labels,
        volumes_ml={row.structure: row.volume_ml for row in result.rows},
        stability={
            row.structure: row.stability for row in result.rows if row.stability is not None
        },
        confidence={
            row.structure: row.confidence for row in result.rows if row.confidence is not None
        },
        notices=(*warnings, *result.notices),
        _result=result,
    )


def load_segmenter(source: str | os.PathLike[str] = PACKAGED) -> Segmenter:
    """Load a model once, to segment many scans with ``segment(scan, model=segmenter)``.

    The packaged model needs no TensorFlow and is loaded once per process; a model of a run loads
    TensorFlow, which takes some seconds.

    Args:
        source: ``"packaged"``; the folder of a run (its best model, applied as the section
            ``infer`` of its ``config.yaml`` says) or of a study (the models of its folds,
            averaged); or a ``.keras`` or ``.onnx`` file of heartseg. A folder that is itself called
            ``packaged`` is ``"./packaged"``.

    Returns:
        The segmenter; ``segmenter.model`` says what it was trained for.

    Raises:
        ConfigError: If the configuration of the run is broken.
        DataError: If the folder holds no trained model.
        ModelError: If the model is missing, damaged or none of heartseg.

    Examples:
        >>> import heartseg
        >>> segmenter = heartseg.load_segmenter("runs/whole_heart")  # doctest: +SKIP
        >>> for file in files:  # doctest: +SKIP
        ...     heartseg.segment(file, model=segmenter).save("results")
    """
    check_backend()
    ask_for_errors_only()
    if source == PACKAGED:
        return _load_packaged()
    path = Path(source)
    if not path.is_dir():
        return _load(path, Config())
    layout = RunLayout(path)
    model_file = find_model(path)
    return _load(model_file, load_config(layout.config if layout.config.is_file() else None))


@lru_cache(maxsize=1)
def _load_packaged() -> Segmenter:
    return _load(None, Config())


def _load(model_file: Path | None, config: Config) -> Segmenter:
    with native_notes_hidden():
        return trained.load_segmenter(model_file, config)


def _check_segmenter(model: Segmenter) -> Segmenter:
    if not hasattr(model, "segment"):
        raise ModelError(
            f"model: expected {PACKAGED!r}, the folder of a run, a .keras file or what "
            f"load_segmenter returns, found {type(model).__module__}.{type(model).__qualname__}"
        )
    return model


def _check_name(name: str) -> str:
    if not name or Path(name).name != name or name in (".", ".."):
        raise DataError(f"name: expected a file name without folders, found {name!r}")
    return name


@contextmanager
def _logged_warnings() -> Iterator[list[str]]:
    """Collect the warnings that this thread logs: whoever sees no log reads them as notices."""
    collected: list[str] = []
    thread = threading.get_ident()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.thread == thread:
                collected.append(record.getMessage())

    handler, logger = Collector(logging.WARNING), logging.getLogger("heartseg")
    logger.addHandler(handler)
    try:
        yield collected
    finally:
        logger.removeHandler(handler)
