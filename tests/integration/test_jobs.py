"""Jobs through the SDK's real loop, the real handler process and the real ComfyUI."""

import base64
import copy
import os
import signal

import pytest

from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    WorkerProcess,
    as_base64,
    invert_workflow,
    job_input,
    node,
    photo,
    pixels,
    shows_inverse,
    wait_until,
)

RESULT_S = 60
EDITOR_GRAPH = {
    "version": 0.4,
    "nodes": [
        {"id": 1, "type": "LoadImage", "mode": 0, "inputs": [],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]},
                     {"name": "MASK", "type": "MASK", "links": None}],
         "widgets_values": ["photo.png", "image"]},
        {"id": 2, "type": "ImageInvert", "mode": 0,
         "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
         "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [2]}]},
        {"id": 3, "type": "SaveImage", "mode": 0,
         "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
         "outputs": [], "widgets_values": ["from_the_editor"]},
        {"id": 4, "type": "Note", "mode": 0, "widgets_values": ["a note"]},
    ],
    "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]],
}  # fmt: skip


def test_a_good_job_returns_its_picture(api: RunPodApi, worker: WorkerProcess) -> None:
    picture = photo(1)
    job_id = api.submit(job_input(invert_workflow(), picture, request_id="my-request"))
    output = api.result(job_id, RESULT_S)["output"]
    assert output["ok"] is True
    assert output["request_id"] == "my-request"
    entry = output["images"][0]
    assert entry["data"] == output["image_base64"]
    assert shows_inverse(entry["data"], picture)
    assert (entry["width"], entry["height"], entry["type"]) == (64, 48, "base64")
    assert entry["filename"].startswith("result_")
    assert set(output["timings"]) >= {"check", "inputs", "wait", "execute", "collect", "total"}


def test_progress_is_told_and_never_after_the_result(api: RunPodApi, worker: WorkerProcess) -> None:
    slow = {"class_type": "SlowImage", "seconds": 1.5, "obeys": True}
    job_id = api.submit(job_input(invert_workflow(**slow), photo(20)))
    api.result(job_id, RESULT_S)
    updates = api.progress(job_id)
    assert {"execute"} <= {update["phase"] for update in updates}
    node_update = next(update for update in updates if update.get("class_type") == "SlowImage")
    assert 0 <= node_update["percent"] < 100
    # The stand-in shows a job as running again when an update comes after its result.
    assert api.status(job_id) == "COMPLETED"


def test_a_job_leaves_no_file(api: RunPodApi, worker: WorkerProcess) -> None:
    workflow = invert_workflow() | {"9": node("PreviewImage", images=["3", 0])}
    api.result(api.submit(job_input(workflow, photo(2))), RESULT_S)
    assert worker.job_files() == []


