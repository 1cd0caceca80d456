import asyncio
import base64
import io
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest
from PIL import Image

from handler.bucket.client import Bucket
from handler.contract.addresses import BucketKey, HttpsUrl, RemoteImage
from handler.errors import ImageUnreachable, InvalidImage, WorkerError
from handler.pictures.images import ImageLimits, InputImage, SentImage, check_image
from handler.sources.checker import PictureChecker
from handler.sources.fetch import ImageFetcher
from handler.sources.https import HttpsSource
from tests.fakes.https_site import Certificate, FixedResolver, HttpsSite, answer

HOST = "pictures.example"
LIMITS = ImageLimits(count=20, data_bytes=10_000, pixels=5_000)


def picture(width: int = 24, height: int = 16) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def at(path: str, name: str = "cat.png", index: int = 0) -> RemoteImage:
    return RemoteImage(name, f"input.images[{index}]", HttpsUrl(HOST, path, "sig=secret"))


def in_bucket(key: str, name: str = "cat.png", index: int = 0) -> RemoteImage:
    return RemoteImage(name, f"input.images[{index}]", BucketKey(key))


class HereChecker:
    """Checks in this process."""

    async def check(self, name: str, data: bytes, where: str, *, as_photo: bool) -> InputImage:
        return check_image(name, data, where, LIMITS, as_photo=as_photo)


class FakeBucket:
    """Objects by key; counts how many are read at once."""

    def __init__(self, **objects: bytes | WorkerError) -> None:
        self._objects = objects
        self._reading = 0
        self.most_at_once = 0

    async def get(self, key: str, *, limit_bytes: int) -> bytes:
        assert limit_bytes == LIMITS.data_bytes
        self._reading += 1
        self.most_at_once = max(self.most_at_once, self._reading)
        for _ in range(20):
            await asyncio.sleep(0)
        self._reading -= 1
        found = self._objects[key]
        if isinstance(found, WorkerError):
            raise found
        return found


Fetch = Callable[..., Coroutine[Any, Any, list[InputImage]]]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return Certificate(tmp_path_factory.mktemp("certificate"), HOST)


@pytest.fixture
def site(certificate: Certificate) -> HttpsSite:
    return HttpsSite(certificate)


@pytest.fixture
def make_fetcher(site: HttpsSite, certificate: Certificate) -> Callable[..., ImageFetcher]:
    def make(
        bucket: FakeBucket | None = None, timeout_s: float = 1000, total_bytes: int = 10**6
    ) -> ImageFetcher:
        https = HttpsSource(
            is_allowed=lambda address: address.is_loopback,
            make_resolver=lambda: FixedResolver({HOST: [["127.0.0.1"]]}, site.port),
            ssl_context=certificate.client_context(),
        )
        return ImageFetcher(
            cast("Bucket | None", bucket), https, cast("PictureChecker", HereChecker()), LIMITS,
            timeout_s=timeout_s, total_bytes=total_bytes,
        )  # fmt: skip

    return make


@pytest.fixture
def fetch(site: HttpsSite, make_fetcher: Callable[..., ImageFetcher]) -> Fetch:
    async def fetch_from_site(*images: RemoteImage, **options: Any) -> list[InputImage]:
        async with asyncio.timeout(30), site:
            return await make_fetcher(**options).fetch(images, as_photo=False)

    return fetch_from_site


def fault_of(expected: type[WorkerError], fetching: Coroutine[Any, Any, Any]) -> WorkerError:
    with pytest.raises(WorkerError) as caught:
        asyncio.run(fetching)
    assert type(caught.value) is expected, caught.value.message
    assert "secret" not in f"{caught.value} {caught.value.message} {caught.value.details}"
    return caught.value


async def hang(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


def test_pictures_of_every_kind_come_in_their_order(site: HttpsSite, fetch: Fetch) -> None:
    site.answers["/b.png"] = answer(picture(20, 10))
    images = asyncio.run(
        fetch(
            at("/b.png", "b.png"),
            in_bucket("inputs/c.png", "c.png"),
            bucket=FakeBucket(**{"inputs/c.png": picture(30, 10)}),
        )
    )
    assert images == [
        InputImage("b.png", picture(20, 10), "png", 20, 10),
        InputImage("c.png", picture(30, 10), "png", 30, 10),
    ]


def test_pictures_that_were_sent_are_checked_in_their_order(
    make_fetcher: Callable[..., ImageFetcher],
) -> None:
    sent = [
        SentImage(f"{side}.png", "here", base64.b64encode(picture(side, 9)).decode())
        for side in (8, 7)
    ]
    images = asyncio.run(make_fetcher().check(sent, as_photo=False))
    assert [(image.name, image.width) for image in images] == [("8.png", 8), ("7.png", 7)]


def test_a_sent_picture_that_can_not_be_decoded_is_refused_by_its_place(
    make_fetcher: Callable[..., ImageFetcher],
) -> None:
    sent = SentImage("b.png", "input.images[1]", "!!")
    fault = fault_of(InvalidImage, make_fetcher().check([sent], as_photo=False))
    assert fault.message.startswith("input.images[1] ('b.png'): ")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<!doctype html><html>", "is an HTML page; send PNG, JPEG or WebP"),
        (b"", "is empty"),
        (picture()[:-20], "the PNG is broken or truncated"),
        (picture(100, 100), "100 x 100 pixels"),
        (b"x" * 10_001, "is over the limit of 10000 bytes"),
    ],
)
def test_a_fetched_picture_is_checked_like_one_that_was_sent(
    site: HttpsSite, fetch: Fetch, body: bytes, says: str
) -> None:
    site.answers["/cat.png"] = answer(body)
    fault = fault_of(InvalidImage, fetch(at("/cat.png", index=3)))
    assert fault.message.startswith("input.images[3] ('cat.png'): ")
    assert says in fault.message
    assert fault.details["where"] == "input.images[3]"


