import base64
import hashlib
import html
import json
import re

import numpy as np
import pytest
from builders import make_affine
from pages.hearts import make_page

from heartseg.errors import DataError
from heartseg.labels import LabelTable, Structure
from heartseg.pages.page_writer import render_scan_page, write_scan_page
from heartseg.pages.scan_page import Column, Row

HOSTILE = '</script><img src=x onerror="alert(1)">&amp;'


@pytest.fixture(scope="module")
def page():
    return render_scan_page(make_page())


def test_the_page_says_what_it_is_for_and_how_it_was_made(page):
    text = html.unescape(re.sub(r"<script.*?</script>|<[^>]+>", " ", page, flags=re.DOTALL))

    assert "pat0.nii.gz" in text
    assert text.count("For research only. Not a medical device.") == 2
    assert "The views agree poorly." in text
    assert re.search(r"Model\s+whole_heart", text)
    assert re.search(r"RV/LV\s+1\.23", text)


def test_notices_begin_with_a_capital_letter():
    text = render_scan_page(make_page(notices=("the views agree poorly", "")))

    assert '<p class="notice">The views agree poorly</p>' in text


def test_a_scan_of_a_single_slice_is_a_page_too():
    page = make_page()

    text = render_scan_page(make_page(image=page.image[..., 30:31], labels=page.labels[..., 30:31]))

    assert 'id="scan"' in text


def test_measurements_have_their_digits_and_flags_are_words(page):
    rows = re.findall(r'<tr data-value="(\d)">(.*?)</tr>', page, re.DOTALL)
    cells = {value: re.findall(r"<td[^>]*>(.*?)</td>", row) for value, row in rows}

    assert cells == {"1": ["3.1", "0.50", ""], "2": ["\u2013", "\u2013", "not found"]}


def test_the_page_names_no_other_file_and_no_address(page):
    outside = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)

    assert not re.search(r"""(?:src|href)=["'](?!data:)""", outside)
    for word in ("@import", "url(", "http:", "https:"):
        assert word not in page
    for word in ("fetch(", "XMLHttpRequest", "WebSocket", "sendBeacon", "eval(", "innerHTML"):
        assert word not in page


def test_the_policy_allows_this_style_and_this_script_and_nothing_else(page):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)[1]
    hashes = {
        kind: base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        for kind, content in (
            ("style", re.search(r"<style>(.*?)</style>", page, re.DOTALL)[1]),
            ("script", re.search(r"<script>(.*?)</script>", page, re.DOTALL)[1]),
        )
    }

    assert [part.strip() for part in html.unescape(policy).split(";")] == [
        "default-src 'none'",
        "img-src data:",
        f"style-src 'sha256-{hashes['style']}'",
        f"script-src 'sha256-{hashes['script']}'",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    assert "style=" not in page
    assert not re.search(r"<[^>]*\son\w+=", re.sub(r"<script.*?</script>", "", page, flags=re.S))


def hostile_page():
    labels = make_page().labels
    table = LabelTable(
        tuple(
            Structure(value, f"{HOSTILE}{value}", HOSTILE, (value, 0, 0))
            for value in range(labels.max() + 1)
        )
    )
    return make_page(
        title=HOSTILE,
        table=table,
        columns=(Column(HOSTILE),),
        rows=(Row(1, (1.0,), (HOSTILE,)),),
        facts={HOSTILE: HOSTILE},
        notices=(HOSTILE,),
        provenance={HOSTILE: HOSTILE},
    )


def test_whatever_comes_from_outside_is_shown_and_not_run():
    page = render_scan_page(hostile_page())

    assert HOSTILE not in page
    assert "<img src=x" not in page
    assert page.count("</script>") == 2
    payload = json.loads(re.search(r'id="scan">(.*?)</script>', page, re.DOTALL)[1])
    assert payload["structures"][0]["name"] == HOSTILE


def test_equal_pages_are_equal_files_and_an_earlier_one_is_replaced_whole(tmp_path):
    file = tmp_path / "new" / "pat0_report.html"
    write_scan_page(file, make_page(title="another"))
    write_scan_page(file, make_page())
    first = file.read_bytes()
    write_scan_page(file, make_page())

    assert file.read_bytes() == first
    assert b"another" not in first
    assert [entry.name for entry in file.parent.iterdir()] == ["pat0_report.html"]


def test_a_page_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(DataError, match=r"pat0\.html: cannot be written"):
        write_scan_page(tmp_path / "file" / "pat0.html", make_page())


def test_a_scan_of_noise_stays_below_eight_megabytes():
    """The largest page: as many voxels as are kept, none like its neighbour."""
    rng = np.random.default_rng(0)
    shape = (180, 180, 180)
    labels = np.zeros(shape, np.uint8)
    labels[5:175, 5:175, 5:175] = 1
    labels[20:170:2, 60:120, 60:120] = 2

    page = make_page(
        make_affine("RAS", (1.0, 1.0, 1.0)),
        image=rng.uniform(0, 1, shape).astype(np.float32),
        labels=labels,
    )

    assert 6_000_000 < len(render_scan_page(page)) < 8_000_000


def test_an_empty_label_map_and_a_page_without_extras_are_whole():
    page = make_page()

    text = render_scan_page(
        make_page(labels=np.zeros_like(page.labels), rows=(), facts={}, notices=(), provenance={})
    )

    assert "Measurements</h2>" not in text
    assert "How this was made" not in text
    assert text.count("(absent)") == 8


def test_values_that_do_not_fit_are_errors():
    page = make_page()

    with pytest.raises(ValueError, match=r"one 3D shape, got \(60, 48, 66\) and \(60, 48\)"):
        make_page(labels=page.labels[..., 0])
    with pytest.raises(ValueError, match="expected 2 values each, got 1"):
        make_page(rows=(Row(1, (1.0,)),))
