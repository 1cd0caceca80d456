"""Jobs and their answers as files: tests/golden/NAME/job.json and answer.json.

They are the contract by example, and what callers of the stock ComfyUI worker send is among them.
`make integration ARGS='-k golden --write-golden'` writes the answers anew, for a reviewer to read.
"""

import base64
import difflib
import hashlib
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat

from tests.edge_reader import read_picture
from tests.fakes.runpod_api import RunPodApi
from tests.integration.worker_process import PROJECT_DIR, WorkerProcess
from tests.schemas import INPUT

GOLDEN = PROJECT_DIR / "tests" / "golden"
NAMES = sorted(path.name for path in GOLDEN.iterdir())
# Jobs whose very fault is one that the schema knows.
NOT_OF_THE_SCHEMA = {"error_missing_workflow", "error_unknown_key"}
RESULT_S = 240


@pytest.fixture(scope="module")
def worker(api: RunPodApi, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerProcess]:
    """With a small limit, for the golden of an answer that is over it."""
    env = api.env() | {"WORKER_RUN_LIMIT_BYTES": "20000"}
    with WorkerProcess(tmp_path_factory.mktemp("worker"), env) as worker:
        worker.wait_for_log("comfyui ready")
        yield worker


@pytest.mark.parametrize("name", NAMES)
def test_a_job_gets_its_golden_answer(
    api: RunPodApi, worker: WorkerProcess, name: str, request: pytest.FixtureRequest
) -> None:
    job = json.loads((GOLDEN / name / "job.json").read_text())
    assert INPUT.is_valid(job["input"]) is (name not in NOT_OF_THE_SCHEMA)
    body = api.result(api.submit(job["input"], job_id=job.get("id")), RESULT_S)
    if "error" not in body:
        # The other callers that there are already.
        assert read_picture(body["output"]) == base64.b64decode(body["output"]["image_base64"])
    got = json.dumps(normalised(body), indent=1) + "\n"
    path = GOLDEN / name / "answer.json"
    if request.config.getoption("--write-golden"):
        path.write_text(got)
    _compare(path, got)


def test_a_key_for_comfy_org_is_in_no_log(worker: WorkerProcess) -> None:
    job = json.loads((GOLDEN / "stock_comfy_org_api_key" / "job.json").read_text())
    assert job["input"]["comfy_org_api_key"] not in worker.log_path.read_text()


def normalised(body: dict[str, Any]) -> dict[str, Any]:
    """An answer without what differs from run to run, or from one version of a library to the
    next; first it is checked against itself."""
    output = dict(body["output"])
    if "error" in body:
        sizes = re.compile(r"\b\d+ bytes\b")
        text = json.dumps({**body, "output": output})
        body = json.loads(sizes.sub("BYTES bytes", text))
        if "answer_bytes" in body["output"]["details"]:
            body["output"]["details"]["answer_bytes"] = "BYTES"
        return body
    output["images"] = [_normalised_entry(entry) for entry in output["images"]]
    output["image_base64"] = _shown(output["image_base64"])
    output["prompt_id"] = "UUID"
    output["timings"] = dict.fromkeys(output["timings"], "MS")
    return {"output": output}


def _normalised_entry(entry: dict[str, Any]) -> dict[str, Any]:
    data = base64.b64decode(entry["data"])
    assert entry["bytes"] == len(data)
    assert entry["sha256"] == hashlib.sha256(data).hexdigest()
    return entry | {"data": _shown(entry["data"]), "bytes": "BYTES", "sha256": "SHA256"}


def _shown(data: str) -> str:
    """Format and size, and of a small picture, which no model made, the mean colour."""
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        shown = f"BASE64 of a {picture.format} of {picture.width} x {picture.height}"
        if picture.width > 64:
            return shown
        mean = [round(value / 4) * 4 for value in ImageStat.Stat(picture.convert("RGB")).mean]
        return f"{shown}, mean colour {mean}"


def _compare(path: Path, got: str) -> None:
    if not path.exists():
        pytest.fail(f"{path} is missing; write it with --write-golden", pytrace=False)
    kept = path.read_text()
    if kept != got:
        diff = difflib.unified_diff(
            kept.splitlines(), got.splitlines(), str(path.relative_to(PROJECT_DIR)), "now", "", "",
            lineterm="",
        )  # fmt: skip
        pytest.fail("\n".join(diff), pytrace=False)
