import base64
import contextlib
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from handler.contract.addresses import BucketKey, HttpsUrl, RemoteImage
from handler.contract.input_types import PROMPT_KEYS, Delivery, ImageFormat
from handler.errors import InvalidImage, InvalidInput, InvalidWorkflow, JobError, MissingImage
from handler.job.parse import Job, parse_job, request_id_of
from handler.job.reencode import Encoding
from handler.pictures.images import ImageLimits, InputImage, SentImage
from handler.workflow.edit_graph import compile_edit
from handler.workflow.prompt_edit import ModelNames, PromptEdit
from handler.workflow.workflow import Workflow

MODELS = ModelNames("unet", "clip", "vae", "lora")
LIMITS = ImageLimits(count=3, data_bytes=10_000, pixels=10_000)

LONE_SURROGATE = "\ud800"


def png() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


PNG = png()
NO_PICTURE = {"1": {"class_type": "EmptyImage", "inputs": {}}}


def loads(*names: str) -> dict[str, Any]:
    return {
        str(index): {"class_type": "LoadImage", "inputs": {"image": name}}
        for index, name in enumerate(names)
    }


def sends(*names: Any) -> list[dict[str, Any]]:
    return [{"name": name, "image": PNG} for name in names]


def parse(job_id: str = "job-1", **job_input: Any) -> Job:
    return parse_job({"id": job_id, "input": {"workflow": NO_PICTURE, **job_input}}, LIMITS, MODELS)


def fault_of(expected: type[JobError], **job_input: Any) -> JobError:
    with pytest.raises(JobError) as caught:
        parse(**job_input)
    assert type(caught.value) is expected
    return caught.value


def test_a_job_has_what_the_caller_sent() -> None:
    job = parse(
        workflow=loads("a.png"),
        images=sends("a.png", "b.png"),
        output={"delivery": "bucket"},
        request_id="order-7.a_B",
        timeout_s=30,
    )
    assert job.job_id == "job-1"
    assert job.request_id == "order-7.a_B"
    assert [image.name for image in job.images] == ["a.png", "b.png"]
    assert job.delivery is Delivery.BUCKET
    assert job.timeout_s == 30
    assert dict(job.workflow.nodes) == loads("a.png")


def test_a_job_of_only_a_workflow_has_the_defaults() -> None:
    job = parse()
    assert job.request_id == "job-1"
    assert job.images == ()
    assert job.delivery is Delivery.AUTO
    assert job.timeout_s is None


def test_null_stands_for_a_field_that_was_left_out() -> None:
    assert parse(images=None, output=None, request_id=None, timeout_s=None) == parse()


def test_what_runpod_puts_beside_the_input_is_no_concern() -> None:
    raw = {"id": "j", "input": {"workflow": NO_PICTURE}, "webhook": "https://x", "policy": {}}
    assert parse_job(raw, LIMITS, MODELS).job_id == "j"


def test_a_job_of_the_runsync_route_is_known_by_its_id() -> None:
    assert parse(job_id="sync-8f").is_runsync
    assert not parse(job_id="8f-sync-").is_runsync


@pytest.mark.parametrize("raw", [{}, {"id": "x"}, {"id": "x", "input": None}])
def test_a_job_without_input_is_refused(raw: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="the job has no input"):
        parse_job(raw, LIMITS, MODELS)


@pytest.mark.parametrize("value", [[1], "text", 7, False])
def test_an_input_that_is_no_object_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match="input must be an object, not"):
        parse_job({"id": "x", "input": value}, LIMITS, MODELS)


@pytest.mark.parametrize("job_input", [{}, {"workflow": None}, {"images": sends("a.png")}])
def test_a_missing_workflow_is_refused_in_the_words_that_callers_know(
    job_input: dict[str, Any],
) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_job({"id": "x", "input": job_input}, LIMITS, MODELS)
    assert caught.value.message == "Missing 'workflow' parameter"


def test_a_wrong_workflow_is_an_invalid_workflow() -> None:
    assert fault_of(InvalidWorkflow, workflow={}).message == "input.workflow has no nodes"


