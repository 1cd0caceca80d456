"""What may be asked of the queue API: keys, types and bounds. Pure."""

import difflib
import json
from collections.abc import Collection, Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from gateway.errors import InvalidRequest
from gateway.hooks.address import check_address
from handler.contract import (
    CFG,
    LONGEST_NAME_BYTES,
    LONGEST_PROMPT,
    LONGEST_TIMEOUT_S,
    LORA_STRENGTH,
    NOT_IN_NAMES,
    QUALITY,
    REQUEST_ID,
    SEED,
    STEPS,
    Ratio,
)

MOST_WORKFLOW_IMAGES = 16
MOST_PROMPT_IMAGES = 3
_NAME = rf"^[^{NOT_IN_NAMES}]*[^\s{NOT_IN_NAMES}][^{NOT_IN_NAMES}]*$"


_LONGEST_URL = 2000


def _hook_address(value: str, info: ValidationInfo) -> str:
    return check_address(value, (info.context or {}).get("hook_hosts", ()))


def check_hook_address(value: Any, hook_hosts: Collection[str]) -> str:
    """An address that hooks may be sent to, by its form. Raises InvalidRequest."""
    try:
        return check_address(str(value)[:_LONGEST_URL], hook_hosts)
    except ValueError as exc:
        raise InvalidRequest(f"webhook: {exc}") from exc


def _storable(value: str) -> str:
    """PostgreSQL has no NUL in texts, and UTF-8 no half characters."""
    if "\0" in value:
        raise ValueError("must not hold a NUL character")
    try:
        value.encode()
    except UnicodeEncodeError as exc:
        raise ValueError("holds half of a character (a lone surrogate)") from exc
    return value


