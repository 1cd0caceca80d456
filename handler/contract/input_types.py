"""What a caller may send: the keys, types and bounds of `input`. check.py parses by these types,
and schema.py publishes them.

A new key is a line in its class with a docstring, and a `Says` where its value can be wrong; null
is as good as left out. Keys of prompt mode come last, from `prompt` on. What only a look at the
whole job can tell is left to handler/job/parse.py.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import AfterValidator, ConfigDict, Field, with_config

# pydantic reads typing's own only from Python 3.12 on.
from typing_extensions import TypedDict

from handler.contract.closed import CLOSED
from handler.contract.says import (
    FOLDER_NOTE,
    LONGEST_NAME_BYTES,
    LONGEST_PROMPT,
    NOT_IN_NAMES,
    PICTURE,
    PICTURE_NAME,
    PROMPT,
    RESERVED_NAMES,
    WORKFLOW,
    Says,
    one_of,
)
from handler.errors import InvalidImage


class Bounds(NamedTuple):
    """Both values are allowed."""

    least: int
    most: int

    def says(self, what: str) -> Says:
        return Says(f"must be {what} from {self.least} to {self.most}")


QUALITY = Bounds(1, 100)
SEED = Bounds(0, 2**64 - 1)
STEPS = Bounds(1, 100)
CFG = Bounds(0, 30)
LORA_STRENGTH = Bounds(0, 4)
LONGEST_TIMEOUT_S = 86400
# It becomes part of object keys and file names.
REQUEST_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}"

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


class OutputSize(StrEnum):
    """What `input.output.size` may be."""

    MODEL = "model"
    PHOTO = "photo"


class Fit(StrEnum):
    """What `input.fit` may be."""

    CROP = "crop"
    EXTEND = "extend"
    WHOLE = "whole"
    TEMPLATE = "template"


class Speed(StrEnum):
    """What `input.speed` may be."""

    FAST = "fast"
    FINE = "fine"


NO_OTHER_KEYS = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)
# Python's value of an enum is the enum; JSON's is its text.
_AS_TEXT = Field(strict=False)


def _check_name(name: str) -> str:
    """What the pattern can't tell."""
    if (
        name in RESERVED_NAMES
        or name.endswith(FOLDER_NOTE)
        or len(name.encode()) > LONGEST_NAME_BYTES
    ):
        raise ValueError("no plain file name")
    return name


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
        AfterValidator(_check_name),
        PICTURE_NAME,
    ]
    """The plain file name by which a node such as LoadImage loads the picture."""
    image: Annotated[
        str,
        Field(min_length=1),
        PICTURE,
    ]
    """PNG, JPEG or WebP: as base64, as a data URI, by its `https://` address, or `bucket:KEY`."""


@with_config(NO_OTHER_KEYS)
class OutputOptions(TypedDict, total=False):
    delivery: Annotated[Delivery, _AS_TEXT, one_of(Delivery)] | None
    """Default: `auto`."""
    format: Annotated[ImageFormat, _AS_TEXT, one_of(ImageFormat)] | None
    """What the pictures are turned into. Default: they stay as they were saved."""
    quality: (
        Annotated[int, Field(ge=QUALITY.least, le=QUALITY.most), QUALITY.says("a whole number")]
        | None
    )
    """Of `webp` and `jpeg`. Default: 90."""
    size: Annotated[OutputSize, _AS_TEXT, one_of(OutputSize)] | None
    """Of prompt mode's picture: near a megapixel as the model drew it, or the first picture's own.
    Default: `model`, and `photo` where a mask or `extend` keeps the photo's own pixels."""
    previews: Annotated[bool, Says("must be true or false")] | None
    """Whether what preview nodes show is given, too. Default: false."""


_Entry = Annotated[ImageEntry, CLOSED, Says("must be an object with name and image", InvalidImage)]


