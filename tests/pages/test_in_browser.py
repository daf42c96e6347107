"""The page in Chromium, driven by mouse, touch and keys: it acts, and asks for nothing."""

import re
import time

import numpy as np
import pytest
from pages.hearts import (
    AO,
    AO_OFFSET_MM,
    LV,
    LV_RADIUS_MM,
    SPACING_MM,
    lv_center_mm,
    make_page,
)
from pages.test_page_writer import HOSTILE, hostile_page

from heartseg.labels import HVSMR
from heartseg.pages.page_writer import write_scan_page

STEP_MM = min(SPACING_MM)
SIDES = {"R": (0, 1), "L": (0, -1), "A": (1, 1), "P": (1, -1), "S": (2, 1), "I": (2, -1)}
COLORS = {value: HVSMR.display_palette[value].tolist() for value in (LV, AO)}
# On a copy, which leaves the page's own canvases as they are.
PIXELS = """(canvas) => {
  const copy = document.createElement("canvas"), [width, height] = [canvas.width, canvas.height];
  [copy.width, copy.height] = [width, height];
  const pen = copy.getContext("2d", {willReadFrequently: true});
  pen.drawImage(canvas, 0, 0);
  return pen.getImageData(0, 0, width, height).data;
}"""
# The share of a canvas that has a structure's hue, and how far its colour is from grey there.
TINTED = (
    f"const read = {PIXELS};"
    + """const share = (canvas, color) => {
  const data = read(canvas);
  const mean = (color[0] + color[1] + color[2]) / 3, want = color.map((part) => part - mean);
  const size = Math.hypot(...want);
  let count = 0, sum = 0;
  for (let i = 0; i < data.length; i += 4) {
    if (!data[i + 3]) { continue; }
    const gray = (data[i] + data[i + 1] + data[i + 2]) / 3;
    const has = [data[i] - gray, data[i + 1] - gray, data[i + 2] - gray];
    const long = Math.hypot(...has);
    const along = (has[0] * want[0] + has[1] * want[1] + has[2] * want[2]) / size;
    if (long > 6 && along > 0.96 * long) { count += 1; sum += long; }
  }
  return [count / (data.length / 4), sum / Math.max(count, 1)];
};"""
)
MEAN = (
    f"const read = {PIXELS};"
    + """const mean = (canvas) => {
  const data = read(canvas);
  let sum = 0;
  for (let i = 0; i < data.length; i += 4) { sum += data[i] + data[i + 1] + data[i + 2]; }
  return sum / data.length;
};"""
)


def beside_lv(right, anterior, superior):
    """Return a place by its distances in mm from the centre of the large ball."""
    return lv_center_mm() + np.array([right, anterior, superior])


