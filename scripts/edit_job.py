"""The example's edit as a job, and a local worker's environment and log: for what runs one here."""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PROJECT_DIR = Path(__file__).resolve().parent.parent
EXAMPLES = PROJECT_DIR / "examples"


def make_job(job_id: str, photo: Path, prompt: str | None, seed: int | None) -> dict[str, Any]:
    """The example workflow on `photo`; prompt and seed are its own where None is given."""
    workflow = json.loads((EXAMPLES / "qwen_image_edit_2509.json").read_text())
    if prompt is not None:
        workflow["111"]["inputs"]["prompt"] = prompt
    if seed is not None:
        workflow["3"]["inputs"]["seed"] = seed
    name = workflow["78"]["inputs"]["image"]
    picture = base64.b64encode(photo.read_bytes()).decode()
    job_input = {"workflow": workflow, "images": [{"name": name, "image": picture}]}
    # A picture inline, whatever bucket the environment names: it is to be written to a file.
    return {"id": job_id, "input": job_input | {"output": {"delivery": "base64"}}}


def worker_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """For `python -m handler` on this machine, talkative."""
    environment = {
        name: value
        for name, value in environ.items()
        # With it the SDK would go and take jobs; a bucket is not needed, and would be tried.
        if name != "RUNPOD_WEBHOOK_GET_JOB" and not name.startswith("BUCKET_")
    }
    return environment | {"PYTHONPATH": str(PROJECT_DIR), "WORKER_LOG_LEVEL": "DEBUG"}


def progress(line: str) -> str | None:
    """What a user wants to see of a line of the worker's log; None for the rest."""
    try:
        entry = json.loads(line)
    except ValueError:
        return line.strip()
    match entry["event"]:
        case "memory flags" if "gpu" in entry:
            return f"Memory flags: {' '.join(entry['flags']) or 'none'} ({entry['reason']})"
        case "comfyui started" | "comfyui ready":
            return str(entry["event"]).replace("comfyui", "ComfyUI is")
        case "node begins":
            return str(entry["class_type"])
        case "progress":
            return f"{entry['class_type']}: step {entry['step']} of {entry['steps']}"
        case "job failed" | "worker ends":
            tail = "\n".join(entry["details"].get("log_tail", []))
            return f"{entry['code']}: {entry['message']}\n{tail}".strip()
        case _ if entry["level"] in {"warning", "error"}:
            return line.strip()
        case _:
            return None
