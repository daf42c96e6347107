"""``heartseg view``: a scan and anyone's label map of it as one page to look at."""

from datetime import datetime, timezone
from pathlib import Path

from heartseg import __version__
from heartseg.errors import DataError
from heartseg.exchange.grids import place_labels
from heartseg.exchange.label_maps import read_labels
from heartseg.inference.answer_page import build_scan_page, describe_grid
from heartseg.inference.tasks import name_case
from heartseg.inference.trimming import trim_margin
from heartseg.inference.volumetry import build_rows
from heartseg.labels import LabelTable
from heartseg.measurements.shapes import measure_shapes
from heartseg.measurements.structures import compute_ratios, measure_structures
from heartseg.pages.page_writer import write_scan_page
from heartseg.progress import Report, silent
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.provenance import read_provenance
from heartseg.scans.reading import find_scan, name_file
from heartseg.surfaces.label_surfaces import describe_scatter, fit_heart

PAGE_SUFFIX = "_report.html"


def run_view(
    scan_file: Path,
    label_file: Path,
    *,
    table: LabelTable,
    series: int | None = None,
    body_m2: float | None = None,
    output_file: Path | None = None,
    image_suffix: str = "",
    overwrite: bool = False,
    report: Report = silent,
) -> Path:
    """Write the page of a scan and a label map.

    Args:
        scan_file: The scan, of any format that heartseg reads.
        label_file: Its label map, of any tool and format, of the same voxels.
        table: The structures and their display colours.
        series: Number of the DICOM series; None if there is only one.
        body_m2: Body surface area of the patient, to which volumes are indexed.
        output_file: Where to; None: ``NAME_report.html`` in the working directory.
        image_suffix: What follows the case name in the name of the scan's file.
        overwrite: Replace an earlier page.
        report: Told before each part.

    Returns:
        The page.

    Raises:
        DataError: If a file cannot be read, the voxels differ, a label is not in the table, or a
            page would be lost.
    """
    scan = find_scan(scan_file, series=series)
    name = name_case(scan, image_suffix=image_suffix)
    output_file = output_file or Path(f"{name}{PAGE_SUFFIX}")
    if output_file.is_dir():
        raise DataError(f"{output_file}: is a folder; --output names the page, such as page.html")
    if output_file.resolve() in (scan_file.resolve(), label_file.resolve()):
        raise DataError(f"{output_file}: is an input and would be replaced; choose --output")
    if output_file.exists() and not overwrite:
        raise DataError(
            f"{output_file}: already exists; pass --overwrite to replace it, or choose --output"
        )
    report(0, 2, "reading")
    image, stored = scan.read(), read_labels(label_file, table)
    labels = place_labels(
        stored.voxels,
        stored.affine,
        shape=image.voxels.shape,
        target=image.affine,
        source=str(label_file),
    )
    maker = read_provenance(stored.header)
    report(1, 2, "drawing")
    measured = measure_structures(
        labels,
        image.affine,
        table.foreground,
        image.voxels,
        body_m2=body_m2,
        shown=trim_margin(image.voxels),
    )
    scatter = describe_scatter(labels)
    shapes = {} if scatter else measure_shapes(fit_heart(labels, image.affine, table))
    page = build_scan_page(
        image,
        labels,
        table,
        title=scan_file.name if scan.series is None else scan.name,
        rows=build_rows(name, measured, table, shapes=shapes),
        ratios=compute_ratios(measured),
        shapes=shapes,
        body_m2=body_m2,
        notices=[f"no surface, area or diameter: {scatter}"] if scatter else [],
        provenance={
            "Label map": name_file(label_file),
            "Model": "not named in the label map" if maker is None else maker.model,
            "Scan": describe_grid(image),
            "Hash of the scan": fingerprint_scan(image),
            "Hash of the label map": fingerprint_labels(stored),
            "Page made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, heartseg {__version__}",
        },
    )
    write_scan_page(output_file, page)
    report(2, 2, output_file.name)
    return output_file
