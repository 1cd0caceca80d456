"""The variables of the worker and of its ComfyUI."""

import shlex
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, Field, SecretStr

from handler.pictures import ImageLimits

PROJECT_DIR = Path(__file__).resolve().parents[2]

# A picture up to this size is kept a second time, at 3 or 4 bytes a pixel, as long as its job.
# Beyond it ComfyUI's own Pillow refuses a picture as a decompression bomb (Image.MAX_IMAGE_PIXELS,
# twice).
_COMFY_PIXELS = 178_956_970
_UNCOMPRESSED_PIXELS = 2048 * 2048


# What the worker sets itself, by what for.
_WORKERS_OWN = {
    "--listen": "ComfyUI has no password, and listens on 127.0.0.1 only",
    "--port": "set COMFY_PORT",
    "--tls-keyfile": "the worker talks to ComfyUI without TLS",
    "--tls-certfile": "the worker talks to ComfyUI without TLS",
    "--input-directory": "set WORKER_RUN_DIR",
    "--output-directory": "set WORKER_RUN_DIR",
    "--temp-directory": "set WORKER_RUN_DIR",
    "--user-directory": "set WORKER_RUN_DIR",
    "--base-directory": "set WORKER_RUN_DIR and WORKER_MODELS_DIR",
    "--database-url": "the worker keeps none",
    "--front-end-root": "the editor is not served",
    "--front-end-version": "the editor is not served",
    "--multi-user": "the worker is the only user",
    "--auto-launch": "there is no browser",
    "--windows-standalone-build": "there is no browser",
    "--quick-test-for-ci": "ComfyUI would end at once",
}


def _check_comfy_args(value: str) -> str:
    try:
        arguments = shlex.split(value)
    except ValueError as exc:
        raise ValueError(f"can't be split like a shell command: {exc}") from exc
    for argument in arguments:
        name = argument.partition("=")[0]
        # ComfyUI's parser takes the beginning of a name for the whole.
        own = [full for full in _WORKERS_OWN if len(name) > 3 and full.startswith(name)]
        if own:
            raise ValueError(f"{name} is the worker's own: {_WORKERS_OWN[own[0]]}")
    return value


def _split_modes(value: str) -> str:
    modes = {mode.strip() for mode in value.split(",")}
    if not modes or modes - {"prompt", "workflow"}:
        raise ValueError("must be prompt, workflow, or both with a comma between them")
    return value


