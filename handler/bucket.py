"""Objects in an S3 bucket: their keys, their upload, and the addresses callers get.

The only module that touches S3. Which pictures go to the bucket, and when, is decided elsewhere.
"""

import asyncio
import base64
import hashlib
import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from string import Formatter
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

from handler.daemon_thread import in_daemon_thread
from handler.errors import InvalidSettings, UploadFailed

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

# R2 documents 1024 bytes for a key and 604800 s (7 days) for a presigned URL. boto3 signs longer
# ones without complaint, and they fail only when somebody opens them.
MAX_KEY_BYTES = 1024
MAX_URL_EXPIRES_S = 604_800

# The time that one upload may take, all its attempts together: a part for the store to answer, and
# a part for the bytes, at the speed below which it is called broken.
_ANSWER_S = 30.0
_SLOWEST_BYTES_PER_S = 250_000

DEFAULT_KEY_TEMPLATE = "{request_id}/{name}.{ext}"
KEY_FIELDS = ("job_id", "request_id", "name", "ext")

_TEMPLATE_LITERAL = re.compile(r"[A-Za-z0-9_./-]*")
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")

# A dot or slash is safe only between two characters that are neither: so no value brings "..", an
# empty segment, or a leading or trailing dot or slash, whatever the template puts beside it.
_UNSAFE = re.compile(r"(?<![^./])\.|\.(?![^./])|[^A-Za-z0-9_.-]")
_UNSAFE_IN_NAME = re.compile(r"(?<![^./])[./]|[./](?![^./])|[^A-Za-z0-9_./-]")


def check_key_template(template: str) -> None:
    """Raise InvalidSettings unless keys made from `template` are safe and tell pictures apart."""
    parts = _template_parts(template)
    fields = {name for _, name in parts if name}
    if "name" not in fields or not fields & {"job_id", "request_id"}:
        raise _bad_template(
            template, "it needs {name} and one of {request_id} or {job_id}, or pictures collide"
        )
    for literal, _ in parts:
        if not _TEMPLATE_LITERAL.fullmatch(literal):
            raise _bad_template(
                template, "outside the fields it may hold only letters, digits and _ - . /"
            )
    # A value never starts or ends with a dot or slash, so a plain one shows every key's segments.
    sample = "".join(literal + ("x" if name else "") for literal, name in parts)
    if ".." in sample or {"", "."} & set(sample.split("/")):
        raise _bad_template(
            template, "it must not start or end with '/', nor hold '//', '..' or '.' as a folder"
        )


def object_key(template: str, *, job_id: str, request_id: str, name: str, ext: str) -> str:
    """The key of one picture: ASCII, at most 1024 bytes, no "..", no empty or "." segment.

    What is unsafe in a value is written as "=" and two hex digits a UTF-8 byte, as in
    quoted-printable ("a b" is "a=20b", nothing is "="), so different names never share a key. "%"
    would do that too, but a key with a literal "%" is decoded once too often by one proxy or
    another. "/" makes a folder in `name` only. Too long a key ends in a digest of the whole.

    Raises InvalidSettings for a bad template.
    """
    check_key_template(template)
    values = {
        "job_id": _escaped(job_id, _UNSAFE),
        "request_id": _escaped(request_id, _UNSAFE),
        "name": _escaped(name, _UNSAFE_IN_NAME),
        "ext": _escaped(ext, _UNSAFE),
    }
    key = "".join(
        literal + (values[name] if name else "") for literal, name in _template_parts(template)
    )
    if len(key) <= MAX_KEY_BYTES:
        return key
    # "=x" is no escape, so a cut key never equals a whole one.
    mark = "=x" + hashlib.sha256(key.encode("ascii")).hexdigest()
    return key[: MAX_KEY_BYTES - len(mark)] + mark


def _template_parts(template: str) -> list[tuple[str, str | None]]:
    parts = []
    try:
        for literal, name, spec, conversion in Formatter().parse(template):
            if name is not None and name not in KEY_FIELDS:
                known = ", ".join(f"{{{known}}}" for known in KEY_FIELDS)
                raise _bad_template(template, f"{{{name}}} is no field of it; known are {known}")
            if spec or conversion:
                # "{name:.3}" would cut names, and cut names collide.
                raise _bad_template(template, f"{{{name}}} takes no format")
            parts.append((literal, name))
    except ValueError as exc:
        raise _bad_template(template, str(exc)) from exc
    return parts


def _bad_template(template: str, fault: str) -> InvalidSettings:
    return InvalidSettings(f"the bucket's key template {template!r} is wrong: {fault}")


