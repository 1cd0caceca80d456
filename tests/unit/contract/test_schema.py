"""The published schemas are the code's: same bounds as the parser, same keys as the answers."""

import base64
import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.protocols import Validator
from PIL import Image

from handler.comfy_api.file_kinds import FileKind
from handler.comfy_api.node_outputs import NodeText
from handler.contract.input_types import PROMPT_KEYS, ImageEntry, JobInput, OutputOptions, Ratio
from handler.contract.schema import SCHEMAS, schema_of
from handler.errors import InvalidInput, JobError
from handler.job.answer import Place, Stored, error_answer, success_answer
from handler.job.outputs import Output, OutputFile, OutputImage
from handler.job.parse import parse_job
from handler.pictures.images import ImageLimits, InputImage
from handler.settings import PROJECT_DIR
from handler.workflow.edit_graph import compile_edit
from handler.workflow.prompt_edit import ModelNames, parse_prompt_edit
from tests.schemas import INPUT, OUTPUT, output_of

MODELS = ModelNames("unet", "clip", "vae", "lora")
LIMITS = ImageLimits(count=3, data_bytes=10_000, pixels=10_000)
WORKFLOW = {"1": {"class_type": "EmptyImage", "inputs": {}}}


def png() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


PICTURE = {"name": "a.png", "image": png()}


def is_parsed(job_input: Any) -> bool:
    with contextlib.suppress(JobError):
        parse_job({"id": "x", "input": job_input}, LIMITS, MODELS)
        return True
    return False


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_files_are_what_the_code_says(name: str) -> None:
    kept = json.loads((PROJECT_DIR / "schema" / f"{name}.json").read_text())
    assert kept == schema_of(name), "run `make schema`"


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_is_a_schema(name: str) -> None:
    jsonschema.Draft202012Validator.check_schema(schema_of(name))


def test_no_object_of_the_contract_takes_unknown_keys() -> None:
    """But for a workflow, an error's details and the timings, which are open."""
    closed = [schema_of("input")]
    for name in SCHEMAS:
        closed += [kind for kind in schema_of(name)["$defs"].values() if "properties" in kind]
    assert [kind["title"] for kind in closed if kind["additionalProperties"] is not False] == []
    assert len(closed) >= 8


# Near to what is valid, and just beyond it.
NUMBERS = st.one_of(
    st.integers(-2, 102),
    st.sampled_from([2**53, 2**64 - 1, 2**64, 86400, 86401, 10**400]),
    st.floats(-1, 40).filter(lambda value: not value.is_integer()),
    st.sampled_from([30.5, 4.1, 86399.5, 86400.5, 1e-9, 1e300]),
)
TEXTS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["", " ", "auto", "bucket", "webp", "photo", "fine", "png", "1:1", "9:16", "9:17", "a\n",
         "a.b_c-D", "-a", "a" * 128, "a" * 129, "a" * 10_000, "a" * 10_001, "..", "a/b", "a\\b"]
    ),
)  # fmt: skip
OTHERS = st.one_of(st.none(), st.booleans(), st.just([]), st.just({}), st.just([1]))
VALUES = NUMBERS | TEXTS | OTHERS
# `workflow` and `images` are looked at below: the schema tells only their shape.
# Whether a picture is one, and what `fit` goes with, only the parser tells.
PLAIN_KEYS = sorted(
    set(JobInput.__annotations__) - {"workflow", "images", "output", "prompt", "mask", "fit"}
)


def base_of(key: str) -> dict[str, Any]:
    """A good job in which the key counts."""
    if key in PROMPT_KEYS:
        # Above cfg 1, where a negative prompt counts too.
        return {"prompt": "x", "cfg": 2, "images": [PICTURE]}
    return {"workflow": WORKFLOW}


@settings(max_examples=600, deadline=None)
@given(st.sampled_from([*PLAIN_KEYS, "prompt"]), VALUES)
def test_parser_and_schema_agree_on_each_key(key: str, value: Any) -> None:
    job_input = base_of(key) | {key: value}
    if key == "prompt" and value is None:
        return  # then nothing is asked for, which the schema leaves to the parser
    assert is_parsed(job_input) == INPUT.is_valid(job_input)


@settings(max_examples=300, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(OutputOptions.__annotations__, VALUES)))
def test_parser_and_schema_agree_on_output(options: dict[str, Any]) -> None:
    job_input = {"workflow": WORKFLOW, "output": options}
    if INPUT.is_valid(job_input):
        # Beyond types: a quality counts only for two of the formats, a size only for prompts.
        with contextlib.suppress(InvalidInput):
            parse_job({"id": "x", "input": job_input}, LIMITS, MODELS)
            return
        has_vain_quality = options.get("format") in {None, "png"} and options.get("quality")
        assert has_vain_quality or options.get("size")
    else:
        assert not is_parsed(job_input)


