"""The documents: links lead somewhere, commands are accepted, messages are those of the code."""

import ast
import re
import shlex
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import typer

import heartseg
from heartseg.cli.app import app
from heartseg.config.loading import load_config
from heartseg.config.shipped import list_shipped
from heartseg.errors import ConfigError

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
WRITTEN_BY_COMMANDS = ("data/", "demo/", "results/", "runs/")
PLACEHOLDER = "\0"


def page_id(page):
    return page.relative_to(ROOT).as_posix()


def anchors(page):
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(page, text):
    """Return the relative links of a page that lead nowhere."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http:", "https:")):
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            broken.append(target)
    return broken


def missing_files(text):
    """Return the files of the repository that a text names in code quotes and that do not exist."""
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|yaml|jinja|html))`", text)
    places = (ROOT, ROOT / "heartseg", ROOT / "docs")
    # Capital letters stand for a name of the reader's.
    checked = [
        name
        for name in named
        if not re.search(r"[A-Z]{3}", name)
        and (name.endswith(".py") or not name.startswith(WRITTEN_BY_COMMANDS))
    ]
    return [name for name in checked if not any((place / name).exists() for place in places)]


def commands_of(text):
    """Yield the arguments of each heartseg command in the code of a page."""
    joined = re.sub(r"\\\n\s+", "", text)
    shown = re.findall(r"^ {4,}(?:\w+=\S+ )*(heartseg .+)$", joined, flags=re.MULTILINE)
    shown += re.findall(r"`(?:\w+=\S+ )?(heartseg [a-z]+ [^`]+)`", joined)
    for line in shown:
        words = shlex.split(line.replace("|", "").replace("...", ""), comments=True)
        # Square brackets mean that an argument may be left out, as in a usage line.
        yield [word.strip("[]") if "=" not in word else word for word in words[1:]]


def rejection(arguments):
    """Return why heartseg would not accept a command; None if it would."""
    group = typer.main.get_command(app)
    name, *rest = arguments
    if name in ("--help", "--version"):
        return None
    if name not in group.commands:
        return f"no command {name}"
    command = group.commands[name]
    if hasattr(command, "commands"):
        name, *rest = rest
        if name not in command.commands:
            return f"no command {name}"
        command = command.commands[name]
    known = {option for parameter in command.params for option in parameter.opts}
    # --help is there for every command.
    unknown = [word for word in rest if word.startswith("-") and word not in {*known, "--help"}]
    if unknown:
        return f"{name} has no option {unknown[0]}"
    overrides = [after for word, after in pairwise(rest) if word == "--set"]
    named = [word.removeprefix("configs/").removesuffix(".yaml") for word in rest[:1]]
    config = next((ROOT / f"configs/{name}.yaml" for name in named if name in list_shipped()), None)
    try:
        load_config(config, [value.replace("$", "") for value in overrides])
    except ConfigError as error:
        return str(error)
    return None


@cache
def messages():
    """Return every text of the package, with a placeholder for what is filled in."""
    texts = []
    for file in Path(heartseg.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [
                    p.value if isinstance(p, ast.Constant) else PLACEHOLDER for p in node.values
                ]
                texts.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(re.sub(r"%[sd]", PLACEHOLDER, node.value))
    return [text.replace("`", "") for text in texts]


def is_printed(message):
    """Tell whether the package holds a text with all the parts of a message, in their order."""
    parts = [part.strip() for part in message.split("...")]
    pattern = re.compile(".*".join(re.escape(part) for part in parts), re.DOTALL)
    return any(pattern.search(text) for text in messages())


def quoted_messages():
    text = (ROOT / "docs/faq.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (`.+)$", text, flags=re.MULTILINE)
    return [message for heading in headings for message in re.findall(r"`([^`]+)`", heading)]


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_link_leads_somewhere(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_file_that_is_named_exists(page):
    assert missing_files(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_that_is_shown_is_accepted(page):
    commands = list(commands_of(page.read_text(encoding="utf-8")))
    assert {" ".join(words): rejection(words) for words in commands if rejection(words)} == {}


def test_the_guide_and_the_readme_show_commands():
    shown = [
        len(list(commands_of((ROOT / name).read_text()))) for name in ("README.md", "docs/guide.md")
    ]
    assert min(shown) > 10


@pytest.mark.parametrize("message", quoted_messages())
def test_every_message_that_is_explained_is_one_of_the_code(message):
    # The shell prints this one.
    assert message == "heartseg: command not found" or is_printed(message)


def test_a_broken_link_a_lost_file_and_a_wrong_command_would_be_noticed():
    page = ROOT / "README.md"
    assert broken_links(page, "[a](docs/none.md) [b](docs/scores.md#none)") == [
        "docs/none.md",
        "docs/scores.md#none",
    ]
    assert missing_files("`scans/volume.py` and `scans/none.py`") == ["scans/none.py"]
    (command,) = commands_of("    heartseg train configs/smoke.yaml --set train.epoch=3\n")
    assert "unknown key" in rejection(command)
    (command,) = commands_of("    heartseg train smoke --set model.grid=3\n")
    assert "belongs to model.kind: whole_heart" in rejection(command)
    assert rejection(["train", "--fast"]) == "train has no option --fast"
    assert rejection(["fit"]) == "no command fit"
    assert not is_printed("expected label values ... of another kind")