class Page:
    """The page of a scan in a browser."""

    def __init__(self, browser, file):
        self.browser = browser
        browser.open(file)
        self.wait("document.documentElement.dataset.ready === 'yes'")
        self.settle()

    def wait(self, condition):
        end = time.monotonic() + 20
        while not self.browser.evaluate(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.02)

    def settle(self, rest_ms=0):
        """Wait until everything is drawn; the heart is drawn finely only when it rests."""
        self.browser.evaluate(
            f"""new Promise((done) => setTimeout(() => requestAnimationFrame(() =>
            requestAnimationFrame(done)), {rest_ms}))"""
        )

    def box(self, selector):
        """Return left, top, width and height of an element, scrolled into view."""
        return self.browser.evaluate(
            f"""(() => {{
              const element = document.querySelector({selector!r});
              element.scrollIntoView({{block: "center"}});
              const box = element.getBoundingClientRect();
              return [box.left, box.top, box.width, box.height];
            }})()"""
        )

    def middle(self, selector):
        left, top, width, height = self.box(selector)
        return left + width / 2, top + height / 2

    def click(self, selector):
        x, y = self.middle(selector)
        self.click_at(x, y)

    def click_at(self, x, y):
        self.browser.mouse("mouseMoved", x, y)
        self.browser.mouse("mousePressed", x, y)
        self.browser.mouse("mouseReleased", x, y)
        self.settle()

    def drag(self, start, end):
        self.browser.mouse("mouseMoved", *start)
        self.browser.mouse("mousePressed", *start)
        for part in (0.5, 1.0):
            x, y = (a + part * (b - a) for a, b in zip(start, end, strict=True))
            self.browser.mouse("mouseMoved", x, y, drag=True)
        self.browser.mouse("mouseReleased", *end)
        self.settle(rest_ms=250)

    def hover(self, selector):
        self.browser.mouse("mouseMoved", *self.middle(selector))
        self.settle()

    def press(self, selector, *keys):
        self.browser.evaluate(f"document.querySelector({selector!r}).focus()")
        for key in keys:
            self.browser.key(key)
        self.settle()

    def place(self):
        """Return where the cursor is in mm, right, anterior, superior, and in what."""
        text = self.browser.evaluate("document.getElementById('place').textContent")
        where, name = re.fullmatch(r"(.*) mm: (.*)", text).groups()
        mm = np.zeros(3)
        for part in where.split(", "):
            side, number = part.split()
            axis, sign = SIDES[side]
            mm[axis] = sign * float(number)
        return mm, name

    def number(self, selector):
        return float(self.browser.evaluate(f"document.querySelector({selector!r}).value"))

    def tinted(self, view, value):
        """Return the share of a view that shows a structure's colour."""
        return self._measure(view, value)[0]

    def strength(self, view, value):
        """Return how far from grey a structure is shown."""
        return self._measure(view, value)[1]

    def _measure(self, view, value):
        return self.browser.evaluate(
            f"{{ {TINTED} share(document.querySelector('#{view} canvas'), {COLORS[value]}) }}"
        )

    def mean(self, view):
        return self.browser.evaluate(f"{{ {MEAN} mean(document.querySelector('#{view} canvas')) }}")

    def point_in(self, view, mm):
        """Return where on the screen a place of the patient lies in a plane."""
        left, top, width, height = self.box(f"#{view} canvas")
        facts = self.browser.evaluate(
            "(() => { const s = JSON.parse(document.getElementById('scan').textContent);"
            " return [s.shape.slice().reverse(), s.origin, s.step]; })()"
        )
        sizes, origin, step = np.array(facts[0]), np.array(facts[1]), facts[2]
        index = (np.asarray(mm) - origin) / step + 0.5
        col, row = {"axial": (0, 1), "coronal": (0, 2), "sagittal": (1, 2)}[view]
        scale = min(width / sizes[col], height / sizes[row])
        across = index[col] if view == "sagittal" else sizes[col] - index[col]
        down = sizes[row] - index[row]
        return (
            left + width / 2 + scale * (across - sizes[col] / 2),
            top + height / 2 + scale * (down - sizes[row] / 2),
        )


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    made = tmp_path_factory.mktemp("pages") / "pat0_report.html"
    write_scan_page(made, make_page())
    return made


@pytest.fixture
def page(browser, file):
    browser.send("Emulation.clearDeviceMetricsOverride")
    browser.send("Emulation.setEmulatedMedia", media="", features=[])
    browser.send(
        "Emulation.setDeviceMetricsOverride",
        width=1300,
        height=1000,
        deviceScaleFactor=1,
        mobile=False,
    )
    opened = Page(browser, file)
    yield opened
    assert browser.problems == []


def test_the_page_runs_without_errors_and_asks_for_nothing(page, file):
    asked = [address for address in page.browser.requests if not address.startswith("data:")]

    assert asked == [file.as_uri()]
    assert page.browser.problems == []


def test_the_browser_would_report_a_breach_and_a_request(page, tmp_path):
    """The test before can fail."""
    (tmp_path / "bad.html").write_text(
        "<meta http-equiv=Content-Security-Policy content=\"script-src 'none'\">"
        "<script>1</script><img src=other.png>"
    )
    page.browser.open(tmp_path / "bad.html")
    time.sleep(0.3)
    page.browser.evaluate("1")

    assert any("Content Security Policy" in problem for problem in page.browser.problems)
    assert [address.rsplit("/", 1)[-1] for address in page.browser.requests] == [
        "bad.html",
        "other.png",
    ]
    page.browser.problems.clear()


