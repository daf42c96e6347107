"""``heartseg view``: a scan and anyone's label map of it as one page to look at."""

import hashlib
from datetime import datetime, timezone
from pathlib import Path

from heartseg import __version__
from heartseg.errors import DataError
from heartseg.files import image_stem
from heartseg.inference.answer_page import build_scan_page, describe_grid
from heartseg.inference.volumetry import measure_volumes
from heartseg.labels import LabelTable
from heartseg.pages.page_writer import write_scan_page
from heartseg.progress import Report, silent
from heartseg.scans.provenance import read_provenance
from heartseg.scans.reading import read_scan
from heartseg.scans.volume import check_same_grid, read_label_map

PAGE_SUFFIX = "_report.html"
_CHUNK_BYTES = 2**20


def run_view(
    scan_file: Path,
    label_file: Path,
    *,
    table: LabelTable,
    output_file: Path | None = None,
    image_suffix: str = "",
    overwrite: bool = False,
    report: Report = silent,
) -> Path:
    """Write the page of a scan and a label map.

    Args:
        scan_file: The scan.
        label_file: Its label map, of any tool, on the same grid.
        table: The structures and their display colours.
        output_file: Where to; None: ``NAME_report.html`` in the working directory.
        image_suffix: What follows the case name in the name of the scan's file.
        overwrite: Replace an earlier page.
        report: Told before each part.

    Returns:
        The page.

    Raises:
        DataError: If a file cannot be read, the grids differ, a label is not in the table, or a
            page would be lost.
    """
    name = image_stem(scan_file)
    output_file = output_file or Path(f"{name.removesuffix(image_suffix) or name}{PAGE_SUFFIX}")
    if output_file.is_dir():
        raise DataError(f"{output_file}: is a folder; --output names the page, such as page.html")
    if output_file.resolve() in (scan_file.resolve(), label_file.resolve()):
        raise DataError(f"{output_file}: is an input and would be replaced; choose --output")
    if output_file.exists() and not overwrite:
        raise DataError(
            f"{output_file}: already exists; pass --overwrite to replace it, or choose --output"
        )
    report(0, 2, "reading")
    image, labels = read_scan(scan_file), read_label_map(label_file, table)
    check_same_grid(image, labels, names=(str(scan_file), str(label_file)))
    maker = read_provenance(labels.header)
    report(1, 2, "drawing")
    page = build_scan_page(
        image,
        labels.voxels,
        table,
        title=scan_file.name,
        rows=measure_volumes(name, labels.voxels, labels.affine, table),
        provenance={
            "Label map": label_file.name,
            "Model": "not named in the label map" if maker is None else maker.model,
            "Scan": describe_grid(image),
            "SHA-256 of the scan": _hash_file(scan_file),
            "SHA-256 of the label map": _hash_file(label_file),
            "Page made": f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, heartseg {__version__}",
        },
    )
    write_scan_page(output_file, page)
    report(2, 2, output_file.name)
    return output_file


def _hash_file(file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror})") from error
    return digest.hexdigest()
