"""Reading pydantic models from YAML, with errors a reader of the YAML understands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from b2inst.experiments.specs.errors import SpecError

Model = TypeVar("Model", bound=BaseModel)

#: libyaml's where PyYAML was built with it, which is many times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Spec(BaseModel):
    """A frozen model in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


def read_spec(model: type[Model], path: Path, **extra: Any) -> Model:
    """Read ``path`` as ``model``; ``extra`` are fields that the file does not give itself.

    Raises:
        SpecError: naming the file, the key or value that is wrong and what is allowed.
    """
    return parse_spec(model, {**read_yaml(path, given=extra), **extra}, source=str(path))


def read_yaml(path: Path, *, given: Iterable[str] = ()) -> dict[str, Any]:
    """The keys and values of a file, unchecked but for those ``given`` by its name.

    Raises:
        SpecError: it is not YAML, no mapping, or has one of these.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    if taken := sorted(content.keys() & set(given)):
        raise SpecError(f"{path}: unknown key '{taken[0]}'; it is given by the file's name")
    return content


def parse_spec(model: type[Model], content: dict[str, Any], *, source: str) -> Model:
    """Validate ``content`` as ``model``; ``source`` is what an error names as its place."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe(model, e) for e in error.errors(include_url=False))
        raise SpecError(f"{source}: {problems}") from None


def _describe(model: type[BaseModel], error: ErrorDetails) -> str:
    loc = error["loc"]
    key = ".".join(str(part) for part in loc)
    if error["type"] == "extra_forbidden":
        allowed = sorted(_fields_at(model, loc[:-1]))
        close = difflib.get_close_matches(str(loc[-1]), allowed, n=1)
        guess = f" (did you mean '{close[0]}'?)" if close else ""
        return f"unknown key '{key}'{guess}; allowed: {', '.join(allowed)}"
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    message = error["msg"].removeprefix("Value error, ")
    if not loc:  # a check of several keys together says itself what it looked at
        return message
    return f"'{key}': {message} (got {error['input']!r})"


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> set[str]:
    """Keys allowed at ``loc``: field names and positions, and tags where there is a union."""
    candidates: list[type[BaseModel]] = [model]
    for part in loc:
        inner = [
            found
            for c in candidates
            if part in c.model_fields
            for found in _models_in(c.model_fields[str(part)].annotation)
        ]
        if inner:
            candidates = inner
        elif isinstance(part, str):  # the tag of a union: keep the member that has it as `kind`
            candidates = [
                c
                for c in candidates
                if "kind" in c.model_fields and c.model_fields["kind"].default == part
            ] or candidates
    return {name for c in candidates for name in c.model_fields}


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for arg in get_args(annotation) for found in _models_in(arg)]
