"""`input` as a caller sent it to the types of input_types.py, or to an error that says what is
wrong, where, and which key is near."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple, Union, cast, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from typing_extensions import get_type_hints, is_typeddict

from handler.contract.closed import CLOSED, UNKNOWN_KEY, unknown_keys
from handler.contract.input_types import PROMPT_KEYS, JobInput
from handler.contract.says import Says
from handler.errors import InvalidInput, JobError
from handler.nearest import nearest, shown

Loc = tuple[str | int, ...]

_Input = Annotated[JobInput, CLOSED]
_PARSER: TypeAdapter[Any] = TypeAdapter(_Input)


def check_input(value: Any) -> JobInput:
    """Raises InvalidInput for an unknown key, then for a job of both modes or of none; then
    InvalidInput, InvalidImage or InvalidWorkflow for the first value that is not of its type."""
    if value is None:
        raise InvalidInput("the job has no input")
    if not isinstance(value, dict):
        raise InvalidInput(f"input must be an object, not {type(value).__name__}")
    faults: list[Any] = []
    try:
        checked = _PARSER.validate_python(value)
    except ValidationError as exc:
        faults = exc.errors(include_url=False, include_input=False)
    # Outside of the handler: a cause would show values, of which one may be a secret.
    for fault in faults:
        if fault["type"] == UNKNOWN_KEY:
            raise _unknown_key(fault["loc"], value)
    _check_mode(value)
    if faults:
        raise _wrong_value(faults[0]["loc"], value)
    return cast(JobInput, checked)


def _check_mode(job_input: dict[str, Any]) -> None:
    prompt_keys = [key for key in PROMPT_KEYS if job_input.get(key) is not None]
    if job_input.get("workflow") is None:
        if "prompt" not in prompt_keys:
            raise InvalidInput("Missing 'workflow' parameter")
    elif prompt_keys:
        raise InvalidInput(
            f"input has a workflow and also {', '.join(prompt_keys)}, which count only without it; "
            "set them inside the workflow, or leave the workflow out"
        )


def _unknown_key(loc: Loc, job_input: dict[str, Any]) -> InvalidInput:
    *_, last = _walk(loc, job_input)
    known = list(last.kind.__annotations__)
    key = unknown_keys(last.kind, last.value)[0]
    near = nearest(str(key), known)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
    where = _name_of(loc, job_input)
    return InvalidInput(f"{where} has an unknown key {shown(str(key))}; {hint}", key=key)


def _wrong_value(loc: Loc, job_input: dict[str, Any]) -> JobError:
    """In the words of the innermost `Says`."""
    where, says, value = [
        (step.loc, step.says, step.value) for step in _walk(loc, job_input) if step.says
    ][-1]
    words = says.of(value)
    return says.error(f"{_name_of(where, job_input)}{'' if words[0] == ':' else ' '}{words}")


class _Step(NamedTuple):
    loc: Loc
    kind: Any
    says: Says | None
    value: Any


def _walk(loc: Loc, job_input: Any) -> Iterator[_Step]:
    """From the whole input to `loc`, which may end in pydantic's name for a part of a union."""
    kind, says = _bare(_Input)
    value = job_input
    yield _Step((), kind, says, value)
    for depth, part in enumerate(loc, 1):
        if is_typeddict(kind) and part in kind.__annotations__:
            inner, value = get_type_hints(kind, include_extras=True)[str(part)], value.get(part)
        elif get_origin(kind) is list:
            inner, value = get_args(kind)[0], value[part]
        else:
            return
        kind, says = _bare(inner)
        yield _Step(loc[:depth], kind, says, value)


def _bare(kind: Any) -> tuple[Any, Says | None]:
    """The type without what is beside it and without null; and its `Says`, if any."""
    says = None
    while True:
        if get_origin(kind) is Annotated:
            says = next((said for said in kind.__metadata__ if isinstance(said, Says)), says)
            kind = kind.__origin__
        elif get_origin(kind) in {Union, types.UnionType}:
            kind = next(part for part in get_args(kind) if part is not type(None))
        else:
            return kind, says


def _name_of(loc: Loc, job_input: dict[str, Any]) -> str:
    """As in `input.images[0]`. A picture is meant by what is wrong in its entry, and is called by
    its own name where that is right."""
    match loc:
        case ("images", int(index), "image"):
            return f"input.images[{index}] ({job_input['images'][index]['name']!r})"
        case ("images", int(index), *_):
            return f"input.images[{index}]"
        case _:
            return ".".join(("input", *map(str, loc)))