def _escaped(value: str, unsafe: re.Pattern[str]) -> str:
    def escape(match: re.Match[str]) -> str:
        # JSON can bring lone surrogates, which strict UTF-8 refuses.
        return "".join(f"={byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))

    return unsafe.sub(escape, value) if value else "="


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """One bucket and how to reach it. Raises InvalidSettings that lists every fault."""

    endpoint_url: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    name: str
    # R2's only region. With another one and no signature version boto3 presigns with SigV2.
    region: str = "auto"
    key_template: str = DEFAULT_KEY_TEMPLATE
    public_url: str | None = None
    url_expires_s: int = MAX_URL_EXPIRES_S

    def __post_init__(self) -> None:
        if faults := [*self._address_faults(), *self._key_faults(), *self._other_faults()]:
            raise InvalidSettings(f"bucket settings: {'; '.join(faults)}", faults=faults)

    def _address_faults(self) -> Iterator[str]:
        if fault := _url_fault(self.endpoint_url):
            yield f"the endpoint URL {fault}"
        elif urlsplit(self.endpoint_url).path.strip("/") == self.name:
            # RunPod's own upload helper wants the bucket there; here it would be named twice.
            yield "the endpoint URL must not end in the bucket's name"
        if self.public_url is not None and (fault := _url_fault(self.public_url)):
            yield f"the public URL {fault}"
        if not _BUCKET_NAME.fullmatch(self.name):
            yield f"{self.name!r} is no bucket name"

    def _key_faults(self) -> Iterator[str]:
        keys = {"access key id": self.access_key_id, "secret access key": self.secret_access_key}
        for label, key in keys.items():
            # A pasted line break would surface as a ValueError that quotes the header with the key.
            if not _PRINTABLE.fullmatch(key):
                yield f"the {label} is empty, or holds a space, a line break or non-ASCII"

    def _other_faults(self) -> Iterator[str]:
        if not _PRINTABLE.fullmatch(self.region):
            yield f"{self.region!r} is no region"
        if not 1 <= self.url_expires_s <= MAX_URL_EXPIRES_S:
            yield f"a URL can be valid for 1 to {MAX_URL_EXPIRES_S} seconds"
        try:
            check_key_template(self.key_template)
        except InvalidSettings as exc:
            yield exc.message


def _url_fault(url: str) -> str | None:
    # The URL is never quoted in a fault: people paste keys into it.
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return "is no URL"
    if not valid or not _PRINTABLE.fullmatch(url):
        return "must be http:// or https:// and a host"
    if parts.username is not None or parts.query or parts.fragment:
        return "must not hold a user, a password, '?' or '#'"
    return None


class Bucket:
    """Stores objects, and gives back the URL that opens them.

    Safe to use from several tasks at once. Uploads go on in threads, and a thread can't be stopped:
    a cancelled `put` returns to its caller at once while its upload still ends by itself, sends no
    more than is on its way, and waits for no answer longer than `read_timeout_s`. The object it may
    leave has the job's own key, so a repeat overwrites it.
    """

    def __init__(
        self,
        settings: BucketSettings,
        *,
        attempts: int = 5,
        connect_timeout_s: float = 5,
        read_timeout_s: float = 20,
        answer_s: float = _ANSWER_S,
    ) -> None:
        # Imported here: boto3 takes 0.15 to 0.25 s, the RunPod SDK does not load it either, and a
        # worker without a bucket never needs it.
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            signature_version="s3v4",
            # By default botocore sends the body aws-chunked with a CRC32 trailer and no
            # Content-Length; R2 answers that with a misleading `Unauthorized` (amd/gaia PR 3029).
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            # Payload signing is off over https when Content-MD5 is there; both cost little.
            s3={"addressing_style": "path", "payload_signing_enabled": True},
        )
        self._settings = settings
        self._answer_s = answer_s
        try:
            self._client = Session().client(
                "s3",
                endpoint_url=settings.endpoint_url,
                aws_access_key_id=settings.access_key_id,
                aws_secret_access_key=settings.secret_access_key,
                region_name=settings.region,
                config=config,
            )
        except (BotoCoreError, ValueError) as exc:
            raise InvalidSettings(
                f"bucket settings: no S3 client can be made of them ({type(exc).__name__})"
            ) from exc

    def key(self, *, job_id: str, request_id: str, name: str, ext: str) -> str:
        """The object's key by the bucket's template, as `object_key` makes it."""
        return object_key(
            self._settings.key_template, job_id=job_id, request_id=request_id, name=name, ext=ext
        )

    async def put(self, data: bytes, *, key: str, content_type: str) -> str:
        """Store `data` under `key`, replacing what was there; return its URL.

        The URL is `public_url/key`, or a presigned GET that is valid for `url_expires_s`.
        Raises UploadFailed, at the latest after 30 s and a second for each 250 kB.
        """
        body = _Body(data)
        try:
            async with asyncio.timeout(self._answer_s + len(data) / _SLOWEST_BYTES_PER_S):
                return await in_daemon_thread(lambda: self._put(body, data, key, content_type))
        except TimeoutError as exc:
            raise _failure(self._settings.name, key, "UploadTimeout", None, retryable=True) from exc
        finally:
            body.is_given_up.set()

    async def check(self) -> None:
        """Prove that endpoint, keys and bucket fit together. Raises UploadFailed.

        It does not prove that the keys may write: only a write would, and that leaves an object.
        """
        await in_daemon_thread(self._check)

    def _put(self, body: "_Body", data: bytes, key: str, content_type: str) -> str:
        bucket = self._settings.name
        with _upload_failed(bucket, key):
            # One request, never multipart: a picture is far below the 5 GiB of a single upload, it
            # appears whole or not at all, and no unfinished parts stay behind.
            answer = self._client.put_object(
                Bucket=bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                # The one checksum that every S3 has: R2's table lists SHA-256 for multipart
                # (COMPOSITE) only, and answers a body that does not match this with BadDigest.
                ContentMD5=_content_md5(data),
            )
            if not answer.get("ETag"):
                # A web page at the endpoint answers 200 too, and http.client takes an answer cut
                # off among its headers for a whole one.
                raise _failure(bucket, key, "NoETag", _status(answer), retryable=True)
            if self._settings.public_url is not None:
                # "=" is the escape of `object_key`, and legal in a path.
                return f"{self._settings.public_url.rstrip('/')}/{quote(key, safe='/~=')}"
            url: str = self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": bucket, "Key": key},
                ExpiresIn=self._settings.url_expires_s,
            )
            return url

    def _check(self) -> None:
        with _upload_failed(self._settings.name, None):
            # Not HeadBucket: R2 is reported to refuse it to "Object Read & Write" tokens, which
            # may list (remotely-save/remotely-save#826); and an answer to HEAD has no error code.
            self._client.list_objects_v2(Bucket=self._settings.name, MaxKeys=1)


