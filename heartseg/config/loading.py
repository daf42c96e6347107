"""Read a configuration: YAML file, then ``--set`` values, checked as a whole."""

from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import ValidationError

from heartseg.config.schema import Config
from heartseg.errors import ConfigError
from heartseg.files import replacing

MAX_BYTES = 100_000
"""A larger file is no configuration: the published one has a hundredth."""
_MAX_SHOWN = 80


def load_config(file: Path | None, overrides: Sequence[str] = ()) -> Config:
    """Read and check a configuration.

    Args:
        file: A YAML file; None takes the defaults (the published recipe).
        overrides: ``section.key=value`` settings that win over the file; values are YAML.

    Returns:
        The whole configuration, defaults filled in.

    Raises:
        ConfigError: If the file cannot be read, or any key or value does not fit; all problems
            are named at once.
    """
    values = {} if file is None else _read_mapping(file)
    for override in overrides:
        _apply_override(values, override)
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_explain(error, file)) from error


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


def _parse(text: str, source: str) -> Any:  # noqa: ANN401 - YAML holds anything
    try:
        # _Loader derives from SafeLoader: no tag makes an object.
        return yaml.load(text, Loader=_Loader)  # noqa: S506
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or "nested too deeply"
        raise ConfigError(
            f"{source}{where}: not valid YAML ({' '.join(problem.split())})"
        ) from error


def _apply_override(values: dict[str, Any], override: str) -> None:
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
    section[keys[-1]] = _parse(text, source)


def _explain(error: ValidationError, file: Path | None) -> str:
    problems = []
    for detail in error.errors(include_url=False):
        key = _printable(".".join(str(part) for part in detail["loc"]))
        if detail["type"] == "extra_forbidden":
            problems.append(f"{key}: unknown key{_suggest(detail['loc'])}")
            continue
        expected = detail["msg"].removeprefix("Value error, ")
        # A check over several keys names them itself; its input is the whole section.
        received = "" if isinstance(detail["input"], dict) else f", got {_shorten(detail['input'])}"
        problems.append(f"{f'{key}: ' if key else ''}{expected}{received}")
    source = "the settings" if file is None else str(file)
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return f"{source}: {len(problems)} problem{'s' if len(problems) > 1 else ''}\n{lines}"


def _suggest(location: tuple[int | str, ...]) -> str:
    """Offer the nearest known key of the same section."""
    from difflib import get_close_matches

    model: Any = Config
    for part in location[:-1]:
        if isinstance(part, int):  # an entry of a list: tuple[Section, ...]
            model = next(iter(get_args(model)), None)
            continue
        field = getattr(model, "model_fields", {}).get(part)
        model = field.annotation if field else None
    known = list(getattr(model, "model_fields", {}))
    close = get_close_matches(str(location[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; known here: {', '.join(known)}"


def _shorten(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def _printable(text: str) -> str:
    """Keep a message on its line, whatever characters it quotes."""
    return text if text.isprintable() else repr(text)


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else f"{str(value)[:40]!r}"
