"""Of a checked request: what the worker's `input` holds beside pictures, the prompt that it gets,
and what makes it equal to another request. Pure."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, cast

from gateway.edit.pictures import Picture
from gateway.edit.request import CreateRequest
from gateway.errors import InvalidRequest
from gateway.prompt import compile_prompt, sees_whole_photo
from handler.contract import JobInput
from handler.errors import InvalidInput as WorkerInvalidInput
from handler.workflow import ModelNames, parse_prompt_edit

_FOR_WORKER = (
    "negative_prompt", "ratio", "speed", "steps", "cfg", "lora_strength", "fit", "prune",
    "timeout_s",
)  # fmt: skip
# Which the worker has is its own to say.
_ANY_MODELS = ModelNames("unet", "clip", "vae", "lora")


def prompt_of(request: CreateRequest) -> str | None:
    """As typed; or compiled from the options where nothing was typed. Raises InvalidOptions, and
    InvalidRequest when the options ask for nothing."""
    if request.workflow is not None or request.options is None or (request.prompt or "").strip():
        return request.prompt
    masked = request.mask is not None
    compiled: str = compile_prompt({"masked": masked, **request.options})["prompt"]
    if not compiled:
        raise InvalidRequest("options ask for nothing; choose an edit, or type a prompt")
    return compiled


def check_edit(request: CreateRequest) -> None:
    """Refuses settings that do not go together, which the worker would refuse when the job's turn
    has come. Raises InvalidRequest."""
    if request.workflow is not None:
        return
    asked = request.model_dump(include={*_FOR_WORKER, "mask", "output"}, exclude_none=True)
    try:
        parse_prompt_edit(cast(JobInput, {**asked, "prompt": request.prompt}), _ANY_MODELS)
    except WorkerInvalidInput as exc:
        raise InvalidRequest(exc.message.replace("input.", "")) from exc


def worker_fields(request: CreateRequest, seed: int | None, *, is_cut: bool) -> dict[str, Any]:
    """`is_cut` says that a piece around the mask travels, and not the photo."""
    fields = request.model_dump(include=set(_FOR_WORKER), exclude_none=True)
    if request.workflow is not None:
        fields["workflow"] = request.workflow
        if request.seed is not None:
            raise InvalidRequest("seed: set it inside the workflow, or leave the workflow out")
    else:
        fields |= {"prompt": prompt_of(request), "seed": seed}
        if is_cut:
            # As whole as it was wanted.
            fields.pop("fit", None)
        elif request.mask is not None and sees_whole(request):
            fields.setdefault("fit", "whole")
    if request.output is not None:
        output = request.output.model_dump(exclude_none=True)
        # Where the picture goes is the gateway's to choose.
        output.pop("delivery", None)
        if output:
            fields["output"] = output
    return fields


def digest_of(request: CreateRequest, pictures: Sequence[Picture], mask: Picture | None) -> str:
    """Equal for equal requests, however their pictures came."""
    body = request.model_dump(exclude={"images", "mask", "request_id"}, exclude_none=True)
    body["images"] = [[picture.name, picture.identity] for picture in pictures]
    body["mask"] = mask.identity if mask else None
    text = json.dumps(body, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def sees_whole(request: CreateRequest) -> bool:
    """Whether the model is to see all of a masked photo. Raises InvalidOptions."""
    is_compiled = request.options is not None and not (request.prompt or "").strip()
    return request.fit == "whole" or (is_compiled and sees_whole_photo(request.options))
