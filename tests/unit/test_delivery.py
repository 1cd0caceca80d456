import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from handler.answer import StoredImage, encoded_bytes, success_answer
from handler.bucket import Bucket, object_key
from handler.delivery import AnswerLimits, Deliverer
from handler.errors import InvalidInput, OutputTooLarge, UploadFailed
from handler.job import Delivery, Job
from handler.job_folder import OutputImage
from handler.workflow import Workflow

ROOMY = AnswerLimits(run_bytes=100_000, runsync_bytes=200_000)


class FakeBucket:
    """Keeps objects in a dict. `broken` is part of a key whose upload fails."""

    def __init__(
        self, template: str = "{request_id}/{name}.{ext}", broken: str | None = None
    ) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self._template = template
        self._broken = broken

    def key(self, **values: str) -> str:
        return object_key(self._template, **values)

    async def put(self, data: bytes, *, key: str, content_type: str) -> str:
        await asyncio.sleep(0)
        if self._broken is not None and self._broken in key:
            raise UploadFailed("the bucket is full")
        self.objects[key] = (data, content_type)
        return f"https://bucket.example.com/{key}"


def job(delivery: Delivery = Delivery.AUTO, job_id: str = "job-1") -> Job:
    return Job(job_id, "r-1", Workflow({}), (), delivery, None, None)


def picture(path: str = "a_00001_", extension: str = "png", size: int = 10) -> OutputImage:
    name = path.rpartition("/")[2]
    return OutputImage(
        "60", f"{name}.{extension}", path, b"x" * size, f"image/{extension}", 1, 1, "0" * 64
    )


def build(stored: Sequence[StoredImage]) -> dict[str, Any]:
    return success_answer(stored, request_id="r-1", prompt_id="p-1", seed=None)


def deliver(
    bucket: FakeBucket | None,
    a_job: Job,
    *images: OutputImage,
    limits: AnswerLimits = ROOMY,
) -> dict[str, Any]:
    deliverer = Deliverer(cast("Bucket | None", bucket), limits)
    deliverer.check(a_job)
    return asyncio.run(deliverer.deliver(a_job, images or [picture()], build))


def inline_bytes(image: OutputImage) -> int:
    return encoded_bytes(build([StoredImage(image, None)]))


@pytest.mark.parametrize("delivery", [Delivery.AUTO, Delivery.BASE64])
def test_without_a_bucket_pictures_are_in_the_answer(delivery: Delivery) -> None:
    answer = deliver(None, job(delivery))
    assert answer["images"][0]["type"] == "base64"
    assert "url" not in answer


@pytest.mark.parametrize("delivery", [Delivery.AUTO, Delivery.BUCKET])
def test_with_a_bucket_pictures_go_there(delivery: Delivery) -> None:
    bucket = FakeBucket()
    answer = deliver(bucket, job(delivery), picture("a_00001_"), picture("sub/b_00001_", "webp"))
    assert bucket.objects == {
        "r-1/a_00001_.png": (b"x" * 10, "image/png"),
        "r-1/sub/b_00001_.webp": (b"x" * 10, "image/webp"),
    }
    assert [entry["data"] for entry in answer["images"]] == [
        "https://bucket.example.com/r-1/a_00001_.png",
        "https://bucket.example.com/r-1/sub/b_00001_.webp",
    ]
    assert answer["url"] == answer["images"][0]["data"]


def test_with_a_bucket_base64_is_still_in_the_answer() -> None:
    bucket = FakeBucket()
    answer = deliver(bucket, job(Delivery.BASE64))
    assert answer["images"][0]["type"] == "base64"
    assert bucket.objects == {}


def test_a_bucket_that_is_asked_for_and_not_set_is_refused_before_any_work() -> None:
    with pytest.raises(InvalidInput, match="this worker has none"):
        Deliverer(None, ROOMY).check(job(Delivery.BUCKET))


@pytest.mark.parametrize("delivery", [Delivery.AUTO, Delivery.BASE64])
def test_no_other_delivery_is_refused_without_a_bucket(delivery: Delivery) -> None:
    Deliverer(None, ROOMY).check(job(delivery))