def test_the_page_opens_at_the_centre_of_the_heart_with_everything_shown(page):
    mm, name = page.place()

    np.testing.assert_allclose(mm, lv_center_mm() + 0.15 * AO_OFFSET_MM, atol=1.5)
    assert name == "LV left ventricle"
    for view in ("axial", "coronal", "sagittal", "heart"):
        assert page.tinted(view, LV) > 0.02


@pytest.mark.parametrize("view", ["axial", "coronal", "sagittal"])
def test_a_click_moves_the_cursor_to_that_place_of_the_patient(page, view):
    fixed = {"axial": 2, "coronal": 1, "sagittal": 0}[view]
    before, _ = page.place()
    wanted = beside_lv(4.0, 3.0, -5.0)

    page.click_at(*page.point_in(view, wanted))

    after, name = page.place()
    wanted[fixed] = before[fixed]
    np.testing.assert_allclose(after, wanted, atol=STEP_MM)
    assert name == "LV left ventricle"


def test_the_planes_are_linked(page):
    """Where the axial plane is clicked, the other two show."""
    sliders = [f"#{view}-slice" for view in ("axial", "coronal", "sagittal")]
    before = [page.number(slider) for slider in sliders]
    shown = page.tinted("coronal", LV)

    # To the right and behind the ball: the coronal plane leaves it.
    page.click_at(*page.point_in("axial", beside_lv(7, -11, 0)))

    after = [page.number(slider) for slider in sliders]
    assert after[0] == before[0]
    assert after[1] < before[1]
    assert after[2] > before[2]
    assert shown > 0.02
    assert page.tinted("coronal", LV) == 0


def test_dragging_moves_the_cursor_along(page):
    start = page.point_in("coronal", lv_center_mm())
    end = page.point_in("coronal", beside_lv(-6, 0, 4))

    page.drag(start, end)

    mm, _ = page.place()
    np.testing.assert_allclose(mm[[0, 2]], (beside_lv(-6, 0, 4))[[0, 2]], atol=STEP_MM)


def test_a_finger_moves_the_cursor(page):
    points = [page.point_in("sagittal", beside_lv(0, y, 2)) for y in (0.0, 3.0, 5.0)]
    for kind, point in zip(("touchStart", "touchMove", "touchMove"), points, strict=True):
        page.browser.send(
            "Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": point[0], "y": point[1]}]
        )
    page.browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.settle()

    mm, _ = page.place()
    np.testing.assert_allclose(mm[[1, 2]], (beside_lv(0, 5, 2))[[1, 2]], atol=STEP_MM)


@pytest.mark.parametrize(
    ("view", "key", "move"),
    [
        ("axial", "ArrowLeft", [1, 0, 0]),
        ("axial", "ArrowUp", [0, 1, 0]),
        ("axial", "PageUp", [0, 0, 1]),
        ("coronal", "ArrowRight", [-1, 0, 0]),
        ("coronal", "ArrowDown", [0, 0, -1]),
        ("sagittal", "ArrowRight", [0, 1, 0]),
        ("sagittal", "PageDown", [-1, 0, 0]),
    ],
)
def test_keys_move_the_cursor_by_one_voxel(page, view, key, move):
    before, _ = page.place()

    page.press(f"#{view} canvas", key, key)

    after, _ = page.place()
    np.testing.assert_allclose(after - before, 2 * STEP_MM * np.array(move), atol=0.11)
    page.press(f"#{view} canvas", "Home")
    np.testing.assert_allclose(page.place()[0], before)


