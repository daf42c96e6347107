"""Read a configuration: YAML file, then ``--set`` values, checked as a whole."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, get_args, get_origin

import yaml
from pydantic import ValidationError

from heartseg.config.model_sections import MODEL_SECTIONS, SLICES, WHOLE_HEART
from heartseg.config.schema import Config
from heartseg.config.shipped import find_config
from heartseg.errors import ConfigError
from heartseg.files import replacing
from heartseg.plurals import counted

MAX_BYTES = 100_000
"""A larger file is no configuration: the published one has a hundredth."""
_MAX_SHOWN = 80


def load_config(file: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration.

    Args:
        file: A YAML file, the folder of a run (which becomes ``run_dir``), or the name of a
            configuration that ships with heartseg; None takes the defaults (the published recipe).
        overrides: ``section.key=value`` settings that win over the file. Where the key takes a text
            or a path, the value is that text as it stands; otherwise it is YAML.

    Returns:
        The whole configuration, defaults filled in.

    Raises:
        ConfigError: If the file cannot be read, or any key or value does not fit; all problems
            are named at once.
    """
    values: dict[str, Any] = {}
    if file is not None:
        source = find_config(file)
        file, values = source.file, _read_mapping(source.file)
        if source.run_dir is not None:
            # Wherever it was when it was trained.
            values["run_dir"] = str(source.run_dir)
    settings = [_apply_override(values, override) for override in overrides]
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, file, settings)) from error


def change_config(config: Config, changes: Mapping[str, Mapping[str, Any]], source: Path) -> Config:
    """Return a configuration with other values, checked as a whole.

    Args:
        config: The configuration.
        changes: Values by section and key.
        source: The file that asks for them, for the message.

    Raises:
        ConfigError: If the values do not fit the rest.
    """
    values = config.model_dump(mode="json")
    for section, entries in changes.items():
        values[section].update(entries)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, source)) from error


