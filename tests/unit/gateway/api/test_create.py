"""What can be asked, in each form; and what is refused, with a code, at once."""

import io
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.gateways import TestGateway, as_text, edit, picture, running_gateway

PNG, JPEG = picture(), picture("JPEG")


def post(gateway: TestGateway, body: Any, **headers: str) -> Any:
    return gateway.client.post("/api/queue/create", json=body, headers=headers)


def taken_input(gateway: TestGateway) -> dict[str, Any]:
    (job,) = gateway.take()
    return dict(job["input"])


def test_an_accepted_job_says_where_to_ask(gateway: TestGateway) -> None:
    answer = post(gateway, edit()).json()
    job_id = answer["job_id"]
    assert answer["ok"] is True
    assert (answer["status"], answer["deduplicated"]) == ("queued", False)
    assert answer["status_url"] == f"/api/queue/status/{job_id}"
    assert answer["events_url"] == f"/api/queue/events/{job_id}"


def test_the_worker_gets_what_was_asked(gateway: TestGateway) -> None:
    asked = {
        "ratio": "16:9", "steps": 8, "cfg": 2.5, "negative_prompt": "blur", "seed": 2**64 - 1,
        "lora_strength": 0, "speed": "fast", "timeout_s": 60,
        "output": {"format": "webp", "quality": 80},
    }  # fmt: skip
    job_id = gateway.create(**asked, model="qwen-image-edit-2509", service="page")
    got = taken_input(gateway)
    assert got.pop("images") == [{"name": "image1.png", "image": as_text(PNG)}]
    output = asked.pop("output") | {"delivery": "base64"}
    assert got == {
        "prompt": "make it night", "request_id": job_id, "output": output, **asked
    }  # fmt: skip


def test_a_prompt_travels_as_typed(gateway: TestGateway) -> None:
    typed = "  ลบ “คน” ออก\n\tkeep 100% 🙂  "
    gateway.create(prompt=typed)
    assert taken_input(gateway)["prompt"] == typed


def test_a_seed_is_drawn_once_so_that_another_try_gives_the_same_picture(
    gateway: TestGateway,
) -> None:
    job_id = gateway.create()
    assert taken_input(gateway)["seed"] == gateway.status(job_id)["seed"]


