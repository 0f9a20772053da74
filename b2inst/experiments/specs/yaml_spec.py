"""Reading pydantic models from YAML, with one-line errors that name file, key and remedy."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, TypeVar

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


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys and values of a YAML file; a SpecError if it is not valid."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise SpecError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content


def parse_spec(model: type[Model], content: dict[str, Any], *, source: object) -> Model:
    """Validate ``content`` as ``model``; a SpecError names ``source`` and all wrong keys."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe(model, e) for e in error.errors(include_url=False))
        raise SpecError(f"{source}: {problems}") from None


def _describe(model: type[BaseModel], error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        schema = model.model_json_schema()
        objects = [schema, *schema.get("$defs", {}).values()]
        known = {name for one in objects for name in one.get("properties", ())}
        close = difflib.get_close_matches(str(error["loc"][-1]), sorted(known), n=1)
        return f"unknown key '{key}'" + "".join(f" (did you mean '{name}'?)" for name in close)
    if error["type"] == "missing":
        return f"key '{key}' is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"'{key}': {message} (got {error['input']!r})" if key else message