class _Body(io.BytesIO):
    """What is sent, until it `is_given_up`: botocore reads it piece by piece."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.is_given_up = threading.Event()

    def read(self, size: int | None = -1, /) -> bytes:
        if self.is_given_up.is_set():
            raise OSError("nobody waits for this upload any more")
        return super().read(size)


def _content_md5(data: bytes) -> str:
    return base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode("ascii")


_KEYS_HINT = "check BUCKET_ACCESS_KEY_ID and BUCKET_SECRET_ACCESS_KEY, and that they belong to this"
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
    "BadDigest": "the picture changed on its way; try again",
    "NoETag": "the endpoint did not answer as S3 does; check that BUCKET_ENDPOINT_URL is the S3 "
    "API and not a web page",
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
}
_STATUS_HINTS = {
    # For stores and proxies that answer with no code or with one of their own.
    401: _HINTS["Unauthorized"],
    403: "the keys are wrong or may not do this: check BUCKET_ACCESS_KEY_ID and "
    "BUCKET_SECRET_ACCESS_KEY, and that they may read and write objects in this bucket",
    404: _HINTS["NoSuchBucket"],
    429: "the store is asked too often; try again later",
}
# Faults of one attempt, though their status speaks of the caller's.
_PASSING = {
    "BadDigest",
    "IncompleteBody",
    "RequestTimeout",
    "SlowDown",
    "XAmzContentSHA256Mismatch",
}
_PASSING_STATUS = {408, 409, 425, 429}


@contextmanager
def _upload_failed(bucket: str, key: str | None) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as exc:
        raise _refusal(bucket, key, exc) from exc
    except BotoCoreError as exc:
        raise _breakdown(bucket, key, exc) from exc


def _refusal(bucket: str, key: str | None, exc: "ClientError") -> UploadFailed:
    status = _status(exc.response)
    code = str(exc.response.get("Error", {}).get("Code") or status)
    passing = code in _PASSING or status is None or status >= 500 or status in _PASSING_STATUS
    return _failure(bucket, key, code, status, retryable=passing)


def _breakdown(bucket: str, key: str | None, exc: "BotoCoreError") -> UploadFailed:
    from botocore.exceptions import ConnectionError, HTTPClientError

    # The rest of the family is raised before anything is sent, and is raised again next time.
    passing = isinstance(exc, ConnectionError | HTTPClientError)
    return _failure(bucket, key, type(exc).__name__, None, retryable=passing)


def _status(answer: dict[str, dict[str, int]]) -> int | None:
    return answer.get("ResponseMetadata", {}).get("HTTPStatusCode")


def _failure(
    bucket: str, key: str | None, code: str, status: int | None, *, retryable: bool
) -> UploadFailed:
    """Made of our own words only: a store's own message may quote the access key id."""
    what = f"could not store {key!r} in" if key is not None else "could not reach"
    said = code if status is None or code == str(status) else f"{code}, HTTP {status}"
    hint = _HINTS.get(code) or _STATUS_HINTS.get(status or 0)
    if hint is None:
        hint = "the store is at fault; try again" if retryable else "see the store's list of errors"
    error = UploadFailed(
        f"{what} bucket {bucket!r} ({said}): {hint}",
        bucket=bucket,
        key=key,
        s3_code=code,
        http_status=status,
    )
    # The class says what is usual; wrong keys stay wrong however often the job is repeated.
    error.retryable = retryable  # type: ignore[misc]
    return error
