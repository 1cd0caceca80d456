import base64
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handler.comfy_api.file_kinds import FileKind
from handler.comfy_api.node_outputs import NodeText
from handler.errors import ComfyProtocol, InvalidInput, JobTimeout, NodeFailed, UploadFailed
from handler.job.answer import Place, Stored, encoded_bytes, error_answer, success_answer
from handler.job.outputs import Output, OutputFile, OutputImage

LONE_SURROGATE = "\ud800"
URL = "https://cdn.example.com/r-1/ComfyUI_00001_.png"


def picture(number: int = 1, **more: Any) -> OutputImage:
    data = f"picture {number}".encode()
    return OutputImage(
        node_id="60",
        filename=f"ComfyUI_0000{number}_.png",
        path=f"ComfyUI_0000{number}_",
        data=data,
        content_type="image/png",
        width=1024,
        height=768,
        sha256=hashlib.sha256(data).hexdigest(),
        **more,
    )


def clip(**more: Any) -> OutputFile:
    return OutputFile(
        "8", "a.mp4", "a", Path("a.mp4"), FileKind.VIDEO, "video/mp4", 4, "0" * 64, **more
    )


def in_answer(file: Output) -> Stored:
    content = file.data if isinstance(file, OutputImage) else b"clip"
    return Stored(file, Place.INLINE, base64.b64encode(content).decode())


def in_bucket(file: Output, url: str = URL) -> Stored:
    return Stored(file, Place.BUCKET, url)


def inline(*numbers: int) -> list[Stored]:
    return [in_answer(picture(number)) for number in numbers]


def success(stored: list[Stored], *texts: str, seed: int | None = None) -> dict[str, Any]:
    shown = [NodeText("7", text) for text in texts]
    return success_answer(stored, shown, request_id="r-1", prompt_id="p-1", seed=seed)


def told(message: str = "no", **details: Any) -> dict[str, Any]:
    return error_answer(NodeFailed(message, **details), "r-1")


def strict_json(answer: dict[str, Any]) -> str:
    """As RunPod's SDK writes it, and as a strict reader takes it."""
    text = json.dumps(answer, ensure_ascii=False).encode().decode()
    json.loads(text, parse_constant=pytest.fail)
    return text


def test_an_inline_picture_is_at_the_top_and_among_the_images() -> None:
    data = base64.b64encode(b"picture 1").decode()
    assert success(inline(1), seed=7) == {
        "ok": True,
        "request_id": "r-1",
        "prompt_id": "p-1",
        "image_base64": data,
        "images": [
            {
                "filename": "ComfyUI_00001_.png",
                "type": "base64",
                "data": data,
                "node_id": "60",
                "width": 1024,
                "height": 768,
                "bytes": 9,
                "sha256": hashlib.sha256(b"picture 1").hexdigest(),
                "content_type": "image/png",
            }
        ],
        "seed": 7,
        "timings": {},
    }


def test_an_uploaded_picture_is_an_address_in_all_its_places_and_no_data() -> None:
    answer = success([in_bucket(picture())])
    assert answer["image_url"] == answer["url"] == URL
    assert answer["images"][0]["type"] == "s3_url"
    assert answer["images"][0]["data"] == URL
    assert answer["images"][0]["bytes"] == 9
    assert "image_base64" not in answer


def test_the_first_of_several_pictures_is_at_the_top() -> None:
    answer = success(inline(2, 1, 3))
    assert answer["image_base64"] == base64.b64encode(b"picture 2").decode()
    assert [entry["filename"][-6] for entry in answer["images"]] == ["2", "1", "3"]


def test_a_seed_that_is_not_known_is_left_out() -> None:
    assert "seed" not in success(inline(1))
    assert success(inline(1), seed=0)["seed"] == 0


CLIP_URL = "https://cdn.example.com/r-1/a.mp4"


def test_a_file_that_is_no_picture_is_in_a_list_of_its_own() -> None:
    answer = success([in_answer(clip())])
    assert answer == {
        "ok": True,
        "request_id": "r-1",
        "prompt_id": "p-1",
        "timings": {},
        "images": [],
        "files": [
            {
                "filename": "a.mp4",
                "type": "base64",
                "data": base64.b64encode(b"clip").decode(),
                "node_id": "8",
                "kind": "video",
                "bytes": 4,
                "sha256": "0" * 64,
                "content_type": "video/mp4",
            }
        ],
    }


