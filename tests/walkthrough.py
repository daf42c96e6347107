"""The commands that a page shows, run one after the other as its reader would.

``python tests/walkthrough.py PAGE FOLDER`` runs those of a page in a folder that holds its data.
"""

import os
import re
import shlex
import sys
from pathlib import Path

from typer.testing import CliRunner

from heartseg.cli.app import app

INSTALLING = ("make", "pip")
"""First words of lines that install heartseg or call make: they are not run."""


def shown_lines(text):
    """Return the shell lines of a page's code blocks, each with its continuation lines."""
    joined = re.sub(r"\\\n\s+", "", text)
    return re.findall(r"(?<=\n\n) {4}\S.*(?:\n {4}\S.*)*", joined)


def shown_commands(text):
    """Return the lines of heartseg that a page shows.

    Raises:
        ValueError: If a line is neither one of heartseg nor one that installs it.
    """
    lines = [line.strip() for block in shown_lines(text) for line in block.splitlines()]
    strange = [line for line in lines if line.split()[0] not in ("heartseg", *INSTALLING)]
    if strange:
        raise ValueError(f"expected lines of heartseg or {INSTALLING}, found {strange}")
    return [line for line in lines if line.startswith("heartseg ")]


def run_line(line):
    """Run a line in this process; return what it prints and raise if it fails."""
    words = shlex.split(line, comments=True)
    target = None
    if ">" in words:
        *words, _, target = words
    done = CliRunner().invoke(app, words[1:])
    if done.exit_code != 0:
        raise RuntimeError(f"{line}\nends with {done.exit_code}: {done.output}") from done.exception
    if target is not None:
        Path(target).write_text(done.stdout, encoding="utf-8")
    return done.output


if __name__ == "__main__":
    page, folder = Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2]
    os.chdir(folder)
    for shown in shown_commands(page):
        sys.stdout.write(f"$ {shown}\n{run_line(shown)}\n")
