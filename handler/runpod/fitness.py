"""What must hold before the worker takes jobs: sound weights, a bucket that is there, a ComfyUI
that answers. A job that is taken before would be lost, or found out only at its delivery."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from handler.bucket import Bucket
from handler.comfy import Supervisor
from handler.errors import GpuUnusable, UploadFailed
from handler.logs import get_logger
from handler.models import FoundModel, check_model

Check = Callable[[], Awaitable[None]]

# The client's own retries would wait minutes for a store that takes connections and says nothing.
_BUCKET_LIMIT_S = 30.0

log = get_logger()


def fitness_checks(
    found: Iterable[FoundModel],
    bucket: Bucket | None,
    supervisor: Supervisor,
    gpu_fault: Callable[[], str | None] = lambda: None,
) -> tuple[Check, ...]:
    """In the order in which they are run, one after the other. `gpu_fault` says why the GPU can't
    be used, where one is needed. ComfyUI, which takes longest, boots
    meanwhile. Each raises a WorkerError; RunPod shows an operator its name."""

    async def gpu_usable() -> None:
        if reason := gpu_fault():
            raise GpuUnusable(
                f"no GPU can be used: {reason}; to run on the CPU all the same, put --cpu into "
                "COMFY_ARGS"
            )

    async def models_present() -> None:
        """Milliseconds: sizes, headers, samples. The full check is `make verify-models`."""
        for at in found:
            check_model(at.model, at.path)
            log.info("model found", file=at.model.file, path=at.path, place=at.place)

    async def bucket_reachable() -> None:
        if bucket is not None:
            await _check_bucket(bucket)

    async def comfyui_ready() -> None:
        await supervisor.ensure_ready()

    return gpu_usable, models_present, bucket_reachable, comfyui_ready


async def run_checks(checks: Iterable[Check]) -> None:
    """For local runs: RunPod's SDK runs them in production only."""
    for check in checks:
        await check()


async def _check_bucket(bucket: Bucket) -> None:
    try:
        async with asyncio.timeout(_BUCKET_LIMIT_S):
            doubt = await bucket.check()
    except TimeoutError as exc:
        raise UploadFailed(
            f"the bucket's endpoint did not answer within {_BUCKET_LIMIT_S:g} s: check "
            "BUCKET_ENDPOINT_URL and the network"
        ) from exc
    if doubt is not None:
        log.warning("bucket refuses to be listed", message=doubt.message, details=doubt.details)
