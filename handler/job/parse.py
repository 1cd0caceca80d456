"""What a caller sends: RunPod's job dict to a checked `Job`. Raises only JobError."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from handler.contract import (
    REQUEST_ID,
    AddressFault,
    Delivery,
    ImageEntry,
    ImageFormat,
    JobInput,
    OutputOptions,
    RemoteImage,
    check_input,
    parse_address,
)
from handler.errors import InvalidImage, InvalidInput, MissingImage
from handler.job.reencode import Encoding
from handler.nearest import nearest, shown
from handler.pictures import ImageLimits, InputImage, SentImage
from handler.workflow import (
    EditorGraph,
    ModelNames,
    PromptEdit,
    Workflow,
    check_image_count,
    parse_prompt_edit,
    parse_workflow,
)

_DEFAULT_QUALITY = 90
_REQUEST_ID = re.compile(REQUEST_ID, re.ASCII)


@dataclass(frozen=True, slots=True)
class Job:
    """A job whose pictures are not yet looked at, or fetched; a PromptEdit is compiled by their
    sizes. `encoding` None keeps the pictures as they were saved; `timeout_s` is the caller's
    wish, not yet bounded."""

    job_id: str
    request_id: str
    workflow: Workflow | EditorGraph | PromptEdit
    images: tuple[SentImage | RemoteImage, ...]
    delivery: Delivery
    encoding: Encoding | None
    timeout_s: float | None
    wants_previews: bool = False
    comfy_org_api_key: str | None = field(default=None, repr=False)
    mask: SentImage | RemoteImage | None = None
    may_prune: bool = True

    @property
    def is_runsync(self) -> bool:
        """RunPod marks jobs of the /runsync route by their id (observed, undocumented)."""
        return self.job_id.startswith("sync-")


def request_id_of(raw: Any) -> str | None:
    """The caller's request id, if there is a valid one, to echo even when the rest is wrong."""
    job_input = raw.get("input") if isinstance(raw, Mapping) else None
    value = job_input.get("request_id") if isinstance(job_input, Mapping) else None
    return value if isinstance(value, str) and _REQUEST_ID.fullmatch(value) else None


@dataclass(frozen=True, slots=True)
class JobRules:
    """What this worker takes: `modes` of "prompt" and "workflow", and how many nodes."""

    modes: frozenset[str] = frozenset({"prompt", "workflow"})
    most_nodes: int = 1000


_ANY_JOB = JobRules()


def parse_job(
    raw: Mapping[str, Any], limits: ImageLimits, models: ModelNames, rules: JobRules = _ANY_JOB
) -> Job:
    """Check everything but the pictures themselves.

    `raw` is what RunPod's SDK hands to a handler: `{"id": str, "input": {...}, ...}`. `models` are
    what prompt mode runs on.
    Raises InvalidInput, InvalidWorkflow, InvalidImage or MissingImage. A workflow of megabytes
    takes up to a second, so this does not belong on an event loop.
    """
    job_input = check_input(raw.get("input"))
    job_id = str(raw.get("id", ""))
    options = job_input.get("output") or {}
    encoding = _encoding(options)
    if options.get("size") is not None and job_input.get("workflow") is not None:
        raise InvalidInput("input.output.size only counts for a prompt; a workflow sets its own")
    workflow = _parse_workflow(job_input, models, rules)
    images = _parse_images(job_input.get("images") or [], limits)
    if isinstance(workflow, PromptEdit):
        check_image_count(len(images))
    if isinstance(workflow, Workflow):
        check_pictures_sent(workflow, images)
    return Job(
        job_id=job_id,
        request_id=job_input.get("request_id") or job_id,
        workflow=workflow,
        images=images,
        delivery=options.get("delivery") or Delivery.AUTO,
        encoding=encoding,
        timeout_s=job_input.get("timeout_s"),
        wants_previews=bool(options.get("previews")),
        comfy_org_api_key=job_input.get("comfy_org_api_key") or None,
        mask=_parse_mask(job_input.get("mask")),
        may_prune=job_input.get("prune") is not False,
    )


def _parse_workflow(
    job_input: JobInput, models: ModelNames, rules: JobRules
) -> Workflow | EditorGraph | PromptEdit:
    """The caller's workflow, or what prompt mode has to compile one from."""
    workflow = job_input.get("workflow")
    mode, other = ("prompt", "workflow") if workflow is None else ("workflow", "prompt")
    if mode not in rules.modes:
        raise InvalidInput(
            f"this worker takes no job with a {mode}, only one with a {other} (WORKER_ALLOW)"
        )
    if workflow is None:
        return parse_prompt_edit(job_input, models)
    return parse_workflow(workflow, rules.most_nodes)


def _encoding(options: OutputOptions) -> Encoding | None:
    """Raises InvalidInput for a quality that would not count."""
    image_format, quality = options.get("format"), options.get("quality")
    if quality is not None and image_format not in {ImageFormat.WEBP, ImageFormat.JPEG}:
        raise InvalidInput("input.output.quality only counts for format 'webp' or 'jpeg'")
    if image_format is None:
        return None
    return Encoding(image_format, _DEFAULT_QUALITY if quality is None else quality)


def _parse_images(
    entries: Sequence[ImageEntry], limits: ImageLimits
) -> tuple[SentImage | RemoteImage, ...]:
    if len(entries) > limits.count:
        raise InvalidInput(f"input.images has {len(entries)} entries; the limit is {limits.count}")
    names: dict[str, int] = {}
    images: list[SentImage | RemoteImage] = []
    for index, entry in enumerate(entries):
        where, name = f"input.images[{index}]", entry["name"]
        if name in names:
            raise InvalidImage(f"{where} has the name of input.images[{names[name]}]: {name!r}")
        names[name] = index
        images.append(_parse_image(name, entry["image"], where))
    return tuple(images)


def _parse_mask(text: str | None) -> SentImage | RemoteImage | None:
    return None if text is None else _parse_image("mask", text, "input.mask")


def _parse_image(name: str, text: str, where: str) -> SentImage | RemoteImage:
    try:
        address = parse_address(text)
    except AddressFault as exc:
        raise InvalidImage(
            f"{where} ({name!r}): the address {exc}", where=where, name=name
        ) from exc
    if address is None:
        return SentImage(name, where, text)
    return RemoteImage(name, where, address)


def check_pictures_sent(
    workflow: Workflow, images: Iterable[SentImage | InputImage | RemoteImage]
) -> None:
    """Raises MissingImage for the first picture that the workflow loads and `images` lack."""
    sent = [image.name for image in images]
    for picture in workflow.loaded_pictures:
        if picture.name in sent:
            continue
        near = nearest(picture.name, sent)
        hint = (
            f"did you mean {near[0]!r}?"
            if near
            else f"sent: {', '.join(map(repr, sent)) or 'no picture'}"
        )
        raise MissingImage(
            f"node {picture.node_id} ({picture.class_type}) loads {shown(picture.name)}, which is "
            f"not in input.images; {hint}",
            node_id=picture.node_id,
            name=picture.name,
            sent=sent,
        )
