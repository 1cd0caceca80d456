"""`Bucket` over real HTTP: against moto's S3 server, and a scripted server for what moto can't do.

No signature is verified here: moto accepts any. Nothing here proves how R2 itself behaves.
"""

import asyncio
import base64
import hashlib
import json
import socket
import subprocess
import sys
import threading
import time
import traceback
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest
from moto.server import ThreadedMotoServer

from handler.bucket.client import Bucket
from handler.bucket.keys import object_key
from handler.bucket.settings import BucketSettings
from handler.errors import ImageUnreachable, InvalidImage, UploadFailed, WorkerError

ACCESS_KEY_ID = "AKIDENTIFIER0123"
SECRET_ACCESS_KEY = "s3cr3tKeyOfTheTest"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 600


def settings(endpoint_url: str, name: str = "pictures", **more: Any) -> BucketSettings:
    return BucketSettings(
        endpoint_url=endpoint_url,
        access_key_id=ACCESS_KEY_ID,
        secret_access_key=SECRET_ACCESS_KEY,
        name=name,
        **more,
    )


def put(bucket: Bucket, key: str = "r1/cat.png", data: bytes = PNG) -> str:
    return asyncio.run(bucket.put(data, key=key, content_type="image/png"))


def put_fails(bucket: Bucket) -> UploadFailed:
    with pytest.raises(UploadFailed) as caught:
        put(bucket)
    assert_tells_no_secret(caught.value)
    return caught.value


def get(bucket: Bucket, key: str = "inputs/cat.png", limit_bytes: int = len(PNG)) -> bytes:
    return asyncio.run(bucket.get(key, limit_bytes=limit_bytes))


def get_fails(expected: type[WorkerError], bucket: Bucket, *arguments: Any) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        get(bucket, *arguments)
    assert type(caught.value) is expected, caught.value.message
    assert_tells_no_secret(caught.value)
    return caught.value


def assert_tells_no_secret(error: WorkerError) -> None:
    shown = f"{error} {error!r} {error.message} {error.details}"
    for secret in (ACCESS_KEY_ID, SECRET_ACCESS_KEY, "X-Amz-Signature"):
        assert secret not in shown
    assert SECRET_ACCESS_KEY not in "".join(traceback.format_exception(error))


def fetch(url: str) -> tuple[bytes, str | None]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read(), answer.headers["Content-Type"]


