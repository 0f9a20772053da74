"""Reading pydantic models from YAML, with one-line errors that name file, key and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from b2inst.experiments.specs.errors import SpecError

Model = TypeVar("Model", bound=BaseModel)

#: libyaml's where PyYAML was built with it, which is many times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

#: What to write where pydantic names types of Python.
_EXPECTED = {
    "tuple_type": "write a list, [a, b]",
    "path_type": "write a path",
    **dict.fromkeys(("dict_type", "model_type"), "write a mapping, {key: value}"),
}


class Spec(BaseModel):
    """A frozen model in which an unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys and values of a YAML file; a SpecError if it is not valid."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: not UTF-8 ({error}); save the file as UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:  # of an impossible date, for example
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def parse_spec(model: type[Model], content: dict[str, Any], *, source: object) -> Model:
    """Validate ``content`` as ``model``; a SpecError names ``source`` and all wrong keys."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        found = [(_path(content, e), e) for e in error.errors(include_url=False)]
        # Where a part is wrong, so is the whole: it has too few rows, or is of no allowed type.
        wholes = {path[:end] for path, _ in found for end in range(len(path))}
        problems = [_describe(model, path, e) for path, e in found if path not in wholes]
        raise SpecError(f"{source}: {'; '.join(problems)}") from None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a hint at the other name that is closest, or an empty text if none is close."""
    close = difflib.get_close_matches(name, sorted({*known} - {name}), n=1)
    return "".join(f" (did you mean '{other}'?)" for other in close)


def _path(content: Any, error: ErrorDetails) -> tuple[int | str, ...]:
    """The keys that lead to an error, without the branches of unions that pydantic puts between."""
    path: list[int | str] = []
    for key in error["loc"]:
        with suppress(LookupError, TypeError):
            content = content[key]
            path.append(key)
    return (*path, error["loc"][-1]) if error["type"] == "missing" else tuple(path)


def _describe(model: type[BaseModel], path: tuple[int | str, ...], error: ErrorDetails) -> str:
    key = ".".join(map(str, path))
    if error["type"] == "extra_forbidden":
        schema = model.model_json_schema()
        parts = (schema, *schema.get("$defs", {}).values())
        known = {name for one in parts for name in one.get("properties", ())}
        return f"unknown key '{key}'{did_you_mean(str(path[-1]), known)}"
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    message = _EXPECTED.get(error["type"], error["msg"].removeprefix("Value error, "))
    return f"'{key}': {message} (got {error['input']!r})" if key else message
