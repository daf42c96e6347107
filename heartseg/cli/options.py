"""The arguments and options that several commands share, and how they become a configuration."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional

import typer

from heartseg.config.shipped import is_config

if TYPE_CHECKING:
    from heartseg.config.schema import Config

CONFIG_SUFFIXES = (".yaml", ".yml")
NO_INPUT_SUFFIXES = (*CONFIG_SUFFIXES, ".json")
FILE_ENDINGS = (
    *(".nii", ".nii.gz", ".nrrd", ".mha", ".mgz", ".dcm", ".png", ".jpg", ".jpeg"),
    *(".csv", ".json", ".keras", ".zip"),
)
"""How names of files end that people give to --output, which takes a folder."""


def _expand_home(value: Any) -> Any:  # noqa: ANN401 - paths, lists and pairs of them, or nothing
    """Replace ``~``, which no shell does within ``--output=~/results``."""
    if isinstance(value, Path):
        return Path(os.path.expanduser(value))  # noqa: PTH111 - works without a home folder
    if isinstance(value, (list, tuple)):
        return type(value)(map(_expand_home, value))
    return value


def _check_output_dir(value: Path | None) -> Path | None:
    folder: Path | None = _expand_home(value)
    if (
        folder is not None
        and not folder.is_dir()
        and (folder.name.lower().endswith(FILE_ENDINGS) or folder.is_file())
    ):
        raise typer.BadParameter(
            f"{folder}: expected a folder; results get their names from the inputs"
        )
    return folder


# A path that cannot be read is not wrong usage: the command that reads it reports the error.
path_argument = partial(typer.Argument, readable=False, callback=_expand_home)
path_option = partial(typer.Option, readable=False, callback=_expand_home)

# `Optional[...]` and `list[...]`: Typer reads these annotations when the program runs.
CONFIG_HELP = (
    "A YAML file, the folder of a run, or the name of a configuration that ships with heartseg "
    "(see heartseg config)."
)
ConfigFile = Annotated[Path, path_argument(metavar="CONFIG", help=CONFIG_HELP)]
OptionalConfigFile = Annotated[
    Optional[Path],  # noqa: UP045
    path_argument(metavar="[CONFIG]", help=CONFIG_HELP),
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
Device = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="cpu|gpu|gpu:N",
        help="Compute on the processor or on a GPU; sets parallel.device.",
    ),
]
Threads = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option(
        metavar="N", min=1, help="Threads of the processor to compute with; sets parallel.threads."
    ),
]
SeriesNumber = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--series", min=0, metavar="N", help="Number of the DICOM series of the scan."),
]
Height = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--height", metavar="CM", help="Height of the patient, with --weight: volumes per m2."
    ),
]
Weight = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--weight", metavar="KG", help="Weight of the patient."),
]
BodySurface = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option(
        "--bsa", metavar="M2", help="Body surface area in place of --height and --weight."
    ),
]
OutputDir = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(
        *("--output", "-o"),
        readable=False,
        callback=_check_output_dir,
        metavar="DIR",
        help="Folder of the results.",
    ),
]

Absent = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="RV,RA,...",
        help="Structures that the patient does not have; they are never labelled.",
    ),
]

Diagnosis = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        metavar="TERMS",
        help="Diagnoses, such as 'single ventricle, common atrium': heartseg derives from them "
        "which structures are absent, where that is certain.",
    ),
]


def split_terms(text: str | None) -> list[str] | None:
    """Return the parts of an option such as ``RV,RA`` without blanks; None if it is not given."""
    return None if text is None else [part.strip() for part in text.split(",") if part.strip()]


def hint_settings(absent: str | None, diagnosis: str | None) -> dict[str, tuple[str, object]]:
    """Return what --absent and --diagnosis set, for ``join_settings``."""
    return {
        "--absent": ("infer.absent", split_terms(absent)),
        "--diagnosis": ("infer.diagnosis", split_terms(diagnosis)),
    }


def join_settings(
    overrides: list[str] | None, options: Mapping[str, tuple[str, object]]
) -> list[str]:
    """Add options that set one key each to the settings of ``--set``.

    Args:
        overrides: The settings of ``--set``.
        options: Key and value by option, such as ``--device``; None sets nothing.

    Raises:
        BadParameter: If ``--set`` names the same key.
    """
    given = name_keys(overrides)
    settings = [*(overrides or ())]
    for option, (key, value) in options.items():
        if value is None:
            continue
        if key in given:
            raise typer.BadParameter(f"{option} sets {key}; leave out --set {key}")
        settings.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    return settings


def name_keys(overrides: list[str] | None) -> list[str]:
    """Return the keys that ``--set`` names."""
    return [override.partition("=")[0].strip() for override in overrides or ()]


def refuse_ignored(overrides: list[str] | None, *, command: str, used: Sequence[str]) -> None:
    """Make sure that a command uses what ``--set`` names.

    Args:
        overrides: The settings of ``--set``.
        command: The command.
        used: The sections and keys that it uses.

    Raises:
        BadParameter: If it does not use one.
    """
    keys = name_keys(overrides)
    ignored = [key for key in keys if key not in used and key.partition(".")[0] not in used]
    if ignored:
        raise typer.BadParameter(
            f"--set {', '.join(ignored)}: {command} does not use this; leave it out"
        )


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
    """Separate the configuration, if the first argument is one, from the inputs.

    It is a YAML file, the folder of a run, or a name that ships with heartseg and is no file.

    Raises:
        BadParameter: If a later argument looks like a configuration, or it is of another format.
    """
    config_file = None
    if arguments and (arguments[0].suffix.lower() in CONFIG_SUFFIXES or is_config(arguments[0])):
        config_file, arguments = arguments[0], arguments[1:]
    for argument in arguments:
        if argument.suffix.lower() in NO_INPUT_SUFFIXES and not argument.is_dir():
            raise typer.BadParameter(
                f"{argument}: is no input; a configuration is one YAML file, named *.yaml, and "
                "comes first"
            )
    return config_file, arguments
