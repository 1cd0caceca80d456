"""Every kind of output that a workflow can leave, on the real ComfyUI."""

import base64
import hashlib
import io
import json
import struct
from typing import Any

import pytest
from PIL import Image

from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    WorkerProcess,
    invert_workflow,
    job_input,
    node,
    photo,
    shows_inverse,
)

RESULT_S = 60


def run(api: RunPodApi, workflow: dict[str, Any], **more: Any) -> dict[str, Any]:
    """The output of a job that ends well."""
    body = api.result(api.submit(job_input(workflow, photo(1), **more)), RESULT_S)
    assert "error" not in body, body
    return body["output"]


def frames(**savers: dict[str, Any]) -> dict[str, Any]:
    """Four pictures, each unlike the one before it, as ["5", 0]."""
    return {
        "1": node("LoadImage", image="photo.png"),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("ImageBatch", image1=["1", 0], image2=["2", 0]),
        "5": node("RepeatImageBatch", image=["3", 0], amount=2),
        **savers,
    }


def content(entry: dict[str, Any]) -> bytes:
    data = base64.b64decode(entry["data"], validate=True)
    assert entry["bytes"] == len(data)
    assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    return data


def described(entry: dict[str, Any]) -> tuple[str, str, str]:
    return entry["kind"], entry["content_type"], entry["filename"]


SAVE_WEBP = node(
    "SaveAnimatedWEBP", images=["5", 0], filename_prefix="moving", fps=10.0, lossless=True,
    quality=80, method="default",
)  # fmt: skip
SAVE_APNG = node(
    "SaveAnimatedPNG", images=["5", 0], filename_prefix="moving", fps=10.0, compress_level=4
)


@pytest.mark.parametrize(
    ("saver", "content_type"), [(SAVE_WEBP, "image/webp"), (SAVE_APNG, "image/apng")]
)
def test_a_moving_picture_comes_whole(
    api: RunPodApi, worker: WorkerProcess, saver: dict[str, Any], content_type: str
) -> None:
    output = run(api, frames(**{"6": saver}))
    [entry] = output["images"]
    assert (entry["frames"], entry["content_type"]) == (4, content_type)
    assert (entry["width"], entry["height"]) == (64, 48)
    with Image.open(io.BytesIO(content(entry))) as picture:
        assert picture.n_frames == 4
    assert entry["data"] == output["image_base64"]
    assert "files" not in output


