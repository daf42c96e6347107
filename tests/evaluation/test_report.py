import csv
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from heartseg.evaluation.label_pair import LabelPair
from heartseg.evaluation.report import Material, render_report, write_evaluation
from heartseg.evaluation.scores import COLUMNS, collect_scores
from heartseg.evaluation.scoring import score_case
from heartseg.evaluation.summary import Context, build_summary
from heartseg.labels import HVSMR
from heartseg.pictures.case_pictures import orient_case

CONTRACT = (
    "case,structure,dice,iou,hd95_mm,assd_mm,nsd,volume_prediction_ml,volume_reference_ml,scope"
)
HOSTILE = 'pat9</script><img src=x onerror="window.problems.push(1)">'


def hearts(count=4):
    """Label maps of blocks, each predicted a little worse than the one before."""
    for number in range(count):
        reference = np.zeros((20, 18, 16), np.uint8)
        for value in range(1, 9):
            x, y = 2 + 9 * (value % 2), 1 + 4 * ((value - 1) // 2)
            reference[x : x + 6, y : y + 3, 3:12] = value
        if number == 1:
            reference[reference == 2] = 0
        prediction = np.roll(reference, number, axis=2)
        name = HOSTILE if number == 3 else f"pat{number}"
        yield LabelPair(name, prediction, reference, (1.0, 1.2, 0.9), np.roll(reference, 8, axis=2))


def score(pairs):
    return collect_scores([score_case(pair, HVSMR) for pair in pairs], HVSMR, tolerance_mm=2.0)


PAIRS = {pair.case: pair for pair in hearts()}


def read_view(case):
    pair = PAIRS[case]
    return orient_case(case, pair.prediction, pair.reference, affine=np.diag([1.0, 1.2, 0.9, 1.0]))


MATERIAL = Material(
    title="Test <report>",
    read_view=read_view,
    training={"loss": [1.0, 0.5, 0.3], "val_loss": [1.1, 0.7, 0.6], "dice": [0.1, 0.5, 0.7]},
    details={"Configuration": "run_dir: runs/a", "Environment": "numpy & co"},
)
CONTEXT = Context(
    warnings=("LEAKAGE: <b>pat1</b> was trained on.",),
    groups={"category": {"mild": ["pat0", "pat1"], "severe": ["pat2"]}},
    num_resamples=200,
)


@pytest.fixture(scope="module")
def output_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    write_evaluation(folder, score(PAIRS.values()), CONTEXT, MATERIAL)
    return folder


def test_cases_csv_begins_with_the_agreed_columns(output_dir):
    with (output_dir / "cases.csv").open(newline="") as stream:
        rows = list(csv.reader(stream))

    assert ",".join(rows[0]).startswith(CONTRACT)
    assert tuple(rows[0]) == COLUMNS
    assert len(rows) == 1 + 4 * 2 * 9
    (absent,) = [row for row in rows if row[:2] == ["pat1", "RV"] and row[9] == "full"]
    assert absent[2:9] == ["", "", "", "", "", "0.000000", "0.000000"]


def test_summary_json_has_no_nan(output_dir):
    text = (output_dir / "summary.json").read_text(encoding="utf-8")

    content = json.loads(text, parse_constant=pytest.fail)

    assert content["warnings"] == list(CONTEXT.warnings)


def test_the_page_needs_no_other_file(output_dir):
    page = (output_dir / "report.html").read_text(encoding="utf-8")

    outside_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.search(r"""(?:src|href)=["'](?!data:|#)""", outside_scripts)
    assert "@import" not in outside_scripts


def test_names_and_warnings_are_escaped(output_dir):
    page = (output_dir / "report.html").read_text(encoding="utf-8")

    assert HOSTILE not in page
    assert html.escape(HOSTILE, quote=False).split("<img")[0][:20] in page
    assert "&lt;b&gt;pat1&lt;/b&gt; was trained on" in page
    assert "Test &lt;report&gt;" in page


def test_warnings_stand_above_every_figure(output_dir):
    page = (output_dir / "report.html").read_text(encoding="utf-8")

    assert page.index("was trained on") < page.index('id="summary"')


def test_people_read_whole_heart_and_macro_average_not_the_keys(output_dir):
    page = (output_dir / "report.html").read_text(encoding="utf-8")
    tables = re.sub(r"<(script|style|pre)\b.*?</\1>", "", page, flags=re.DOTALL)
    text = re.sub(r"<[^>]*>", " ", tables)

    # The row of each scope's summary, and the column of the patients.
    assert text.count("whole heart") >= 3
    assert re.findall(r"<tr><td>macro average</td>", tables) == ["<tr><td>macro average</td>"] * 2
    assert not re.search(r"whole_heart|as one\b(?!\.)|mean of the structures", text)
    figure = re.search(r'data-figure="figure-dice">(.*?)</script>', page, re.DOTALL)[1]
    assert "whole heart" in figure
    assert "whole_heart" not in figure


def test_a_single_case_is_singular_on_the_page():
    scores = score(hearts(1))

    page = render_report(scores, build_summary(scores, Context(num_resamples=50)), Material())

    assert re.search(r"1 case ·\s+8 structures ·", page)


def test_a_report_without_extras_is_whole():
    scores = score(hearts(1))

    page = render_report(scores, build_summary(scores, Context(num_resamples=50)), Material())

    assert "figure-dice" in page
    assert "figure-surfaces" not in page
    assert "Worst and best" not in page


def test_a_report_without_cases_is_whole():
    scores = score([])

    page = render_report(scores, build_summary(scores, Context()), MATERIAL)

    assert "figure-confusion" in page


# The page is driven from inside: this counts errors, waits for the figures, sorts a table.
PROBE_BEFORE = """<script>
window.problems = [];
addEventListener("error", (event) => problems.push(event.message || "resource"), true);
addEventListener("unhandledrejection", (event) => problems.push(String(event.reason)));
console.error = (...words) => problems.push(words.join(" "));
</script>"""
PROBE_AFTER = """<script>
const column = (name, index) =>
  [...document.querySelectorAll(`[data-table="${name}"] tbody tr`)]
    .map((row) => row.cells[index].dataset.value ?? row.cells[index].textContent.trim());
const click = (name, index) =>
  document.querySelector(`[data-table="${name}"]`).tHead.rows[0].cells[index].click();
const finish = () => {
  const found = {problems, names: [], rising: [], falling: []};
  found.figures = [...document.querySelectorAll(".figure")].map((place) => [
    place.id, place.querySelectorAll("svg.main-svg, canvas").length, place.dataset.ready]);
  found.stills = document.querySelectorAll("img.still").length;
  found.pictures = [...document.images].filter((image) => image.naturalWidth > 0).length;
  found.resources = performance.getEntriesByType("resource").map((entry) => entry.name)
    .filter((name) => !name.startsWith("data:") && !name.startsWith("blob:"));
  click("summary-full", 5); found.rising = column("summary-full", 5);
  click("summary-full", 5); found.falling = column("summary-full", 5);
  click("patients", 0); found.names = column("patients", 0);
  click("patients", 2); found.rv = column("patients", 2);
  const probe = document.createElement("pre");
  probe.id = "probe"; probe.textContent = JSON.stringify(found);
  document.body.prepend(probe);
};
const wait = (rest) =>
  rest && document.querySelector(".figure:not([data-ready])")
    ? setTimeout(() => wait(rest - 1), 200) : finish();
wait(100);
</script>"""


@pytest.fixture(scope="module")
def seen(output_dir, tmp_path_factory):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("Chromium is not installed: the report is not looked at")
    page = (output_dir / "report.html").read_text(encoding="utf-8")
    page = page.replace("<head>", f"<head>{PROBE_BEFORE}").replace(
        "</body>", f"{PROBE_AFTER}</body>"
    )
    file = tmp_path_factory.mktemp("page") / "probe.html"
    file.write_text(page, encoding="utf-8")
    run = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-unsafe-swiftshader",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path_factory.mktemp('profile')}",
            "--virtual-time-budget=40000",
            "--dump-dom",
            file.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    found = re.search(r'<pre id="probe">(.*?)</pre>', run.stdout, re.DOTALL)
    assert found, run.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def test_the_page_runs_without_errors_or_network(seen):
    assert seen["problems"] == []
    assert seen["resources"] == []


def test_all_figures_are_there(seen):
    names = [name.removeprefix("figure-") for name, _, _ in seen["figures"]]
    assert names == [
        "dice",
        "hd95",
        "volume",
        "bland-altman",
        "confusion",
        "training",
        "surfaces",
    ]
    assert all(drawn and ready == "yes" for _, drawn, ready in seen["figures"])
    assert seen["stills"] == 1


def test_worst_and_best_cases_are_shown_once(seen):
    # Three worst and one best of four cases, three planes each, and the still.
    assert seen["pictures"] == 4 * 3 + 1


def test_tables_sort_both_ways_with_empty_cells_last(seen):
    rising = [float(value) for value in seen["rising"]]
    assert rising == sorted(rising)
    assert [float(value) for value in seen["falling"]] == rising[::-1]
    assert seen["names"] == ["pat0", "pat1", "pat2", HOSTILE]
    assert seen["rv"][-1] in ("", "\u2013")
    assert [float(value) for value in seen["rv"][:-1]] == sorted(map(float, seen["rv"][:-1]))
