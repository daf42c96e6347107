"""The reference of the command line, made from the commands themselves."""

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperArgument

from heartseg.cli.app import app

_HEAD = """# Command line

Every command with its arguments and options, made from the program itself: `heartseg COMMAND
--help` prints the same. What holds for all of them, such as CONFIG and exit codes, is under
[conventions](conventions.md).
"""
BAR = "\\|"
"""A bar in the text of a cell, which it would end."""


def build_cli_reference() -> str:
    """Return the reference as Markdown: a section per command, in the order of the help."""
    parts = [_HEAD]
    for name, command in _commands("heartseg", typer.main.get_command(app)):
        parts += _section(name, command)
    return "\n".join(parts)


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - Typer's own
    """Yield every command below a group, by its full name."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from _commands(f"{path} {name}", inner)


def _section(name: str, command: Any) -> list[str]:  # noqa: ANN401 - Typer's own
    context = typer.Context(command, info_name=name)
    terms, rows = [], []
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is None:
            continue
        term, meaning = record
        if isinstance(parameter, TyperArgument):
            term = parameter.metavar or parameter.name.upper()
            terms.append(term)
        # A bar within code ends no cell, and a backslash before it would be shown.
        rows.append(f"| `{_on_one_line(term)}` | {_on_one_line(meaning).replace('|', BAR)} |")
    usage = " ".join([name, *terms, "[OPTIONS]"])
    table = ["| argument or option | meaning |", "|---|---|", *rows]
    return [f"## {name}", "", f"    {usage}", "", command.help, "", *table, ""]


def _on_one_line(text: str) -> str:
    return " ".join(text.split())
