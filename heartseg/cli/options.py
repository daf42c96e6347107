"""The options that several commands share, each spelled and described once."""

from functools import partial
from pathlib import Path
from typing import Annotated, Optional

import typer

# What may not be read is no wrong usage: the command that reads it tells, as of any other trouble.
path_argument = partial(typer.Argument, readable=False)
path_option = partial(typer.Option, readable=False)

# `Optional[...]` and `list[...]`: Typer reads these annotations when the program runs.
ConfigFile = Annotated[Path, path_argument(metavar="CONFIG", help="YAML configuration file.")]
OptionalConfigFile = Annotated[
    Optional[Path],  # noqa: UP045
    path_argument(metavar="[CONFIG]", help="YAML configuration file."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
LogFile = Annotated[
    Optional[Path],  # noqa: UP045
    path_option("--log-file", metavar="FILE", help="Also write everything that is told to FILE."),
]
OutputDir = Annotated[
    Optional[Path],  # noqa: UP045
    path_option("--output", "-o", metavar="DIR", help="Where results go."),
]
