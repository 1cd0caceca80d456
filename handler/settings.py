"""The environment, read once, checked, and frozen. No other module reads it."""

import difflib
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from handler.bucket import (
    DEFAULT_INPUT_PREFIX,
    DEFAULT_KEY_TEMPLATE,
    INPUT_PREFIX,
    MAX_URL_EXPIRES_S,
    BucketSettings,
    check_key_template,
)
from handler.errors import InvalidSettings
from handler.pictures import ImageLimits

PROJECT_DIR = Path(__file__).resolve().parent.parent

# A picture up to this size is kept a second time, at 3 or 4 bytes a pixel, as long as its job.
_UNCOMPRESSED_PIXELS = 2048 * 2048
# Custom nodes run third-party code: the child gets what a CUDA program needs and no key of ours.
_CHILD_NAMES = frozenset(
    """HOME LANG LC_ALL LD_LIBRARY_PATH LD_PRELOAD PATH SSL_CERT_DIR SSL_CERT_FILE TMPDIR TZ USER
    XDG_CACHE_HOME""".split()  # noqa: SIM905 - a list of names is read as a text
)
_CHILD_PREFIXES = ("CUDA_", "NVIDIA_", "OMP_", "MKL_", "PYTORCH_", "TORCH", "TRITON_")


def _split_shell(value: str) -> str:
    try:
        shlex.split(value)
    except ValueError as exc:
        raise ValueError(f"can't be split like a shell command: {exc}") from exc
    return value


def _check_template(value: str) -> str:
    try:
        check_key_template(value)
    except InvalidSettings as exc:
        raise ValueError(exc.message) from exc
    return value


class Settings(BaseSettings):
    """One field for each variable, named as the variable in lower case."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

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
    worker_max_images: Annotated[
        int, Field(ge=1, le=1000, description="most entries in `input.images`")
    ] = 16
    worker_max_image_bytes: Annotated[
        int, Field(ge=1, description="largest picture, in bytes once base64 is decoded")
    ] = 20_000_000
    worker_max_image_pixels: Annotated[
        int, Field(ge=1, description="largest picture, in pixels (all frames together)")
    ] = 64_000_000
    worker_fetch_timeout_s: Annotated[
        float, Field(gt=0, le=600, description="longest time to fetch a picture from its address")
    ] = 30
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
        AfterValidator(_split_shell),
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
    comfy_restarts: Annotated[
        int,
        Field(ge=0, le=100, description="starts after a crash within 10 minutes before giving up"),
    ] = 3
    bucket_endpoint_url: Annotated[
        str | None,
        Field(pattern=r"^https?://[^/\s]+", description="S3 endpoint, for R2 the account's"),
    ] = None
    bucket_name: Annotated[str | None, Field(description="bucket")] = None
    bucket_access_key_id: Annotated[SecretStr | None, Field(description="access key id")] = None
    bucket_secret_access_key: Annotated[
        SecretStr | None, Field(validate_default=True, description="secret key")
    ] = None
    worker_bucket_region: Annotated[
        str, Field(description="region that requests are signed for; R2 wants `auto`")
    ] = "auto"
    worker_bucket_key_template: Annotated[
        str,
        AfterValidator(_check_template),
        Field(description="object key, from `{job_id}`, `{request_id}`, `{name}`, `{ext}`"),
    ] = DEFAULT_KEY_TEMPLATE
    worker_bucket_input_prefix: Annotated[
        str,
        Field(
            pattern=INPUT_PREFIX,
            description="`bucket:KEY` of a job must begin so; `/` allows the whole bucket",
        ),
    ] = DEFAULT_INPUT_PREFIX
    worker_bucket_public_url: Annotated[
        str | None,
        Field(
            pattern=r"^https?://[^/\s]+",
            description="public address of the bucket; default: presigned URLs",
        ),
    ] = None
    worker_bucket_url_expires_s: Annotated[
        int, Field(ge=1, le=MAX_URL_EXPIRES_S, description="life of a presigned URL, in seconds")
    ] = MAX_URL_EXPIRES_S
    runpod_webhook_get_job: Annotated[
        SecretStr | None, Field(description="set by RunPod; without it the SDK runs one local test")
    ] = None

    @field_validator("bucket_secret_access_key")
    @classmethod
    def _bucket_is_whole(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """On the last of the four, where the others are known; one with a fault of its own is not
        among them and counts as set."""
        values = {**info.data, "bucket_secret_access_key": value}
        names = [name.upper() for name in _BUCKET_FIELDS]
        missing = [name for name in names if not values.get(name.lower(), True)]
        if missing and len(missing) < len(names):
            raise ValueError(
                f"the bucket is set in part: {', '.join(missing)} missing; "
                f"set all of {', '.join(names)}, or none"
            )
        return value

    @model_validator(mode="after")
    def _bucket_is_valid(self) -> Self:
        try:
            _ = self.bucket
        except InvalidSettings as exc:
            raise ValueError(exc.message) from exc
        return self

    @property
    def is_local(self) -> bool:
        """The SDK's own rule: no address to take jobs from means a local run."""
        return self.runpod_webhook_get_job is None

    @property
    def comfy_argv_tail(self) -> list[str]:
        return shlex.split(self.comfy_args)

    @property
    def image_limits(self) -> ImageLimits:
        return ImageLimits(
            count=self.worker_max_images,
            data_bytes=self.worker_max_image_bytes,
            pixels=self.worker_max_image_pixels,
            uncompressed_pixels=0 if self.comfy_stock else _UNCOMPRESSED_PIXELS,
        )

    @property
    def bucket(self) -> BucketSettings | None:
        if not (self.bucket_endpoint_url and self.bucket_name):
            return None
        assert self.bucket_access_key_id is not None
        assert self.bucket_secret_access_key is not None
        return BucketSettings(
            endpoint_url=self.bucket_endpoint_url,
            access_key_id=self.bucket_access_key_id.get_secret_value(),
            secret_access_key=self.bucket_secret_access_key.get_secret_value(),
            name=self.bucket_name,
            region=self.worker_bucket_region,
            key_template=self.worker_bucket_key_template,
            input_prefix=self.worker_bucket_input_prefix,
            public_url=self.worker_bucket_public_url,
            url_expires_s=self.worker_bucket_url_expires_s,
        )


