"""The options that several commands share, each spelled and described once."""

from pathlib import Path
from typing import Annotated, Optional

import typer

# `Optional[...]` and `list[...]`: Typer reads these annotations when the program runs.
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML configuration file.")]
OptionalConfigFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(metavar="[CONFIG]", help="YAML configuration file."),
]
Overrides = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; may be repeated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]
LogFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--log-file", metavar="FILE", help="Also write everything that is told to FILE."),
]
OutputDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--output", "-o", metavar="DIR", help="Where results go."),
]
