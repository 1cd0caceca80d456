"""What a caller may send and what it gets: the types, their check, and their JSON Schema."""

from handler.contract.addresses import (
    AddressFault,
    BucketKey,
    HttpsUrl,
    IPAddress,
    RemoteImage,
    is_public,
    parse_address,
)
from handler.contract.check import check_input
from handler.contract.input_types import (
    CFG,
    LONGEST_TIMEOUT_S,
    LORA_STRENGTH,
    QUALITY,
    REQUEST_ID,
    SEED,
    STEPS,
    Delivery,
    Fit,
    ImageEntry,
    ImageFormat,
    JobInput,
    OutputOptions,
    OutputSize,
    Ratio,
    Speed,
)
from handler.contract.kinds import kind_of
from handler.contract.output_types import Failure, FileResult, ImageResult, ResultKind, Success
from handler.contract.says import FOLDER_NOTE, LONGEST_NAME_BYTES, LONGEST_PROMPT, NOT_IN_NAMES
from handler.contract.schema import SCHEMAS, schema_of

__all__ = [
    "CFG",
    "FOLDER_NOTE",
    "LONGEST_NAME_BYTES",
    "LONGEST_PROMPT",
    "LONGEST_TIMEOUT_S",
    "LORA_STRENGTH",
    "NOT_IN_NAMES",
    "QUALITY",
    "REQUEST_ID",
    "SCHEMAS",
    "SEED",
    "STEPS",
    "AddressFault",
    "BucketKey",
    "Delivery",
    "Failure",
    "FileResult",
    "Fit",
    "HttpsUrl",
    "IPAddress",
    "ImageEntry",
    "ImageFormat",
    "ImageResult",
    "JobInput",
    "OutputOptions",
    "OutputSize",
    "Ratio",
    "RemoteImage",
    "ResultKind",
    "Speed",
    "Success",
    "check_input",
    "is_public",
    "kind_of",
    "parse_address",
    "schema_of",
]
