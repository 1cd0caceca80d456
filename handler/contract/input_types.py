"""What a caller may send: the keys, types and bounds of `input`.

The parser takes its keys and bounds from here, and schema.py publishes them. What only a look at
the whole job can tell is left to the parser.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import ConfigDict, Field, with_config

# pydantic reads typing's own only from Python 3.12 on.
from typing_extensions import TypedDict


class Bounds(NamedTuple):
    """Both values are allowed."""

    least: int
    most: int

    def hold(self, value: float) -> bool:
        return self.least <= value <= self.most

    def __str__(self) -> str:
        return f"{self.least} to {self.most}"


QUALITY = Bounds(1, 100)
SEED = Bounds(0, 2**64 - 1)
STEPS = Bounds(1, 100)
CFG = Bounds(0, 30)
LORA_STRENGTH = Bounds(0, 4)
LONGEST_TIMEOUT_S = 86400
LONGEST_PROMPT = 10_000
# Linux file systems allow 255 bytes; names are never used as file names, yet nobody needs more.
LONGEST_NAME_BYTES = 255
# It becomes part of object keys and file names.
REQUEST_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"
NOT_IN_NAMES = r"/\\\x00-\x1f\x7f"
RESERVED_NAMES = (".", "..")
# The editor may write it after a picture's name (ComfyUI folder_paths.annotated_filepath).
FOLDER_NOTE = " [input]"

Ratio = Literal["1:1", "4:3", "3:4", "16:9", "9:16"]


class Delivery(StrEnum):
    """Where the pictures go; `auto` is the bucket when one is set, else base64."""

    AUTO = "auto"
    BASE64 = "base64"
    BUCKET = "bucket"


class ImageFormat(StrEnum):
    """What `input.output.format` may be."""

    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"


NO_OTHER_KEYS = ConfigDict(extra="forbid", use_attribute_docstrings=True)


@with_config(NO_OTHER_KEYS)
class ImageEntry(TypedDict):
    name: Annotated[
        str,
        Field(
            max_length=LONGEST_NAME_BYTES,
            pattern=rf"^[^{NOT_IN_NAMES}]*[^\s{NOT_IN_NAMES}][^{NOT_IN_NAMES}]*$",
            json_schema_extra={
                "not": {"anyOf": [{"enum": list(RESERVED_NAMES)}, {"pattern": r" \[input\]$"}]}
            },
        ),
    ]
    """The plain file name by which a node such as LoadImage loads the picture."""
    image: Annotated[str, Field(min_length=1)]
    """PNG, JPEG or WebP: as base64, as a data URI, by its `https://` address, or `bucket:KEY`."""


@with_config(NO_OTHER_KEYS)
class OutputOptions(TypedDict, total=False):
    delivery: Delivery | None
    """Default: `auto`."""
    format: ImageFormat | None
    """What the pictures are turned into. Default: they stay as they were saved."""
    quality: Annotated[int, Field(ge=QUALITY.least, le=QUALITY.most)] | None
    """Of `webp` and `jpeg`. Default: 90."""
    previews: bool | None
    """Whether what preview nodes show is given, too. Default: false."""


@with_config(
    ConfigDict(
        **NO_OTHER_KEYS,
        json_schema_extra={"anyOf": [{"required": ["workflow"]}, {"required": ["prompt"]}]},
    )
)
class JobInput(TypedDict, total=False):
    """`input` of a job: a workflow, or in its place a prompt. Null is as good as left out."""

    workflow: (
        Annotated[dict[str, Any], Field(min_length=1)] | Annotated[str, Field(min_length=1)] | None
    )
    """A ComfyUI workflow in API format, or the graph that the editor saves; or its JSON text."""
    images: list[ImageEntry] | None
    """The pictures that the workflow loads; in prompt mode the 1 to 3 pictures to edit."""
    output: OutputOptions | None
    request_id: Annotated[str, Field(pattern=f"^{REQUEST_ID}$")] | None
    """Echoed, and the folder in the bucket. Default: RunPod's job id."""
    timeout_s: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT_S)] | None
    """Seconds for the whole job. Default, and most: the worker's own limit."""
    comfy_org_api_key: str | None
    """Handed to ComfyUI's API nodes, which need a key of Comfy.org."""
    prompt: Annotated[str, Field(max_length=LONGEST_PROMPT, pattern=r"\S")] | None
    """Instead of a workflow: what to do with the pictures. The keys below count only with it."""
    negative_prompt: Annotated[str, Field(max_length=LONGEST_PROMPT)] | None
    """What to avoid; only above cfg 1."""
    ratio: Ratio | None
    """Width to height. Default: the first picture's own."""
    seed: Annotated[int, Field(ge=SEED.least, le=SEED.most)] | None
    """Default: random, and returned."""
    steps: Annotated[int, Field(ge=STEPS.least, le=STEPS.most)] | None
    """Default: 4, without the LoRA 20."""
    cfg: Annotated[float, Field(ge=CFG.least, le=CFG.most)] | None
    """Default: 1, without the LoRA 2.5."""
    lora_strength: Annotated[float, Field(ge=LORA_STRENGTH.least, le=LORA_STRENGTH.most)] | None
    """Of the Lightning LoRA. Default: 1; 0 leaves it out."""
