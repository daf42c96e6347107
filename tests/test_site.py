"""The documentation site: it builds without a warning, and asks for nothing from the network."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import typer
from chromium import Browser, find_chromium

from heartseg.cli.app import app

mkdocs = pytest.importorskip("mkdocs", reason="the extra docs is not installed")

from cli_reference import build_cli_reference  # noqa: E402 - of tools/, like the next
from docs_site import add_swatches, move_links  # noqa: E402

ROOT = Path(__file__).parents[1]
LOADED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "link": "href"}
"""What a browser loads of itself, by the tag and the attribute that names it."""


class Loaded(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self):
        super().__init__()
        self.addresses = []

    def handle_starttag(self, tag, attributes):
        facts = dict(attributes)
        if tag in LOADED and facts.get(LOADED[tag]):
            self.addresses.append(facts[LOADED[tag]])


def addresses_of(page):
    parser = Loaded()
    parser.feed(page)
    return parser.addresses


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    return folder


def test_every_page_is_in_the_site_and_loads_local_files_only(site):
    pages = {page.relative_to(site).as_posix(): page.read_text() for page in site.rglob("*.html")}
    written = {p.relative_to(ROOT / "docs").as_posix() for p in (ROOT / "docs").rglob("*.md")}
    made = {"index.html", "404.html", "cli.html", "changelog.html", "maintainers/contributing.html"}
    assert pages.keys() == {name.replace(".md", ".html") for name in written} | made
    for name, page in pages.items():
        outside = [a for a in addresses_of(page) if re.match(r"(\w+:)?//", a)]
        assert outside == [], name
        missing = [a for a in addresses_of(page) if not (site / name).parent.joinpath(a).exists()]
        assert name == "404.html" or missing == []
    assert "<code>--format &lt;stl|ply|obj|glb&gt;</code></td>\n<td>" in pages["cli.html"]
    for file in (site / "assets").rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(https?:)?//", file.read_text())


@pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed")
def test_the_search_works_in_a_page_that_is_opened_as_a_file(site, tmp_path):
    browser = Browser(tmp_path / "profile")
    try:
        browser.open(site / "tutorials/study.html")
        browser.evaluate("document.querySelector('.md-search__input').focus()")
        browser.send("Input.insertText", text="doubtful")
        found = browser.evaluate(
            """new Promise((done) => {
              const look = () => {
                const links = [...document.querySelectorAll('.md-search-result__link')];
                links.length ? done(links.map((link) => link.href)) : setTimeout(look, 50);
              };
              look();
            })"""
        )
        assert any("faq.html" in address for address in found)
        assert browser.problems == []
        assert [a for a in browser.requests if not a.startswith(("file:", "data:"))] == []
    finally:
        browser.close()


def test_the_reference_of_the_command_line_lists_every_command_and_option():
    text = build_cli_reference()
    commands = typer.main.get_command(app).commands
    assert commands.keys() <= set(re.findall(r"^## heartseg (\w+)", text, flags=re.MULTILINE))
    (infer,) = re.findall(r"^## heartseg infer$(.*?)^## ", text, flags=re.MULTILINE | re.DOTALL)
    for parameter in commands["infer"].params:
        names = [parameter.metavar] if parameter.name == "inputs" else parameter.opts
        assert all(f"{name}" in infer for name in names)
    assert "| `--format <stl|ply|obj|glb>` | Format of the surfaces. [default: stl] |" in text


@pytest.mark.parametrize(
    ("source", "place", "link", "moved"),
    [
        ("README.md", "index.md", "docs/scores.md#policies", "scores.md#policies"),
        ("docs/faq.md", "faq.md", "scores.md", "scores.md"),
        ("docs/tutorials/a.md", "tutorials/a.md", "../../README.md#labels", "../index.md#labels"),
        ("CONTRIBUTING.md", "maintainers/contributing.md", "docs/faq.md", "../faq.md"),
        ("README.md", "index.md", "https://doi.org/10.2307/1932409", None),
        ("README.md", "index.md", "#limits", None),
    ],
)
def test_links_between_files_become_links_between_pages(source, place, link, moved):
    text = move_links(f"See [a]({link}).", source=source, place=place)
    assert text == f"See [a]({moved or link})."


def test_the_code_of_a_colour_has_a_spot_of_it():
    spot = '<i class="swatch" style="background: #1ea5ff"></i>'
    text = "<td><code>#1ea5ff</code></td><td>#1ea5ff, <code>#1ea5</code></td>"
    assert add_swatches(text) == text.replace("<code>#1ea5ff", f"<code>{spot}#1ea5ff")


def test_an_address_of_the_network_would_be_noticed():
    page = '<link href="//fonts.example/a.css"><a href="https://doi.org/1">1</a>'
    assert addresses_of(page) == ["//fonts.example/a.css"]
