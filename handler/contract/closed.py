"""Objects that take no unknown keys."""

from collections.abc import Mapping
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

UNKNOWN_KEY = "unknown_key"


def unknown_keys(kind: Any, value: Mapping[str, Any]) -> list[str]:
    """The keys that the TypedDict `kind` has not."""
    return [key for key in value if key not in kind.__annotations__]


class _Closed:
    """Refuses unknown keys all at once. pydantic makes a fault of each, and a caller may send a
    million."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        def check(value: Any) -> Any:
            if isinstance(value, dict) and unknown_keys(source, value):
                # Without the key, of which pydantic could not make UTF-8 if it has a surrogate.
                raise PydanticCustomError(UNKNOWN_KEY, "unknown key")
            return value

        return core_schema.no_info_before_validator_function(check, handler(source))


# Beside a TypedDict.
CLOSED = _Closed()
