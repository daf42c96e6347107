"""A scan, its structures and their volumes on one page that opens offline: ``CASE_report.html``."""

import platform
import sys
from datetime import datetime, timezone
from pathlib import Path

from heartseg import __version__
from heartseg.inference.outputs.output_format import one_file
from heartseg.inference.results import SegmentedScan

REPORT_SUFFIX = "_report"


def _write(file: Path, result: SegmentedScan) -> None:
    # Not above: Jinja takes a tenth of a second to load, and most calls write no page.
    from heartseg.inference.answer_page import build_scan_page, describe_grid
    from heartseg.pages.page_writer import write_scan_page

    provenance = {
        "Model": result.model.identity or result.model.kind.replace("_", " "),
        **({"Declared absent": ", ".join(result.absent)} if result.absent else {}),
        "Scan": describe_grid(result.scan),
        "Hash of the scan": result.scan_hash,
        "Made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, heartseg {__version__}",
        "Device": _name_device(),
    }
    page = build_scan_page(
        result.scan,
        result.labels,
        result.table,
        title=result.case,
        rows=result.rows,
        ratios=result.ratios,
        shapes=result.shapes,
        body_m2=result.wanted.body_m2,
        notices=result.notices,
        provenance=provenance,
    )
    write_scan_page(file, page)


def _name_device() -> str:
    """Return the GPUs that TensorFlow computes on, else the kind of processor."""
    tensorflow = sys.modules.get("tensorflow")
    gpus = tensorflow.config.get_visible_devices("GPU") if tensorflow else []
    names = [
        tensorflow.config.experimental.get_device_details(gpu).get("device_name", "GPU")
        for gpu in gpus
        if tensorflow
    ]
    return ", ".join(names) or f"processor ({platform.machine()})"


REPORT = one_file(f"{REPORT_SUFFIX}.html", _write)
