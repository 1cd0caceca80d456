"""`python -m handler compile` and `validate`, as a user runs them."""

import base64
import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from handler.settings import PROJECT_DIR


def run(command: str, job: Any, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    path = tmp_path / "job.json"
    path.write_text(job if isinstance(job, str) else json.dumps(job))
    return subprocess.run(
        [sys.executable, "-m", "handler", command, str(path)],
        cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def validate(argument: str, stdin: bytes) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "handler", "validate", argument],
        cwd=PROJECT_DIR, input=stdin, capture_output=True, timeout=60,
    )  # fmt: skip
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


def prompt_job() -> dict[str, Any]:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "PNG")
    picture = {"name": "a.png", "image": base64.b64encode(buffer.getvalue()).decode()}
    return {"input": {"prompt": "make it red", "images": [picture]}}


def test_compile_prints_the_workflow_of_a_prompt(tmp_path: Path) -> None:
    done = run("compile", prompt_job(), tmp_path)
    assert done.returncode == 0, done.stderr
    workflow = json.loads(done.stdout)
    assert workflow["111"]["inputs"]["prompt"] == "make it red"
    assert workflow["37"]["inputs"]["unet_name"] == "qwen_image_edit_2509_fp8_e4m3fn.safetensors"


def test_validate_says_that_a_good_job_is_good(tmp_path: Path) -> None:
    done = run("validate", prompt_job(), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert ", 1 picture." in done.stdout


def test_an_address_is_checked_and_not_opened(tmp_path: Path) -> None:
    job = prompt_job()
    job["input"]["images"][0]["image"] = "https://nowhere.invalid/a.png?sig=secret"
    done = run("validate", job, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Not opened here, only when the job runs: https://nowhere.invalid/a.png\n" in done.stdout
    done = run("compile", job, tmp_path)
    assert done.returncode == 1
    assert "no address is opened here" in done.stderr
    job["input"]["images"][0]["image"] = "https://127.0.0.1/a.png"
    done = run("validate", job, tmp_path)
    assert done.returncode == 1
    assert "a host that is not public" in done.stderr


def test_validate_tells_what_is_wrong(tmp_path: Path) -> None:
    done = run("validate", {"input": {"worflow": {}}}, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("invalid_input: ")
    assert "did you mean 'workflow'" in done.stderr


def test_convert_prints_what_the_editor_exports(tmp_path: Path) -> None:
    data = PROJECT_DIR / "tests" / "data" / "ui_graphs"
    name = "02_qwen_Image_edit_subgraphed.json"
    done = subprocess.run(
        [sys.executable, "-m", "handler", "convert", str(data / "templates" / name),
         "--object-info", str(data / "object_info.json.gz")],
        cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((data / "expected" / name).read_text())


def test_convert_without_a_comfyui_says_what_to_give(tmp_path: Path) -> None:
    graph = tmp_path / "graph.json"
    graph.write_text('{"nodes": []}')
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        done = subprocess.run(
            [sys.executable, "-m", "handler", "convert", str(graph)],
            cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60,
            env=os.environ | {"COMFY_PORT": str(taken.getsockname()[1])},
        )  # fmt: skip
    assert done.returncode == 1
    assert "--object-info" in done.stderr


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "is not JSON: Expecting property name enclosed in double quotes: line 1 column 2"),
        (b"", "is empty"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "is not text in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[1]", "must hold a JSON object"),
        (b'{"workflow": {}}', 'has no "input"; a job is {"input": {'),
    ],
)
def test_what_is_no_job_is_told_without_a_traceback(data: bytes, says: str, tmp_path: Path) -> None:
    done = validate("-", data)
    assert done.returncode == 1
    assert done.stderr.startswith("invalid_input: standard input ")
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_that_is_not_there_is_told() -> None:
    done = validate("nowhere.json", b"")
    assert done.returncode == 1
    assert done.stderr == "invalid_input: nowhere.json can't be read: No such file or directory\n"


def test_schema_prints_what_is_published() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "handler", "schema", "input"],
        cwd=PROJECT_DIR, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.stdout == (PROJECT_DIR / "schema" / "input.json").read_text()