# moto


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto_url: str) -> Iterator[Any]:
    """A client of the test's own, with an empty bucket `pictures`."""
    client = boto3.client(
        "s3",
        endpoint_url=moto_url,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    client.create_bucket(Bucket="pictures")
    # Presigned URLs would open without it; only the public ones need it.
    statement = {
        "Effect": "Allow",
        "Principal": "*",
        "Action": "s3:GetObject",
        "Resource": "arn:aws:s3:::pictures/*",
    }
    policy = {"Version": "2012-10-17", "Statement": [statement]}
    client.put_bucket_policy(Bucket="pictures", Policy=json.dumps(policy))
    yield client
    for entry in client.list_objects_v2(Bucket="pictures").get("Contents", []):
        client.delete_object(Bucket="pictures", Key=entry["Key"])
    client.delete_bucket(Bucket="pictures")
    client.close()


def test_the_object_has_the_bytes_and_the_content_type(s3: Any, moto_url: str) -> None:
    put(Bucket(settings(moto_url)), key="r1/cat.png")
    stored = s3.get_object(Bucket="pictures", Key="r1/cat.png")
    assert stored["Body"].read() == PNG
    assert stored["ContentType"] == "image/png"


@pytest.mark.parametrize("name", ["cat", "set/cat", "Kätzchen & Söhne?#", "../a b+c%20~=", ""])
def test_the_presigned_url_opens_the_object(s3: Any, moto_url: str, name: str) -> None:
    bucket = settings(moto_url, url_expires_s=3600)
    key = object_key(bucket.key_template, job_id="j", request_id="r", name=name, ext="png")
    url = put(Bucket(bucket), key=key)
    assert fetch(url) == (PNG, "image/png")
    query = parse_qs(urlsplit(url).query)
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == ["3600"]
    assert "/auto/s3/" in query["X-Amz-Credential"][0]


@pytest.mark.parametrize("slash", ["", "/"])
def test_the_public_url_opens_the_object(s3: Any, moto_url: str, slash: str) -> None:
    bucket = settings(moto_url, public_url=f"{moto_url}/pictures{slash}")
    url = put(Bucket(bucket), key="r1/a=20cat.png")
    assert url == f"{moto_url}/pictures/r1/a=20cat.png"
    assert fetch(url) == (PNG, "image/png")


def test_the_public_url_quotes_a_key_that_object_key_did_not_make(s3: Any, moto_url: str) -> None:
    bucket = Bucket(settings(moto_url, public_url=f"{moto_url}/pictures"))
    url = put(bucket, key="a cat?#%20.png")
    assert url == f"{moto_url}/pictures/a%20cat%3F%23%2520.png"
    assert fetch(url)[0] == PNG


def test_a_repeat_overwrites_and_leaves_one_object(s3: Any, moto_url: str) -> None:
    bucket = Bucket(settings(moto_url))
    put(bucket, data=b"first")
    put(bucket, data=b"second")
    listed = s3.list_objects_v2(Bucket="pictures")
    assert [entry["Key"] for entry in listed["Contents"]] == ["r1/cat.png"]
    assert s3.get_object(Bucket="pictures", Key="r1/cat.png")["Body"].read() == b"second"
    assert "Uploads" not in s3.list_multipart_uploads(Bucket="pictures")


def test_a_file_is_stored_from_the_disk(s3: Any, moto_url: str, tmp_path: Path) -> None:
    data = bytes(range(256)) * 20_000
    (tmp_path / "a.mp4").write_bytes(data)
    put_file = Bucket(settings(moto_url)).put(
        tmp_path / "a.mp4", key="r1/a.mp4", content_type="video/mp4"
    )
    assert fetch(asyncio.run(put_file)) == (data, "video/mp4")


def test_several_uploads_at_once_all_arrive(s3: Any, moto_url: str) -> None:
    bucket = Bucket(settings(moto_url))

    async def put_all() -> list[str]:
        puts = [
            bucket.put(b"%d" % n, key=f"r{n}/cat.png", content_type="image/png") for n in range(8)
        ]
        return await asyncio.gather(*puts)

    assert [fetch(url)[0] for url in asyncio.run(put_all())] == [b"%d" % n for n in range(8)]


def test_check_accepts_a_bucket_that_is_there(s3: Any, moto_url: str) -> None:
    assert asyncio.run(Bucket(settings(moto_url)).check()) is None


def test_a_bucket_that_is_not_there_is_named(s3: Any, moto_url: str) -> None:
    bucket = Bucket(settings(moto_url, name="no-such-bucket"))
    error = put_fails(bucket)
    assert error.details == {
        "bucket": "no-such-bucket",
        "key": "r1/cat.png",
        "s3_code": "NoSuchBucket",
        "http_status": 404,
    }
    assert error.message.startswith(
        "could not store 'r1/cat.png' in bucket 'no-such-bucket' (NoSuchBucket, HTTP 404): "
        "check BUCKET_NAME"
    )
    assert not error.retryable
    with pytest.raises(UploadFailed) as caught:
        asyncio.run(bucket.check())
    assert caught.value.details["s3_code"] == "NoSuchBucket"
    assert caught.value.message.startswith("could not reach bucket 'no-such-bucket'")


def test_an_object_under_the_prefix_is_read_and_one_elsewhere_is_not(
    s3: Any, moto_url: str
) -> None:
    for key in ("inputs/cat.png", "inputs2/cat.png", "order-1/cat.png"):
        s3.put_object(Bucket="pictures", Key=key, Body=PNG)
    bucket = Bucket(settings(moto_url))
    assert get(bucket) == PNG
    for key in ("inputs2/cat.png", "order-1/cat.png", "Inputs/cat.png", "inputs"):
        fault = get_fails(InvalidImage, bucket, key)
        assert fault.message.startswith(f"bucket:{key} is not under 'inputs/'")
    assert get(Bucket(settings(moto_url, input_prefix="order-1/")), "order-1/cat.png") == PNG


@pytest.mark.parametrize("key", ["cat.png", "a b/K\u00e4tzchen?#+%20&=~.png"])
def test_a_slash_as_prefix_allows_any_key(s3: Any, moto_url: str, key: str) -> None:
    s3.put_object(Bucket="pictures", Key=key, Body=PNG)
    assert get(Bucket(settings(moto_url, input_prefix="/")), key) == PNG


def test_an_object_that_is_not_there_is_the_callers_fault(s3: Any, moto_url: str) -> None:
    fault = get_fails(InvalidImage, Bucket(settings(moto_url)))
    assert fault.message == "bucket:inputs/cat.png does not exist"
    assert fault.details["s3_code"] == "NoSuchKey"


def test_a_bucket_that_is_not_there_is_the_operators_fault(s3: Any, moto_url: str) -> None:
    fault = get_fails(ImageUnreachable, Bucket(settings(moto_url, name="no-such-bucket")))
    assert "could not read bucket:inputs/cat.png (NoSuchBucket, HTTP 404)" in fault.message
    assert not fault.retryable


def test_an_object_of_just_the_limit_is_read_and_of_one_more_refused(
    s3: Any, moto_url: str
) -> None:
    s3.put_object(Bucket="pictures", Key="inputs/cat.png", Body=PNG)
    bucket = Bucket(settings(moto_url))
    assert get(bucket) == PNG
    fault = get_fails(InvalidImage, bucket, "inputs/cat.png", len(PNG) - 1)
    assert f"is over the limit of {len(PNG) - 1} bytes" in fault.message


# A server that answers as it is told


@dataclass
class Recorded:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


def answer(status: int, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Scripted", f"Content-Length: {len(body)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def refusal(status: int, code: str, message: str = "no") -> bytes:
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return answer(status, body.encode(), **{"Content-Type": "application/xml"})


STORED = answer(200, ETag='"0"')
CUT_IN_THE_BODY = answer(200, b"x" * 100, ETag='"0"')[:-90]
CUT_IN_THE_HEADERS = b"HTTP/1.1 200 OK\r\nContent-Le"


@dataclass
class Script:
    """Raw answers in turn, or what writes one; the last is repeated. Each is followed by the
    connection's end."""

    url: str = ""
    answers: list[bytes | Callable[[Any], None]] = field(default_factory=list)
    requests: list[Recorded] = field(default_factory=list)
    received: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)


@pytest.fixture(scope="module")
def server() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            script.requests.append(
                Recorded(self.command, self.path, dict(self.headers.items()), body)
            )
            raw = script.answers.pop(0) if len(script.answers) > 1 else script.answers[0]
            script.received.set()
            assert script.released.wait(30)
            if isinstance(raw, bytes):
                self.wfile.write(raw)
            else:
                raw(self.wfile)
            self.close_connection = True

        do_GET = do_PUT

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    script.url = f"http://127.0.0.1:{server.server_port}"
    yield script
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def script(server: Script) -> Script:
    server.answers, server.requests = [], []
    server.received.clear()
    server.released.set()
    return server


@pytest.fixture(scope="module")
def asks_once(server: Script) -> Bucket:
    """A bucket on the scripted server that never retries; made once, for a client takes 0.1 s."""
    return Bucket(settings(server.url), attempts=1)


def test_the_request_is_one_plain_put(script: Script) -> None:
    script.answers = [STORED]
    # Not by its number: there botocore falls back to path style whatever it is told.
    put(Bucket(settings(script.url.replace("127.0.0.1", "localhost")), attempts=1))
    [request] = script.requests
    assert (request.method, request.path) == ("PUT", "/pictures/r1/cat.png")
    assert request.body == PNG
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert headers["content-length"] == str(len(PNG))
    assert headers["content-type"] == "image/png"
    assert headers["content-md5"] == base64.b64encode(hashlib.md5(PNG).digest()).decode()
    assert headers["x-amz-content-sha256"] == hashlib.sha256(PNG).hexdigest()
    assert "content-md5" in headers["authorization"]
    assert "/auto/s3/aws4_request" in headers["authorization"]
    for absent in ("transfer-encoding", "content-encoding", "x-amz-trailer"):
        assert absent not in headers
    assert not [name for name in headers if name.startswith("x-amz-checksum")]


def test_a_store_that_fails_twice_is_asked_a_third_time(script: Script) -> None:
    script.answers = [refusal(500, "InternalError"), refusal(503, "SlowDown"), STORED]
    put(Bucket(settings(script.url)))
    assert [request.body for request in script.requests] == [PNG, PNG, PNG]


def test_a_file_is_sent_whole_again_after_a_failure(script: Script, tmp_path: Path) -> None:
    script.answers = [refusal(503, "SlowDown"), STORED]
    data = bytes(range(256)) * 2000
    (tmp_path / "a.mp4").write_bytes(data)
    bucket = Bucket(settings(script.url))
    asyncio.run(bucket.put(tmp_path / "a.mp4", key="r/a.mp4", content_type="video/mp4"))
    assert [request.body for request in script.requests] == [data, data]
    for request in script.requests:
        headers = {name.lower(): value for name, value in request.headers.items()}
        assert headers["content-length"] == str(len(data))
        assert headers["x-amz-content-sha256"] == hashlib.sha256(data).hexdigest()
        assert headers["content-md5"] == base64.b64encode(hashlib.md5(data).digest()).decode()
        assert "transfer-encoding" not in headers


def test_a_large_file_is_never_held_in_memory(tmp_path: Path) -> None:
    class Drain(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            left = int(self.headers["Content-Length"])
            while left:
                left -= len(self.rfile.read(min(left, 1 << 16)))
            self.wfile.write(STORED)

        def log_message(self, *_: object) -> None:
            pass

    with (tmp_path / "a.mp4").open("wb") as file:
        file.truncate(64 << 20)
    with ThreadingHTTPServer(("127.0.0.1", 0), Drain) as store:
        threading.Thread(target=store.serve_forever, daemon=True).start()
        bucket = Bucket(settings(f"http://127.0.0.1:{store.server_port}"))
        tracemalloc.start()
        try:
            asyncio.run(bucket.put(tmp_path / "a.mp4", key="r/a.mp4", content_type="video/mp4"))
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
            store.shutdown()
    assert peak_bytes < 16 << 20


def test_a_store_that_keeps_failing_is_given_up(script: Script) -> None:
    script.answers = [refusal(500, "InternalError")]
    error = put_fails(Bucket(settings(script.url), attempts=2))
    assert len(script.requests) == 2
    assert error.retryable
    assert "(InternalError, HTTP 500): the store is at fault" in error.message


def test_an_answer_cut_in_its_body_is_retried(script: Script) -> None:
    script.answers = [CUT_IN_THE_BODY, STORED]
    put(Bucket(settings(script.url)))
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "ConnectionClosedError"),
        # botocore turns a 200 whose body is no XML into a 500.
        (CUT_IN_THE_BODY, "500"),
        (CUT_IN_THE_HEADERS, "NoETag"),
        (answer(200, b"<html>hello</html>"), "NoETag"),
    ],
)
def test_half_an_answer_is_no_success(
    script: Script, asks_once: Bucket, raw: bytes, code: str
) -> None:
    script.answers = [raw]
    error = put_fails(asks_once)
    assert error.details["s3_code"] == code
    assert error.retryable


