"""Objects in an S3 bucket: their upload and download, and the addresses callers get.

The only module that touches S3. Which files go to the bucket, and when, is decided elsewhere.
"""

import asyncio
import base64
import hashlib
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

from handler.bucket.faults import (
    UNKNOWN_KEYS,
    StoreFault,
    download_failure,
    status_of,
    upload_failure,
)
from handler.bucket.keys import object_key
from handler.bucket.settings import BucketSettings
from handler.errors import (
    InvalidImage,
    InvalidSettings,
    UploadFailed,
    WorkerError,
)
from handler.machine import in_daemon_thread

# The time that one upload may take, all its attempts together: a part for the store to answer, and
# a part for the bytes, at the speed below which it is called broken.
_ANSWER_S = 30.0
_SLOWEST_BYTES_PER_S = 250_000

_CHUNK_BYTES = 256 * 1024


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
        # Imported here: boto3 takes long, the RunPod SDK does not load it either, and a worker
        # without a bucket never needs it.
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
            raise upload_failure(self._settings.name, key, fault) from exc
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
        fail = partial(upload_failure, bucket, key)
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
        fail = partial(download_failure, bucket, key)
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
        fail = partial(upload_failure, self._settings.name, None)
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