@pytest.mark.parametrize(
    ("job_input", "message"),
    [
        ({"imagess": []}, "input has an unknown key 'imagess'; did you mean 'images'?"),
        ({"worklow": {}}, "input has an unknown key 'worklow'; did you mean 'workflow'?"),
        (
            {"output": {"deliver": "auto"}},
            "input.output has an unknown key 'deliver'; did you mean 'delivery'?",
        ),
        (
            {"images": [*sends("a"), {"nam": "b", "image": PNG}]},
            "input.images[1] has an unknown key 'nam'; did you mean 'name'?",
        ),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    job_input: dict[str, Any], message: str
) -> None:
    assert fault_of(InvalidInput, **job_input).message == message


def test_an_unknown_key_like_no_other_is_refused_with_all_that_are_known() -> None:
    fault = fault_of(InvalidInput, output={"zzz": 1})
    assert (
        fault.message
        == "input.output has an unknown key 'zzz'; known keys: delivery, format, quality, size, "
        "previews"
    )
    assert fault.details == {"key": "zzz"}


@pytest.mark.parametrize("value", [{}, "a.png", 7, True])
def test_images_that_are_no_list_are_refused(value: Any) -> None:
    assert "input.images must be a list" in fault_of(InvalidInput, images=value).message


def test_as_many_pictures_as_the_limit_are_accepted_and_one_more_refused() -> None:
    assert len(parse(images=sends("a", "b", "c")).images) == 3
    message = fault_of(InvalidInput, images=sends("a", "b", "c", "d")).message
    assert message == "input.images has 4 entries; the limit is 3"


@pytest.mark.parametrize("entry", [7, None, PNG, ["a.png", PNG]])
def test_an_entry_that_is_no_object_is_refused_by_its_place(entry: Any) -> None:
    fault = fault_of(InvalidImage, images=[*sends("a.png"), entry])
    assert fault.message.startswith("input.images[1] must be an object")


@pytest.mark.parametrize("name", [None, 7, "", "  ", ["a.png"]])
def test_a_picture_without_a_name_is_refused_by_its_place(name: Any) -> None:
    assert fault_of(InvalidImage, images=sends(name)).message == "input.images[0] has no name"


@pytest.mark.parametrize(
    "name",
    [
        "../../x.png",
        "/etc/passwd",
        "a/b.png",
        "a\\b.png",
        "a\0.png",
        "a\n.png",
        "a\x1b[0m.png",
        "a\x7f.png",
        ".",
        "..",
        f"a{LONE_SURROGATE}.png",
    ],
)
def test_a_name_that_is_no_plain_file_name_is_refused(name: str) -> None:
    message = fault_of(InvalidImage, images=sends(name)).message
    assert "must be a plain file name, without a path" in message
    assert message.isprintable()


@pytest.mark.parametrize("name", ["photo.png [input]", " [input]", "a  [input]"])
def test_a_name_with_the_note_of_the_input_folder_is_refused(name: str) -> None:
    """Prompt mode would look for it without the note."""
    message = fault_of(InvalidImage, images=sends(name)).message
    assert "must not end with ' [input]'" in message


@pytest.mark.parametrize("name", ["a [input].png", "a[input]", "[input]", "a [output]"])
def test_a_name_that_ends_otherwise_is_no_note(name: str) -> None:
    job = parse(images=sends(name), workflow=None, prompt="x")
    assert isinstance(job.workflow, PromptEdit)
    pictures = [InputImage(image.name, b"", "png", 4, 4) for image in job.images]
    nodes = Workflow(compile_edit(job.workflow, pictures)).for_job("job", {name: "0.png"})
    assert nodes["78"]["inputs"]["image"] == "job/0.png"


@pytest.mark.parametrize("name", ["photo", "Kätzchen 2 (1).png", "...", ".hidden", "写真.webp"])
def test_any_plain_file_name_is_accepted(name: str) -> None:
    assert parse(images=sends(name), workflow=loads(name)).images[0].name == name


def test_a_name_may_have_255_bytes_and_no_more() -> None:
    assert parse(images=sends("é" * 127)).images[0].name == "é" * 127
    assert "longer than 255 bytes" in fault_of(InvalidImage, images=sends("é" * 128)).message


@pytest.mark.parametrize("picture", [None, 7, "", [PNG], {"data": PNG}])
def test_an_entry_without_a_picture_is_refused_by_its_name(picture: Any) -> None:
    fault = fault_of(InvalidImage, images=[{"name": "a.png", "image": picture}])
    assert fault.message.startswith("input.images[0] ('a.png') has no picture in `image`")


def test_pictures_are_left_for_later() -> None:
    images = [
        {"name": "a.png", "image": "https://a.example/x.png?sig=1"},
        *sends("b.png"),
        {"name": "c.png", "image": "bucket:inputs/c.png"},
    ]
    job = parse(workflow=loads("a.png", "b.png", "c.png"), images=images)
    assert job.images[0] == RemoteImage(
        "a.png", "input.images[0]", HttpsUrl("a.example", "/x.png", "sig=1")
    )
    assert job.images[1] == SentImage("b.png", "input.images[1]", PNG)
    assert job.images[2] == RemoteImage("c.png", "input.images[2]", BucketKey("inputs/c.png"))


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://a.example/?secret", "the address must begin with https://"),
        ("https://me:secret@a.example/", "the address must not hold a user name or a password"),
        ("https://169.254.169.254/?secret", "the address has a host that is not public"),
        ("bucket:inputs/../secret", "the address must be a key without '..'"),
    ],
)
def test_a_wrong_address_is_refused_by_its_place_and_not_repeated(address: str, says: str) -> None:
    fault = fault_of(InvalidImage, images=[*sends("a.png"), {"name": "b.png", "image": address}])
    assert fault.message.startswith(f"input.images[1] ('b.png'): {says}")
    assert "secret" not in f"{fault.message} {fault.details}"