@pytest.mark.parametrize(
    ("status", "code", "hint", "retryable"),
    [
        (403, "AccessDenied", "give them object read and write", False),
        (403, "SignatureDoesNotMatch", "BUCKET_SECRET_ACCESS_KEY is whole", False),
        (403, "InvalidAccessKeyId", "check BUCKET_ACCESS_KEY_ID", False),
        (401, "Unauthorized", "check BUCKET_ACCESS_KEY_ID", False),
        (403, "SomethingNew", "may read and write objects", False),
        (403, "RequestTimeTooSkewed", "clock is wrong", False),
        (400, "AuthorizationHeaderMalformed", "set the bucket's region", False),
        (400, "BadDigest", "changed on its way", True),
        (418, "Teapot", "see the store's list of errors", False),
        (429, "TooManyRequests", "asked too often", True),
    ],
)
def test_a_refusal_says_what_to_check(
    script: Script, asks_once: Bucket, status: int, code: str, hint: str, retryable: bool
) -> None:
    # Stores do quote the key id in their messages.
    script.answers = [refusal(status, code, f"key {ACCESS_KEY_ID} is not welcome")]
    error = put_fails(asks_once)
    assert f"({code}, HTTP {status})" in error.message
    assert hint in error.message
    assert error.details["http_status"] == status
    assert error.retryable is retryable
    assert UploadFailed.retryable is True


