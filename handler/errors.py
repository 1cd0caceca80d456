"""Every error the worker can answer with.

    WorkerError
    ├─ JobError              the caller's fault; the same job fails again
    │  ├─ InvalidInput         invalid_input
    │  ├─ InvalidWorkflow      invalid_workflow
    │  ├─ InvalidImage         invalid_image
    │  ├─ MissingImage         missing_image
    │  ├─ WorkflowRejected     workflow_rejected
    │  ├─ OutputTooLarge       output_too_large
    │  └─ NoOutput             no_output
    ├─ RunError              ComfyUI took the workflow and did not finish it
    │  ├─ NodeFailed           node_failed
    │  ├─ OutOfMemory          out_of_memory
    │  ├─ Interrupted          interrupted
    │  └─ JobTimeout           job_timeout
    ├─ BackendError          ComfyUI itself is at fault
    │  ├─ ComfyUnavailable     comfy_unavailable
    │  ├─ ComfyExited          comfy_exited
    │  ├─ ComfyProtocol        comfy_protocol
    │  └─ PromptLost           prompt_lost
    ├─ ImageUnreachable      image_unreachable
    ├─ UploadFailed          upload_failed
    ├─ DiskFull              disk_full
    ├─ InternalError         internal_error
    └─ BootError             before any job: one log line, exit code 1
       ├─ InvalidSettings      invalid_settings
       ├─ InvalidModelsLock    invalid_models_lock
       ├─ GpuUnusable          gpu_unusable
       ├─ ModelMissing         model_missing
       ├─ ModelCorrupt         model_corrupt
       └─ ModelFetchFailed     model_fetch_failed

Codes are stable: a code is never renamed and never given a second meaning.
"""

from typing import Any, ClassVar


class WorkerError(Exception):
    """`message` is one sentence for the caller; `details` is JSON that a program can read."""

    code: ClassVar[str]
    summary: ClassVar[str]
    # The classes say what is usual; a single fault may be known to be otherwise.
    retryable: bool = False
    # When the worker can't do better than be replaced.
    refresh_worker: bool = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class JobError(WorkerError):
    """The caller's fault."""


class InvalidInput(JobError):
    code = "invalid_input"
    summary = "`input` has a missing, unknown or wrong field"


class InvalidWorkflow(JobError):
    code = "invalid_workflow"
    summary = (
        "`input.workflow` is not a workflow, can't be converted, or has a node such as `LoadVideo` "
        "that opens or saves what a job can't have"
    )


class InvalidImage(JobError):
    code = "invalid_image"
    summary = "an entry of `input.images` is not a usable picture"


class MissingImage(JobError):
    code = "missing_image"
    summary = "the workflow loads a picture that `input.images` does not hold"


class WorkflowRejected(JobError):
    code = "workflow_rejected"
    summary = "ComfyUI refused the workflow; `details.node_errors` says where"


class OutputTooLarge(JobError):
    code = "output_too_large"
    summary = "the answer is larger than RunPod takes, and no bucket is set or is enough"


class NoOutput(JobError):
    code = "no_output"
    summary = "the workflow ended well and left nothing to return"


class RunError(WorkerError):
    """ComfyUI accepted the workflow and did not finish it."""


class NodeFailed(RunError):
    code = "node_failed"
    summary = "a node raised while it ran"


class OutOfMemory(RunError):
    code = "out_of_memory"
    summary = "memory ran out, a second time after all models were freed; the worker is replaced"
    refresh_worker = True


class Interrupted(RunError):
    code = "interrupted"
    summary = "the run was stopped, or the worker is shutting down"
    retryable = True


class JobTimeout(RunError):
    code = "job_timeout"
    summary = "the job took longer than its limit"


class BackendError(WorkerError):
    """ComfyUI itself is at fault."""

    retryable = True


class ComfyUnavailable(BackendError):
    code = "comfy_unavailable"
    summary = "ComfyUI could not be started, or does not answer"


class ComfyExited(BackendError):
    code = "comfy_exited"
    summary = "the ComfyUI process ended while it held the job"
    # Set on an instance when the worker ended the process, for the sake of another job.
    was_stopped = False


class ComfyProtocol(BackendError):
    code = "comfy_protocol"
    summary = "ComfyUI gave an answer that the worker does not understand"


class PromptLost(BackendError):
    code = "prompt_lost"
    summary = "ComfyUI no longer knows the prompt"


class ImageUnreachable(WorkerError):
    code = "image_unreachable"
    summary = "the address of a picture does not answer, or fails"
    retryable = True


class UploadFailed(WorkerError):
    code = "upload_failed"
    summary = "the bucket did not take a file"
    retryable = True


class DiskFull(WorkerError):
    code = "disk_full"
    summary = "no space is left on the worker's disk"
    retryable = True


class InternalError(WorkerError):
    code = "internal_error"
    summary = "a fault of the worker; its log has the traceback"
    retryable = True


class BootError(WorkerError):
    """The worker can't start."""


class InvalidSettings(BootError):
    code = "invalid_settings"
    summary = "an environment variable is missing or wrong"


class InvalidModelsLock(BootError):
    code = "invalid_models_lock"
    summary = "`models.lock` can't be read"


class GpuUnusable(BootError):
    code = "gpu_unusable"
    summary = "the worker has no GPU that its ComfyUI can use"


class ModelMissing(BootError):
    code = "model_missing"
    summary = "a locked model file was not found"


class ModelCorrupt(BootError):
    code = "model_corrupt"
    summary = "a model file is not the locked one"


class ModelFetchFailed(BootError):
    code = "model_fetch_failed"
    summary = "a model file could not be fetched from the hub"