@settings(max_examples=300, deadline=None)
@given(
    st.text(max_size=4)
    | TEXTS
    | NUMBERS
    | OTHERS
    | st.sampled_from(["é" * 127, "\u3000", "\x7f", "a [input]", "a[input]"])
)
def test_parser_and_schema_agree_on_the_name_of_a_picture(name: Any) -> None:
    job_input = {"workflow": WORKFLOW, "images": [{**PICTURE, "name": name}]}
    assert is_parsed(job_input) == INPUT.is_valid(job_input)


KEYS = st.sampled_from([*JobInput.__annotations__, *ImageEntry.__annotations__, "delivery", "x"])
JSON = st.recursive(
    VALUES | st.just(PICTURE["image"]),
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(KEYS | TEXTS, children, max_size=3)
    ),
    max_leaves=8,
)
MUTATED = st.builds(
    lambda base, changes, without: {
        key: value for key, value in {**base, **changes}.items() if key != without
    },
    st.sampled_from([base_of("workflow"), base_of("prompt"), {"prompt": "x", "images": [PICTURE]}]),
    st.dictionaries(KEYS, JSON, max_size=2),
    st.none() | KEYS,
)


@settings(max_examples=600, deadline=None)
@given(MUTATED | st.dictionaries(KEYS | TEXTS, JSON, max_size=4) | JSON)
def test_what_the_parser_takes_the_schema_takes(job_input: Any) -> None:
    if is_parsed(job_input):
        INPUT.validate(job_input)


@pytest.mark.parametrize("key", ["workflows", "Images", "x", ""])
def test_both_refuse_an_unknown_key(key: str) -> None:
    for job_input in (
        {"workflow": WORKFLOW, key: 1},
        {"workflow": WORKFLOW, "output": {key: 1}},
        {"workflow": WORKFLOW, "images": [{**PICTURE, key: 1}]},
    ):
        assert not INPUT.is_valid(job_input)
        assert not is_parsed(job_input)


def test_every_ratio_of_the_contract_has_a_size() -> None:
    for ratio in get_args(Ratio):
        job = parse_job({"id": "", "input": {**base_of("ratio"), "ratio": ratio}}, LIMITS, MODELS)
        edit = parse_prompt_edit({"prompt": "x", "ratio": ratio}, MODELS)
        pictures = [InputImage(image.name, b"", "png", 64, 48) for image in job.images]
        assert compile_edit(edit, pictures)


def test_whole_numbers_that_are_written_as_fractions_are_refused_where_whole_ones_are_asked() -> (
    None
):
    """JSON Schema takes 4.0 for a whole number, the parser does not: the one difference."""
    assert not is_parsed({"prompt": "x", "images": [PICTURE], "steps": 4.0})


COMMON = {
    "node_id": st.text(max_size=4), "filename": st.text(max_size=9), "path": st.text(max_size=4),
    "content_type": st.just("image/png"), "sha256": st.just("0" * 64),
    "is_preview": st.booleans(),
}  # fmt: skip
IMAGES = st.builds(
    OutputImage, data=st.binary(max_size=20), width=st.integers(1, 9000),
    height=st.integers(1, 9000), frames=st.integers(1, 3), **COMMON,
)  # fmt: skip
FILES = st.builds(
    OutputFile, source=st.just(Path("x")), size_bytes=st.integers(0, 2**40),
    kind=st.sampled_from(sorted(set(FileKind) - {FileKind.IMAGE})), **COMMON,
)  # fmt: skip
OUTPUTS: st.SearchStrategy[Output] = IMAGES | FILES


@given(
    st.lists(st.builds(Stored, OUTPUTS, st.sampled_from(Place), st.text(max_size=9))),
    st.lists(st.builds(NodeText, st.text(max_size=4), st.text())),
    st.none() | st.integers(0, 2**64),
)
def test_every_success_is_of_the_schema(
    stored: list[Stored], texts: list[NodeText], seed: int | None
) -> None:
    answer = success_answer(stored, texts, request_id="r", prompt_id="p", seed=seed)
    OUTPUT.validate(answer | {"timings": {"check": 1, "total": 2}})


@given(st.text(), st.none() | st.text(), JSON)
def test_every_failure_is_of_the_schema(message: str, request_id: str | None, more: Any) -> None:
    body = error_answer(InvalidInput(message, more=more), request_id)
    OUTPUT.validate(output_of(body))


@pytest.mark.parametrize(
    "update",
    [{"phase": "wait"}, {"phase": "deliver", "percent": 99},
     {"phase": "execute", "node_id": "3", "class_type": "KSampler", "step": 2, "steps": 4,
      "percent": 71}],
)  # fmt: skip
def test_progress_is_of_the_schema(update: dict[str, Any]) -> None:
    OUTPUT.validate(update)


def test_a_pattern_that_ends_in_a_dollar_does_not_take_a_line_feed() -> None:
    """As in ECMA 262, whose patterns JSON Schema has; Python's own `$` does."""
    assert isinstance(INPUT, Validator)
    assert re.search("^a$", "a\n")
    assert not INPUT.is_valid({"workflow": WORKFLOW, "request_id": "a\n"})
