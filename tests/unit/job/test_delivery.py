import asyncio
import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from handler.bucket.client import Bucket
from handler.bucket.keys import object_key
from handler.comfy_api.file_kinds import FileKind
from handler.comfy_api.node_outputs import NodeText
from handler.contract.input_types import Delivery
from handler.errors import InvalidInput, OutputTooLarge, UploadFailed
from handler.job.answer import Stored, encoded_bytes, success_answer
from handler.job.delivery import _LEFT_OUT, AnswerLimits, Deliverer
from handler.job.outputs import Output, OutputFile, OutputImage
from handler.job.parse import Job
from handler.workflow.workflow import Workflow

ROOMY = AnswerLimits(run_bytes=100_000, runsync_bytes=200_000)


class FakeBucket:
    """Keeps objects in a dict. `broken` is part of a key whose upload fails; with `stuck` all
    others wait for ever."""

    def __init__(
        self,
        template: str = "{request_id}/{name}.{ext}",
        broken: str | None = None,
        *,
        stuck: bool = False,
    ) -> None:
        self.objects: dict[str, tuple[bytes, str]] = {}
        self.sent_from_disk: list[str] = []
        self.begun: list[str] = []
        self.most_at_once = 0
        self.given_up = 0
        self._at_once = 0
        self._stuck = stuck
        self._template = template
        self._broken = broken

    def key(self, **values: str) -> str:
        return object_key(self._template, **values)

    async def put(self, data: bytes | Path, *, key: str, content_type: str) -> str:
        self.begun.append(key)
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            await asyncio.sleep(0)
            return await self._put(data, key, content_type)
        except asyncio.CancelledError:
            self.given_up += 1
            raise
        finally:
            self._at_once -= 1

    async def _put(self, data: bytes | Path, key: str, content_type: str) -> str:
        if isinstance(data, Path):
            self.sent_from_disk.append(key)
            data = data.read_bytes()
        if self._broken is not None and self._broken in key:
            raise UploadFailed("the bucket is full")
        if self._stuck:
            await asyncio.Event().wait()
        self.objects[key] = (data, content_type)
        return f"https://bucket.example.com/{key}"


def job(delivery: Delivery = Delivery.AUTO, job_id: str = "job-1") -> Job:
    return Job(job_id, "r-1", Workflow({}), (), delivery, None, None)


def picture(path: str = "a_00001_", extension: str = "png", size: int = 10) -> OutputImage:
    name = path.rpartition("/")[2]
    return OutputImage(
        "60", f"{name}.{extension}", path, b"x" * size, f"image/{extension}", 1, 1, "0" * 64
    )


def clip(folder: Path, name: str = "a.mp4", size: int = 10) -> OutputFile:
    source = folder / name
    source.write_bytes(b"v" * size)
    stem = name.partition(".")[0]
    return OutputFile(
        "61", name, stem, source, FileKind.VIDEO, "video/mp4", size, "0" * 64
    )  # fmt: skip


def build(stored: Sequence[Stored]) -> dict[str, Any]:
    return success_answer(stored, (), request_id="r-1", prompt_id="p-1", seed=None)


def deliver(
    bucket: FakeBucket | None,
    a_job: Job,
    *files: Output,
    limits: AnswerLimits = ROOMY,
) -> dict[str, Any]:
    deliverer = Deliverer(cast("Bucket | None", bucket), limits)
    deliverer.check(a_job)
    return asyncio.run(deliverer.deliver(a_job, files or [picture()], build))


NOTE = encoded_bytes({"left_out": _LEFT_OUT})


