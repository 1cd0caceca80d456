"""What a caller may send and what it gets: the types, their check, and their JSON Schema."""

from handler.contract.check import check_input
from handler.contract.input_types import (
    REQUEST_ID,
    Delivery,
    ImageEntry,
    ImageFormat,
    JobInput,
    OutputOptions,
    Ratio,
)
from handler.contract.kinds import kind_of
from handler.contract.output_types import Failure, FileResult, ImageResult, ResultKind, Success
from handler.contract.says import FOLDER_NOTE
from handler.contract.schema import SCHEMAS, schema_of

__all__ = [
    "FOLDER_NOTE",
    "REQUEST_ID",
    "SCHEMAS",
    "Delivery",
    "Failure",
    "FileResult",
    "ImageEntry",
    "ImageFormat",
    "ImageResult",
    "JobInput",
    "OutputOptions",
    "Ratio",
    "ResultKind",
    "Success",
    "check_input",
    "kind_of",
    "schema_of",
]
