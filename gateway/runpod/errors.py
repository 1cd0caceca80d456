"""What a call to RunPod can come to when it is no answer.

RunPodError
├─ KeyRefused       backend_key_refused     401
├─ Forbidden        backend_forbidden       403, of RunPod or of the edge before it
├─ NotFound         backend_not_found       404: no such endpoint or job, or not yet, or no more
├─ TooBig           backend_payload_too_big 413, or over the limit and never sent
├─ Rejected         backend_rejected        any other 4xx, and redirects
├─ RateLimited      backend_rate_limited    429
└─ Unavailable      backend_unavailable     5xx, no answer, or one that can't be read
"""

from typing import ClassVar


class RunPodError(Exception):
    """`not_taken`: the call had surely no effect, so a job may be sent again without a double."""

    code: ClassVar[str]
    not_taken = True

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class KeyRefused(RunPodError):
    code = "backend_key_refused"


class Forbidden(RunPodError):
    code = "backend_forbidden"


class NotFound(RunPodError):
    code = "backend_not_found"


class TooBig(RunPodError):
    code = "backend_payload_too_big"


class Rejected(RunPodError):
    code = "backend_rejected"


class RateLimited(RunPodError):
    """`retry_after_s` is what RunPod asks for, or None."""

    code = "backend_rate_limited"

    def __init__(self, message: str, *, retry_after_s: float | None, status: int = 429) -> None:
        super().__init__(message, status=status)
        self.retry_after_s = retry_after_s


class Unavailable(RunPodError):
    code = "backend_unavailable"

    def __init__(self, message: str, *, not_taken: bool, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.not_taken = not_taken
