"""A command that works on one scan with a model of whole hearts: its scan, model and results."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from heartseg.config.schema import Config
from heartseg.config.use_sections import InferConfig
from heartseg.errors import DataError, ModelError
from heartseg.inference.hints import find_absent, read_hints
from heartseg.inference.tasks import Task, plan_tasks
from heartseg.labels import LabelTable
from heartseg.modelfile.description import WHOLE_HEART, ModelDescription
from heartseg.runs.study_layout import locate_model
from heartseg.runs.trained import describe_model
from heartseg.scans.volume import Volume

logger = logging.getLogger(__name__)


def describe_whole_heart_model(init: str, *, command: str) -> tuple[Path | None, ModelDescription]:
    """Return the model that ``--init`` names, and what it was trained for.

    Args:
        init: ``packaged``, the folder of a run or study, or a model file.
        command: What needs it, for an error.

    Raises:
        DataError: If a run has no trained model.
        ModelError: If the model is missing, damaged, or none of whole hearts.
    """
    model_file = locate_model(init)
    model = describe_model(model_file)
    if model.kind != WHOLE_HEART:
        raise ModelError(f"{init}: is a network of slices; {command} needs one of whole hearts")
    return model_file, model


def plan_scan(
    scan_file: Path,
    output_dir: Path,
    config: Config,
    model: ModelDescription,
    *,
    formats: Sequence[str],
    series: int | None,
    more: Sequence[str] = (),
) -> Task:
    """Find a scan and name its results.

    Args:
        scan_file: The scan.
        output_dir: Where the results go.
        config: Its section ``data`` says what a data set puts behind the name of a case.
        model: What segments it.
        formats: Names of output formats.
        series: Number of the DICOM series; None if there is only one.
        more: Endings of results that have no format.

    Raises:
        ConfigError: If a format is unknown.
        DataError: If it is no scan, or a format does not suit it.
    """
    tasks, problems = plan_tasks(
        [scan_file],
        output_dir,
        structures=model.table.foreground,
        scan_formats=formats,
        picture_formats=(),
        series=series,
        image_suffix=config.data.image_suffix,
        label_suffix=config.data.label_suffix,
        formats_option="infer.outputs",
    )
    if problems:
        raise DataError(problems[0])
    [task] = tasks
    if task.source is None:
        raise DataError(f"{scan_file}: is a picture; expected a scan")
    extra = tuple(output_dir / f"{task.case}{ending}" for ending in more)
    return replace(task, files={**task.files, "more": extra}) if extra else task


def find_hints(
    settings: InferConfig, case: str, table: LabelTable, *, command: str
) -> tuple[str, ...]:
    """Return the structures that are declared absent in a case, as ``infer`` takes them.

    Args:
        settings: Says what is absent, of any case or by a table.
        case: Name of the case.
        table: The structures of the model.
        command: What is run, for an error.

    Raises:
        ConfigError: If a key or a diagnosis is not known.
        DataError: If the table of hints cannot be used.
    """
    absent = find_absent(settings.absent, settings.diagnosis, table, source=command)
    if settings.hints is None:
        return absent
    hints = read_hints(settings.hints, table)
    if case not in hints:
        logger.warning(
            "%s: has no row of the case %s; its hints are not used", settings.hints, case
        )
    return hints.get(case, absent)


def read_planned(task: Task) -> Volume:
    """Read the scan of a task that ``plan_scan`` made."""
    if task.source is None:
        raise DataError(f"{task.file}: is a picture; expected a scan")
    return task.source.read()