def test_a_prompt_is_compiled_later_but_its_pictures_are_counted_now() -> None:
    remote = {"name": "a.png", "image": "https://a.example/x.png"}
    job = parse(workflow=None, prompt="make it red", images=[remote])
    assert isinstance(job.workflow, PromptEdit)
    assert job.workflow.models == MODELS
    assert "1 to 3 pictures" in fault_of(InvalidInput, workflow=None, prompt="x").message


def test_two_pictures_of_one_name_are_refused_by_both_places() -> None:
    fault = fault_of(InvalidImage, images=sends("a.png", "b.png", "a.png"))
    assert fault.message == "input.images[2] has the name of input.images[0]: 'a.png'"


def test_a_loaded_picture_that_was_not_sent_is_missing_with_the_nearest_name() -> None:
    fault = fault_of(MissingImage, workflow=loads("photo.png"), images=sends("foto.png", "x"))
    assert "node 0 (LoadImage) loads 'photo.png'" in fault.message
    assert "did you mean 'foto.png'?" in fault.message
    assert fault.details == {"node_id": "0", "name": "photo.png", "sent": ["foto.png", "x"]}


def test_a_missing_picture_like_no_other_is_told_with_all_that_were_sent() -> None:
    fault = fault_of(MissingImage, workflow=loads("photo.png"), images=sends("x", "y"))
    assert fault.message.endswith("; sent: 'x', 'y'")


@pytest.mark.parametrize("images", [None, []])
def test_a_missing_picture_is_told_when_none_was_sent(images: Any) -> None:
    fault = fault_of(MissingImage, workflow=loads("example.png"), images=images)
    assert fault.message.endswith("; sent: no picture")


def test_names_are_compared_letter_for_letter() -> None:
    fault = fault_of(MissingImage, workflow=loads("Photo.png"), images=sends("photo.png"))
    assert "did you mean 'photo.png'?" in fault.message


def test_a_picture_of_another_folder_of_comfyui_is_missing() -> None:
    """Its files are those of other jobs."""
    fault = fault_of(MissingImage, workflow=loads("a.png [output]"), images=sends("a.png"))
    assert "'a.png [output]'" in fault.message


def test_a_picture_that_no_node_loads_is_no_fault() -> None:
    assert len(parse(images=sends("spare.png")).images) == 1


@pytest.mark.parametrize("value", [0, -1, 86401, "30", True, [], float("nan"), 10**400])
def test_a_timeout_that_is_no_number_of_seconds_is_refused(value: Any) -> None:
    assert "input.timeout_s must be" in fault_of(InvalidInput, timeout_s=value).message


@pytest.mark.parametrize("value", [0.5, 1, 86400])
def test_a_timeout_is_a_number_of_seconds(value: float) -> None:
    assert parse(timeout_s=value).timeout_s == value


@pytest.mark.parametrize(
    "value", ["", "a/b", "..", ".a", "-a", "a b", "ä", "a\n", "a" * 129, 7, True, ["a"]]
)
def test_a_request_id_that_fits_no_object_key_is_refused(value: Any) -> None:
    assert "input.request_id must be" in fault_of(InvalidInput, request_id=value).message


@pytest.mark.parametrize("value", ["a", "7", "a" * 128, "2026-11-22_x.Y"])
def test_a_request_id_is_kept(value: str) -> None:
    assert parse(request_id=value).request_id == value


@pytest.mark.parametrize("value", ["s3", "", 7, ["bucket"], {}])
def test_an_unknown_delivery_is_refused_with_the_known_ones(value: Any) -> None:
    message = fault_of(InvalidInput, output={"delivery": value}).message
    assert "must be one of auto, base64, bucket" in message


def test_an_output_without_delivery_is_auto() -> None:
    assert parse(output={}).delivery is Delivery.AUTO


