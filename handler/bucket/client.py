"""Objects in an S3 bucket: their keys, their upload and download, and the addresses callers get.

The only module that touches S3. Which files go to the bucket, and when, is decided elsewhere.
"""

import asyncio
import base64
import hashlib
import io
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from string import Formatter
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

from handler.bucket.faults import UNKNOWN_KEYS, StoreFault, status_of
from handler.errors import (
    ImageUnreachable,
    InvalidImage,
    InvalidSettings,
    UploadFailed,
    WorkerError,
)
from handler.machine import in_daemon_thread

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

DEFAULT_INPUT_PREFIX = "inputs/"
# Folders, since "inputs" alone would open "inputs-of-others/" too; or "/", any key.
INPUT_PREFIX = r"^(/|([A-Za-z0-9_-][A-Za-z0-9_.-]*/)+)$"

_TEMPLATE_LITERAL = re.compile(r"[A-Za-z0-9_./-]*")
_CHUNK_BYTES = 256 * 1024

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
    input_prefix: str = DEFAULT_INPUT_PREFIX
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
        if not re.fullmatch(INPUT_PREFIX, self.input_prefix):
            yield f"{self.input_prefix!r} is no input prefix: it must be folders, or '/'"
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
    """Stores objects, and gives back the URL that opens them; reads those under the input prefix.

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

    async def put(self, data: bytes | Path, *, key: str, content_type: str) -> str:
        """Store `data`, or the file at that path, under `key`, replacing what was there; return its
        URL. A file is sent from the disk and never held in memory.

        The URL is `public_url/key`, or a presigned GET that is valid for `url_expires_s`.
        Raises UploadFailed, at the latest after 30 s and a second for each 250 kB.
        """
        body = _Body(data)
        try:
            async with asyncio.timeout(self._answer_s + body.size_bytes / _SLOWEST_BYTES_PER_S):
                return await in_daemon_thread(partial(self._put, body, key, content_type))
        except TimeoutError as exc:
            fault = StoreFault("UploadTimeout", None, is_passing=True)
            raise _upload_failure(self._settings.name, key, fault) from exc
        finally:
            body.is_given_up.set()

    async def get(self, key: str, *, limit_bytes: int) -> bytes:
        """The bytes of an object. A cancelled `get` stops at the next chunk.

        Raises InvalidImage for a key outside the input prefix, of nothing, or of more bytes than
        the limit; ImageUnreachable when the store is at fault or refuses the worker.
        """
        if not key.startswith(self._settings.input_prefix.lstrip("/")):
            raise InvalidImage(
                f"bucket:{key} is not under {self._settings.input_prefix!r}, which is all that "
                "jobs may read (WORKER_BUCKET_INPUT_PREFIX)"
            )
        given_up = threading.Event()
        try:
            return await in_daemon_thread(partial(self._get, key, limit_bytes, given_up))
        finally:
            given_up.set()

    async def check(self) -> UploadFailed | None:
        """Raises UploadFailed unless endpoint, keys and bucket fit together.

        It does not prove that the keys may write: only a write would, and that leaves an object.
        Keys that may write need not be allowed to look: a store that knows them and refuses is
        there, and its refusal is returned.
        """
        return await in_daemon_thread(self._check)

    def _put(self, body: "_Body", key: str, content_type: str) -> str:
        bucket = self._settings.name
        fail = partial(_upload_failure, bucket, key)
        with _translated(fail), closing(body):
            # One request, never multipart: results are far below the 5 GiB of a single upload, they
            # appear whole or not at all, and no unfinished parts stay behind.
            answer = self._client.put_object(
                Bucket=bucket,
                Key=key,
                Body=body,
                ContentType=content_type,
                # The one checksum that every S3 has: R2's table lists SHA-256 for multipart
                # (COMPOSITE) only, and answers a body that does not match this with BadDigest.
                ContentMD5=_content_md5(body),
            )
            _check_etag(answer, fail)
            if self._settings.public_url is not None:
                # "=" is the escape of `object_key`, and legal in a path.
                return f"{self._settings.public_url.rstrip('/')}/{quote(key, safe='/~=')}"
            url: str = self._client.generate_presigned_url(
                "get_object",
                Params={"Bucket": bucket, "Key": key},
                ExpiresIn=self._settings.url_expires_s,
            )
            return url

    def _get(self, key: str, limit_bytes: int, given_up: threading.Event) -> bytes:
        bucket = self._settings.name
        data = bytearray()
        fail = partial(_download_failure, bucket, key)
        with _translated(fail):
            answer = self._client.get_object(Bucket=bucket, Key=key)
            with closing(answer["Body"]) as body:
                _check_etag(answer, fail)
                size = answer.get("ContentLength") or 0
                while size <= limit_bytes and not given_up.is_set():
                    chunk = body.read(_CHUNK_BYTES)
                    if not chunk:
                        return bytes(data)
                    data += chunk
                    size = max(size, len(data))
        raise InvalidImage(
            f"bucket:{key} is over the limit of {limit_bytes} bytes", limit_bytes=limit_bytes
        )

    def _check(self) -> UploadFailed | None:
        fail = partial(_upload_failure, self._settings.name, None)
        try:
            with _translated(fail):
                # Not HeadBucket: R2 is reported to refuse it to "Object Read & Write" tokens, which
                # may list (remotely-save/remotely-save#826); and an answer to HEAD has no code.
                answer = self._client.list_objects_v2(Bucket=self._settings.name, MaxKeys=1)
            if not {"Name", "KeyCount", "IsTruncated"} & answer.keys():
                raise fail(StoreFault("NoListing", status_of(answer), is_passing=False))
        except UploadFailed as error:
            # 403 says that somebody may not; these codes, that it is not known who asks.
            if error.details["http_status"] != 403 or error.details["s3_code"] in UNKNOWN_KEYS:
                raise
            return error
        return None


class _Body:
    """What is sent, until it `is_given_up`: botocore reads it piece by piece."""

    def __init__(self, data: bytes | Path) -> None:
        self._file: BinaryIO = data.open("rb") if isinstance(data, Path) else io.BytesIO(data)
        self.size_bytes = self._file.seek(0, io.SEEK_END)
        self.is_given_up = threading.Event()
        self.seek(0)

    def read(self, size: int = -1) -> bytes:
        if self.is_given_up.is_set():
            raise OSError("nobody waits for this upload any more")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


def _check_etag(answer: dict[str, Any], failure: Callable[[StoreFault], WorkerError]) -> None:
    """A web page at the endpoint answers 200 too, and http.client takes an answer cut off among
    its headers for a whole one."""
    if not answer.get("ETag"):
        raise failure(StoreFault("NoETag", status_of(answer), is_passing=True))


def _content_md5(body: _Body) -> str:
    """Leaves `body` at its start."""
    md5 = hashlib.md5(usedforsecurity=False)
    while block := body.read(1 << 20):
        md5.update(block)
    body.seek(0)
    return base64.b64encode(md5.digest()).decode("ascii")


@contextmanager
def _translated(failure: Callable[[StoreFault], WorkerError]) -> Iterator[None]:
    """botocore's errors as ours."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        HTTPClientError,
        IncompleteReadError,
    )

    try:
        yield
    except ClientError as exc:
        raise failure(StoreFault.of_refusal(exc.response)) from exc
    except BotoCoreError as exc:
        # The rest of the family is raised before anything is sent, and is raised again next time.
        passing = isinstance(exc, ConnectionError | HTTPClientError | IncompleteReadError)
        raise failure(StoreFault(type(exc).__name__, None, passing)) from exc


def _upload_failure(bucket: str, key: str | None, fault: StoreFault) -> UploadFailed:
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


def _download_failure(bucket: str, key: str, fault: StoreFault) -> InvalidImage | ImageUnreachable:
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
