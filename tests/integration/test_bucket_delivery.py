"""Files out of a bucket and into it over real HTTP, and a worker that keeps its secrets."""

import base64
import hashlib
import io
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from PIL import Image

from tests.edge_reader import read_picture
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    WorkerProcess,
    as_base64,
    invert_workflow,
    job_input,
    node,
    photo,
    shows_inverse,
)

KEY_ID = "key-id-that-must-not-show"
SECRET = "secret-key-that-must-not-show"
API_KEY = "runpod-key-that-must-not-show"
RESULT_S = 60


@pytest.fixture(scope="module")
def bucket() -> Iterator[Any]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1",
        aws_access_key_id=KEY_ID, aws_secret_access_key=SECRET,
    )  # fmt: skip
    client.create_bucket(Bucket="pictures")
    yield client
    client.close()
    server.stop()


@pytest.fixture(scope="module")
def worker(
    api: RunPodApi, bucket: Any, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    env = api.env() | {
        "BUCKET_ENDPOINT_URL": bucket.meta.endpoint_url,
        "BUCKET_NAME": "pictures",
        "BUCKET_ACCESS_KEY_ID": KEY_ID,
        "BUCKET_SECRET_ACCESS_KEY": SECRET,
        "RUNPOD_AI_API_KEY": API_KEY,
        "WORKER_RUN_LIMIT_BYTES": "60000",
        "WORKER_LOG_LEVEL": "DEBUG",
    }
    with WorkerProcess(tmp_path_factory.mktemp("worker"), env) as worker:
        worker.wait_for_log("comfyui ready")
        yield worker


def keys(bucket: Any) -> list[str]:
    return [item["Key"] for item in bucket.list_objects_v2(Bucket="pictures").get("Contents", [])]


def test_a_picture_goes_to_the_bucket_and_its_address_opens_it(
    api: RunPodApi, worker: WorkerProcess, bucket: Any
) -> None:
    picture = photo(1)
    job = job_input(invert_workflow(), picture, request_id="order-1")
    output = api.result(api.submit(job), RESULT_S)["output"]
    entry = output["images"][0]
    assert entry["type"] == "s3_url"
    assert entry["data"] == output["url"] == output["image_url"]
    assert "image_base64" not in output
    with urllib.request.urlopen(output["url"]) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        assert shows_inverse(base64.b64encode(answer.read()).decode(), picture)
    assert keys(bucket) == ["order-1/result_00001_.png"]
    # The caller sends it again, as after a lost answer: one object, not two.
    api.result(api.submit(job), RESULT_S)
    assert keys(bucket) == ["order-1/result_00001_.png"]


def test_base64_is_given_when_asked_for(api: RunPodApi, worker: WorkerProcess, bucket: Any) -> None:
    before = keys(bucket)
    job = job_input(invert_workflow(), photo(2), output={"delivery": "base64"})
    output = api.result(api.submit(job), RESULT_S)["output"]
    assert output["images"][0]["type"] == "base64"
    assert keys(bucket) == before


def test_an_answer_over_the_limit_of_its_route_goes_to_the_bucket(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    job = job_input(invert_workflow(), photo(3, (140, 140)), output={"delivery": "base64"})
    output = api.result(api.submit(job), RESULT_S)["output"]
    assert output["images"][0]["type"] == "s3_url"
    output = api.result(api.submit(job, job_id="sync-1"), RESULT_S)["output"]
    assert output["images"][0]["type"] == "base64"


def fetched(entry: dict[str, Any]) -> bytes:
    """What the address of an entry opens, with the type and the digest that the entry tells."""
    assert entry["type"] == "s3_url"
    with urllib.request.urlopen(entry["data"]) as answer:
        data: bytes = answer.read()
        assert answer.headers["Content-Type"] == entry["content_type"]
    assert (len(data), hashlib.sha256(data).hexdigest()) == (entry["bytes"], entry["sha256"])
    return data


def noise_video(**more: Any) -> dict[str, Any]:
    return {
        "1": node("LoadImage", image="photo.png"),
        "2": node("RepeatImageBatch", image=["1", 0], amount=3),
        "3": node("CombineVideo", images=["2", 0], save_output=True, quality=0),
        **more,
    }


def test_a_video_over_the_limit_goes_to_the_bucket(
    api: RunPodApi, worker: WorkerProcess, bucket: Any
) -> None:
    job = job_input(
        noise_video(), photo(5, (200, 200)), request_id="film-1", output={"delivery": "base64"}
    )
    output = api.result(api.submit(job), RESULT_S)["output"]
    [entry] = output["files"]
    assert entry["bytes"] > 60_000
    assert fetched(entry)[4:8] == b"ftyp"
    assert output["url"] == entry["data"]
    assert output["images"] == []
    assert not output.keys() & {"image_url", "image_base64"}
    assert "film-1/result.mp4" in keys(bucket)
    assert worker.job_files() == []


def test_every_file_of_a_job_has_an_object_of_its_own(
    api: RunPodApi, worker: WorkerProcess, bucket: Any
) -> None:
    savers = {
        "4": node("SaveImage", images=["1", 0], filename_prefix="out"),
        "5": node("CreateVideo", images=["2", 0], fps=8.0),
        "6": node("SaveVideo", video=["5", 0], filename_prefix="out", format="mp4", codec="h264"),
    }
    job = job_input(noise_video(**savers), photo(6, (64, 64)), request_id="film-2")
    output = api.result(api.submit(job), RESULT_S)["output"]
    stored = [key for key in keys(bucket) if key.startswith("film-2/")]
    assert sorted(key.rpartition(".")[2] for key in stored) == ["mp4", "mp4", "png"]
    for entry in (*output["images"], *output["files"]):
        fetched(entry)
    assert output["url"] == output["image_url"] == output["images"][0]["data"]


@pytest.mark.parametrize(
    ("output", "job_id", "where"),
    [
        pytest.param({"delivery": "base64"}, "sync-inline", "base64", id="inline"),
        pytest.param({"delivery": "base64"}, None, "s3_url", id="inline, over the limit"),
        pytest.param({"delivery": "bucket"}, None, "s3_url", id="bucket"),
        pytest.param({"delivery": "auto"}, None, "s3_url", id="auto"),
        pytest.param(None, None, "s3_url", id="nothing asked for"),
    ],
)
def test_the_edge_api_finds_the_picture_in_every_mode_of_delivery(
    api: RunPodApi, worker: WorkerProcess, output: Any, job_id: str | None, where: str
) -> None:
    """Without a bucket it is tests/golden that show it."""
    picture = photo(5, (140, 140))
    job = job_input(invert_workflow(), picture, output=output)
    answer = api.result(api.submit(job, job_id=job_id), RESULT_S)["output"]
    assert answer["images"][0]["type"] == where
    assert shows_inverse(base64.b64encode(read_picture(answer)).decode(), picture)


def test_a_picture_comes_from_the_bucket(
    api: RunPodApi, worker: WorkerProcess, bucket: Any
) -> None:
    picture = photo(5)
    data = base64.b64decode(as_base64(picture))
    bucket.put_object(Bucket="pictures", Key="inputs/cat.png", Body=data)
    images = [{"name": "photo.png", "image": "bucket:inputs/cat.png"}]
    job = job_input(invert_workflow(), output={"delivery": "base64"}) | {"images": images}
    output = api.result(api.submit(job), RESULT_S)["output"]
    assert shows_inverse(output["images"][0]["data"], picture)
    assert "fetch" in output["timings"]


def test_a_prompt_takes_the_size_of_a_picture_that_was_fetched(
    api: RunPodApi, worker: WorkerProcess, bucket: Any
) -> None:
    data = base64.b64decode(as_base64(photo(6, (30, 90))))
    bucket.put_object(Bucket="pictures", Key="inputs/high.png", Body=data)
    images = [{"name": "a.png", "image": "bucket:inputs/high.png"}]
    job = {"prompt": "make it red", "images": images, "steps": 1}
    output = api.result(api.submit(job), 200)["output"]
    assert (output["images"][0]["width"], output["images"][0]["height"]) == (592, 1776)


def test_a_mask_comes_from_the_bucket(api: RunPodApi, worker: WorkerProcess, bucket: Any) -> None:
    mask = Image.new("L", (40, 40))
    mask.paste(255, (0, 0, 40, 20))
    bucket.put_object(
        Bucket="pictures", Key="inputs/mask.png", Body=base64.b64decode(as_base64(mask))
    )
    picture = photo(6, (40, 40))
    job = {
        "prompt": "make it red", "mask": "bucket:inputs/mask.png", "steps": 1,
        "images": [{"name": "mask", "image": as_base64(picture)}], "output": {"delivery": "base64"},
    }  # fmt: skip
    output = api.result(api.submit(job), RESULT_S)["output"]
    assert output["pixels_changed_outside"] == 0
    with Image.open(io.BytesIO(base64.b64decode(output["image_base64"]))) as result:
        below = (0, 20, 40, 40)
        assert result.crop(below).tobytes() == picture.crop(below).tobytes()
        assert result.tobytes() != picture.tobytes()


@pytest.mark.parametrize(
    ("image", "says"),
    [
        ("https://169.254.169.254/latest/meta-data/?{}", "a host that is not public"),
        ("https://localhost/cat.png?{}", "https://localhost is not public"),
        ("bucket:order-1/result_00001_.png", "is not under 'inputs/'"),
        ("bucket:inputs/none.png", "bucket:inputs/none.png does not exist"),
    ],
)
def test_an_address_that_must_not_be_opened_is_refused(
    api: RunPodApi, worker: WorkerProcess, image: str, says: str
) -> None:
    images = [{"name": "photo.png", "image": image.format("signature-that-must-not-show")}]
    job = job_input(invert_workflow()) | {"images": images}
    body = api.result(api.submit(job), RESULT_S)
    assert body["output"]["code"] == "invalid_image"
    assert says in body["error"]
    assert "must-not-show" not in str(body) + worker.log_path.read_text()


def test_secrets_and_pictures_never_reach_the_log_or_comfyui(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    # As text of the workflow and as a name, they come back in errors; as a fault, in tracebacks.
    for value in (SECRET, KEY_ID, API_KEY):
        workflow = invert_workflow(class_type="FailingImage", kind=value)
        api.result(api.submit(job_input(workflow, photo(4))), RESULT_S)
        api.result(api.submit(job_input(invert_workflow(), photo(4), **{value: 1})), RESULT_S)
    ran = invert_workflow(class_type="FailingImage", kind="error")
    api.result(api.submit(job_input(ran, photo(4))), RESULT_S)
    log = worker.log_path.read_text()
    for value in (SECRET, KEY_ID, API_KEY, "X-Amz-Signature=", "iVBORw0KGgo"):
        assert value not in log, value
    environment = Path(f"/proc/{worker.comfy_pid()}/environ").read_text()
    assert "WORKER_" not in environment
    for value in (SECRET, KEY_ID, API_KEY):
        assert value not in environment
