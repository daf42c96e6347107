"""The configurations that ship with heartseg, and what a CONFIG may be: file, name or folder."""

import logging
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import heartseg
from heartseg.errors import ConfigError

logger = logging.getLogger(__name__)

RUN_CONFIG = "config.yaml"
"""Name of the resolved configuration in the folder of a run or a study."""
_ENDING = ".yaml"


@dataclass(frozen=True)
class ConfigSource:
    """Where a configuration is read from.

    Attributes:
        file: The YAML file.
        run_dir: The folder of the run that was named in place of a file, if one was.
    """

    file: Path
    run_dir: Path | None = None


def list_shipped() -> dict[str, Path]:
    """Return the file of each configuration that ships with heartseg, by its name."""
    packaged = Path(str(resources.files("heartseg").joinpath("configs")))
    # A wheel holds them in the package; a checkout has them at its top.
    folder = packaged if packaged.is_dir() else Path(heartseg.__file__).parents[1] / "configs"
    return {file.stem: file for file in sorted(folder.glob(f"*{_ENDING}"))}


def read_shipped(name: str) -> str:
    """Return the text of a configuration that ships with heartseg, comments included.

    Raises:
        ConfigError: If there is none of this name.
    """
    shipped = list_shipped()
    known = shipped.get(name.removesuffix(_ENDING))
    if known is None:
        raise ConfigError(
            f"{name}: no configuration of this name ships with heartseg; there are "
            f"{', '.join(shipped)}"
        )
    return known.read_text(encoding="utf-8")


def describe_shipped(text: str) -> str:
    """Return what the comment at the top of a configuration says, on one line."""
    lines = text.splitlines()
    end = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ").rstrip() for line in lines[:end])


def is_config(argument: Path) -> bool:
    """Return whether a path that may also be an input names a run, or what ships with heartseg."""
    if argument.is_dir():
        return (argument / RUN_CONFIG).is_file()
    return not argument.exists() and str(argument) in list_shipped()


def find_config(argument: Path) -> ConfigSource:
    """Return where the configuration lies that a CONFIG names.

    It is a YAML file, the folder of a run or a study, or the name of a configuration that ships
    with heartseg. A file of that name in the working directory wins, which is logged.

    Raises:
        ConfigError: If it names none of them.
    """
    if argument.is_dir() and (argument / RUN_CONFIG).is_file():
        return ConfigSource(argument / RUN_CONFIG, run_dir=argument)
    if argument.is_file():
        if str(argument) in list_shipped():
            _note_precedence(argument, argument)
        return ConfigSource(argument)
    shipped = list_shipped().get(str(argument))
    if shipped is not None:
        own = Path(f"{argument}{_ENDING}")
        if own.is_file():
            _note_precedence(argument, own)
            return ConfigSource(own)
        return ConfigSource(shipped)
    if argument.is_dir():
        raise ConfigError(
            f"{argument}: expected a YAML file, or the folder of a run, which holds {RUN_CONFIG}; "
            "found a folder without it"
        )
    # A path that is neither may still be a device or forbidden: reading it says so.
    if argument.suffix or argument.parent != Path() or argument.exists():
        return ConfigSource(argument)
    raise ConfigError(
        f"{argument}: no such configuration file, and heartseg ships none of this name; it ships "
        f"{', '.join(list_shipped())}"
    )


def _note_precedence(name: Path, file: Path) -> None:
    logger.info(
        "%s: the file %s of the working directory, not the configuration that ships with heartseg",
        name,
        file,
    )
