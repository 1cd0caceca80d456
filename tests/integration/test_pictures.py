"""Pictures through a worker with our own nodes and through one with COMFY_STOCK are the same."""

import base64
import io
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image

from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import (
    PORTRAIT,
    WorkerProcess,
    as_base64,
    invert_workflow,
    node,
    wait_until,
)

RESULT_S = 60
END = b"IEND\xae\x42\x60\x82"
WORKFLOW = invert_workflow() | {
    "5": node("RepeatImageBatch", image=["3", 0], amount=2),
    "6": node("SaveImage", images=["5", 0], filename_prefix="deep/%batch_num%_%width%"),
    "7": node("PreviewImage", images=["3", 0]),
    "8": node("LoadImage", image="cut-out.webp"),
    "9": node("JoinImageWithAlpha", image=["8", 0], alpha=["8", 1]),
    "10": node("SaveImage", images=["9", 0], filename_prefix="cut-out"),
    "11": node("LoadImageMask", image="cut-out.webp", channel="alpha"),
    "12": node("MaskToImage", mask=["11", 0]),
    "13": node("SaveImage", images=["12", 0], filename_prefix="mask"),
}


def pictures() -> list[dict[str, str]]:
    """A photo that lies on its side, and one with a soft edge to nothing."""
    with Image.open(PORTRAIT) as portrait:
        photo = portrait.convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 8
    buffer = io.BytesIO()
    photo.resize((200, 300)).save(buffer, "JPEG", exif=exif)
    cut_out = photo.resize((128, 128))
    cut_out.putalpha(Image.radial_gradient("L").resize((128, 128)))
    return [
        {"name": "photo.png", "image": base64.b64encode(buffer.getvalue()).decode()},
        {"name": "cut-out.webp", "image": as_base64(cut_out, "WEBP")},
    ]


def run(api: RunPodApi, **more: Any) -> list[dict[str, Any]]:
    """The answer's pictures, in the order of their names."""
    job_id = api.submit({"workflow": WORKFLOW, "images": pictures(), **more})
    body = api.result(job_id, RESULT_S)
    assert "error" not in body, body
    return sorted(body["output"]["images"], key=lambda entry: str(entry["filename"]))


def opened(entry: dict[str, Any]) -> Image.Image:
    picture = Image.open(io.BytesIO(base64.b64decode(entry["data"])))
    picture.load()
    return picture


def from_pixels_on(entry: dict[str, Any]) -> bytes:
    return base64.b64decode(entry["data"]).partition(b"IDAT")[2]


@pytest.fixture(scope="module")
def stock_api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunPodApi]:
    with RunPodApi() as api:
        env = api.env() | {"COMFY_STOCK": "true"}
        with WorkerProcess(tmp_path_factory.mktemp("stock"), env) as stock:
            stock.wait_for_log("comfyui ready")
            yield api


def test_pngs_have_the_pixels_the_text_and_the_size_of_upstreams(
    api: RunPodApi, worker: WorkerProcess, stock_api: RunPodApi
) -> None:
    ours, stock = run(api), run(stock_api)
    names = [entry["filename"] for entry in ours]
    assert names == [entry["filename"] for entry in stock]
    assert names == ["0_300_00001_.png", "1_300_00002_.png", "cut-out_00001_.png",
                     "mask_00001_.png", "result_00001_.png"]  # fmt: skip
    for one, other in zip(ours, stock, strict=True):
        mine, theirs = opened(one), opened(other)
        assert (mine.mode, mine.size) == (theirs.mode, theirs.size)
        assert mine.tobytes() == theirs.tobytes()
        assert mine.info.keys() == theirs.info.keys() == {"prompt"}
        assert one["bytes"] == len(base64.b64decode(one["data"]))
        # Upstream's own compression. What comes before has the job's folder in it.
        assert from_pixels_on(one) == from_pixels_on(other)
    assert worker.job_files() == []


@pytest.mark.parametrize("kind", ["webp", "jpeg"])
def test_another_format_is_made_of_the_same_pixels_to_the_byte(
    api: RunPodApi, worker: WorkerProcess, stock_api: RunPodApi, kind: str
) -> None:
    asked = {"format": kind, "quality": 80}
    ours, stock = run(api, output=asked), run(stock_api, output=asked)
    assert [entry["sha256"] for entry in ours] == [entry["sha256"] for entry in stock]
    assert {entry["content_type"] for entry in ours} == {f"image/{kind}"}


def test_comfyui_itself_reads_and_writes_pictures_without_compression(
    api: RunPodApi, worker: WorkerProcess
) -> None:
    workflow = invert_workflow() | {
        "5": node("SlowImage", image=["3", 0], seconds=300.0, obeys=True),
        "6": node("SaveImage", images=["5", 0], filename_prefix="late"),
    }
    job_id = api.submit({"workflow": workflow, "images": pictures()})
    own_dir = worker.run_dir / "qwen-worker"

    def sizes() -> list[int]:
        files = [*own_dir.glob("*/input/*/0.png"), *own_dir.glob("*/output/*/result_*.png")]
        return [file.stat().st_size for file in files if file.read_bytes().endswith(END)]

    wait_until(lambda: len(sizes()) == 2, "both files are written", RESULT_S, worker.tail)
    assert min(sizes()) > 200 * 300 * 3
    api.cancel(job_id)
    worker.wait_for_log("job cancelled", job_id=job_id)