def test_the_wheel_changes_the_slice_and_stays_in_the_scan(page):
    x, y = page.middle("#axial canvas")
    before, _ = page.place()

    page.browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-120)
    page.settle()

    after, _ = page.place()
    np.testing.assert_allclose(after - before, [0, 0, 3 * STEP_MM], atol=0.11)
    page.browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=-100000)
    page.settle()
    last = page.browser.evaluate("Number(document.getElementById('axial-slice').max)")
    assert page.number("#axial-slice") == last


def test_the_slice_slider_moves_the_plane(page):
    before, _ = page.place()

    page.press("#sagittal-slice", "ArrowRight")

    after, _ = page.place()
    np.testing.assert_allclose(after - before, [STEP_MM, 0, 0], atol=0.11)


def test_opacity_fades_the_structures(page):
    page.press("#opacity", "Home")
    assert page.browser.evaluate("document.getElementById('opacity-value').textContent") == "0 %"
    assert page.tinted("axial", LV) == 0

    page.press("#opacity", "End")
    color = page.browser.evaluate(
        f"(() => {{ const c = document.querySelector('#axial canvas'), d = ({PIXELS})(c);"
        " const at = 4 * (Math.round(c.height / 2 + 15) * c.width + Math.round(c.width / 2 + 15));"
        " return [...d.slice(at, at + 3)]; })()"
    )
    assert color == COLORS[LV]


@pytest.mark.parametrize(("key", "brighter"), [("Home", True), ("End", False)])
def test_the_window_changes_the_brightness(page, key, brighter):
    before = page.mean("axial")

    page.press("#level", key)

    assert (page.mean("axial") > 1.3 * before) == brighter
    assert (page.mean("axial") < 0.7 * before) != brighter


def test_a_narrow_window_leaves_black_and_white(page):
    page.press("#opacity", "Home")
    page.press("#width", "Home")
    shares = page.browser.evaluate(
        f"(() => {{ const d = ({PIXELS})(document.querySelector('#coronal canvas'));"
        """
          let ends = 0;
          for (let i = 0; i < d.length; i += 4) { ends += d[i] < 25 || d[i] > 230; }
          return ends / (d.length / 4);
        })()"""
    )
    assert shares > 0.85


def test_a_switch_takes_one_structure_out_of_every_picture(page):
    page.click_at(*page.point_in("axial", lv_center_mm()))
    page.press("#axial canvas", *["PageUp"] * 6)
    views = ("axial", "heart")
    before = {view: (page.tinted(view, LV), page.tinted(view, AO)) for view in views}

    page.click("li[data-value='1'] input")
    page.hover("h1")

    for view in views:
        assert before[view][0] > 0.01
        assert page.tinted(view, LV) == 0
        assert page.tinted(view, AO) >= 0.9 * before[view][1] > 0.001


def test_all_can_be_hidden_and_shown(page):
    before = page.tinted("coronal", LV), page.tinted("heart", LV)

    page.click("#none")
    page.hover("h1")
    assert page.tinted("coronal", LV) == page.tinted("heart", LV) == 0

    page.click("#all")
    page.hover("h1")
    assert (page.tinted("coronal", LV), page.tinted("heart", LV)) == pytest.approx(before, abs=0.01)
    # What is absent cannot be switched on.
    assert page.browser.evaluate("document.querySelector(\"li[data-value='2'] input\").disabled")


@pytest.mark.parametrize("row", ["li[data-value='5']", "tr[data-value='1'] th"])
def test_hovering_a_row_brings_its_structure_out(page, row):
    """Its colour is stronger in the planes, and that of the others weaker everywhere."""
    lit = int(re.search(r"'(\d)'", row)[1])
    other = AO if lit == LV else LV
    page.click_at(*page.point_in("coronal", beside_lv(0, 0, 6)))
    page.hover("h1")
    before = {
        (view, value): page.strength(view, value)
        for view in ("axial", "heart")
        for value in (LV, AO)
    }

    page.hover(row)

    assert page.strength("axial", lit) > 1.3 * before["axial", lit]
    assert page.strength("axial", other) < 0.7 * before["axial", other]
    assert page.strength("heart", lit) == pytest.approx(before["heart", lit], rel=0.1)
    assert page.strength("heart", other) < 0.6 * before["heart", other]
    page.hover("h1")
    for (view, value), strength in before.items():
        assert page.strength(view, value) == pytest.approx(strength)