def test_a_refusal_that_is_a_web_page_is_known_by_its_status(
    script: Script, asks_once: Bucket
) -> None:
    script.answers = [answer(403, b"<html>blocked</html>", **{"Content-Type": "text/html"})]
    error = put_fails(asks_once)
    assert "(403): the keys are wrong or may not do this" in error.message


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (403, "SignatureDoesNotMatch"),
        (403, "InvalidAccessKeyId"),
        (403, "RequestTimeTooSkewed"),
        (401, "Unauthorized"),
        (404, "NoSuchBucket"),
        (400, "AuthorizationHeaderMalformed"),
        (503, "SlowDown"),
    ],
)
def test_check_fails_where_no_picture_could_be_put(
    script: Script, asks_once: Bucket, status: int, code: str
) -> None:
    script.answers = [refusal(status, code, f"key {ACCESS_KEY_ID} is not welcome")]
    with pytest.raises(UploadFailed) as caught:
        asyncio.run(asks_once.check())
    assert_tells_no_secret(caught.value)
    assert code in caught.value.message
    assert caught.value.details["key"] is None


@pytest.mark.parametrize("raw", [refusal(403, "AccessDenied"), answer(403)])
def test_check_takes_keys_that_may_not_look_for_keys_that_may_write(
    script: Script, asks_once: Bucket, raw: bytes
) -> None:
    script.answers = [raw]
    doubt = asyncio.run(asks_once.check())
    assert doubt is not None
    assert_tells_no_secret(doubt)
    assert doubt.details["http_status"] == 403