def test_the_same_workflow_twice_returns_the_picture_twice(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    workflow = {
        "1": node("EmptyImage", width=32, height=32, batch_size=1, color=0x3366CC),
        "2": node("SaveImage", images=["1", 0], filename_prefix="same"),
    }
    first, second = (
        api.result(api.submit(job_input(workflow)), RESULT_S)["output"] for _ in range(2)
    )
    assert pixels(first["image_base64"]) == pixels(second["image_base64"])
    assert first["prompt_id"] != second["prompt_id"]


def test_every_picture_of_every_save_node_is_returned(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    workflow = invert_workflow() | {
        "5": node("SaveImage", images=["1", 0], filename_prefix="deep/er/result"),
        "6": node("RepeatImageBatch", image=["1", 0], amount=3),
        "7": node("SaveImage", images=["6", 0], filename_prefix="result"),
    }
    output = api.result(api.submit(job_input(workflow, photo(3))), RESULT_S)["output"]
    by_node = [entry["node_id"] for entry in output["images"]]
    assert sorted(by_node) == ["4", "5", "7", "7", "7"]


@pytest.mark.parametrize("prefix", ["linked", "../../linked", "../loras/linked", "...//linked"])
def test_a_filename_prefix_that_is_linked_stays_in_the_jobs_folder(
    api: RunPodApi, worker: WorkerProcess, prefix: str
) -> None:
    workflow = invert_workflow() | {"8": node("PrimitiveString", value=prefix)}
    workflow["4"]["inputs"]["filename_prefix"] = ["8", 0]
    body = api.result(api.submit(job_input(workflow, photo(4))), RESULT_S)
    assert body["output"]["images"][0]["filename"].startswith("linked_")
    assert worker.job_files() == []


def test_two_jobs_at_once_with_one_picture_name_get_their_own_pictures(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    pictures = [photo(10), photo(11)]
    slow = {"class_type": "SlowImage", "seconds": 1.0, "obeys": True}
    ids = [api.submit(job_input(invert_workflow(**slow), picture)) for picture in pictures]
    for job_id, picture in zip(ids, pictures, strict=True):
        output = api.result(job_id, RESULT_S)["output"]
        assert shows_inverse(output["image_base64"], picture)
    assert worker.job_files() == []


def test_the_picture_of_another_job_can_not_be_opened(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    slow = {"class_type": "SlowImage", "seconds": 1.0, "obeys": True}
    other = api.submit(job_input(invert_workflow(**slow), photo(12)))
    api.wait_for(lambda: api.progress(other), "progress of the other job", RESULT_S)
    [theirs] = {path.parent.name for path in worker.job_files() if path.name == "0.png"}
    workflow = {
        "1": node("LoadImageDataSetFromFolder", folder=theirs),
        "2": node("SaveImage", images=["1", 0], filename_prefix="mine"),
    }
    output = api.result(api.submit(job_input(workflow)), RESULT_S)["output"]
    assert output["code"] == "invalid_workflow"
    assert "LoadImageDataSetFromFolder opens a folder" in output["message"]
    assert shows_inverse(api.result(other, RESULT_S)["output"]["image_base64"], photo(12))


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        pytest.param(
            {"3": node("ImageInvrt", image=["1", 0])}, "workflow_rejected", "'ImageInvert'",
            id="unknown node type",
        ),
        pytest.param(
            {"5": node("UNETLoader", unet_name="qwen_image_edit_2509_fp8.safetensors",
                       weight_dtype="default"),
             "6": node("ModelSamplingAuraFlow", model=["5", 0], shift=3),
             "7": node("ModelSave", model=["6", 0], filename_prefix="x")},
            "workflow_rejected", "'qwen_image_edit_2509_fp8_e4m3fn.safetensors'",
            id="partly valid, with an unknown model",
        ),
        pytest.param({"4": node("ImageInvert", image=["3", 0])}, "workflow_rejected", "SaveImage",
                     id="no output node"),
        pytest.param({"4": node("PreviewImage", images=["3", 0])}, "no_output", "PreviewImage",
                     id="only a preview"),
        pytest.param({"1": node("LoadImage", image="other.png")}, "missing_image", "'photo.png'",
                     id="a picture that was not sent"),
        pytest.param({"3": node("FailingImage", image=["1", 0], kind="error")}, "node_failed",
                     "broken on purpose", id="a node that raises"),
        pytest.param({"3": node("FailingImage", image=["1", 0], kind="out_of_memory")},
                     "out_of_memory", "20.00 GiB", id="out of memory"),
    ],
)  # fmt: skip
def test_a_bad_job_fails_with_its_code_and_the_worker_goes_on(
    api: RunPodApi, worker: WorkerProcess, change: dict, code: str, says: str
) -> None:
    body = api.result(api.submit(job_input(invert_workflow() | change, photo(5))), RESULT_S)
    assert isinstance(body["error"], str)
    assert body["error"].startswith(f"{code}: ")
    assert says in body["error"]
    assert (body["output"]["ok"], body["output"]["code"]) == (False, code)
    assert "/opt/comfy" not in str(body)
    assert "Traceback" not in str(body)
    assert worker.job_files() == []
    picture = photo(6)
    output = api.result(api.submit(job_input(invert_workflow(), picture)), RESULT_S)["output"]
    assert shows_inverse(output["image_base64"], picture)


def test_a_cancelled_job_stops_on_comfyui_and_its_neighbour_is_undisturbed(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    slow = {"class_type": "SlowImage", "seconds": 300.0, "obeys": True}
    cancelled = api.submit(job_input(invert_workflow(**slow), photo(7)))
    worker.wait_for_log("prompt queued", job_id=cancelled)
    picture = photo(8)
    neighbour = api.submit(job_input(invert_workflow(), picture))
    worker.wait_for_log("prompt queued", job_id=neighbour)
    api.cancel(cancelled)
    output = api.result(neighbour, RESULT_S)["output"]
    assert shows_inverse(output["image_base64"], picture)
    worker.wait_for_log("job cancelled", job_id=cancelled)
    assert api.status(cancelled) == "CANCELLED"
    with pytest.raises(TimeoutError):
        api.result(cancelled, 0.5)
    assert worker.job_files() == []


def test_a_job_cancelled_between_its_taking_and_its_start_is_not_run(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    job_id = api.submit(job_input(invert_workflow(), photo(15)))
    api.wait_taken(job_id, RESULT_S)
    api.cancel(job_id)
    wait_until(
        lambda: [entry for entry in worker.logs() if job_id in str(entry)
                 and entry["event"] in {"job cancelled", "job cancelled before its start"}],
        "the job is cancelled", 30, worker.tail,
    )  # fmt: skip
    with pytest.raises(TimeoutError):
        api.result(job_id, 0.5)


def test_a_job_over_its_own_time_limit_is_stopped(api: RunPodApi, worker: WorkerProcess) -> None:
    slow = {"class_type": "SlowImage", "seconds": 300.0, "obeys": True}
    body = api.result(
        api.submit(job_input(invert_workflow(**slow), photo(9), timeout_s=1.5)), RESULT_S
    )
    assert body["output"]["code"] == "job_timeout"
    assert worker.job_files() == []


def test_comfyui_killed_in_mid_job_fails_that_job_and_the_next_succeeds(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    slow = {"class_type": "SlowImage", "seconds": 300.0, "obeys": True}
    victim = api.submit(job_input(invert_workflow(**slow), photo(12)))
    worker.wait_for_log("prompt queued", job_id=victim)
    picture = photo(13)
    waiting = api.submit(job_input(invert_workflow(), picture))
    worker.wait_for_log("prompt queued", job_id=waiting)
    pid = worker.comfy_pid()
    os.kill(pid, signal.SIGKILL)
    body = api.result(victim, RESULT_S)
    assert body["output"]["code"] == "comfy_exited"
    assert body["output"]["retryable"] is True
    assert body["output"]["details"]["exit_code"] == -signal.SIGKILL
    # The job behind it had not begun: it is run on the next ComfyUI.
    output = api.result(waiting, RESULT_S)["output"]
    assert shows_inverse(output["image_base64"], picture)
    assert worker.comfy_pid() != pid
    wait_until(lambda: worker.job_files() == [], "the jobs' files are gone", 5)


def test_a_graph_that_the_editor_saved_is_converted_and_run(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    picture = photo(16)
    body = api.result(api.submit(job_input(EDITOR_GRAPH, picture)), RESULT_S)
    assert "error" not in body, body
    assert shows_inverse(body["output"]["image_base64"], picture)
    graph = copy.deepcopy(EDITOR_GRAPH)
    graph["nodes"][0]["widgets_values"] = ["other.png", "image"]
    body = api.result(api.submit(job_input(graph, picture)), RESULT_S)
    assert body["output"]["code"] == "missing_image"
    graph["nodes"][1]["type"] = "ImageInvrt"
    body = api.result(api.submit(job_input(graph, picture)), RESULT_S)
    assert body["output"]["code"] == "invalid_workflow"
    assert "ImageInvert," in body["error"]


def test_a_picture_comes_in_the_format_that_was_asked_for(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    job = job_input(invert_workflow(), photo(17), output={"format": "webp", "quality": 80})
    entry = api.result(api.submit(job), RESULT_S)["output"]["images"][0]
    assert (entry["content_type"], entry["filename"]) == ("image/webp", "result_00001_.webp")
    assert base64.b64decode(entry["data"])[8:12] == b"WEBP"


def test_a_picture_sent_as_data_uri_in_jpeg_is_read(api: RunPodApi, worker: WorkerProcess) -> None:
    uri = "data:image/jpeg;base64," + as_base64(photo(14), "JPEG")
    job = {"workflow": invert_workflow(), "images": [{"name": "photo.png", "image": uri}]}
    output = api.result(api.submit(job), RESULT_S)["output"]
    assert output["images"][0]["width"] == 64