def test_an_uploaded_file_is_at_the_top_when_there_is_no_picture() -> None:
    answer = success([in_bucket(clip(), CLIP_URL)])
    assert answer["url"] == answer["files"][0]["data"] == CLIP_URL
    assert not answer.keys() & {"image_url", "image_base64"}


def test_a_picture_is_at_the_top_whatever_was_saved_before_it() -> None:
    answer = success([in_bucket(clip(), CLIP_URL), in_bucket(picture())])
    assert answer["url"] == answer["image_url"] == URL


def test_texts_are_told_with_their_nodes() -> None:
    answer = success([], "a cat", "")
    assert answer["texts"] == [{"node_id": "7", "text": "a cat"}, {"node_id": "7", "text": ""}]
    assert answer["images"] == []
    assert "files" not in answer


def test_an_answer_of_pictures_only_has_no_empty_lists() -> None:
    assert not success(inline(1)).keys() & {"files", "texts"}


def test_a_moving_picture_has_its_number_of_frames() -> None:
    [moving] = success([in_answer(picture(frames=12))])["images"]
    assert moving["frames"] == 12
    assert "frames" not in success(inline(1))["images"][0]


def test_only_previews_are_called_so() -> None:
    answer = success(
        [in_answer(picture()), in_answer(picture(2, is_preview=True)),
         in_answer(clip(is_preview=True))]
    )  # fmt: skip
    assert [entry.get("preview") for entry in answer["images"]] == [None, True]
    assert answer["files"][0]["preview"] is True


def test_a_name_that_is_not_utf_8_can_be_sent() -> None:
    odd = replace(picture(), filename="a\udcff.png")
    answer = success([in_answer(odd)])
    assert answer["images"][0]["filename"] == "a?.png"
    strict_json(answer)


def read_by_edge_api(output: dict[str, Any]) -> tuple[str, str]:
    """The order in which an edge API that exists already looks for the picture."""
    for key in ("image_base64", "image"):
        if isinstance(output.get(key), str):
            return "data", output[key]
    for key in ("url", "image_url", "result_url"):
        if isinstance(output.get(key), str):
            return "address", output[key]
    return "address", output["images"][0]


def read_by_stock_client(output: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(entry["filename"], entry["type"], entry["data"]) for entry in output["images"]]


def test_the_edge_api_reads_an_inline_picture() -> None:
    data = base64.b64encode(b"picture 1").decode()
    assert read_by_edge_api(success(inline(1, 2))) == ("data", data)


def test_the_edge_api_reads_an_uploaded_picture() -> None:
    assert read_by_edge_api(success([in_bucket(picture())])) == ("address", URL)


@pytest.mark.parametrize("place", [in_answer, in_bucket])
def test_the_edge_api_finds_the_picture_among_other_files(place: Any) -> None:
    stored = [place(clip()), place(picture()), place(picture(2, is_preview=True))]
    assert read_by_edge_api(success(stored, "a text")) == read_by_edge_api(
        success([place(picture())])
    )


def test_clients_of_the_stock_worker_read_every_picture() -> None:
    assert read_by_stock_client(success([*inline(1), in_bucket(picture(2))])) == [
        ("ComfyUI_00001_.png", "base64", base64.b64encode(b"picture 1").decode()),
        ("ComfyUI_00002_.png", "s3_url", URL),
    ]


def test_an_error_is_a_text_beside_its_parts() -> None:
    assert error_answer(JobTimeout("too long", timeout_s=5), "r-1") == {
        "error": "job_timeout: too long",
        "ok": False,
        "code": "job_timeout",
        "message": "too long",
        "retryable": False,
        "request_id": "r-1",
        "details": {"timeout_s": 5},
    }


def test_an_error_that_may_pass_is_retryable() -> None:
    assert error_answer(UploadFailed("no"), None)["retryable"] is True