def encoded(size: int) -> int:
    return -(-size // 3) * 4


def inline_bytes(*files: Output) -> int:
    return encoded_bytes(deliver(None, job(), *files, limits=AnswerLimits(10**9, 10**9)))


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
    limit = inline_bytes(picture(size=5000)) - encoded(5000)
    limits = AnswerLimits(run_bytes=limit, runsync_bytes=limit)
    answer = deliver(bucket, job(Delivery.BASE64), picture(size=5000), limits=limits)
    assert answer["images"][0]["type"] == "s3_url"
    assert "image_base64" not in answer
    assert len(bucket.objects) == 1


def test_an_answer_over_the_limit_without_a_bucket_is_too_large() -> None:
    size = inline_bytes(picture(size=5000))
    once = size - encoded(5000) + NOTE
    limits = AnswerLimits(run_bytes=once - 1, runsync_bytes=once - 1)
    with pytest.raises(OutputTooLarge) as caught:
        deliver(None, job(), picture(size=5000), limits=limits)
    assert caught.value.details == {"answer_bytes": once, "limit_bytes": once - 1}
    assert "the largest are a_00001_.png (5000 bytes)" in caught.value.message
    assert "BUCKET_" in caught.value.message


def test_an_answer_that_only_one_copy_of_the_picture_fits_holds_one_and_says_so() -> None:
    file = picture(size=5000)
    size = inline_bytes(file)
    for limit in (size - 1, size - encoded(5000) + NOTE):
        answer = deliver(None, job(), file, limits=AnswerLimits(limit, limit))
        assert "image_base64" not in answer
        assert answer["left_out"].startswith("image_base64")
        assert answer["images"][0]["data"] == base64.b64encode(file.data).decode()
        assert encoded_bytes(answer) <= limit


def test_a_file_that_is_no_picture_is_there_once_anyway(tmp_path: Path) -> None:
    file = clip(tmp_path, size=5000)
    size = inline_bytes(file)
    assert deliver(None, job(), file, limits=AnswerLimits(size, size))["ok"] is True
    with pytest.raises(OutputTooLarge):
        deliver(None, job(), file, limits=AnswerLimits(size - 1, size - 1))


def test_all_pictures_count_together() -> None:
    limit = inline_bytes(picture(size=5000)) + 2000
    limits = AnswerLimits(run_bytes=limit, runsync_bytes=limit)
    assert deliver(None, job(), picture(size=5000), limits=limits)["ok"] is True
    with pytest.raises(OutputTooLarge):
        deliver(None, job(), *[picture(size=5000)] * 3, limits=limits)


def test_each_route_has_its_own_limit() -> None:
    size = inline_bytes(picture(size=5000))
    limits = AnswerLimits(run_bytes=size - encoded(5000), runsync_bytes=size)
    assert deliver(None, job(job_id="sync-1"), picture(size=5000), limits=limits)["ok"] is True
    with pytest.raises(OutputTooLarge):
        deliver(None, job(job_id="1"), picture(size=5000), limits=limits)


@pytest.mark.parametrize("sizes", [(5000, 4999, 4998), (1, 2, 3), (0, 0, 0)])
def test_the_size_is_exact_before_a_file_is_read(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    one, two, three = sizes
    files = [clip(tmp_path, size=one), picture(size=two), picture("b", size=three)]
    size = inline_bytes(*files)
    tight = AnswerLimits(run_bytes=size, runsync_bytes=size)
    assert encoded_bytes(deliver(None, job(), *files, limits=tight)) == size
    for file in files[:1]:
        file.body.unlink()
    with pytest.raises(OutputTooLarge) as caught:
        deliver(None, job(), *files, limits=AnswerLimits(10, size))
    assert caught.value.details["answer_bytes"] == min(size, size - encoded(two) + NOTE)


def test_a_file_that_is_no_picture_is_sent_from_the_disk(tmp_path: Path) -> None:
    bucket = FakeBucket()
    answer = deliver(bucket, job(), clip(tmp_path), picture("a"))
    assert bucket.sent_from_disk == ["r-1/a.mp4"]
    assert bucket.objects == {
        "r-1/a.mp4": (b"v" * 10, "video/mp4"),
        "r-1/a.png": (b"x" * 10, "image/png"),
    }
    assert answer["url"] == answer["image_url"] == "https://bucket.example.com/r-1/a.png"
    assert answer["files"][0]["data"] == "https://bucket.example.com/r-1/a.mp4"


def test_a_large_file_takes_the_small_picture_with_it_to_the_bucket(tmp_path: Path) -> None:
    """Callers read an address or data, not now the one and now the other."""
    answer = deliver(FakeBucket(), job(Delivery.BASE64), picture(), clip(tmp_path, size=100_000))
    assert {answer["images"][0]["type"], answer["files"][0]["type"]} == {"s3_url"}


def test_a_file_is_in_the_answer_where_it_fits(tmp_path: Path) -> None:
    [entry] = deliver(None, job(), clip(tmp_path))["files"]
    assert base64.b64decode(entry["data"]) == b"v" * 10


def test_an_answer_that_is_too_large_even_with_all_files_in_the_bucket_is_refused() -> None:
    def with_texts(stored: Sequence[Stored]) -> dict[str, Any]:
        texts = [NodeText("1", "x" * 60_000), NodeText("2", "x" * 60_000)]
        return success_answer(stored, texts, request_id="r", prompt_id="p", seed=None)

    deliverer = Deliverer(cast("Bucket", FakeBucket()), ROOMY)
    with pytest.raises(OutputTooLarge, match="with all 1 files in the bucket"):
        asyncio.run(deliverer.deliver(job(), [picture()], with_texts))


def test_a_picture_that_can_not_be_stored_fails_the_job() -> None:
    bucket = FakeBucket(broken="b_00001_")
    with pytest.raises(UploadFailed, match="the bucket is full"):
        deliver(bucket, job(), picture("a_00001_"), picture("b_00001_"))


def frames(count: int) -> list[Output]:
    return [picture(f"a_{number:05}_") for number in range(count)]


def test_a_hundred_pictures_go_a_few_at_a_time_and_keep_their_order() -> None:
    bucket = FakeBucket()
    answer = deliver(bucket, job(), *frames(100), limits=AnswerLimits(10**9, 10**9))
    assert 1 < bucket.most_at_once <= 8
    assert [entry["data"] for entry in answer["images"]] == [
        f"https://bucket.example.com/r-1/a_{number:05}_.png" for number in range(100)
    ]


def test_a_picture_that_can_not_be_stored_ends_the_other_uploads() -> None:
    bucket = FakeBucket(broken="a_00002_", stuck=True)
    with pytest.raises(UploadFailed, match="the bucket is full"):
        deliver(bucket, job(), *frames(100))
    # Those under way stopped, and no other began.
    assert bucket.given_up == len(bucket.begun) - 1
    assert len(bucket.begun) <= 8
    assert bucket.objects == {}


def test_the_fault_of_a_picture_keeps_its_cause() -> None:
    class Broken(FakeBucket):
        async def put(self, data: bytes | Path, *, key: str, content_type: str) -> str:
            raise UploadFailed("the bucket is full") from OSError("a cause")

    with pytest.raises(UploadFailed) as caught:
        deliver(Broken(), job(), *frames(3))
    assert isinstance(caught.value.__cause__, OSError)


def test_a_cancelled_delivery_ends_its_uploads() -> None:
    bucket = FakeBucket(stuck=True)

    async def scene() -> None:
        deliverer = Deliverer(cast("Bucket", bucket), ROOMY)
        task = asyncio.create_task(deliverer.deliver(job(), frames(20), build))
        while not bucket.begun:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert bucket.given_up == len(bucket.begun) <= 8


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