def test_a_row_is_marked_while_the_pointer_is_over_its_structure(page):
    page.browser.mouse("mouseMoved", *page.point_in("axial", beside_lv(3, 3, 0)))
    page.settle()

    marked = page.browser.evaluate(
        "[...document.querySelectorAll('.lit')].map((row) => row.dataset.value)"
    )
    assert set(marked) == {"1"}


def test_the_heart_turns_with_mouse_and_keys(page):
    def shot():
        return page.browser.evaluate("document.querySelector('#heart canvas').toDataURL()")

    x, y = page.middle("#heart canvas")
    pictures = [shot()]
    page.drag((x, y), (x + 60, y + 20))
    pictures.append(shot())
    page.press("#heart canvas", "ArrowLeft")
    pictures.append(shot())
    page.press("#heart canvas", "+")
    pictures.append(shot())
    page.browser.mouse("mouseWheel", x, y, deltaX=0, deltaY=200)
    page.settle()
    pictures.append(shot())
    assert len(set(pictures)) == 5
    assert page.place()[1] == "LV left ventricle"


@pytest.mark.parametrize(
    ("side", "toward"),
    [
        ("anterior", [0, 1, 0]),
        ("posterior", [0, -1, 0]),
        ("left", [-1, 0, 0]),
        ("right", [1, 0, 0]),
        ("superior", [0, 0, 1]),
        ("inferior", [0, 0, -1]),
    ],
)
def test_the_heart_is_seen_from_its_sides_and_a_click_finds_its_surface(page, side, toward):
    """The middle of the large ball, seen from a side, is its pole there."""
    page.click("li[data-value='5'] input")
    page.click(f"[data-side='{side}']")
    left, top, width, height = page.box("#heart canvas")
    # The ball that is shown lies off the middle of the picture: find it by its colour.
    middle = page.browser.evaluate(
        f"""(() => {{
          const canvas = document.querySelector("#heart canvas"), d = ({PIXELS})(canvas);
          const box = [1e9, 1e9, 0, 0];
          for (let y = 0; y < canvas.height; y++) for (let x = 0; x < canvas.width; x++) {{
            const i = 4 * (y * canvas.width + x);
            if (d[i] < 50 || d[i] < 1.6 * d[i + 1] || d[i + 3] < 250) continue;
            box[0] = Math.min(box[0], x); box[1] = Math.min(box[1], y);
            box[2] = Math.max(box[2], x); box[3] = Math.max(box[3], y);
          }}
          return [(box[0] + box[2]) / 2 / canvas.width, (box[1] + box[3]) / 2 / canvas.height];
        }})()"""
    )

    page.click_at(left + middle[0] * width, top + middle[1] * height)

    mm, _ = page.place()
    pole = lv_center_mm() + LV_RADIUS_MM * np.array(toward)
    np.testing.assert_allclose(mm, pole, atol=1.6)


def test_reset_brings_everything_back(page):
    before = page.place(), page.number("#opacity"), page.mean("axial")
    page.press("#opacity", "Home")
    page.press("#axial canvas", "PageUp", "ArrowLeft")

    page.click("#reset")
    page.hover("h1")

    assert page.number("#opacity") == before[1]
    np.testing.assert_allclose(page.place()[0], before[0][0])
    assert page.mean("axial") == pytest.approx(before[2])


def test_the_cross_hair_can_be_switched_off(page):
    before = page.mean("axial")

    page.click("#cross")

    assert page.mean("axial") != before


