"""What a caller sends: RunPod's job dict to a checked `Job`. Pure; raises only JobError."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from handler.contract import (
    FOLDER_NOTE,
    LONGEST_NAME_BYTES,
    LONGEST_TIMEOUT_S,
    NOT_IN_NAMES,
    QUALITY,
    REQUEST_ID,
    RESERVED_NAMES,
    Delivery,
    ImageEntry,
    ImageFormat,
    JobInput,
    OutputOptions,
)
from handler.errors import InvalidImage, InvalidInput, MissingImage
from handler.job.reencode import Encoding
from handler.pictures import ImageLimits, InputImage, decode_image
from handler.sources import AddressFault, RemoteImage, parse_address
from handler.workflow import (
    PROMPT_KEYS,
    EditorGraph,
    ModelNames,
    PromptEdit,
    Workflow,
    check_image_count,
    parse_prompt_edit,
    parse_workflow,
)

_INPUT_KEYS = tuple(JobInput.__annotations__)
_IMAGE_KEYS = tuple(ImageEntry.__annotations__)
_OUTPUT_KEYS = tuple(OutputOptions.__annotations__)
_DEFAULT_QUALITY = 90
_REQUEST_ID = re.compile(REQUEST_ID, re.ASCII)
_NOT_IN_NAMES = re.compile(rf"[{NOT_IN_NAMES}\ud800-\udfff]")

_Choice = TypeVar("_Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Job:
    """A checked job. Pictures at an address are not yet fetched, and a PromptEdit is compiled by
    their sizes. `encoding` None keeps the pictures as they were saved; `timeout_s` is the caller's
    wish, not yet bounded."""

    job_id: str
    request_id: str
    workflow: Workflow | EditorGraph | PromptEdit
    images: tuple[InputImage | RemoteImage, ...]
    delivery: Delivery
    encoding: Encoding | None
    timeout_s: float | None
    wants_previews: bool = False
    comfy_org_api_key: str | None = field(default=None, repr=False)

    @property
    def is_runsync(self) -> bool:
        """RunPod marks jobs of the /runsync route by their id (observed, undocumented)."""
        return self.job_id.startswith("sync-")


def request_id_of(raw: Any) -> str | None:
    """The caller's request id, if there is a valid one, to echo even when the rest is wrong."""
    job_input = raw.get("input") if isinstance(raw, Mapping) else None
    value = job_input.get("request_id") if isinstance(job_input, Mapping) else None
    return value if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else None


def parse_job(raw: Mapping[str, Any], limits: ImageLimits, models: ModelNames) -> Job:
    """Check everything that can be checked before the GPU is touched.

    `raw` is what RunPod's SDK hands to a handler: `{"id": str, "input": {...}, ...}`. `models` are
    what prompt mode runs on.
    Raises InvalidInput, InvalidWorkflow, InvalidImage or MissingImage. Decoding the pictures
    takes up to a second each, so this does not belong on an event loop.
    """
    job_input = raw.get("input")
    if job_input is None:
        raise InvalidInput("the job has no input")
    if not isinstance(job_input, dict):
        raise InvalidInput(f"input must be an object, not {type(job_input).__name__}")
    _check_keys(job_input, _INPUT_KEYS, "input")
    job_id = str(raw.get("id", ""))
    request_id = _parse_request_id(job_input.get("request_id"))
    delivery, encoding, wants_previews = _parse_output(job_input.get("output"))
    timeout_s = _parse_timeout(job_input.get("timeout_s"))
    comfy_org_api_key = _parse_api_key(job_input.get("comfy_org_api_key"))
    workflow = _parse_workflow(job_input, models)
    images = _parse_images(job_input.get("images"), limits)
    if isinstance(workflow, PromptEdit):
        check_image_count(len(images))
    if isinstance(workflow, Workflow):
        check_pictures_sent(workflow, images)
    return Job(
        job_id, request_id or job_id, workflow, images, delivery, encoding, timeout_s,
        wants_previews, comfy_org_api_key,
    )  # fmt: skip


def _parse_workflow(
    job_input: Mapping[str, Any], models: ModelNames
) -> Workflow | EditorGraph | PromptEdit:
    """The caller's workflow, or what prompt mode has to compile one from."""
    prompt_keys = [key for key in PROMPT_KEYS if job_input.get(key) is not None]
    if job_input.get("workflow") is None:
        if "prompt" not in prompt_keys:
            raise InvalidInput("Missing 'workflow' parameter")
        return parse_prompt_edit(job_input, models)
    if prompt_keys:
        raise InvalidInput(
            f"input has a workflow and also {', '.join(prompt_keys)}, which count only without it; "
            "set them inside the workflow, or leave the workflow out"
        )
    return parse_workflow(job_input["workflow"])