def test_check_fails_where_a_web_page_or_no_tls_answers(script: Script) -> None:
    script.answers = [answer(200, b"<html>hello</html>")]
    for url in (script.url, script.url.replace("http://", "https://"), "http://no-such.invalid"):
        with pytest.raises(UploadFailed):
            asyncio.run(Bucket(settings(url), attempts=1).check())


def test_an_endpoint_where_nobody_listens_is_named_as_such() -> None:
    with socket.socket() as bound:
        # Bound and not listening: refused, and no one else can take the port meanwhile.
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        error = put_fails(Bucket(settings(url), attempts=1))
    assert error.details["s3_code"] == "EndpointConnectionError"
    assert "can't be reached: check BUCKET_ENDPOINT_URL" in error.message
    assert error.retryable


def test_a_store_that_never_answers_is_not_waited_for_longer_than_the_limit(
    script: Script,
) -> None:
    script.answers = [STORED]
    script.released.clear()
    error = put_fails(Bucket(settings(script.url), attempts=1, read_timeout_s=0.3))
    script.released.set()
    assert error.details["s3_code"] == "ReadTimeoutError"
    assert error.retryable


def test_an_upload_has_one_limit_for_all_its_attempts(script: Script) -> None:
    script.answers = [STORED]
    script.released.clear()
    error = put_fails(Bucket(settings(script.url), attempts=100, read_timeout_s=0.1, answer_s=0.5))
    script.released.set()
    assert error.details["s3_code"] == "UploadTimeout"
    assert error.retryable