def test_browsers_without_decompression_show_the_same(page, file):
    shown = page.browser.evaluate("document.querySelector('#axial canvas').toDataURL()")
    script = page.browser.send(
        "Page.addScriptToEvaluateOnNewDocument", source="delete window.DecompressionStream"
    )
    try:
        older = Page(page.browser, file)
        assert older.browser.evaluate("'DecompressionStream' in window") is False
        again = older.browser.evaluate("document.querySelector('#axial canvas').toDataURL()")
        solid = older.tinted("heart", LV)
    finally:
        page.browser.send("Page.removeScriptToEvaluateOnNewDocument", **script)
    assert again == shown
    assert solid > 0.02


def test_without_scripts_the_still_picture_and_the_tables_show(page, file):
    page.browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.browser.open(file)
        seen = page.browser.evaluate(
            "(() => { const box = (s) => document.querySelector(s).getBoundingClientRect().height;"
            " return [box('.still img'), box('.viewer'), box('table')]; })()"
        )
    finally:
        page.browser.send("Emulation.setScriptExecutionDisabled", value=False)
    assert seen[0] > 100
    assert seen[1] == 0
    assert seen[2] > 50


def luminance(color):
    levels = np.array([int(part) for part in re.findall(r"\d+", color)[:3]]) / 255
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize(("scheme", "is_light"), [("light", True), ("dark", False)])
def test_text_has_contrast_in_light_and_dark(page, scheme, is_light):
    """WCAG 2.2 AA: 4.5 to 1."""
    page.browser.send(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": scheme}],
    )
    pairs = page.browser.evaluate(
        """[...document.querySelectorAll("h1, .purpose, .notice, legend, label, output, button, th,"
          + "td, dt, dd, footer, summary")].map((element) => {
            let ground = element;
            while (ground && getComputedStyle(ground).backgroundColor === "rgba(0, 0, 0, 0)") {
              ground = ground.parentElement;
            }
            return [element.tagName, getComputedStyle(element).color,
              getComputedStyle(ground || document.body).backgroundColor];
          })"""
    )
    assert len(pairs) > 40
    for tag, ink, ground in pairs:
        dark, light = sorted((luminance(ink), luminance(ground)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (tag, ink, ground)
    body = page.browser.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (luminance(body) > 0.5) == is_light


@pytest.mark.parametrize("width", [360, 700, 1300])
def test_the_page_fits_its_window(page, width):
    page.browser.send(
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=800,
        deviceScaleFactor=2,
        mobile=width < 700,
    )
    page.settle()

    wide, canvases = page.browser.evaluate(
        "[document.documentElement.scrollWidth, [...document.querySelectorAll('canvas')]"
        ".map((c) => [c.clientWidth, c.width])]"
    )
    assert wide <= width
    assert all(shown > 150 and drawn == 2 * shown for shown, drawn in canvases)


@pytest.mark.parametrize("paper", [(8.27, 11.69), (8.5, 11)], ids=["A4", "letter"])
def test_the_page_prints_on_two_pages(page, paper):
    """Also from a dark screen."""
    page.browser.send(
        "Emulation.setEmulatedMedia",
        features=[{"name": "prefers-color-scheme", "value": "dark"}],
    )
    printed = page.browser.print_pages(*paper)

    assert printed == 2


def test_every_control_has_a_name(page):
    nodes = page.browser.send("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "checkbox", "slider", "application", "image"}
    named = [
        (node["role"]["value"], node["name"]["value"])
        for node in nodes
        if not node["ignored"] and node["role"]["value"] in roles
    ]

    assert len(named) > 20
    assert all(name for _, name in named)
    assert ("application", "axial plane, slice") in [
        (role, name.split(" 1")[0].split(" 2")[0].split(" 3")[0]) for role, name in named
    ]


def test_hostile_names_do_nothing(browser, tmp_path):
    file = tmp_path / "page.html"
    write_scan_page(file, hostile_page())

    page = Page(browser, file)

    assert browser.problems == []
    assert [address for address in browser.requests if not address.startswith("data:")] == [
        file.as_uri()
    ]
    assert browser.evaluate("document.querySelector('h1').textContent") == HOSTILE
    assert browser.evaluate("document.images.length") == 1
    assert page.place()[1].startswith(HOSTILE)
