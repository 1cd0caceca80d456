import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageCms

from handler.contract.check import check_input
from handler.errors import InvalidImage, InvalidInput
from handler.job.photo_finish import Patching, PhotoFinish
from handler.job.prepare import Prepared, prepare_edit
from handler.pictures.images import ImageLimits, InputImage, check_image
from handler.workflow.prompt_edit import ModelNames, parse_prompt_edit
from tests.unit.job.test_photo_finish import drawn

NAMES = ModelNames("unet", "clip", "vae", "lora")
LIMITS = ImageLimits(count=3, data_bytes=10**8, pixels=10**8)
MAKE = np.random.default_rng(1)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def sent(
    picture: Image.Image, kind: str = "PNG", name: str = "a.png", **options: Any
) -> InputImage:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return check_image(name, buffer.getvalue(), "input.images[0]", LIMITS)


def photo(width: int, height: int) -> Image.Image:
    return Image.fromarray(MAKE.integers(0, 255, (height, width, 3), dtype=np.uint8))


def mask(width: int, height: int, box: tuple[int, int, int, int] | None) -> InputImage:
    picture = Image.new("L", (width, height))
    if box:
        picture.paste(255, box)
    return sent(picture, name="mask")


def prepared(*pictures: InputImage, mask: InputImage | None = None, **job_input: Any) -> Prepared:
    wish = {"prompt": "x", **({"mask": "..."} if mask else {}), **job_input}
    return prepare_edit(parse_prompt_edit(check_input(wish), NAMES), pictures, mask)


def finish_of(job: Prepared) -> PhotoFinish:
    assert job.finish
    return job.finish


def patching_of(job: Prepared) -> Patching:
    patching = finish_of(job).patching
    assert patching
    return patching


def of_class(job: Prepared, class_type: str) -> list[dict[str, Any]]:
    nodes = job.workflow.nodes.values()
    return [dict(node["inputs"]) for node in nodes if node["class_type"] == class_type]


def loaded(job: Prepared, name: str) -> NDArray[np.uint8]:
    (picture,) = (picture for picture in job.pictures if picture.name == name)
    with Image.open(io.BytesIO(picture.data)) as image:
        assert image.size == (picture.width, picture.height)
        return np.asarray(image)


def test_without_a_mask_the_pictures_go_as_they_came() -> None:
    first = sent(photo(300, 200))
    job = prepared(first)
    assert list(job.pictures) == [first]
    assert job.finish is None
    assert job.graph == "aligned-1"


def test_large_pictures_go_in_the_size_at_which_they_are_sampled() -> None:
    second = sent(photo(1200, 1800), name="b.png")
    job = prepared(sent(photo(3000, 2000)), second, ratio="1:1")
    assert loaded(job, "a.png").shape == (1024, 1024, 3)
    assert loaded(job, "b.png").shape == (1248, 832, 3)
    assert not of_class(job, "ImageScale")
    assert not of_class(job, "ImageCrop")
    # The template's own node scales, and crops.
    job = prepared(sent(photo(3000, 2000)), fit="template")
    assert loaded(job, "a.png").shape == (2000, 3000, 3)


def test_a_colour_profile_is_kept_for_the_result() -> None:
    assert finish_of(prepared(sent(photo(30, 20), icc_profile=SRGB))).profile == SRGB
    # Of other colours than the result's.
    assert prepared(sent(photo(30, 20).convert("L"), icc_profile=SRGB)).finish is None


def test_the_answer_names_the_graph() -> None:
    assert prepared(sent(photo(30, 20)), fit="template").graph == "template-1"


def test_the_photos_own_size_is_that_of_its_crop() -> None:
    wish = {"prompt": "x", "ratio": "1:1", "output": {"size": "photo"}}
    edit = parse_prompt_edit(check_input(wish), NAMES)
    assert finish_of(prepare_edit(edit, [sent(photo(300, 200))], None)).size == (200, 200)


def test_with_a_mask_only_its_surroundings_are_sent_and_at_the_sampled_size() -> None:
    job = prepared(sent(photo(2000, 1500)), mask=mask(2000, 1500, (900, 700, 1100, 800)))
    assert loaded(job, "a.png").shape == (864, 1152, 3)
    assert not of_class(job, "ImageScale")
    (name,) = (picture.name for picture in job.pictures if picture.name != "a.png")
    assert of_class(job, "LoadImageMask") == [{"image": name, "channel": "red"}]
    area = loaded(job, name)
    assert area.shape == (864, 1152)
    assert set(np.unique(area)) == {0, 255}


