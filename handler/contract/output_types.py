"""What a caller gets: the types of `output`. The answers are built as these; schema.py publishes
them."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict

from handler.contract.input_types import NO_OTHER_KEYS

_Where = Annotated[Literal["base64", "s3_url"], Field(description="What `data` is.")]
_Data = Annotated[str, Field(description="The file as base64, or its address.")]
_Size = Annotated[int, Field(ge=0, description="Of the file.")]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="Of the file.")]
_Preview = Annotated[Literal[True], Field(description="There when a preview node showed it.")]


@with_config(NO_OTHER_KEYS)
class ImageResult(TypedDict):
    filename: str
    type: _Where
    data: _Data
    node_id: str
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]
    bytes: _Size
    sha256: _Sha256
    content_type: str
    frames: NotRequired[Annotated[int, Field(gt=1)]]
    """There when the picture is animated."""
    preview: NotRequired[_Preview]


ResultKind = Literal["video", "audio", "3d", "text", "other"]


@with_config(NO_OTHER_KEYS)
class FileResult(TypedDict):
    filename: str
    kind: ResultKind
    type: _Where
    data: _Data
    node_id: str
    bytes: _Size
    sha256: _Sha256
    content_type: str
    preview: NotRequired[_Preview]


@with_config(NO_OTHER_KEYS)
class TextResult(TypedDict):
    node_id: str
    text: str


@with_config(NO_OTHER_KEYS)
class Pruned(TypedDict):
    rule: str
    nodes: list[str]
    """The ids of the nodes that did not run, or did less."""


@with_config(NO_OTHER_KEYS)
class Success(TypedDict):
    """`output` of a job that ended well."""

    ok: Literal[True]
    request_id: str
    prompt_id: str
    image_base64: NotRequired[str]
    """The first picture, when it travels in the answer."""
    left_out: NotRequired[str]
    """What there was no room for: `image_base64`, which `images[0].data` holds as well."""
    image_url: NotRequired[str]
    """The first picture's address, when it was uploaded."""
    url: NotRequired[str]
    """The address of the first result that was uploaded."""
    images: list[ImageResult]
    files: NotRequired[list[FileResult]]
    """What was saved and is no picture."""
    texts: NotRequired[list[TextResult]]
    """What nodes show as text."""
    seed: NotRequired[int]
    """There when the workflow holds exactly one."""
    graph: NotRequired[str]
    """In prompt mode: which of the worker's graphs ran, and its version."""
    pruned: NotRequired[list[Pruned]]
    """What of the workflow was left out, since it could not change a pixel."""
    pixels_changed_outside: NotRequired[Annotated[int, Field(ge=0)]]
    """Counted in the picture as delivered: pixels outside the mask that are not the caller's own.
    Left out where the format is lossy."""
    timings: dict[str, Annotated[int, Field(ge=0)]]
    """Milliseconds a phase."""


@with_config(NO_OTHER_KEYS)
class Failure(TypedDict):
    """`output` of a job that failed; RunPod's own `error`, beside it, is `code: message`."""

    ok: Literal[False]
    code: str
    message: str
    """One sentence for a human."""
    retryable: bool
    """Whether the same job may succeed when sent again."""
    request_id: str | None
    details: dict[str, Any]


@with_config(NO_OTHER_KEYS)
class Progress(TypedDict):
    """What `/status` shows as `output` while the job runs."""

    phase: str
    node_id: NotRequired[str]
    class_type: NotRequired[str | None]
    step: NotRequired[int]
    steps: NotRequired[int]
    percent: NotRequired[Annotated[int, Field(ge=0, le=99)]]