@with_config(
    ConfigDict(
        **NO_OTHER_KEYS,
        json_schema_extra={"anyOf": [{"required": ["workflow"]}, {"required": ["prompt"]}]},
    )
)
class JobInput(TypedDict, total=False):
    """`input` of a job: a workflow, or in its place a prompt. Null is as good as left out."""

    workflow: Annotated[Annotated[dict[str, Any], Field(min_length=1)] | str | None, WORKFLOW]
    """A ComfyUI workflow in API format, or the graph that the editor saves; or its JSON text."""
    images: (
        Annotated[
            list[_Entry],
            # Of a million wrong entries the first is enough.
            Field(fail_fast=True),
            Says("must be a list of {name, image}"),
        ]
        | None
    )
    """The pictures that the workflow loads; in prompt mode the 1 to 3 pictures to edit."""
    output: (
        Annotated[OutputOptions, CLOSED, Says('must be an object such as {"delivery": "auto"}')]
        | None
    )
    request_id: (
        Annotated[
            str,
            Field(pattern=f"^{REQUEST_ID}$"),
            Says(
                "must be 1 to 128 letters, digits, '.', '_' or '-', and begin with a letter or a "
                "digit"
            ),
        ]
        | None
    )
    """Echoed, and the folder in the bucket. Default: RunPod's job id."""
    timeout_s: (
        Annotated[
            float,
            Field(gt=0, le=LONGEST_TIMEOUT_S),
            Says(f"must be a number of seconds from 0 to {LONGEST_TIMEOUT_S}"),
        ]
        | None
    )
    """Seconds for the whole job. Default, and most: the worker's own limit."""
    prune: Annotated[bool, Says("must be true or false")] | None
    """Whether work of the workflow that can't change a pixel is left out; the answer's `pruned`
    tells of it. Default: true."""
    comfy_org_api_key: Annotated[str, Says("must be a text")] | None
    """Handed to ComfyUI's API nodes, which need a key of Comfy.org."""
    prompt: Annotated[str, Field(max_length=LONGEST_PROMPT, pattern=r"\S"), PROMPT] | None
    """Instead of a workflow: what to do with the pictures. The keys below count only with it."""
    negative_prompt: Annotated[str, Field(max_length=LONGEST_PROMPT), PROMPT] | None
    """What to avoid; only above cfg 1."""
    ratio: Annotated[Ratio, one_of(get_args(Ratio))] | None
    """Width to height. Default: the first picture's own."""
    mask: (
        Annotated[
            str,
            Field(min_length=1),
            Says("must be a picture: send base64 text or an address", InvalidImage),
        ]
        | None
    )
    """A picture in the same forms as those of `images`: where it is white the first picture may
    change, and nowhere else. Stretched over it when it has another size."""
    fit: Annotated[Fit, _AS_TEXT, one_of(Fit)] | None
    """How the first picture gets the ratio: `crop` (the default) cuts its edges off, `extend` has
    the model draw what the canvas lacks and keeps the picture exact. With a mask, `whole` shows the
    model all of the picture in place of the mask's surroundings. `template` is the official
    template's graph, which crops to a ratio of its own."""
    speed: Annotated[Speed, _AS_TEXT, one_of(Speed)] | None
    """`fast`, the default: the Lightning LoRA's 4 steps at cfg 1; `fine`: 20 steps at cfg 2.5
    without it. The keys below change either."""
    seed: Annotated[int, Field(ge=SEED.least, le=SEED.most), SEED.says("a whole number")] | None
    """Default: random, and returned."""
    steps: Annotated[int, Field(ge=STEPS.least, le=STEPS.most), STEPS.says("a whole number")] | None
    """Default: 4, without the LoRA 20."""
    cfg: Annotated[float, Field(ge=CFG.least, le=CFG.most), CFG.says("a number")] | None
    """Default: 1, without the LoRA 2.5."""
    lora_strength: (
        Annotated[
            float,
            Field(ge=LORA_STRENGTH.least, le=LORA_STRENGTH.most),
            LORA_STRENGTH.says("a number"),
        ]
        | None
    )
    """Of the Lightning LoRA; 0 leaves it out. Default: 1, with `speed` `fine` 0."""


_KEYS = tuple(JobInput.__annotations__)
PROMPT_KEYS = _KEYS[_KEYS.index("prompt") :]