def test_an_error_of_a_worker_that_is_spent_asks_for_another() -> None:
    error = ComfyProtocol("no")
    assert "refresh_worker" not in error_answer(error, None)
    error.refresh_worker = True
    assert error_answer(error, None)["refresh_worker"] is True


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("[Errno 2] No such file: '/opt/comfy/models/unet/a.bin'", "No such file: '.../a.bin'"),
        ("see /workspace/ComfyUI/models/", "see .../"),
        ("cannot open:/opt/comfy/main.py", "cannot open:.../main.py"),
        ("File(/root/.cache/x_1/y-2.py)", "File(.../y-2.py)"),
        ("PATH=/usr/local/bin:/opt/comfy/bin", "PATH=.../bin:.../bin"),
        ("/a/b and /c/d", ".../b and .../d"),
        ("file:///opt/comfy/main.py", "file://.../main.py"),
    ],
)
def test_a_path_of_the_container_is_cut_to_its_last_name(message: str, shown: str) -> None:
    answer = told(message, nested={"list": [message]})
    assert answer["message"].endswith(shown)
    assert answer["error"].endswith(shown)
    assert answer["details"]["nested"]["list"][0].endswith(shown)


@pytest.mark.parametrize(
    "message",
    [
        "https://example.com/a/b.png is an address",
        "http://127.0.0.1:8188/a/b",
        "RunPod takes 10 MB on /run",
        "4/10 steps, 1/2/3",
        "../../x.png is no plain name",
        "a / b / c",
        "set image/png or image/webp",
    ],
)
def test_what_is_no_path_of_the_container_stays(message: str) -> None:
    assert told(message)["message"] == message


def test_a_lone_surrogate_is_shown_as_a_question_mark() -> None:
    answer = told(f"a{LONE_SURROGATE}b", **{"key": {f"k{LONE_SURROGATE}": [LONE_SURROGATE]}})
    assert answer["message"] == "a?b"
    assert answer["details"] == {"key": {"k?": ["?"]}}
    strict_json(answer)


def test_numbers_that_json_lacks_are_shown_as_text() -> None:
    answer = told(value=float("nan"), more=[float("inf"), 1.5])
    assert answer["details"] == {"value": "nan", "more": ["inf", 1.5]}
    strict_json(answer)


def test_details_of_kinds_that_json_lacks_are_shown_as_text() -> None:
    answer = told(path=Path("/opt/comfy/main.py"), kind=ValueError("no"), pair=(1, None), keys={7})
    assert answer["details"]["path"] == ".../main.py"
    assert answer["details"]["kind"] == "no"
    assert answer["details"]["pair"] == [1, None]
    strict_json(answer)


def test_the_size_is_that_of_the_body_in_bytes() -> None:
    assert encoded_bytes({"a": "é"}) == len('{"output": {"a": "é"}}'.encode())


@given(
    st.recursive(
        st.integers() | st.text() | st.builds(lambda text: text * 900, st.text(max_size=4)),
        lambda children: st.lists(children) | st.dictionaries(st.text(), children),
        max_leaves=6,
    )
)
def test_the_size_is_measured_as_the_sdk_writes_it(value: Any) -> None:
    body = json.dumps({"output": {"value": value}}, ensure_ascii=False)
    assert encoded_bytes({"value": value}) == len(body.encode())


TEXTS = st.text(alphabet=st.characters(exclude_categories=()), max_size=30)
DETAILS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=5),
    lambda children: (
        st.lists(children, max_size=3)
        | st.tuples(children)
        | st.dictionaries(TEXTS | st.integers() | st.none(), children, max_size=3)
    ),
    max_leaves=10,
)


@settings(deadline=None)  # a busy machine is no fault
@given(message=TEXTS, request_id=st.none() | st.just("r-1"), value=DETAILS)
def test_any_error_can_be_sent(message: str, request_id: str | None, value: Any) -> None:
    answer = error_answer(InvalidInput(message, value=value), request_id)
    assert isinstance(answer["error"], str)
    strict_json(answer)


@settings(deadline=None)  # a busy machine is no fault
@given(st.lists(st.sampled_from(["/", "opt", "a.py", "..", " ", "'", ":", "=", "~"])).map("".join))
def test_no_absolute_path_of_two_names_is_left_in_a_message(message: str) -> None:
    words = told(f"x {message}")["message"].replace("'", " ").replace("=", " ").split()
    assert not [word for word in words if word.startswith(("/opt/opt", "/a.py/opt", "/opt/a.py"))]


def test_an_error_never_outgrows_what_runpod_takes() -> None:
    details = {str(index): "x" * 1000 for index in range(1000)}
    answer = error_answer(NodeFailed("broken", **details), "r")
    assert encoded_bytes(answer) < 10_000
    assert (answer["code"], answer["details"]) == ("node_failed", {"left_out": "too large"})