def test_a_moving_picture_moves_in_webp_and_is_left_alone_for_jpeg(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    workflow = frames(**{"6": SAVE_APNG})
    [entry] = run(api, workflow, output={"format": "webp", "quality": 50})["images"]
    assert (entry["filename"], entry["frames"]) == ("moving_00001_.webp", 4)
    with Image.open(io.BytesIO(content(entry))) as picture:
        assert (picture.format, picture.n_frames) == ("WEBP", 4)
    [entry] = run(api, workflow, output={"format": "jpeg"})["images"]
    assert (entry["filename"], entry["content_type"]) == ("moving_00001_.png", "image/apng")


VIDEO = node("CreateVideo", images=["5", 0], fps=8.0)
SAVE_VIDEO = node("SaveVideo", video=["7", 0], filename_prefix="video/clip", format="auto",
                  codec="auto")  # fmt: skip


@pytest.mark.parametrize(
    ("savers", "filename", "content_type", "starts"),
    [
        ({"7": VIDEO, "8": SAVE_VIDEO}, "clip_00001_.mp4", "video/mp4", b"ftyp"),
        ({"8": node("SaveWEBM", images=["5", 0], filename_prefix="clip", codec="vp9", fps=8.0,
                    crf=40.0)},
         "clip_00001_.webm", "video/webm", b"\xdf\xa3"),
        ({"8": node("CombineVideo", images=["5", 0], save_output=True, quality=23)},
         "result.mp4", "video/mp4", b"ftyp"),
    ],
    ids=["SaveVideo", "SaveWEBM", "under the key gifs"],
)  # fmt: skip
def test_a_video_comes_back(
    api: RunPodApi, worker: WorkerProcess, savers: Any, filename: str, content_type: str,
    starts: bytes,
) -> None:  # fmt: skip
    output = run(api, frames(**savers))
    [entry] = output["files"]
    assert described(entry) == ("video", content_type, filename)
    assert entry["node_id"] == "8"
    assert starts in content(entry)[:8]
    assert output["images"] == []
    assert not output.keys() & {"image_base64", "image_url", "url"}
    assert worker.job_files() == []


@pytest.mark.parametrize(
    ("audio_format", "content_type", "starts"),
    [("flac", "audio/flac", b"fLaC"), ("mp3", "audio/mpeg", b""), ("opus", "audio/ogg", b"OggS")],
)
def test_sound_comes_back(
    api: RunPodApi, worker: WorkerProcess, audio_format: str, content_type: str, starts: bytes
) -> None:
    tone = node("SaveTone", format=audio_format, filename_prefix="audio/tone")
    [entry] = run(api, {"1": tone})["files"]
    assert described(entry) == ("audio", content_type, f"tone_00001_.{audio_format}")
    assert content(entry).startswith(starts)


CUBE = {
    "1": node("CubeVoxel", size=4),
    "2": node("VoxelToMesh", voxel=["1", 0], algorithm="basic", threshold=0.6),
}


def test_a_3d_model_comes_back(api: RunPodApi, worker: WorkerProcess) -> None:
    saver = node("SaveGLB", mesh=["2", 0], filename_prefix="mesh/cube")
    [entry] = run(api, CUBE | {"3": saver})["files"]
    assert described(entry) == ("3d", "model/gltf-binary", "cube_00001_.glb")
    data = content(entry)
    assert struct.unpack("<4sII", data[:12]) == (b"glTF", 2, len(data))


def test_a_3d_model_that_only_preview_3d_names_comes_back(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    exporter = {
        "3": node("ExportMesh", mesh=["2", 0], filename_prefix="mesh/cube"),
        "4": node("Preview3D", model_file=["3", 0]),
    }
    [entry] = run(api, CUBE | exporter)["files"]
    assert described(entry) == ("3d", "model/obj", "cube_00001_.obj")
    assert content(entry).startswith(b"v ")


def test_weights_that_no_node_lists_come_back(api: RunPodApi, worker: WorkerProcess) -> None:
    workflow = {
        "1": node("VAELoader", vae_name="qwen_image_vae.safetensors"),
        "2": node("VAESave", vae=["1", 0], filename_prefix="vae/mine"),
    }
    [entry] = run(api, workflow)["files"]
    assert described(entry) == ("other", "application/octet-stream", "mine_00001_.safetensors")
    assert entry["node_id"] == "2"
    assert len(content(entry)) > 1_000_000
    assert worker.job_files() == []


def test_a_file_in_the_root_that_is_only_named_comes_back_and_does_not_stay(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    """As API nodes do with a 3D model that has been paid for."""
    workflow = {
        "4": node("DownloadModel", name="task-1.glb"),
        "5": node("Preview3D", model_file=["4", 0]),
    }
    entries = run(api, workflow)["files"]
    assert [entry["filename"] for entry in entries] == ["task-1.glb"]
    assert worker.job_files() == []


def test_a_latent_comes_back(api: RunPodApi, worker: WorkerProcess) -> None:
    workflow = {
        "1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "2": node("SaveLatent", samples=["1", 0], filename_prefix="latents/empty"),
    }
    [entry] = run(api, workflow)["files"]
    assert described(entry) == ("other", "application/octet-stream", "empty_00001_.latent")
    data = content(entry)
    header_bytes = struct.unpack("<Q", data[:8])[0]
    assert json.loads(data[8 : 8 + header_bytes])["latent_tensor"]["shape"] == [1, 4, 8, 8]


def test_texts_come_back(api: RunPodApi, worker: WorkerProcess) -> None:
    workflow = {
        "1": node("PrimitiveString", value="two cats äöü"),
        "2": node("PreviewAny", source=["1", 0]),
        "3": node("ShowBareText", text=["1", 0]),
        "4": node("PrimitiveInt", value=7),
        "5": node("PreviewAny", source=["4", 0]),
    }
    output = run(api, workflow)
    assert sorted((text["node_id"], text["text"]) for text in output["texts"]) == [
        ("2", "two cats äöü"),
        ("3", "two cats äöü"),
        ("5", "7"),
    ]
    assert output["images"] == []
    assert "files" not in output


def test_a_long_text_comes_back_whole_as_a_file(api: RunPodApi, worker: WorkerProcess) -> None:
    long = "two cats " * 20_000
    workflow = {"2": node("PreviewAny", source=["1", 0]), "1": node("PrimitiveString", value=long)}
    output = run(api, workflow)
    [entry] = output["files"]
    assert described(entry) == ("text", "text/plain", "text_00001_.txt")
    assert content(entry).decode() == long
    assert "texts" not in output


def test_previews_come_after_the_rest_when_asked_for(api: RunPodApi, worker: WorkerProcess) -> None:
    workflow = invert_workflow() | {"2": node("PreviewImage", images=["1", 0])}
    output = run(api, workflow, output={"previews": True})
    assert [(entry["node_id"], entry.get("preview")) for entry in output["images"]] == [
        ("4", None),
        ("2", True),
    ]
    assert shows_inverse(output["image_base64"], photo(1))
    assert [entry["node_id"] for entry in run(api, workflow)["images"]] == ["4"]
    assert worker.job_files() == []


def test_previews_alone_are_an_output_when_asked_for(api: RunPodApi, worker: WorkerProcess) -> None:
    workflow = frames(
        **{
            "6": node("PreviewImage", images=["1", 0]),
            "7": node("CombineVideo", images=["5", 0], save_output=False, quality=23),
        }
    )
    output = run(api, workflow, output={"previews": True})
    assert [entry["preview"] for entry in (*output["images"], *output["files"])] == [True, True]
    assert output["image_base64"] == output["images"][0]["data"]
    assert worker.job_files() == []
    body = api.result(api.submit(job_input(workflow, photo(1))), RESULT_S)
    assert body["output"]["code"] == "no_output"
    assert "input.output.previews" in body["error"]
    assert worker.job_files() == []


def without_a_picture(**savers: dict[str, Any]) -> dict[str, Any]:
    """Nothing in it differs from job to job."""
    batch = node("EmptyImage", width=64, height=48, batch_size=2, color=255)
    return {"5": batch, "9": node("SolidMask", value=1.0, width=64, height=48), **savers}


def test_previews_of_the_same_workflow_come_back_each_time(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    workflow = without_a_picture(
        **{
            "6": node("PreviewImage", images=["5", 0]),
            "7": node("MaskPreview", mask=["9", 0]),
            "8": node("CombineVideo", images=["5", 0], save_output=False, quality=23),
            "10": node("ShowPictures", images=["5", 0]),
        }
    )
    first, second = (run(api, workflow, output={"previews": True}) for _ in range(2))
    for output in (first, second):
        shown = sorted(entry["node_id"] for entry in output["images"])
        assert shown == ["10", "10", "6", "6", "7"]
        assert [entry["node_id"] for entry in output["files"]] == ["8"]
    assert worker.job_files() == []


def test_previews_of_the_same_workflow_come_back_to_jobs_at_once(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    workflow = without_a_picture(**{"6": node("PreviewImage", images=["5", 0])})
    body = job_input(workflow, output={"previews": True})
    jobs = [api.submit(body) for _ in range(6)]
    outputs = [api.result(job, RESULT_S)["output"] for job in jobs]
    assert [len(output.get("images", [])) for output in outputs] == [2] * 6, outputs
    assert worker.job_files() == []


def test_a_file_under_no_prefix_comes_back_each_time(api: RunPodApi, worker: WorkerProcess) -> None:
    saver = node("CombineVideo", images=["5", 0], save_output=True, quality=23)
    outputs = [run(api, without_a_picture(**{"8": saver})) for _ in range(2)]
    assert [described(entry) for output in outputs for entry in output["files"]] == [
        ("video", "video/mp4", "result.mp4")
    ] * 2
    assert worker.job_files() == []


def test_all_kinds_of_one_workflow_come_back_together(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    savers = {
        "6": SAVE_WEBP,
        "7": VIDEO,
        "8": SAVE_VIDEO,
        "9": node("SaveImage", images=["5", 0], filename_prefix="deep/er/still"),
        "10": node("SaveImage", images=["1", 0], filename_prefix="clip"),
        "11": node("CombineVideo", images=["5", 0], save_output=True, quality=23),
        "12": node("PrimitiveString", value="a caption"),
        "13": node("PreviewAny", source=["12", 0]),
    }
    output = run(api, frames(**savers))
    assert sorted(entry["node_id"] for entry in output["images"]) == ["10", *"6", *"9999"]
    assert sorted(entry["node_id"] for entry in output["files"]) == ["11", "8"]
    assert output["texts"] == [{"node_id": "13", "text": "a caption"}]
    for entry in (*output["images"], *output["files"]):
        content(entry)
    assert worker.job_files() == []
