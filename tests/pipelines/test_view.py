import html
import re
import time

import numpy as np
import pytest
from builders import Scan, make_affine, make_scan, rotate, write_nifti

from heartseg.errors import DataError
from heartseg.labels import HVSMR, LabelTable, Structure
from heartseg.pipelines.view import run_view
from heartseg.scans.fingerprint import fingerprint_labels, fingerprint_scan
from heartseg.scans.provenance import Provenance
from heartseg.scans.volume import read_image, read_label_map, write_label_map


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A scan whose header names a patient, and a label map of another tool."""
    monkeypatch.chdir(tmp_path)
    scan = make_scan((20, 16, 18))
    affine = rotate(scan.affine)
    return (
        write_nifti(
            tmp_path / "in" / "pat7_cropped_norm.nii.gz", scan.image, affine, descrip=b"DOE^JANE"
        ),
        write_nifti(tmp_path / "foreign" / "tool.nii.gz", scan.labels, affine),
    )


def text_of(page):
    plain = re.sub(r"<script.*?</script>|<style.*?</style>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", plain)).split())


def test_the_page_is_named_by_the_case_and_says_how_it_was_made(files, tmp_path):
    page = run_view(*files, table=HVSMR, image_suffix="_cropped_norm")

    assert page.resolve() == tmp_path / "pat7_report.html"
    text = text_of(page.read_text(encoding="utf-8"))
    assert text.startswith("pat7_cropped_norm.nii.gz")
    assert "Label map tool.nii.gz" in text
    assert "20 x 16 x 18 voxels of 0.8 x 1.5 x 1.1 mm" in text
    assert fingerprint_scan(read_image(files[0])) in text
    assert fingerprint_labels(read_label_map(files[1], HVSMR)) in text
    assert "Model not named in the label map" in text
    assert "LV left ventricle" in text


def test_the_model_that_made_the_label_map_is_named(files, tmp_path):
    scan = read_image(files[0])
    made = tmp_path / "made_seg.nii.gz"
    labels = read_label_map(files[1], HVSMR).voxels
    maker = Provenance("packaged whole_heart 0123abcd")
    write_label_map(made, labels, like=scan, table=HVSMR, provenance=maker)

    text = text_of(run_view(files[0], made, table=HVSMR).read_text(encoding="utf-8"))

    assert "Model packaged whole_heart 0123abcd" in text


def test_neither_header_nor_folders_show(files, tmp_path):
    page = run_view(*files, table=HVSMR)

    content = page.read_bytes()
    for secret in (b"DOE", str(tmp_path).encode(), b"foreign"):
        assert secret not in re.sub(rb"[A-Za-z0-9+/]{200,}", b"", content)


def test_volumes_are_those_of_the_label_map(files):
    page = run_view(*files, table=HVSMR).read_text(encoding="utf-8")

    scan = make_scan((20, 16, 18))
    voxel_ml = 0.8 * 1.5 * 1.1 / 1000
    for value in range(1, 9):
        row = re.search(rf'<tr data-value="{value}">(.*?)</tr>', page, re.DOTALL)[1]
        shown = re.search(r'<td class="number">([^<]*)</td>', row)[1]
        assert float(shown) == pytest.approx((scan.labels == value).sum() * voxel_ml, abs=0.051)


def test_volumes_per_body_surface_area_are_given_on_demand(files):
    plain = text_of(run_view(*files, table=HVSMR).read_text(encoding="utf-8"))
    indexed = run_view(*files, table=HVSMR, body_m2=0.5, overwrite=True)

    page = indexed.read_text(encoding="utf-8")
    row = re.search(r'<tr data-value="1">(.*?)</tr>', page, re.DOTALL)[1]
    volume, per_m2 = re.findall(r'<td class="number">([^<]*)</td>', row)[:2]
    assert float(per_m2) == pytest.approx(2 * float(volume), abs=0.11)
    assert "Body surface area 0.50 m\N{SUPERSCRIPT TWO}" in text_of(page)
    assert "Body surface area" not in plain


def test_a_table_of_other_labels_names_the_structures(files):
    table = LabelTable(tuple(Structure(v, f"T{v}", f"tube {v}", (v, 0, 0)) for v in range(9)))

    text = text_of(run_view(*files, table=table).read_text(encoding="utf-8"))

    assert "T3 tube 3" in text
    assert "left ventricle" not in text


def test_a_label_map_that_is_stored_along_other_axes_gives_the_same_page(files, tmp_path):
    scan = make_scan((20, 16, 18))
    turned = Scan(scan.image, scan.labels, rotate(scan.affine)).turned("LPS")
    other = write_nifti(tmp_path / "tool.nii.gz", turned.labels, turned.affine)

    pages = [
        re.search(r'id="scan">(.*?)</script>', page.read_text(encoding="utf-8"), re.DOTALL)[1]
        for page in (
            run_view(files[0], files[1], table=HVSMR, output_file=tmp_path / "a.html"),
            run_view(files[0], other, table=HVSMR, output_file=tmp_path / "b.html"),
        )
    ]

    assert pages[0] == pages[1]


def test_a_label_map_of_another_grid_or_with_other_labels_is_refused(files, tmp_path):
    scan = make_scan((20, 16, 18))
    shifted = write_nifti(tmp_path / "shifted.nii", scan.labels, make_affine("LAS"))
    larger = write_nifti(tmp_path / "larger.nii", np.zeros((21, 16, 18), np.uint8), np.eye(4))
    wrong = write_nifti(tmp_path / "wrong.nii", scan.labels + 40, rotate(scan.affine))

    for file, message in (
        (shifted, r"shifted\.nii: its voxels do not coincide with those of the scan"),
        (larger, r"larger\.nii: its voxels do not coincide with those of the scan"),
        (wrong, r"wrong\.nii: expected label values 0 to 8, found 40, 41"),
        (tmp_path / "gone.nii", r"gone\.nii: no such file"),
    ):
        with pytest.raises(DataError, match=message):
            run_view(files[0], file, table=HVSMR)
    assert list(tmp_path.glob("*.html")) == []


def test_nothing_is_replaced_unless_asked(files, tmp_path):
    page = run_view(*files, table=HVSMR, output_file=tmp_path / "page.html")
    page.write_text("mine")

    with pytest.raises(DataError, match=r"page\.html: already exists; pass --overwrite"):
        run_view(*files, table=HVSMR, output_file=page)
    assert page.read_text() == "mine"
    run_view(*files, table=HVSMR, output_file=page, overwrite=True)
    assert page.stat().st_size > 10_000

    with pytest.raises(DataError, match="is an input and would be replaced"):
        run_view(*files, table=HVSMR, output_file=files[0], overwrite=True)
    with pytest.raises(DataError, match="is a folder; --output names the page"):
        run_view(*files, table=HVSMR, output_file=tmp_path, overwrite=True)


def test_progress_is_reported(files):
    reports = []

    run_view(*files, table=HVSMR, report=lambda *progress: reports.append(progress))

    assert reports == [
        (0, 2, "reading"),
        (1, 2, "drawing"),
        (2, 2, "pat7_cropped_norm_report.html"),
    ]


@pytest.mark.parametrize("case", ["pat4", "pat58"])
def test_pages_of_real_hearts_are_small_and_soon_made(hvsmr2, tmp_path, case):
    folder = hvsmr2 / "cropped_norm"
    start = time.process_time()

    page = run_view(
        folder / f"{case}_cropped_norm.nii.gz",
        folder / f"{case}_cropped_seg.nii.gz",
        table=HVSMR,
        output_file=tmp_path / "page.html",
    )

    # Processor time, which other work on the machine does not lengthen much.
    assert time.process_time() - start < 6
    assert page.stat().st_size < 4_000_000


def test_a_label_map_of_noise_is_shown_without_surfaces_and_at_once(tmp_path):
    rng = np.random.default_rng(0)
    scan = write_nifti(tmp_path / "scan.nii.gz", rng.random((40, 44, 48)), make_affine("PIR"))
    noise = rng.integers(0, 9, (40, 44, 48)).astype(np.uint8)
    labels = write_nifti(tmp_path / "noise.nii.gz", noise, make_affine("PIR"))

    began = time.process_time()
    page = run_view(scan, labels, table=HVSMR, output_file=tmp_path / "page.html")
    text = text_of(page.read_text(encoding="utf-8"))

    # Fitting surfaces took more than a minute.
    assert time.process_time() - began < 15
    assert "No surface, area or diameter: the labels are scattered as in noise: 5.2 of" in text
    assert "Surface area" not in text