_BUCKET_FIELDS = (
    "bucket_endpoint_url",
    "bucket_name",
    "bucket_access_key_id",
    "bucket_secret_access_key",
)
_SECRET_NAMES = (
    "BUCKET_ACCESS_KEY_ID",
    "BUCKET_SECRET_ACCESS_KEY",
    "RUNPOD_AI_API_KEY",
    "RUNPOD_API_KEY",
    "HF_TOKEN",
)


def read_settings() -> Settings:
    """Raises InvalidSettings that lists every fault; secrets are never repeated in it."""
    try:
        return Settings()
    except ValidationError as exc:
        faults = [_fault(error) for error in exc.errors(include_input=False, include_url=False)]
        raise InvalidSettings("; ".join(faults), faults=faults) from exc


def _fault(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]).upper()
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {text}" if name else text


def unknown_variables(environ: Mapping[str, str] = os.environ) -> dict[str, list[str]]:
    """Variables with our prefix that nothing reads, each with the nearest names: likely typos."""
    known = [name.upper() for name in Settings.model_fields]
    return {
        name: difflib.get_close_matches(name, known, n=1)
        for name in sorted(environ)
        if name.startswith(("WORKER_", "COMFY_", "BUCKET_")) and name not in known
    }


def secret_values(environ: Mapping[str, str] = os.environ) -> list[str]:
    """What must never be logged, longest first so that one secret inside another is no leak."""
    values = {environ.get(name, "") for name in _SECRET_NAMES}
    return sorted((value for value in values if len(value) >= 4), key=len, reverse=True)


def child_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment that ComfyUI gets. It executes save nodes in the order of a set
    (execution.py, good_outputs), from which files get their numbers: the hash seed makes that order
    the same in every worker, and so the names under which a job that is sent twice is stored."""
    return {
        name: value
        for name, value in environ.items()
        if name in _CHILD_NAMES or name.startswith(_CHILD_PREFIXES)
    } | {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}


def cuda_selection(environ: Mapping[str, str] = os.environ) -> dict[str, str | None]:
    """How the machine's cards are shown to a CUDA program; ComfyUI gets the same variables."""
    return {
        "visible_devices": environ.get("CUDA_VISIBLE_DEVICES"),
        "device_order": environ.get("CUDA_DEVICE_ORDER"),
    }


def set_sdk_defaults() -> None:
    """Set what RunPod's SDK reads at import, where the operator has not.

    Its automatic checks end a worker that has no route to 8.8.8.8 or whose disk is filled by
    baked weights (runpod 1.12.0, rp_system_fitness.py); its default level prints every result.
    """
    os.environ.setdefault("RUNPOD_SKIP_AUTO_SYSTEM_CHECKS", "true")
    os.environ.setdefault("RUNPOD_SKIP_GPU_CHECK", "true")
    if "RUNPOD_LOG_LEVEL" not in os.environ:
        os.environ.setdefault("RUNPOD_DEBUG_LEVEL", "INFO")
