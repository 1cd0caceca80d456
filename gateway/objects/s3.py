"""Objects in an S3 bucket. The only module that touches S3."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from gateway.errors import InvalidSettings, StoreUnavailable
from gateway.objects.attachment import attachment
from gateway.objects.port import LINK_S, ObjectMissing

# S3's limit; a longer one is signed without complaint and never opens.
_LONGEST_LINK_S = 604_800
_MISSING = {"404", "NoSuchKey", "NotFound"}
# Smaller objects are held in memory while they are read.
_MEMORY_BYTES = 4_000_000


class S3Objects:
    """Raises InvalidSettings when no client can be made of the settings."""

    def __init__(
        self, endpoint_url: str, name: str, key_id: str, secret: str, temp_dir: Path
    ) -> None:
        self.temp_dir = temp_dir
        temp_dir.mkdir(parents=True, exist_ok=True)
        self._bucket = name
        config = Config(
            signature_version="s3v4",
            # As the worker's: R2 answers botocore's default, a trailer, with `Unauthorized`.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=5,
            read_timeout=20,
            max_pool_connections=32,
            s3={"addressing_style": "path"},
        )
        try:
            self._client: Any = Session().client(
                "s3", endpoint_url=endpoint_url, aws_access_key_id=key_id,
                aws_secret_access_key=secret, region_name="auto", config=config,
            )  # fmt: skip
        except (BotoCoreError, ValueError) as exc:
            raise InvalidSettings(f"BUCKET_*: no S3 client can be made ({exc})") from exc

    def put(self, key: str, data: bytes) -> None:
        with _errors(key):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=data)

    def put_file(self, key: str, path: Path) -> None:
        with path.open("rb") as body, _errors(key):
            self._client.put_object(Bucket=self._bucket, Key=key, Body=body)
        path.unlink(missing_ok=True)

    def open(self, key: str) -> BinaryIO:
        file = tempfile.SpooledTemporaryFile(_MEMORY_BYTES, dir=str(self.temp_dir))  # noqa: SIM115
        try:
            with _errors(key):
                self._client.download_fileobj(self._bucket, key, file)
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return cast(BinaryIO, file)

    def size(self, key: str) -> int:
        with _errors(key):
            return int(self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])

    def path(self, key: str) -> None:
        return None

    def link(self, key: str, filename: str | None, lasts_s: int = LINK_S) -> str:
        parameters = {"Bucket": self._bucket, "Key": key}
        if filename is not None:
            parameters["ResponseContentDisposition"] = attachment(filename)
        with _errors(key):
            url: str = self._client.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=min(lasts_s, _LONGEST_LINK_S)
            )
            return url

    def delete(self, prefix: str) -> None:
        with _errors(prefix):
            self._client.delete_object(Bucket=self._bucket, Key=prefix.rstrip("/"))
            for page in self._pages(f"{prefix.rstrip('/')}/"):
                keys = [{"Key": entry["Key"]} for entry in page.get("Contents", ())]
                for key in keys:
                    # One by one: deleting many at once needs a checksum that not every store knows.
                    self._client.delete_object(Bucket=self._bucket, **key)

    def folders(self, prefix: str) -> Iterator[tuple[str, int]]:
        latest: dict[str, int] = {}
        with _errors(prefix):
            for page in self._pages(f"{prefix.rstrip('/')}/"):
                for entry in page.get("Contents", ()):
                    name = entry["Key"].removeprefix(f"{prefix.rstrip('/')}/").partition("/")[0]
                    at = int(entry["LastModified"].timestamp() * 1000)
                    latest[name] = max(at, latest.get(name, 0))
        yield from latest.items()

    def check(self) -> None:
        with _errors(""):
            self._client.list_objects_v2(Bucket=self._bucket, MaxKeys=1)

    def _pages(self, prefix: str) -> Iterator[dict[str, Any]]:
        pages = self._client.get_paginator("list_objects_v2")
        yield from pages.paginate(Bucket=self._bucket, Prefix=prefix)


@contextmanager
def _errors(key: str) -> Iterator[None]:
    try:
        yield
    except ClientError as exc:
        code = str(exc.response.get("Error", {}).get("Code"))
        if code in _MISSING:
            raise ObjectMissing(key) from exc
        raise StoreUnavailable(f"the bucket answers {code}; try again later") from exc
    except BotoCoreError as exc:
        raise StoreUnavailable(
            f"the bucket does not answer ({type(exc).__name__}); try again later"
        ) from exc
