"""Pages of the documentation site that lie elsewhere, or are made when it is built.

MkDocs calls these hooks; mkdocs.yml names them. The README is the first page, and the reference of
the command line is made from the commands.
"""

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from cli_reference import build_cli_reference

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs"
FROM_ROOT = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "maintainers/contributing.md",
    "LICENSE": "LICENSE.txt",
    "CITATION.cff": "CITATION.cff",
}
"""Files at the top of the repository, by their place in the site."""
CLI_PAGE = "cli.md"


def on_files(files: "Files", config: "MkDocsConfig") -> "Files":
    """Add the pages that do not lie in the folder of the documents."""
    from mkdocs.structure.files import File

    for name, place in FROM_ROOT.items():
        if (ROOT / name).is_file():
            text = (ROOT / name).read_text(encoding="utf-8")
            files.append(File.generated(config, place, content=text))
    files.append(File.generated(config, CLI_PAGE, content=build_cli_reference()))
    return files


def on_page_markdown(
    markdown: str,
    page: "Page",
    config: "MkDocsConfig",  # noqa: ARG001 - MkDocs passes it, and the next
    files: "Files",  # noqa: ARG001
) -> str:
    """Make links between files of the repository links between pages of the site."""
    sources = {place: name for name, place in FROM_ROOT.items()}
    place = page.file.src_uri
    return move_links(markdown, source=sources.get(place, f"{DOCS}/{place}"), place=place)


def on_page_content(
    html: str,
    page: "Page",  # noqa: ARG001 - MkDocs passes it, and the next
    config: "MkDocsConfig",  # noqa: ARG001
    files: "Files",  # noqa: ARG001
) -> str:
    """Show colours beside their codes."""
    return add_swatches(html)


def add_swatches(html: str) -> str:
    """Put a spot of its colour before every ``#rrggbb`` that is code; assets/site.css draws it."""
    return _COLOR.sub(r'<code><i class="swatch" style="background: \1"></i>\1</code>', html)


def move_links(text: str, *, source: str, place: str) -> str:
    """Return a page with its relative links as they are in the site.

    Args:
        text: The page in Markdown.
        source: Its file, relative to the top of the repository.
        place: Its file in the site.
    """

    def move(link: re.Match[str]) -> str:
        target, anchor = link["target"], link["anchor"] or ""
        if not target or ":" in target:
            return link[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        moved = FROM_ROOT.get(file, file.removeprefix(f"{DOCS}/"))
        return f"]({posixpath.relpath(moved, posixpath.dirname(place) or '.')}{anchor})"

    return _LINK.sub(move, text)


_LINK = re.compile(r"\]\((?P<target>[^)#\s]*)(?P<anchor>#[^)\s]*)?\)")
_COLOR = re.compile(r"<code>(#[0-9a-f]{6})</code>")