@pytest.mark.parametrize("value", ["bucket", [], 7])
def test_an_output_that_is_no_object_is_refused_with_an_example(value: Any) -> None:
    assert '{"delivery": "auto"}' in fault_of(InvalidInput, output=value).message


@pytest.mark.parametrize(
    ("raw", "request_id"),
    [
        ({"input": {"request_id": "a-1", "workflow": 7}}, "a-1"),
        ({"input": {"request_id": "a/1"}}, None),
        ({"input": {"request_id": 7}}, None),
        ({"input": {}}, None),
        ({"input": [1]}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_valid_request_id_is_known_even_when_the_rest_is_wrong(
    raw: Any, request_id: str | None
) -> None:
    assert request_id_of(raw) == request_id


KEYS = st.sampled_from(
    [
        "workflow",
        "images",
        "output",
        "request_id",
        "timeout_s",
        "name",
        "image",
        "delivery",
        "class_type",
        "inputs",
        "1",
        *PROMPT_KEYS,
    ]
)
TEXTS = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=()), max_size=8),
    st.sampled_from(
        [
            PNG,
            "https://a.example/",
            "bucket:a",
            "LoadImage",
            "a.png",
            "auto",
            "bucket",
            "{}",
            "..",
            "1",
        ]
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda children: (
        st.lists(children, max_size=3) | st.dictionaries(KEYS | TEXTS, children, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(["a.png", "b.png", "c", "../a.png"])
WORKFLOWS = st.dictionaries(
    st.sampled_from("123"),
    st.fixed_dictionaries(
        {
            "class_type": st.sampled_from(["LoadImage", "SaveImage"]),
            "inputs": st.fixed_dictionaries({}, optional={"image": NAMES, "x": JSON}),
        }
    ),
    min_size=1,
    max_size=3,
)
IMAGES = st.lists(
    st.fixed_dictionaries({"name": NAMES | TEXTS, "image": st.just(PNG) | TEXTS}), max_size=4
)
# Near to what is valid, so that every later check is reached too.
INPUTS = st.fixed_dictionaries(
    {"workflow": WORKFLOWS},
    optional={
        "images": IMAGES,
        "output": st.fixed_dictionaries({}, optional={"delivery": TEXTS}),
        "request_id": st.from_regex(r"[a-z0-9.]{1,4}", fullmatch=True),
        "timeout_s": st.floats(0, 100),
    },
)


@settings(max_examples=200, deadline=None)  # a busy machine is no fault
@given(st.one_of(INPUTS, st.dictionaries(KEYS, WORKFLOWS | JSON, max_size=4), JSON))
def test_any_input_is_a_job_or_a_job_error(job_input: Any) -> None:
    raw = {"id": "job-1", "input": job_input}
    with contextlib.suppress(JobError):
        job = parse_job(raw, LIMITS, MODELS)
        assert job.request_id == (request_id_of(raw) or "job-1")
        sent = {image.name for image in job.images}
        assert sent >= {picture.name for picture in job.workflow.loaded_pictures}


@given(
    st.fixed_dictionaries(
        {"prompt": TEXTS | JSON}, optional=dict.fromkeys([*PROMPT_KEYS[1:], "images"], JSON)
    )
)
def test_prompt_mode_raises_only_job_errors(job_input: dict[str, Any]) -> None:
    with contextlib.suppress(JobError):
        parse_job({"id": "x", "input": job_input}, LIMITS, MODELS)


def test_a_format_and_a_quality_are_taken() -> None:
    job = parse(output={"format": "webp", "quality": 75})
    assert job.encoding == Encoding(ImageFormat.WEBP, 75)
    assert parse(output={"format": "jpeg"}).encoding == Encoding(ImageFormat.JPEG, 90)
    assert parse().encoding is None


@pytest.mark.parametrize(
    "output",
    [{"format": "gif"}, {"format": []}, {"format": "jpeg", "quality": 0},
     {"format": "webp", "quality": True}, {"quality": 80}, {"format": "png", "quality": 80}],
)  # fmt: skip
def test_a_wrong_format_or_quality_is_refused(output: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=r"input\.output\.(format|quality)"):
        parse(output=output)


@pytest.mark.parametrize(("value", "wanted"), [(True, True), (False, False), (None, False)])
def test_previews_are_given_only_when_asked_for(value: Any, wanted: bool) -> None:
    assert parse(output={"previews": value}).wants_previews is wanted
    assert parse(output={}).wants_previews is False


@pytest.mark.parametrize("value", [1, 0, "true", []])
def test_a_wish_for_previews_is_yes_or_no(value: Any) -> None:
    message = fault_of(InvalidInput, output={"previews": value}).message
    assert message == "input.output.previews must be true or false"