def test_a_cancelled_put_returns_at_once_and_its_upload_ends_by_itself(
    script: Script, asks_once: Bucket
) -> None:
    script.answers = [STORED]
    script.released.clear()

    async def cancel_while_it_uploads() -> None:
        task = asyncio.create_task(asks_once.put(PNG, key="k", content_type="image/png"))
        assert await asyncio.to_thread(script.received.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        script.released.set()

    asyncio.run(cancel_while_it_uploads())
    assert [request.body for request in script.requests] == [PNG]


@pytest.mark.parametrize(
    ("raw", "expected", "says", "retryable"),
    [
        (refusal(403, "AccessDenied"), InvalidImage, "may not read it", False),
        (refusal(404, "NoSuchKey"), InvalidImage, "does not exist", False),
        (answer(404, b"<html>"), InvalidImage, "does not exist", False),
        (refusal(403, "SignatureDoesNotMatch"), ImageUnreachable, "SECRET_ACCESS_KEY", False),
        (refusal(401, "Unauthorized"), ImageUnreachable, "check BUCKET_ACCESS_KEY_ID", False),
        (refusal(503, "SlowDown"), ImageUnreachable, "the store is at fault; try again", True),
        (b"", ImageUnreachable, "the connection broke off", True),
        (answer(200, PNG, ETag="0")[:-9], ImageUnreachable, "the connection broke off", True),
        (CUT_IN_THE_HEADERS, ImageUnreachable, "did not answer as S3 does", True),
    ],
)
def test_a_read_that_fails_says_whose_fault_it_is(
    script: Script, asks_once: Bucket, raw: bytes, expected: type[WorkerError], says: str,
    retryable: bool,
) -> None:  # fmt: skip
    script.answers = [raw]
    fault = get_fails(expected, asks_once)
    assert says in fault.message
    assert fault.retryable is retryable


def test_a_large_object_is_refused_before_its_bytes(script: Script, asks_once: Bucket) -> None:
    script.answers = [answer(200, ETag="0").replace(b"Length: 0", b"Length: 99999999999")]
    assert "is over the limit" in get_fails(InvalidImage, asks_once).message


def test_an_object_without_a_length_is_cut_off(script: Script, asks_once: Bucket) -> None:
    script.answers = [b"HTTP/1.1 200 OK\r\nETag: 0\r\n\r\n" + PNG + b"x"]
    assert "is over the limit" in get_fails(InvalidImage, asks_once).message


def test_a_cancelled_get_stops_reading(script: Script, asks_once: Bucket) -> None:
    def endless(stream: Any) -> None:
        stream.write(b"HTTP/1.1 200 OK\r\nETag: 0\r\n\r\n")
        try:
            while True:
                stream.write(b"x" * 100_000)
                time.sleep(0.01)
        except ConnectionError:
            pass

    script.answers = [endless]

    async def cancel_while_it_reads() -> None:
        task = asyncio.create_task(asks_once.get("inputs/cat.png", limit_bytes=10**12))
        assert await asyncio.to_thread(script.received.wait, 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    # It waits for its threads: with one that reads on it never returns.
    asyncio.run(cancel_while_it_reads())


def test_a_worker_without_a_bucket_does_not_load_boto3() -> None:
    program = "import handler.bucket, sys; sys.exit(any(m.startswith('boto') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
