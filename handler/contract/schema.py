"""The contract as JSON Schema (2020-12), from input_types.py and output_types.py."""

from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from handler.contract.input_types import JobInput
from handler.contract.output_types import Failure, Progress, Success
from handler.errors import BootError, WorkerError

_DOCUMENTS: dict[str, Any] = {"input": JobInput, "output": Success | Failure | Progress}
SCHEMAS = tuple(_DOCUMENTS)


def schema_of(name: str) -> dict[str, Any]:
    """JSON Schema of a job's `input` or `output`; `name` is one of SCHEMAS."""
    schema = TypeAdapter(_DOCUMENTS[name]).json_schema(schema_generator=_Generator)
    if name == "output":
        schema["$defs"]["Failure"]["properties"]["code"]["enum"] = list(_codes(WorkerError))
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": f"A job's {name}"}


def _codes(base: type[WorkerError]) -> Iterator[str]:
    """Those that a job can end with."""
    for kind in base.__subclasses__():
        if issubclass(kind, BootError):
            continue
        if "code" in vars(kind):
            yield kind.code
        yield from _codes(kind)


class _Generator(GenerateJsonSchema):
    """Without a title for each key, which would say the key again."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False