def test_an_answer_of_just_the_limit_is_sent() -> None:
    size = inline_bytes(picture(size=5000))
    limits = AnswerLimits(run_bytes=size, runsync_bytes=size)
    assert deliver(None, job(), picture(size=5000), limits=limits)["ok"] is True


def test_an_answer_over_the_limit_goes_to_the_bucket_even_when_base64_is_asked_for() -> None:
    bucket = FakeBucket()
    limit = inline_bytes(picture(size=5000)) - 1
    limits = AnswerLimits(run_bytes=limit, runsync_bytes=limit)
    answer = deliver(bucket, job(Delivery.BASE64), picture(size=5000), limits=limits)
    assert answer["images"][0]["type"] == "s3_url"
    assert "image_base64" not in answer
    assert len(bucket.objects) == 1


def test_an_answer_over_the_limit_without_a_bucket_is_too_large() -> None:
    size = inline_bytes(picture(size=5000))
    limits = AnswerLimits(run_bytes=size - 1, runsync_bytes=size - 1)
    with pytest.raises(OutputTooLarge) as caught:
        deliver(None, job(), picture(size=5000), limits=limits)
    assert caught.value.details == {"answer_bytes": size, "limit_bytes": size - 1}
    assert "BUCKET_" in caught.value.message


def test_all_pictures_count_together() -> None:
    limit = inline_bytes(picture(size=5000)) + 2000
    limits = AnswerLimits(run_bytes=limit, runsync_bytes=limit)
    assert deliver(None, job(), picture(size=5000), limits=limits)["ok"] is True
    with pytest.raises(OutputTooLarge):
        deliver(None, job(), picture(size=5000), picture(size=5000), limits=limits)


def test_each_route_has_its_own_limit() -> None:
    size = inline_bytes(picture(size=5000))
    limits = AnswerLimits(run_bytes=size - 1, runsync_bytes=size)
    assert deliver(None, job(job_id="sync-1"), picture(size=5000), limits=limits)["ok"] is True
    with pytest.raises(OutputTooLarge):
        deliver(None, job(job_id="1"), picture(size=5000), limits=limits)


def test_a_picture_that_can_not_be_stored_fails_the_job() -> None:
    bucket = FakeBucket(broken="b_00001_")
    with pytest.raises(UploadFailed, match="the bucket is full"):
        deliver(bucket, job(), picture("a_00001_"), picture("b_00001_"))


@pytest.mark.parametrize(
    ("template", "pictures", "keys"),
    [
        # One name, two formats, and a template that leaves the format out.
        (
            "{request_id}/{name}",
            [picture("a", "png"), picture("a", "webp"), picture("a", "jpg")],
            ["r-1/a", "r-1/a-2", "r-1/a-3"],
        ),
        (
            "{request_id}/{name}.img",
            [picture("a", "png"), picture("a", "webp")],
            ["r-1/a.img", "r-1/a-2.img"],
        ),
        # The dot is one of a folder.
        (
            "v1.2/{request_id}/{name}",
            [picture("a", "png"), picture("a", "webp")],
            ["v1.2/r-1/a", "v1.2/r-1/a-2"],
        ),
        # A picture has the very name that another would get.
        (
            "{request_id}/{name}.img",
            [picture("a"), picture("a", "webp"), picture("a-2")],
            ["r-1/a.img", "r-1/a-2.img", "r-1/a-2-2.img"],
        ),
        (
            "{request_id}/{name}.img",
            [picture("a-2"), picture("a"), picture("a", "webp")],
            ["r-1/a-2.img", "r-1/a.img", "r-1/a-3.img"],
        ),
    ],
)
def test_pictures_whose_keys_are_equal_are_told_apart(
    template: str, pictures: list[OutputImage], keys: list[str]
) -> None:
    bucket = FakeBucket(template)
    answer = deliver(bucket, job(), *pictures)
    stored = [entry["data"] for entry in answer["images"]]
    assert stored == [f"https://bucket.example.com/{key}" for key in keys]
    assert set(bucket.objects) == set(keys)
