"""Runs one job from its input to its answer; the straight line of the whole worker."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import structlog

from handler.comfy import ComfyPaths, Supervisor
from handler.comfy_api import (
    ComfyClient,
    ObjectInfo,
    PromptRun,
    Reporter,
    read_execution,
)
from handler.contract import RemoteImage
from handler.editor import convert_editor_graph
from handler.errors import ComfyProtocol, JobTimeout
from handler.job.answer import Stored, success_answer
from handler.job.delivery import Deliverer
from handler.job.folder import open_job_folder
from handler.job.outputs import Outputs
from handler.job.parse import Job, check_pictures_sent
from handler.job.prepare import Prepared, prepare_edit
from handler.job.pruner import Pruner
from handler.job.read_outputs import read_outputs
from handler.job.timings import Timings
from handler.logs import get_logger
from handler.pictures import InputImage, SentImage
from handler.sources import ImageFetcher
from handler.workflow import PromptEdit, Workflow, parse_nodes

log = get_logger()


class Runner:
    """`connect` makes a client for the running event loop."""

    def __init__(
        self,
        supervisor: Supervisor,
        connect: Callable[[], ComfyClient],
        paths: ComfyPaths,
        fetcher: ImageFetcher,
        deliverer: Deliverer,
        pruner: Pruner | None = None,
        *,
        job_timeout_s: float,
        interrupt_grace_s: float,
        most_nodes: int,
    ) -> None:
        self._supervisor = supervisor
        self._connect = connect
        self._paths = paths
        self._fetcher = fetcher
        self._deliverer = deliverer
        self._pruner = pruner
        self._job_timeout_s = job_timeout_s
        self._interrupt_grace_s = interrupt_grace_s
        self._most_nodes = most_nodes
        self._object_info = ObjectInfo(supervisor)

    async def run(self, job: Job, timings: Timings, reporter: Reporter) -> dict[str, Any]:
        """The answer to a job, within its time since `timings` began. Raises WorkerError;
        CancelledError passes, after the clean-up."""
        timeout_s = min(job.timeout_s or self._job_timeout_s, self._job_timeout_s)
        try:
            async with asyncio.timeout(timeout_s - timings.elapsed_s) as limit:
                return await self._run(job, timings, reporter)
        except TimeoutError as exc:
            if not limit.expired():
                raise
            raise JobTimeout(
                f"the job took longer than {timeout_s:g} s", timeout_s=timeout_s
            ) from exc

    async def _run(self, job: Job, timings: Timings, reporter: Reporter) -> dict[str, Any]:
        self._deliverer.check(job)
        pictures, mask = await self._pictures(job, timings, reporter)
        prompt_id = str(uuid.uuid4())
        structlog.contextvars.bind_contextvars(prompt_id=prompt_id)
        with open_job_folder(self._paths, prompt_id) as folder:
            async with self._connect() as comfy:
                with timings.phase("inputs"):
                    prepared = await self._prepare(job, pictures, mask, comfy)
                    files = await asyncio.to_thread(folder.write_images, prepared.pictures)
                prompt = await asyncio.to_thread(prepared.workflow.for_job, folder.name, files)
                prompt_run = PromptRun(
                    comfy, self._supervisor, prompt, prompt_id,
                    interrupt_grace_s=self._interrupt_grace_s,
                    on_wait=lambda: reporter.report("wait"),
                    on_progress=lambda update: reporter.report("execute", **update),
                    comfy_org_api_key=job.comfy_org_api_key,
                )  # fmt: skip
                try:
                    with timings.phase("run"):
                        entry = await prompt_run.execute()
                        execution = read_execution(
                            entry, folder.name, wants_previews=job.wants_previews
                        )
                    timings.split_run(execution)
                    log.debug(
                        "prompt executed",
                        started_at_s=execution.started_at_s,
                        ended_at_s=execution.ended_at_s,
                    )
                    with timings.phase("collect"):
                        outputs = await read_outputs(
                            folder, execution, job.encoding, prepared.finish, prompt
                        )
                finally:
                    with contextlib.suppress(ComfyProtocol):
                        folder.drop_strays(prompt_run.files)
                    folder.drop_new(prompt_run.spans)
            # Within the folder's life: large files are sent from there.
            reporter.report("deliver", percent=99)
            return await self._deliver(job, outputs, timings, prompt_id, prepared)

    async def _deliver(
        self, job: Job, outputs: Outputs, timings: Timings, prompt_id: str, prepared: Prepared
    ) -> dict[str, Any]:
        def build(stored: Sequence[Stored]) -> dict[str, Any]:
            answer = success_answer(
                stored, outputs.texts, request_id=job.request_id, prompt_id=prompt_id,
                seed=prepared.workflow.seed, graph=prepared.graph, pruned=prepared.pruned,
            )  # fmt: skip
            return answer | {"timings": timings.as_dict()}

        with timings.phase("deliver"):
            answer = await self._deliverer.deliver(job, outputs.files, build)
        return answer | {"timings": timings.as_dict()}

    async def _pictures(
        self, job: Job, timings: Timings, reporter: Reporter
    ) -> tuple[Sequence[InputImage], InputImage | None]:
        """The job's pictures, in their order, and its mask if any. Raises InvalidImage,
        ImageUnreachable."""
        wanted: list[SentImage | RemoteImage] = list(job.images)
        if job.mask:
            wanted.append(job.mask)
        sent = [image for image in wanted if isinstance(image, SentImage)]
        remote = [image for image in wanted if isinstance(image, RemoteImage)]
        as_photo = isinstance(job.workflow, PromptEdit)
        with timings.phase("check"):
            checked = await self._fetcher.check(sent, as_photo=as_photo)
        if remote:
            reporter.report("fetch")
            with timings.phase("fetch"):
                checked += await self._fetcher.fetch(remote, as_photo=as_photo)
        places = [image.where for image in sent] + [image.where for image in remote]
        by_place = dict(zip(places, checked, strict=True))
        images = [by_place[image.where] for image in wanted]
        return (images[:-1], images[-1]) if job.mask else (images, None)

    async def _prepare(
        self,
        job: Job,
        pictures: Sequence[InputImage],
        mask: InputImage | None,
        comfy: ComfyClient,
    ) -> Prepared:
        """The job's workflow, compiled in prompt mode, and converted when it is the editor's
        graph. Raises JobError and BackendError."""
        if isinstance(job.workflow, Workflow):
            return await self._pruned(job, job.workflow, pictures)
        if isinstance(job.workflow, PromptEdit):
            return await asyncio.to_thread(prepare_edit, job.workflow, pictures, mask)
        await self._supervisor.ensure_ready()
        object_info = await self._object_info.read(comfy)
        nodes = await asyncio.to_thread(convert_editor_graph, job.workflow.graph, object_info)
        workflow = parse_nodes(nodes, self._most_nodes)
        check_pictures_sent(workflow, pictures)
        return await self._pruned(job, workflow, pictures)

    async def _pruned(
        self, job: Job, workflow: Workflow, pictures: Sequence[InputImage]
    ) -> Prepared:
        if self._pruner is None or not job.may_prune:
            return Prepared(workflow, pictures)
        workflow, pruned = await asyncio.to_thread(
            self._pruner.prune, workflow, pictures, wants_previews=job.wants_previews
        )
        return Prepared(workflow, pictures, pruned=pruned)