def test_a_fault_of_the_source_names_the_entry(site: HttpsSite, fetch: Fetch) -> None:
    site.answers["/cat.png"] = answer(status=404)
    fault = fault_of(InvalidImage, fetch(at("/cat.png", index=1)))
    assert fault.message == f"input.images[1] ('cat.png'): https://{HOST}/cat.png answers 404"
    assert fault.details == {"http_status": 404, "where": "input.images[1]", "name": "cat.png"}


def test_what_a_source_says_of_another_try_stays(fetch: Fetch) -> None:
    for may_try_again in (True, False):
        broken = ImageUnreachable("the keys are wrong")
        broken.retryable = may_try_again  # type: ignore[misc]
        fault = fault_of(ImageUnreachable, fetch(in_bucket("k"), bucket=FakeBucket(k=broken)))
        assert fault.retryable is may_try_again


@pytest.mark.parametrize("slow", [hang, drip])
def test_a_source_that_is_too_slow_is_given_up(site: HttpsSite, fetch: Fetch, slow: Any) -> None:
    site.answers["/cat.png"] = slow
    fault = fault_of(ImageUnreachable, fetch(at("/cat.png"), timeout_s=0.3))
    assert fault.message.endswith(f"https://{HOST}/cat.png took longer than 0.3 s")
    assert fault.retryable


def test_the_first_fault_ends_the_other_fetches(site: HttpsSite, fetch: Fetch) -> None:
    site.answers |= {"/a.png": hang, "/b.png": answer(status=404)}
    fault = fault_of(InvalidImage, fetch(at("/a.png", "a.png"), at("/b.png", "b.png", 1)))
    assert "input.images[1]" in fault.message


def test_no_more_than_four_are_fetched_at_once(fetch: Fetch) -> None:
    bucket = FakeBucket(**{str(number): picture() for number in range(10)})
    images = [in_bucket(str(number), f"{number}.png") for number in range(10)]
    fetched = asyncio.run(fetch(*images, bucket=bucket))
    assert [image.name for image in fetched] == [image.name for image in images]
    assert bucket.most_at_once == 4


def test_a_cancelled_fetch_leaves_its_connection(
    site: HttpsSite, make_fetcher: Callable[..., ImageFetcher]
) -> None:
    async def cancel_while_it_comes() -> None:
        has_begun, is_left = asyncio.Event(), asyncio.Event()

        async def drip_until_left(writer: asyncio.StreamWriter) -> None:
            has_begun.set()
            try:
                await drip(writer)
            except ConnectionError:
                is_left.set()

        site.answers["/cat.png"] = drip_until_left
        async with asyncio.timeout(30), site:
            fetching = asyncio.create_task(make_fetcher().fetch([at("/cat.png")], as_photo=False))
            await has_begun.wait()
            fetching.cancel()
            with pytest.raises(asyncio.CancelledError):
                await fetching
            await is_left.wait()

    asyncio.run(cancel_while_it_comes())


def test_a_key_on_a_worker_without_a_bucket_is_refused_with_the_remedy(fetch: Fetch) -> None:
    fault = fault_of(InvalidImage, fetch(in_bucket("inputs/cat.png")))
    assert "bucket:inputs/cat.png can't be read: this worker has no bucket" in fault.message
    assert "BUCKET_" in fault.message


def test_all_fetched_pictures_of_a_job_are_bounded_together(fetch: Fetch) -> None:
    data = picture()
    bucket = FakeBucket(**{str(number): data for number in range(5)})
    images = [in_bucket(str(number), f"{number}.png", number) for number in range(5)]
    fetched = asyncio.run(fetch(*images, bucket=bucket, total_bytes=5 * len(data)))
    assert len(fetched) == 5
    fault = fault_of(InvalidImage, fetch(*images, bucket=bucket, total_bytes=5 * len(data) - 1))
    assert f"have over {5 * len(data) - 1} bytes together" in fault.message