def test_what_is_drawn_is_more_than_what_is_pasted() -> None:
    box = (900, 700, 1100, 800)
    job = prepared(sent(photo(2000, 1500)), mask=mask(2000, 1500, box))
    name = of_class(job, "LoadImageMask")[0]["image"]
    patching = patching_of(job)
    scale = 1152 / patching.box.size[0]
    drawn_area = (loaded(job, name) > 0).sum()
    assert drawn_area > (200 + 12) * (100 + 12) * scale**2


def test_the_whole_photo_is_sent_where_the_model_has_to_see_it() -> None:
    job = prepared(
        sent(photo(2000, 1500)), mask=mask(2000, 1500, (900, 700, 1000, 800)), fit="whole"
    )
    patching = patching_of(job)
    assert patching.box.size == (2000, 1500)


def test_a_full_mask_needs_no_bounds_for_the_sampler() -> None:
    job = prepared(sent(photo(300, 200)), mask=mask(300, 200, (0, 0, 300, 200)))
    assert not of_class(job, "SetLatentNoiseMask")
    assert [picture.name for picture in job.pictures] == ["a.png"]


def test_an_empty_mask_is_refused() -> None:
    with pytest.raises(InvalidImage, match="the mask is empty"):
        prepared(sent(photo(300, 200)), mask=mask(300, 200, None))


def test_further_pictures_go_as_they_came_and_no_name_meets_that_of_the_mask() -> None:
    others = [sent(photo(90, 80), name=name) for name in ("mask-0.png", "mask-1.png")]
    job = prepared(sent(photo(300, 200)), *others, mask=mask(300, 200, (5, 5, 9, 9)))
    names = [picture.name for picture in job.pictures]
    assert len(set(names)) == len(names) == 4
    assert list(job.pictures[1:3]) == others
    assert {node["image"] for node in of_class(job, "LoadImage")} == {"a.png", *names[1:3]}


def test_a_mask_lies_on_the_photo_as_it_is_shown() -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    lying = sent(photo(900, 600), exif=exif)
    job = prepared(lying, mask=mask(600, 900, (10, 800, 20, 810)))
    patching = patching_of(job)
    assert patching.photo.size == (600, 900)
    assert patching.box.bottom == 900


def test_another_ratio_crops_the_photo_and_its_mask() -> None:
    job = prepared(sent(photo(300, 200)), mask=mask(300, 200, (0, 0, 100, 200)), ratio="1:1")
    patching = patching_of(job)
    assert patching.photo.size == (200, 200)
    assert patching.mask.sum() == 50 * 200


def test_an_extended_photo_is_drawn_around_and_kept_exactly() -> None:
    source = photo(300, 200)
    job = prepared(sent(source), ratio="1:1", fit="extend")
    assert loaded(job, "a.png").shape[0] == loaded(job, "a.png").shape[1]
    result = finish_of(job).apply(drawn(photo(1024, 1024)), is_final=True)
    assert (result.width, result.height) == (300, 300)
    assert result.changed_outside == 0
    with Image.open(io.BytesIO(result.data)) as image:
        pixels = np.asarray(image)
    assert np.array_equal(pixels[50:250], np.asarray(source))
    assert len(np.unique(pixels[:30])) > 100


def test_a_mask_and_an_extension_go_together() -> None:
    job = prepared(
        sent(photo(300, 200)), mask=mask(300, 200, (0, 0, 10, 10)), ratio="1:1", fit="extend"
    )
    patching = patching_of(job)
    assert patching.mask.sum() == 100 * 300 + 100
    assert patching.mask[50:60, :10].all()


def test_an_extension_of_nothing_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing to add"):
        prepared(sent(photo(401, 300)), ratio="4:3", fit="extend")


def test_a_mask_outside_of_what_the_ratio_leaves_is_told_apart_from_an_empty_one() -> None:
    first = sent(photo(400, 100))
    with pytest.raises(InvalidImage, match="crops the photo"):
        prepared(first, mask=mask(400, 100, (0, 0, 20, 20)), ratio="1:1")
    with pytest.raises(InvalidImage, match="is empty"):
        prepared(first, mask=mask(400, 100, None), ratio="1:1")