def test_a_workflow_passes_with_its_pictures_by_name(gateway: TestGateway) -> None:
    workflow = {"1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}}}
    images = [{"name": "a.png", "image": as_text(PNG)}]
    assert post(gateway, {"workflow": workflow, "images": images}).status_code == 200
    got = taken_input(gateway)
    assert (got["workflow"], got["images"]) == (workflow, images)
    assert "seed" not in got


@pytest.mark.parametrize("data", [PNG, JPEG, picture("WEBP")], ids=["png", "jpeg", "webp"])
def test_a_picture_is_sent_on_byte_for_byte(gateway: TestGateway, data: bytes) -> None:
    gateway.create(images=[{"image": as_text(data)}])
    assert taken_input(gateway)["images"][0]["image"] == as_text(data)


def test_a_data_uri_is_taken(gateway: TestGateway) -> None:
    gateway.create(images=[{"image": f"data:image/png;base64,{as_text(PNG)}"}])
    assert taken_input(gateway)["images"][0]["image"] == as_text(PNG)


def test_an_https_address_is_left_for_the_worker_to_fetch(gateway: TestGateway) -> None:
    address = "https://example.com/photo.jpg?sig=1"
    gateway.create(images=[{"image": address}])
    assert taken_input(gateway)["images"][0]["image"] == address


def test_a_multipart_form_is_the_same_request(gateway: TestGateway) -> None:
    fields = {"prompt": "make it night", "seed": "7", "request_id": "r1", "ratio": ""}
    files = {"image": ("photo.png", PNG, "image/png")}
    first = gateway.client.post("/api/queue/create", data=fields, files=files)
    again = post(
        gateway,
        edit(seed=7, request_id="r1", images=[{"name": "photo.png", "image": as_text(PNG)}]),
    )
    assert first.status_code == 200, first.text
    assert again.json()["deduplicated"] is True
    assert again.json()["job_id"] == first.json()["job_id"]


def test_a_form_takes_three_files_and_a_mask(gateway: TestGateway) -> None:
    parts = [("image", (f"{n}.png", picture(seed=n), "image/png")) for n in range(3)]
    mask = io.BytesIO()
    Image.new("L", (64, 48), 255).save(mask, "PNG")
    answer = gateway.client.post(
        "/api/queue/create", data={"prompt": "x"},
        files=[*parts, ("mask", ("m.png", mask.getvalue(), "image/png"))],
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert len(taken_input(gateway)["images"]) == 3


def test_a_file_field_that_was_left_empty_is_none(gateway: TestGateway) -> None:
    answer = gateway.client.post(
        "/api/queue/create", data={"prompt": "x"},
        files=[("image", ("a.png", PNG, "image/png")), ("mask", ("", b"", "image/png"))],
    )  # fmt: skip
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "prompt"),
        ([], "object"),
        ("x", "object"),
        (edit(promt="x"), "'prompt'"),
        (edit(output={"fromat": "png"}), "'format'"),
        ({"prompt": "x", "images": [{"imag": "x"}]}, "'image'"),
        (edit(ratio="2:1"), "ratio"),
        (edit(steps=0), "steps"),
        (edit(steps="4"), "steps"),
        (edit(steps=4.5), "steps"),
        (edit(steps=True), "steps"),
        (edit(cfg=31), "cfg"),
        (edit(seed=-1), "seed"),
        (edit(seed=2**64), "seed"),
        (edit(speed="warp"), "speed"),
        (edit(timeout_s=0), "timeout_s"),
        (edit(prompt=""), "prompt"),
        (edit(prompt=" \n"), "prompt"),
        (edit(prompt="x" * 10_001), "prompt"),
        (edit(prompt="a\0b"), "NUL"),
        (edit(prompt=7), "prompt"),
        (edit(images=[]), "1 to 3"),
        (edit(images=[{"image": as_text(PNG)}] * 4), "1 to 3"),
        (edit(images={"image": as_text(PNG)}), "images"),
        (edit(images=[{"name": "../x.png", "image": as_text(PNG)}]), "name"),
        (edit(workflow={"1": {}}), "not both"),
        (edit(request_id="no spaces"), "request_id"),
        (edit(webhook_url="http://example.com/"), "webhook_url"),
        (edit(webhook_url="https://127.0.0.1/"), "webhook_url"),
        (edit(webhook_url="https://169.254.169.254/latest"), "webhook_url"),
        ({"workflow": {"1": {}}, "seed": 7}, "seed"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_refused_at_once_and_says_where(
    gateway: TestGateway, body: Any, word: str
) -> None:
    answer = post(gateway, body)
    assert answer.status_code == 400
    problem = answer.json()
    assert problem["ok"] is False
    assert problem["code"] == "invalid_request"
    assert word in problem["message"]
    assert problem["error"] == f"invalid_request: {problem['message']}"
    assert problem["retryable"] is False
    assert problem["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize(
    "image",
    [
        "not base64!", "", as_text(b"hello"), as_text(PNG[: len(PNG) // 2]),
        as_text(JPEG[: len(JPEG) // 2]),
        as_text(b"GIF89a" + bytes(20)), "http://example.com/a.png", "https://localhost:8080/a.png",
        "https://10.0.0.1/a.png", "https://[::1]/a.png", "https://2130706433/a.png",
        "file:///etc/passwd", "bucket:../../etc/passwd", "bucket:inputs/none.png",
        "bucket:other/none.png", "upload:none", "upload:../../x", "data:image/png,abc",
    ],
)  # fmt: skip
def test_a_picture_that_can_not_be_used_is_refused_at_once(
    gateway: TestGateway, image: str
) -> None:
    answer = post(gateway, edit(images=[{"image": image}]))
    assert answer.status_code == 400
    assert answer.json()["code"] in {"invalid_image", "invalid_request"}
    assert "images" in answer.json()["message"]
    assert gateway.context.reads.counts() == {}


def test_a_lone_surrogate_is_refused(gateway: TestGateway) -> None:
    body = json.dumps(edit()).replace("make it night", "\\ud800")
    answer = gateway.client.post(
        "/api/queue/create", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"NaN"])
def test_a_body_that_is_no_json_object_is_refused(gateway: TestGateway, body: bytes) -> None:
    answer = gateway.client.post(
        "/api/queue/create", content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")


def test_another_kind_of_body_is_refused(gateway: TestGateway) -> None:
    answer = gateway.client.post("/api/queue/create", content=b"prompt=x")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported_media_type")


def test_a_broken_form_is_refused(gateway: TestGateway) -> None:
    answer = gateway.client.post(
        "/api/queue/create", content=b"--x\r\nno header",
        headers={"Content-Type": "multipart/form-data; boundary=x"},
    )  # fmt: skip
    assert answer.status_code == 400


def test_a_body_over_the_limit_is_refused_whatever_it_says_of_itself(tmp_path: Path) -> None:
    with running_gateway(tmp_path, gateway_max_body_bytes=100_000) as gateway:
        large = edit(prompt="x" * 9000, images=[{"image": as_text(picture(size=(400, 300)))}])
        told = post(gateway, large)

        def untold() -> Any:
            text = json.dumps(large).encode()
            yield from (text[at : at + 5000] for at in range(0, len(text), 5000))

        answer = gateway.client.post(
            "/api/queue/create", content=untold(), headers={"Content-Type": "application/json"}
        )
        form = gateway.client.post(
            "/api/queue/create", data={"prompt": "x"},
            files={"image": ("a.png", picture(size=(400, 300)), "image/png")},
        )  # fmt: skip
        assert gateway.context.reads.counts() == {}
    for refused in (told, answer, form):
        assert (refused.status_code, refused.json()["code"]) == (413, "body_too_large")


def test_large_pictures_at_once_are_all_taken(gateway: TestGateway) -> None:
    """More than are worked on at a time: the others wait their turn."""
    data = picture(size=(900, 700))
    assert len(data) > 1_000_000

    def send(number: int) -> int:
        if number % 2:
            return int(post(gateway, edit(images=[{"image": as_text(data)}])).status_code)
        files = {"image": ("a.png", data, "image/png")}
        route = "/api/queue/create" if number % 4 else "/api/uploads"
        return gateway.client.post(route, data={"prompt": "x"}, files=files).status_code

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(send, range(12))) == [200] * 12


def test_the_same_request_id_gives_the_same_job(gateway: TestGateway) -> None:
    first = post(gateway, edit(request_id="order-17")).json()
    again = post(gateway, edit(), **{"Idempotency-Key": "order-17"}).json()
    # The seed that was drawn is no part of the request.
    assert (again["job_id"], again["deduplicated"]) == (first["job_id"], True)
    other = post(gateway, edit(prompt="another", request_id="order-17"))
    assert (other.status_code, other.json()["code"]) == (409, "request_id_taken")
    differ = post(gateway, edit(request_id="a"), **{"Idempotency-Key": "b"})
    assert differ.status_code == 400


def test_a_refused_or_repeated_request_leaves_no_picture_behind(
    gateway: TestGateway, tmp_path: Path
) -> None:
    for _ in range(3):
        assert post(gateway, edit(request_id="r")).status_code == 200
    post(gateway, edit(images=[{"image": as_text(PNG)}, {"image": "bad"}]))
    kept = [path for path in (tmp_path / "objects").rglob("*") if path.is_file()]
    assert len(kept) == 1
    assert list((tmp_path / "tmp").iterdir()) == []


def test_an_owner_can_not_have_more_open_jobs_than_allowed(tmp_path: Path) -> None:
    with running_gateway(tmp_path, gateway_open_jobs=2) as gateway:
        first = gateway.create(request_id="a")
        gateway.create()
        refused = post(gateway, edit())
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_open_jobs")
        assert post(gateway, edit(request_id="a")).json()["job_id"] == first
        gateway.client.post(f"/api/queue/cancel/{first}")
        gateway.create()


def test_pictures_that_fill_their_room_are_refused(tmp_path: Path) -> None:
    with running_gateway(tmp_path, gateway_disk_bytes=20_000) as gateway:
        gateway.create()
        refused = [post(gateway, edit()) for _ in range(3)][-1]
        assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
        assert refused.json()["retryable"] is True


def test_the_older_addresses_end_in_the_same_queue(gateway: TestGateway) -> None:
    files = {"image": ("a.png", PNG, "image/png")}
    form = gateway.client.post("/qwen/image-edit", data={"prompt": "x"}, files=files)
    assert form.json()["status"] == "queued", form.text
    job_id = form.json()["job_id"]
    key = f"inputs/{job_id}/0.png"
    submitted = gateway.client.post("/submit", json={"prompt": "x", "r2_key": key})
    assert submitted.status_code == 200, submitted.text
    assert [job["input"]["images"][0]["image"] for job in gateway.take(batch=2)] == [
        as_text(PNG), as_text(PNG)
    ]  # fmt: skip
    for body in ({"prompt": "x"}, {"prompt": "x", "r2_key": key, "ratios": "1:1"}, []):
        assert gateway.client.post("/submit", json=body).status_code == 400


def test_an_upload_is_turned_upright_and_can_be_used_once_or_more(gateway: TestGateway) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = picture("JPEG", exif=exif)
    answer = gateway.client.post("/api/uploads", files={"image": ("a.jpg", turned, "image/jpeg")})
    upload = answer.json()
    assert (upload["width"], upload["height"]) == (48, 64), answer.text
    shown = gateway.client.get(upload["preview_url"])
    with Image.open(io.BytesIO(shown.content)) as opened:
        assert opened.size == (48, 64)
        assert opened.getexif().get(0x0112, 1) == 1
    for _ in range(2):
        gateway.create(images=[{"image": f"upload:{upload['upload_id']}"}])
    assert taken_input(gateway)["images"][0]["image"] == as_text(shown.content)


def test_an_upload_that_is_no_picture_is_refused(gateway: TestGateway) -> None:
    for files in ({"image": ("a.txt", b"hello")}, {"image": ("a.png", PNG[:60])}):
        answer = gateway.client.post("/api/uploads", files=files)
        assert (answer.status_code, answer.json()["code"]) == (400, "invalid_image")
    assert gateway.client.post("/api/uploads", data={"a": "b"}).status_code in {400, 415}
