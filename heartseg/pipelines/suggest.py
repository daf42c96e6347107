"""``heartseg suggest``: the slices of a scan that are worth correcting first."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from heartseg.config.schema import Config
from heartseg.inference.outputs.registry import SCAN_FORMATS, find_wanted, write_files
from heartseg.inference.results import segment_scan
from heartseg.inference.suggestion import NUM_SLICES, SuggestedSlice
from heartseg.inference.tasks import (
    check_outputs,
    fingerprint_label_map,
    mark_finished,
    mark_unfinished,
)
from heartseg.lock import locked
from heartseg.progress import Report, silent
from heartseg.runs.one_scan import (
    describe_whole_heart_model,
    find_hints,
    plan_scan,
    read_planned,
)
from heartseg.runs.trained import load_segmenter
from heartseg.scans.oblique import check_straight
from heartseg.surroundings import check_backend

OUTPUT_DIR = Path("heartseg_output")


@dataclass(frozen=True)
class SuggestResult:
    """What ``suggest`` did.

    Attributes:
        slices: The slices, in the order of their indices.
        files: The list and the label map to correct.
        notices: What makes the present answer doubtful, in words.
    """

    slices: Sequence[SuggestedSlice]
    files: tuple[Path, ...]
    notices: tuple[str, ...]


def run_suggest(
    scan_file: Path,
    *,
    config: Config | None = None,
    init: str = "packaged",
    count: int = NUM_SLICES,
    output_dir: Path | None = None,
    series: int | None = None,
    overwrite: bool = False,
    report: Report = silent,
) -> SuggestResult:
    """Segment a scan, and write which slices to correct first.

    Args:
        scan_file: The scan.
        config: Its section ``infer`` says what is absent.
        init: ``packaged``, the folder of a run or study, or a ``.keras`` or ``.onnx`` file.
        count: Number of slices.
        output_dir: Where to; None: ``heartseg_output`` in the working directory.
        series: Number of the DICOM series; None if there is only one.
        overwrite: Replace results of an earlier call.
        report: Called after each part.

    Raises:
        ConfigError: If a hint is unknown, or ``infer.structures`` leaves structures out.
        DataError: If the scan cannot be used, or a result would be lost.
        ModelError: If the model is missing, damaged, or none of whole hearts.
    """
    check_backend()
    config, output_dir = config or Config(), output_dir or OUTPUT_DIR
    model_file, model = describe_whole_heart_model(init, command="suggest")
    # Refuses what a label map to correct cannot have.
    find_wanted(["suggestion"], structures=config.infer.structures)
    task = plan_scan(scan_file, output_dir, config, model, formats=["suggestion"], series=series)
    absent = find_hints(config.infer, task.case, model.table, command="suggest")
    scan = read_planned(task)
    check_straight(scan.affine, needed_by="suggest", source=str(scan_file))
    with locked(output_dir):
        check_outputs(output_dir, [task], overwrite=overwrite)
        segmenter = load_segmenter(model_file, config)
        result = replace(
            segment_scan(
                task.case,
                scan,
                segmenter,
                absent=absent,
                label_hash=fingerprint_label_map(task.label_map, model.table),
                report=report,
            ),
            num_suggested=count,
        )
        mark_unfinished(output_dir, [task])
        write_files(SCAN_FORMATS, task.files, result)
        mark_finished(output_dir, [task])
    return SuggestResult(tuple(result.suggested), tuple(task.outputs), result.notices)