def dump_config(config: Config) -> str:
    """Return the resolved configuration as YAML text that ``load_config`` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def write_config(config: Config, file: Path) -> None:
    """Write the resolved configuration beside a result."""
    with replacing(file) as temporary:
        temporary.write_text(dump_config(config), encoding="utf-8")


class _Loader(yaml.SafeLoader):
    """A safe loader that refuses what no configuration needs: tags, aliases, duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        problem = None
        if isinstance(event, yaml.AliasEvent):
            problem = "aliases are not allowed"
        elif getattr(event, "tag", None) is not None:
            # PyYAML's own constructors crash on some values under a tag, such as !!int ''.
            problem = f"the tag {event.tag} is not allowed"
        if problem:
            raise yaml.MarkedYAMLError(problem=problem, problem_mark=event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key in (key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} occurs twice", problem_mark=node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _read_mapping(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise ConfigError(f"{file}: too large for a configuration file")
        text = content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such configuration file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from error
    values = _parse(text, str(file))
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: expected sections such as 'data:', found {_kind(values)}")
    return values


class _TextLoader(_Loader):
    """The same loader for texts: ``010`` is no number, ``2026-10-07`` no date, ``no`` not false."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}  # type: ignore[misc]


def _parse(text: str, source: str, *, loader: type[_Loader] = _Loader) -> Any:  # noqa: ANN401 - YAML holds anything
    try:
        # _Loader derives from SafeLoader: no tag makes an object.
        return yaml.load(text, Loader=loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "nested too deeply"
        raise ConfigError(
            f"{source}{where}: not valid YAML ({' '.join(problem.split())})"
        ) from error


@dataclass(frozen=True)
class _Setting:
    """One ``--set``: its key, as a location, and how messages name it."""

    location: tuple[str, ...]
    source: str


def _apply_override(values: dict[str, Any], override: str) -> _Setting:
    path, equals, text = override.partition("=")
    source = f"--set {_printable(override)}"
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{source}: expected section.key=value")
    section = values
    for key in keys[:-1]:
        child = section.get(key)
        if child is None:
            child = section[key] = {}
        if not isinstance(child, dict):
            raise ConfigError(f"{source}: {key} is not a section")
        section = child
    section[keys[-1]] = _read_value(text.strip(), _annotation_at(keys), source)
    return _Setting(tuple(keys), source)


def _read_value(text: str, annotation: Any, source: str) -> Any:  # noqa: ANN401 - YAML holds anything
    """Read the value of ``--set``: YAML, but a text or path is taken as it stands."""
    members = get_args(annotation) or (annotation,)
    kinds = [kind for kind in members if kind is not type(None)]
    if len(kinds) < len(members) and text in ("", "null"):
        return None
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    if all(kind in (str, Path) or isinstance(kind, str) for kind in kinds) and not quoted:
        if not text and Path in kinds:
            raise ConfigError(f"{source}: expected a path, found nothing")
        return text
    if any(_holds_texts(kind) for kind in (annotation, *kinds)):
        return _parse(text, source, loader=_TextLoader)
    return _parse(text, source)


def _holds_texts(annotation: Any) -> bool:  # noqa: ANN401 - a type of any kind
    """Return whether a type is a list of texts."""
    entry = next(iter(get_args(annotation)), None)
    bare = next(iter(get_args(entry)), entry) if hasattr(entry, "__metadata__") else entry
    return get_origin(annotation) is tuple and bare is str


def _annotation_at(keys: Sequence[str]) -> Any:  # noqa: ANN401 - a type of any kind
    """Return the type of a key; None where it is not known here."""
    section = _section_at(tuple(keys[:-1]))
    field = getattr(section, "model_fields", {}).get(keys[-1])
    return None if field is None else field.annotation


def _explain(error: ValidationError, file: Path | None, settings: Sequence[_Setting] = ()) -> str:
    """Name every problem, under the file or the ``--set`` that it comes from."""
    problems: dict[str, list[str]] = {}
    for detail in error.errors(include_url=False):
        location = _without_tags(detail["loc"])
        key = _printable(".".join(map(str, location)))
        if detail["type"] == "extra_forbidden":
            text = f"{key}: {_explain_key(location, detail['loc'])}"
            problems.setdefault(_find_source(location, text, settings, file), []).append(text)
            continue
        expected = detail["msg"].removeprefix("Value error, ")
        # A check over several keys names them itself; its input is the whole section.
        received = "" if isinstance(detail["input"], dict) else f", got {_shorten(detail['input'])}"
        text = f"{f'{key}: ' if key else ''}{expected}{received}"
        problems.setdefault(_find_source(location, text, settings, file), []).append(text)
    return "\n".join(
        "\n  - ".join([f"{source}: {counted(len(texts), 'problem')}", *texts])
        for source, texts in problems.items()
    )


def _find_source(
    location: tuple[int | str, ...], text: str, settings: Sequence[_Setting], file: Path | None
) -> str:
    """Return what a problem comes from: a ``--set``, if its key is there, else the file."""
    where = tuple(map(str, location))
    # The last one wins, as its value does.
    for setting in reversed(settings):
        shorter = min(len(where), len(setting.location))
        is_there = where[:shorter] == setting.location[:shorter]
        # A check over several keys stands at their section, and names them.
        names_it = len(where) >= len(setting.location) or setting.location[-1] in text
        if is_there and names_it:
            return setting.source
    return "the settings" if file is None else str(file)


def _without_tags(location: tuple[int | str, ...]) -> tuple[int | str, ...]:
    """Leave out the kind of network, which pydantic puts behind `model`."""
    if location[:1] == ("model",) and location[1:2] in ((SLICES,), (WHOLE_HEART,)):
        return location[:1] + location[2:]
    return location


def _explain_key(location: tuple[int | str, ...], tagged: tuple[int | str, ...]) -> str:
    """Say why a key is not known: another kind of network has it, or it is misspelt."""
    own = _section_at(tagged[:-1])
    if location != tagged:
        kind, other = str(tagged[1]), WHOLE_HEART if tagged[1] == SLICES else SLICES
        if location[-1] in MODEL_SECTIONS[other].model_fields:
            return f"belongs to model.kind: {other}; this configuration has model.kind: {kind}"
    known = list(getattr(own, "model_fields", {}))
    close = get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"
    return f"unknown key; {hint}"


def _section_at(location: tuple[int | str, ...]) -> Any:  # noqa: ANN401 - a type of any kind
    """Return the model of the section at a location; None where there is none."""
    section: Any = Config
    for part in location:
        if isinstance(part, int):  # an entry of a list: tuple[Section, ...]
            section = next(iter(get_args(section)), None)
        elif part in MODEL_SECTIONS and section not in (None, Config):
            section = MODEL_SECTIONS[part]
        else:
            field = getattr(section, "model_fields", {}).get(part)
            section = field.annotation if field else None
    return section


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _printable(text: str) -> str:
    """Keep a message on its line, whatever characters it quotes."""
    return text if text.isprintable() else repr(text)


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else f"{str(value)[:40]!r}"