class WorkerFields(BaseModel):
    """One field for each variable, named as the variable in lower case."""

    worker_models_dir: Annotated[
        Path,
        Field(description="folder with `unet/`, `clip/`, `vae/`, `loras/` (or their new names)"),
    ] = Path("/workspace/ComfyUI/models")
    worker_models_lock: Annotated[
        Path, Field(description="the file that says which weights are the right ones")
    ] = PROJECT_DIR / "models.lock"
    worker_models_profile: Annotated[
        str | None, Field(description="set of weights in the lock; default: the lock's own")
    ] = None
    worker_fetch_models: Annotated[
        bool, Field(description="fetch what is missing at the start, onto the volume if any")
    ] = False
    hf_token: Annotated[
        SecretStr | None, Field(description="token for the hub, where a file needs one")
    ] = None
    hf_endpoint: Annotated[
        str | None, Field(pattern=r"^https?://[^/\s]+", description="another hub to fetch from")
    ] = None
    worker_read_ahead: Annotated[
        bool, Field(description="read the weights into the page cache while ComfyUI boots")
    ] = True
    worker_warmup: Annotated[
        bool, Field(description="load all weights, by a tiny edit, before the first job is taken")
    ] = False
    worker_prune: Annotated[
        bool, Field(description="leave out work of workflows that can't change a pixel")
    ] = True
    worker_concurrency: Annotated[
        int,
        Field(ge=1, le=16, description="jobs in hand; ComfyUI executes one, the others get ready"),
    ] = 2
    worker_job_timeout_s: Annotated[
        float, Field(gt=0, le=86400, description="longest time a job may take, waiting included")
    ] = 600
    worker_shutdown_grace_s: Annotated[
        float, Field(ge=0, le=600, description="after SIGTERM, time for jobs in hand to end well")
    ] = 5
    worker_allow: Annotated[
        str,
        AfterValidator(_split_modes),
        Field(
            description="jobs that are taken: `prompt`, `workflow` or both; a workflow runs what "
            "its sender likes, a prompt only the worker's own"
        ),
    ] = "prompt,workflow"
    worker_max_nodes: Annotated[
        int, Field(ge=1, le=10_000, description="most nodes in a workflow")
    ] = 1000
    worker_max_images: Annotated[
        int, Field(ge=1, le=1000, description="most entries in `input.images`")
    ] = 16
    worker_max_image_bytes: Annotated[
        int, Field(ge=1, description="largest picture, in bytes once base64 is decoded")
    ] = 20_000_000
    worker_max_image_pixels: Annotated[
        int,
        Field(
            ge=1,
            le=_COMFY_PIXELS,
            description="largest picture, in pixels (all frames together)",
        ),
    ] = 64_000_000
    worker_fetch_timeout_s: Annotated[
        float, Field(gt=0, le=600, description="longest time to fetch a picture from its address")
    ] = 30
    worker_max_fetched_bytes: Annotated[
        int, Field(ge=1, description="most bytes of a job's pictures at addresses, together")
    ] = 100_000_000
    worker_run_limit_bytes: Annotated[
        int, Field(ge=1000, description="largest answer that RunPod takes for a `/run` job")
    ] = 10_000_000
    worker_runsync_limit_bytes: Annotated[
        int, Field(ge=1000, description="largest answer that RunPod takes for a `/runsync` job")
    ] = 20_000_000
    worker_run_dir: Annotated[
        Path | None,
        Field(description="where jobs' files live while they run; default: a new temporary folder"),
    ] = None
    worker_save_dir: Annotated[
        Path | None,
        Field(description="keeps a copy of every file and answer here; for local runs"),
    ] = None
    worker_log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"],
        Field(description="least level that is logged; ComfyUI's own lines are DEBUG"),
    ] = "INFO"
    comfy_port: Annotated[int, Field(ge=1, le=65535, description="ComfyUI's port on 127.0.0.1")] = (
        8188
    )
    comfy_args: Annotated[
        str,
        AfterValidator(_check_comfy_args),
        Field(description="appended to ComfyUI's command line, split as a shell would"),
    ] = ""
    comfy_dir: Annotated[Path, Field(description="ComfyUI's source")] = (
        PROJECT_DIR / "comfy" / "ComfyUI"
    )
    comfy_python: Annotated[Path, Field(description="the Python that has torch")] = (
        PROJECT_DIR / "comfy" / ".venv" / "bin" / "python"
    )
    comfy_stock: Annotated[
        bool,
        Field(
            description="start upstream's main.py unchanged, without the worker's own nodes; "
            "to tell whose a fault is"
        ),
    ] = False
    comfy_boot_timeout_s: Annotated[
        float,
        Field(gt=0, le=3600, description="longest time for ComfyUI to answer after its start"),
    ] = 300
    comfy_interrupt_grace_s: Annotated[
        float,
        Field(gt=0, le=600, description="a prompt not stopped by then costs ComfyUI a restart"),
    ] = 10
    comfy_memory_share: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="part of the machine's or the container's memory that ComfyUI may fill; "
            "it is ended and started again beyond that",
        ),
    ] = 0.9
    comfy_restarts: Annotated[
        int,
        Field(ge=0, le=100, description="starts after a crash within 10 minutes before giving up"),
    ] = 3

    @property
    def comfy_argv_tail(self) -> list[str]:
        return shlex.split(self.comfy_args)

    @property
    def job_modes(self) -> frozenset[str]:
        return frozenset(mode.strip() for mode in self.worker_allow.split(","))

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            count=self.worker_max_images,
            data_bytes=self.worker_max_image_bytes,
            pixels=self.worker_max_image_pixels,
            uncompressed_pixels=0 if self.comfy_stock else _UNCOMPRESSED_PIXELS,
        )
