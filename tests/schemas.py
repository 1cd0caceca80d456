"""The published schemas as validators."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema

from handler.contract.schema import schema_of


def _pattern(
    _validator: Any, pattern: str, value: Any, _schema: Any
) -> Iterator[jsonschema.ValidationError]:
    """With the `$` of ECMA 262, whose patterns JSON Schema has; Python's takes a line feed."""
    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
        yield jsonschema.ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = jsonschema.validators.extend(
    jsonschema.Draft202012Validator, validators={"pattern": _pattern}
)
INPUT = _Validator(schema_of("input"))
OUTPUT = _Validator(schema_of("output"))


def output_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a caller reads as `output`, of what the handler returns: RunPod takes `error` and
    `refresh_worker` out of it."""
    return {key: value for key, value in body.items() if key not in {"error", "refresh_worker"}}
