"""The arguments and options that several commands share, and how they become a configuration."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from heartseg.config.schema import Config

CONFIG_SUFFIXES = (".yaml", ".yml")

# A path that cannot be read is not wrong usage: the command that reads it reports the error.
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
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one setting; can be repeated."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace earlier results.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only warnings and errors.")]
LogFile = Annotated[
    Optional[Path],  # noqa: UP045
    path_option("--log-file", metavar="FILE", help="Also write all messages to FILE."),
]
OutputDir = Annotated[
    Optional[Path],  # noqa: UP045
    path_option("--output", "-o", metavar="DIR", help="Folder of the results."),
]


def begin(
    config_file: Path | None, overrides: list[str] | None, quiet: bool, log_file: Path | None
) -> "Config":
    """Set up the output of a command, then read its configuration.

    Raises:
        ConfigError: If the configuration is missing or invalid.
        DataError: If the log file cannot be written.
    """
    from heartseg.cli import console

    console.configure(quiet=quiet, log_file=log_file)
    from heartseg.config.loading import load_config

    return load_config(config_file, overrides or ())


def split_config(arguments: list[Path]) -> tuple[Path | None, list[Path]]:
    """Separate the configuration, if the first argument is one, from the inputs."""
    if arguments and arguments[0].suffix.lower() in CONFIG_SUFFIXES:
        return arguments[0], arguments[1:]
    return None, arguments