_Text = Annotated[str, AfterValidator(_storable)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class ImageIn(_Part):
    name: Annotated[str, Field(max_length=LONGEST_NAME_BYTES, pattern=_NAME)] | None = None
    """By which a workflow's LoadImage loads it. Default: `image1.png` and so on."""
    image: Annotated[str, Field(min_length=1)]
    """PNG, JPEG or WebP: base64, data URI, `https://` address, `bucket:KEY`, or `upload:ID`."""


class OutputIn(_Part):
    delivery: Literal["auto", "base64", "bucket"] | None = None
    """Accepted for the worker's callers; the picture is always kept here."""
    format: Literal["png", "webp", "jpeg"] | None = None
    """Default: as the workflow saves it, PNG for a prompt."""
    quality: Annotated[int, Field(ge=QUALITY.least, le=QUALITY.most)] | None = None
    size: Literal["model", "photo"] | None = None
    """Near a megapixel, or the first picture's own."""
    previews: bool | None = None


class CreateRequest(_Part):
    """An edit: a prompt (as typed, or compiled from options) and 1 to 3 pictures; or a workflow."""

    prompt: Annotated[_Text, Field(max_length=LONGEST_PROMPT)] | None = None
    workflow: dict[str, Any] | str | None = None
    options: dict[str, Any] | None = None
    """As POST /api/prompt/compile takes them; they count where there is no prompt."""
    images: list[ImageIn] | None = None
    mask: Annotated[str, Field(min_length=1)] | None = None
    """A picture in the same forms, over the first of `images`; what is white may change."""
    ratio: Ratio | None = None
    seed: Annotated[int, Field(ge=SEED.least, le=SEED.most)] | None = None
    speed: Literal["fast", "fine"] | None = None
    steps: Annotated[int, Field(ge=STEPS.least, le=STEPS.most)] | None = None
    cfg: Annotated[float, Field(ge=CFG.least, le=CFG.most)] | None = None
    negative_prompt: Annotated[_Text, Field(max_length=LONGEST_PROMPT)] | None = None
    lora_strength: Annotated[float, Field(ge=LORA_STRENGTH.least, le=LORA_STRENGTH.most)] | None = (
        None
    )
    fit: Literal["crop", "extend", "whole", "template"] | None = None
    """How the first picture gets the ratio; with a mask, `whole` shows the model all of it."""
    prune: bool | None = None
    output: OutputIn | None = None
    timeout_s: Annotated[float, Field(gt=0, le=LONGEST_TIMEOUT_S)] | None = None
    model: Annotated[_Text, Field(max_length=100)] | None = None
    service: Annotated[_Text, Field(max_length=100)] | None = None
    webhook_url: (
        Annotated[str, Field(max_length=_LONGEST_URL), AfterValidator(_hook_address)] | None
    ) = None
    request_id: Annotated[str, Field(pattern=f"^{REQUEST_ID}$")] | None = None
    """Makes the request idempotent: the same body again gives the same job."""

    @model_validator(mode="after")
    def _is_one_of(self) -> "CreateRequest":
        has_prompt = bool(self.prompt and self.prompt.strip())
        if self.workflow is not None and (has_prompt or self.options is not None):
            raise ValueError("send a workflow, or a prompt, not both")
        if self.workflow is None and not has_prompt and self.options is None:
            raise ValueError("send a prompt, options, or a workflow")
        count = len(self.images or ())
        if self.workflow is None and not 1 <= count <= MOST_PROMPT_IMAGES:
            raise ValueError(f"images: a prompt needs 1 to {MOST_PROMPT_IMAGES}, not {count}")
        if count > MOST_WORKFLOW_IMAGES:
            raise ValueError(f"images: {count} are more than {MOST_WORKFLOW_IMAGES}")
        if self.workflow is not None and self.mask is not None:
            raise ValueError("mask: a workflow has its own; it counts only with a prompt")
        if self.mask is not None and self.output and self.output.format not in {None, "png"}:
            raise ValueError("output.format: with a mask it is png, which keeps every pixel")
        return self

    @property
    def is_cut_here(self) -> bool:
        """Whether the gateway cuts the photo around its mask; one that gets another ratio or
        canvas is the worker's to cut, and to prove."""
        return self.mask is not None and self.ratio is None and self.fit != "extend"


FIELDS = tuple(CreateRequest.model_fields)
_JSON_FIELDS = ("workflow", "options", "output", "images")


def parse_request(body: Any, hook_hosts: Collection[str] = ()) -> CreateRequest:
    """Of a JSON body. Raises InvalidRequest that names the first fault and, of a key that is not
    known, the nearest one."""
    if not isinstance(body, Mapping):
        raise InvalidRequest(f"the body must be a JSON object, not {type(body).__name__}")
    return _validate({**body}, hook_hosts, strict=True)


def parse_form(fields: Mapping[str, str], hook_hosts: Collection[str] = ()) -> CreateRequest:
    """Of a multipart body's texts, where numbers are texts, objects are JSON texts, and an empty
    text is none. Raises InvalidRequest."""
    body: dict[str, Any] = {name: text for name, text in fields.items() if text.strip()}
    for name in _JSON_FIELDS:
        if isinstance(body.get(name), str) and body[name].lstrip()[:1] in {"{", "["}:
            try:
                body[name] = json.loads(body[name])
            except ValueError as exc:
                raise InvalidRequest(f"{name} is no JSON: {exc}") from exc
    return _validate(body, hook_hosts, strict=False)


def _validate(body: dict[str, Any], hook_hosts: Collection[str], *, strict: bool) -> CreateRequest:
    try:
        context = {"hook_hosts": hook_hosts}
        return CreateRequest.model_validate(body, strict=strict, context=context)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)
        # A key that is not known is often why another one is missing.
        errors.sort(key=lambda error: error["type"] != "extra_forbidden")
        faults = [_fault(error) for error in errors]
        raise InvalidRequest(faults[0], faults=faults) from exc
    except RecursionError as exc:
        raise InvalidRequest("the body is nested too deep") from exc


def _fault(error: Any) -> str:
    place = [part for part in error["loc"] if not (isinstance(part, str) and "[" in part)]
    where = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place)
    where = where.removeprefix(".")
    if error["type"] == "extra_forbidden":
        known = _known_at(place)
        near = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        return f"{where[:200]} is not known; {hint}"
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}" if where else text


def _known_at(place: list[Any]) -> tuple[str, ...]:
    match place:
        case ["images", *_]:
            return tuple(ImageIn.model_fields)
        case ["output", *_]:
            return tuple(OutputIn.model_fields)
        case _:
            return FIELDS
