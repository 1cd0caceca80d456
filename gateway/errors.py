"""Every error that the gateway can answer with.

    GatewayError
    ├─ RequestError            the caller's fault; the same request fails again
    │  ├─ InvalidRequest         invalid_request
    │  ├─ InvalidOptions         invalid_options
    │  ├─ InvalidImage           invalid_image
    │  ├─ InvalidMask            invalid_mask
    │  ├─ Unauthorized           unauthorized
    │  ├─ NotEnoughCredits       not_enough_credits
    │  ├─ Forbidden              forbidden
    │  ├─ NotFound               not_found
    │  ├─ MethodNotAllowed       method_not_allowed
    │  ├─ RequestIdTaken         request_id_taken
    │  ├─ JobIsOpen              job_is_open
    │  ├─ ResultGone             result_gone
    │  ├─ BodyTooLarge           body_too_large
    │  ├─ UnsupportedMediaType   unsupported_media_type
    │  ├─ RateLimited            rate_limited
    │  └─ TooManyOpenJobs        too_many_open_jobs
    ├─ Unavailable             not the caller's fault, and it may pass
    │  ├─ DatabaseUnavailable    database_unavailable
    │  ├─ StoreUnavailable       store_unavailable
    │  ├─ DiskFull               disk_full
    │  ├─ BackendUnavailable     backend_unavailable
    │  ├─ BackendKeyRefused      backend_key_refused
    │  └─ InternalError          internal_error
    ├─ JobFailure              why an accepted job failed; the worker's own codes stand beside these
    │  ├─ WorkerLost             worker_lost
    │  ├─ WorkerError            worker_error
    │  ├─ Expired                expired
    │  ├─ InvalidOutput          invalid_output
    │  ├─ InputGone              input_gone
    │  ├─ InputTooLarge          input_too_large
    │  ├─ BackendRejected        backend_rejected
    │  └─ ChangedOutsideMask     changed_outside_mask
    └─ BootError               before any request: one line, exit code 1
       ├─ InvalidSettings        invalid_settings
       ├─ DatabaseInUse          database_in_use
       └─ DatabaseOutdated       database_outdated

Codes are stable: a code is never renamed and never given a second meaning.
"""

from typing import Any, ClassVar


class GatewayError(Exception):
    """`message` is one sentence for the caller; `details` is JSON that a program can read."""

    code: ClassVar[str]
    summary: ClassVar[str]
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.details = details


class RequestError(GatewayError):
    """The caller's fault."""

    http_status = 400


class InvalidRequest(RequestError):
    code = "invalid_request"
    summary = "the request has a missing, unknown or wrong field"


class InvalidOptions(RequestError):
    """`details`: `reason` (wrong_type, unknown_field, unknown_category, unknown_option,
    missing_field, too_long, too_many, broken_text, not_json), `where` (such as
    `edits[0].fields.colour`; empty for the whole), and of names `nearest` and `known`."""

    code = "invalid_options"
    summary = "the options of a prompt have a missing, unknown or wrong field"


class InvalidImage(RequestError):
    code = "invalid_image"
    summary = "a picture of the request is not usable"


class InvalidMask(RequestError):
    code = "invalid_mask"
    summary = "the mask is not usable with its picture"


class Unauthorized(RequestError):
    code = "unauthorized"
    summary = "the key is missing or not known"
    http_status = 401


class NotEnoughCredits(RequestError):
    code = "not_enough_credits"
    summary = "the edit costs more credits than its owner has"
    http_status = 402


class Forbidden(RequestError):
    code = "forbidden"
    summary = "the key does not open this"
    http_status = 403


class NotFound(RequestError):
    code = "not_found"
    summary = "there is no such thing, or it is another owner's"
    http_status = 404


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"
    summary = "the address is right and the method is not"
    http_status = 405


class RequestIdTaken(RequestError):
    code = "request_id_taken"
    summary = "the request id was used before with another body"
    http_status = 409


class JobIsOpen(RequestError):
    code = "job_is_open"
    summary = "the job has not ended yet"
    http_status = 409


class ResultGone(RequestError):
    code = "result_gone"
    summary = "the picture was deleted or has expired"
    http_status = 410


class BodyTooLarge(RequestError):
    code = "body_too_large"
    summary = "the request is larger than the limit"
    http_status = 413


class UnsupportedMediaType(RequestError):
    code = "unsupported_media_type"
    summary = "the body is neither JSON nor multipart"
    http_status = 415


class RateLimited(RequestError):
    code = "rate_limited"
    summary = "too many requests in a short time"
    http_status = 429
    retryable = True


class TooManyOpenJobs(RequestError):
    code = "too_many_open_jobs"
    summary = "the owner has as many open jobs as are allowed"
    http_status = 429
    retryable = True


class Unavailable(GatewayError):
    """Not the caller's fault, and it may pass."""

    http_status = 503
    retryable = True


class DatabaseUnavailable(Unavailable):
    code = "database_unavailable"
    summary = "the database does not answer"


class StoreUnavailable(Unavailable):
    code = "store_unavailable"
    summary = "the store of pictures does not answer"


class DiskFull(Unavailable):
    code = "disk_full"
    summary = "the pictures fill the space that they may have"
    http_status = 507


class BackendUnavailable(Unavailable):
    code = "backend_unavailable"
    summary = "nothing that could run the job answers"


class BackendKeyRefused(Unavailable):
    code = "backend_key_refused"
    summary = "the back end refuses the gateway's key; its operator must set another"


class InternalError(Unavailable):
    code = "internal_error"
    summary = "a fault of the gateway; its log has the traceback"
    http_status = 500


class JobFailure(GatewayError):
    """Why an accepted job failed."""


class WorkerLost(JobFailure):
    code = "worker_lost"
    summary = "the worker fell silent, as often as a job is tried"
    retryable = True


class WorkerError(JobFailure):
    code = "worker_error"
    summary = "the worker reported a failure without a code"


class Expired(JobFailure):
    code = "expired"
    summary = "no worker took the job in time"
    retryable = True


class InvalidOutput(JobFailure):
    code = "invalid_output"
    summary = "the worker's answer holds no usable picture"
    retryable = True


class InputGone(JobFailure):
    code = "input_gone"
    summary = "a picture of the job is no longer there"


class InputTooLarge(JobFailure):
    code = "input_too_large"
    summary = "the job is larger than RunPod's requests, and no way around them is set"


class BackendRejected(JobFailure):
    code = "backend_rejected"
    summary = "RunPod refuses the job; the gateway's log has its answer"


class ChangedOutsideMask(JobFailure):
    code = "changed_outside_mask"
    summary = "the edit changed pixels outside the mask, so it was not delivered"


class BootError(GatewayError):
    """The gateway can't start."""


class InvalidSettings(BootError):
    code = "invalid_settings"
    summary = "an environment variable is missing or wrong"


class DatabaseInUse(BootError):
    code = "database_in_use"
    summary = "another process has the SQLite file; several processes need PostgreSQL"


class DatabaseOutdated(BootError):
    code = "database_outdated"
    summary = "the database's schema is not this version's; run `python -m gateway migrate`"
