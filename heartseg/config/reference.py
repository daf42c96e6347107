"""The configuration reference, made from the schema so that it cannot go out of date."""

import sys
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from heartseg.config.schema import ONLY_FOR, Config

_HEAD = """# Configuration reference

Every key of a configuration file, made from the schema by `make docs`. A key that is not listed
here is an error. `--set section.key=value` wins over the file, the file over the default. Relative
paths start at the working directory.
"""


def build_reference() -> str:
    """Return the reference as Markdown: a table a section."""
    parts = [_HEAD]
    top = {name: field for name, field in Config.model_fields.items() if not _sections(field)}
    parts.append(_table("Top level", "", top))
    for name, field in Config.model_fields.items():
        for model in _sections(field):
            parts += _section(name, model, field.description or "")
    parts.append(_applicability())
    return "\n".join(parts)


def _applicability() -> str:
    """List the keys outside of `model` that one kind of network uses alone."""
    lines = ["## What only one kind of network uses", ""]
    for kind, keys in ONLY_FOR.items():
        names = ", ".join(f"`{key}`" for key in keys)
        lines.append(f"- `model.kind: {kind}`: {names}")
    return "\n".join([*lines, ""])


def _section(path: str, model: type[BaseModel], description: str) -> list[str]:
    fields = model.model_fields
    plain = {name: field for name, field in fields.items() if not _sections(field)}
    title, kind = f"`{path}`", fields.get("kind")
    if kind is not None:
        title += f" of `kind: {get_args(kind.annotation)[0]}`"
        description = (model.__doc__ or "").strip().splitlines()[0]
    parts = [_table(title, description, plain)]
    for name, field in fields.items():
        for nested in _sections(field):
            parts += _section(f"{path}.{name}", nested, field.description or "")
    return parts


def _sections(field: FieldInfo) -> list[type[BaseModel]]:
    """Return the models that a field consists of: itself, or the entries of its list."""
    candidates = [field.annotation, *get_args(field.annotation)]
    # The kinds of a union come as Annotated[section, tag].
    bare = [get_args(c)[0] if hasattr(c, "__metadata__") else c for c in candidates]
    return [c for c in bare if isinstance(c, type) and issubclass(c, BaseModel)]


def _table(title: str, description: str, fields: dict[str, FieldInfo]) -> str:
    lines = [f"## {title}", ""]
    if description:
        lines += [description, ""]
    lines += ["| key | type | default | meaning |", "|---|---|---|---|"]
    for name, field in fields.items():
        default = "required" if field.is_required() else _value(field.get_default())
        meaning = " ".join((field.description or "").split())
        lines.append(f"| `{name}` | {_type_name(field.annotation)} | {default} | {meaning} |")
    return "\n".join([*lines, ""])


def _value(value: Any) -> str:  # noqa: ANN401 - a default is anything
    if value is None:
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`" if str(value) else "`''`"


def _type_name(annotation: Any) -> str:  # noqa: ANN401 - annotations are of many kinds
    origin, arguments = get_origin(annotation), get_args(annotation)
    if str(origin) == "typing.Literal":
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin is tuple:
        many = arguments[-1] is Ellipsis
        inner = _type_name(arguments[0])
        return f"list of {inner}" if many else f"list of {len(arguments)}: {inner}"
    if hasattr(annotation, "__metadata__"):
        return _type_name(arguments[0])
    if arguments:
        return " or ".join(_type_name(a) for a in arguments if a is not type(None))
    name: str = annotation.__name__
    return {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}.get(
        name, name.lower()
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(build_reference(), encoding="utf-8")
