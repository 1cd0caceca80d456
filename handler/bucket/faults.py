"""What went wrong at an S3 store, in our own words: a store's own may quote the access key id."""

from dataclasses import dataclass
from typing import Any

from handler.errors import ImageUnreachable, InvalidImage, UploadFailed

_KEYS_HINT = "check BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY, and that they belong to this"
_NOT_S3 = (
    "the endpoint did not answer as S3 does; check that BUCKET_ENDPOINT_URL is the S3 API and not "
    "a web page"
)
_HINTS = {
    "NoSuchBucket": "check BUCKET_NAME, and that BUCKET_ENDPOINT_URL is the right account's and "
    "does not name the bucket itself",
    "AccessDenied": "the keys are known but may not do this: give them object read and write for "
    "this bucket",
    "Unauthorized": f"{_KEYS_HINT} endpoint",
    "InvalidAccessKeyId": f"{_KEYS_HINT} endpoint",
    "SignatureDoesNotMatch": "check that BUCKET_SECRET_ACCESS_KEY is whole and is the one of "
    "BUCKET_ACCESS_KEY_ID",
    "AuthorizationHeaderMalformed": "the store wants its own region: set the bucket's region",
    "RequestTimeTooSkewed": "this machine's clock is wrong",
    "BadDigest": "the file changed on its way; try again",
    "NoETag": _NOT_S3,
    "NoListing": _NOT_S3,
    "SSLError": "TLS failed: check the host in BUCKET_ENDPOINT_URL (R2's holds the account id) and "
    "this machine's certificates",
    "EndpointConnectionError": "the endpoint can't be reached: check BUCKET_ENDPOINT_URL and the "
    "network",
    "ConnectTimeoutError": "the endpoint can't be reached: check BUCKET_ENDPOINT_URL and the "
    "network",
    "ProxyConnectionError": "the proxy can't be reached: check the proxy variables",
    "ReadTimeoutError": "the store took too long to answer; try again",
    "UploadTimeout": "the store is too slow; try again",
    "ConnectionClosedError": "the connection broke off; try again",
    "ResponseStreamingError": "the connection broke off; try again",
    "IncompleteReadError": "the connection broke off; try again",
}
_STATUS_HINTS = {
    # For stores and proxies that answer with no code or with one of their own.
    401: _HINTS["Unauthorized"],
    403: "the keys are wrong or may not do this: check BUCKET_ACCESS_KEY_ID and "
    "BUCKET_SECRET_ACCESS_KEY, and that they may read and write objects in this bucket",
    404: _HINTS["NoSuchBucket"],
    429: "the store is asked too often; try again later",
}
# Of a 403: it is not known who asks.
UNKNOWN_KEYS = frozenset(
    {
        "ExpiredToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "Unauthorized",
    }
)
# Faults of one attempt, though their status speaks of the caller's.
_PASSING = {
    "BadDigest",
    "IncompleteBody",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
_PASSING_STATUS = {408, 409, 425, 429}


@dataclass(frozen=True, slots=True)
class StoreFault:
    """`code` is the store's, or the name of the client's exception. `is_passing`: whether another
    try may do better."""

    code: str
    status: int | None
    is_passing: bool

    @classmethod
    def of_refusal(cls, answer: dict[str, Any]) -> "StoreFault":
        """From an answer as botocore's ClientError has it."""
        status = status_of(answer)
        code = str(answer.get("Error", {}).get("Code") or status)
        passing = code in _PASSING or status is None or status >= 500 or status in _PASSING_STATUS
        return cls(code, status, passing)

    def __str__(self) -> str:
        """What was said, and what to do about it."""
        is_plain = self.status is None or self.code == str(self.status)
        said = self.code if is_plain else f"{self.code}, HTTP {self.status}"
        unknown = (
            "the store is at fault; try again"
            if self.is_passing
            else "see the store's list of errors"
        )
        hint = _HINTS.get(self.code) or _STATUS_HINTS.get(self.status or 0, unknown)
        return f"({said}): {hint}"


def status_of(answer: dict[str, Any]) -> int | None:
    status: int | None = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status


def upload_failure(bucket: str, key: str | None, fault: StoreFault) -> UploadFailed:
    what = f"could not store {key!r} in" if key is not None else "could not reach"
    error = UploadFailed(
        f"{what} bucket {bucket!r} {fault}",
        bucket=bucket,
        key=key,
        s3_code=fault.code,
        http_status=fault.status,
    )
    # The class says what is usual; wrong keys stay wrong however often the job is repeated.
    error.retryable = fault.is_passing
    return error


def download_failure(bucket: str, key: str, fault: StoreFault) -> InvalidImage | ImageUnreachable:
    details = {"bucket": bucket, "key": key, "s3_code": fault.code, "http_status": fault.status}
    if fault.code in {"NoSuchKey", "404"}:
        return InvalidImage(f"bucket:{key} does not exist", **details)
    if fault.code == "AccessDenied":
        # S3 says so of an object that is not there, too, to keys that may not list the bucket.
        return InvalidImage(
            f"bucket:{key} does not exist, or this worker's keys may not read it", **details
        )
    error = ImageUnreachable(f"could not read bucket:{key} {fault}", **details)
    error.retryable = fault.is_passing
    return error