def _check_keys(value: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in value:
        if key in known:
            continue
        near = difflib.get_close_matches(str(key), known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        raise InvalidInput(f"{where} has an unknown key {key!r}; {hint}", key=key)


def _parse_request_id(value: Any) -> str | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _REQUEST_ID.fullmatch(value):
        raise InvalidInput(
            "input.request_id must be 1 to 128 letters, digits, '.', '_' or '-', "
            "and begin with a letter or a digit"
        )
    return value


def _parse_output(value: Any) -> tuple[Delivery, Encoding | None, bool]:
    if value is None:
        return Delivery.AUTO, None, False
    if not isinstance(value, dict):
        raise InvalidInput('input.output must be an object such as {"delivery": "auto"}')
    _check_keys(value, _OUTPUT_KEYS, "input.output")
    delivery = _one_of(Delivery, value.get("delivery"), "delivery") or Delivery.AUTO
    image_format = _one_of(ImageFormat, value.get("format"), "format")
    quality = value.get("quality")
    if quality is None:
        quality = _DEFAULT_QUALITY
    elif image_format not in {ImageFormat.WEBP, ImageFormat.JPEG}:
        raise InvalidInput("input.output.quality only counts for format 'webp' or 'jpeg'")
    if type(quality) is not int or not QUALITY.hold(quality):
        raise InvalidInput(f"input.output.quality must be a whole number from {QUALITY}")
    previews = value.get("previews")
    if previews is not None and not isinstance(previews, bool):
        raise InvalidInput("input.output.previews must be true or false")
    return delivery, Encoding(image_format, quality) if image_format else None, bool(previews)


def _one_of(choices: type[_Choice], value: Any, key: str) -> _Choice | None:
    if value is None:
        return None
    if value not in list(choices):
        raise InvalidInput(f"input.output.{key} must be one of {', '.join(choices)}, not {value!r}")
    return choices(value)


def _parse_timeout(value: Any) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= LONGEST_TIMEOUT_S:
        raise InvalidInput(
            f"input.timeout_s must be a number of seconds from 0 to {LONGEST_TIMEOUT_S}"
        )
    return float(value)


def _parse_api_key(value: Any) -> str | None:
    """The value itself is not for messages."""
    if value is not None and not isinstance(value, str):
        raise InvalidInput("input.comfy_org_api_key must be a text")
    return value or None


def _parse_images(value: Any, limits: ImageLimits) -> tuple[InputImage | RemoteImage, ...]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise InvalidInput("input.images must be a list of {name, image}")
    if len(value) > limits.count:
        raise InvalidInput(f"input.images has {len(value)} entries; the limit is {limits.count}")
    names: dict[str, int] = {}
    images: list[InputImage | RemoteImage] = []
    for index, entry in enumerate(value):
        where = f"input.images[{index}]"
        name, text = _parse_image_entry(entry, where)
        if name in names:
            raise InvalidImage(f"{where} has the name of input.images[{names[name]}]: {name!r}")
        names[name] = index
        images.append(_parse_image(name, text, where, limits))
    return tuple(images)


def _parse_image(name: str, text: str, where: str, limits: ImageLimits) -> InputImage | RemoteImage:
    try:
        address = parse_address(text)
    except AddressFault as exc:
        raise InvalidImage(
            f"{where} ({name!r}): the address {exc}", where=where, name=name
        ) from exc
    if address is None:
        return decode_image(name, text, where, limits)
    return RemoteImage(name, where, address)


def _parse_image_entry(entry: Any, where: str) -> tuple[str, str]:
    if not isinstance(entry, dict):
        raise InvalidImage(f"{where} must be an object with name and image")
    _check_keys(entry, _IMAGE_KEYS, where)
    name, text = entry.get("name"), entry.get("image")
    if not isinstance(name, str) or not name.strip():
        raise InvalidImage(f"{where} has no name")
    if _NOT_IN_NAMES.search(name) or name in RESERVED_NAMES:
        raise InvalidImage(f"{where}: the name {name!r} must be a plain file name, without a path")
    if name.endswith(FOLDER_NOTE):
        raise InvalidImage(
            f"{where}: the name {name!r} must not end with {FOLDER_NOTE!r}, which a workflow may "
            "write after a name"
        )
    if len(name.encode()) > LONGEST_NAME_BYTES:
        raise InvalidImage(f"{where}: the name is longer than {LONGEST_NAME_BYTES} bytes")
    if not isinstance(text, str) or not text:
        raise InvalidImage(
            f"{where} ({name!r}) has no picture in `image`: send base64 text or an address"
        )
    return name, text


def check_pictures_sent(workflow: Workflow, images: Iterable[InputImage | RemoteImage]) -> None:
    """Raises MissingImage for the first picture that the workflow loads and `images` lack."""
    sent = [image.name for image in images]
    for picture in workflow.loaded_pictures:
        if picture.name in sent:
            continue
        near = difflib.get_close_matches(picture.name, sent, n=1)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"sent: {', '.join(map(repr, sent)) or 'no picture'}"
        )
        raise MissingImage(
            f"node {picture.node_id} ({picture.class_type}) loads {picture.name!r}, which is not "
            f"in input.images; {hint}",
            node_id=picture.node_id,
            name=picture.name,
            sent=sent,
        )
