import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from handler.errors import ModelMissing
from handler.models.check import check_model, hash_model
from handler.models.lock import ModelFile, ModelsLock
from handler.models.places import (
    FoundModel,
    find_models,
    folder_place,
    link_models,
    model_folders,
    search_places,
)
from tests.fakes.weights import model_of, safetensors

WEIGHTS = safetensors(b"weights" * 100)
OTHER = safetensors(b"another" * 100)
REVISION, MAIN = "1" * 40, "2" * 40


def model(folder: str = "vae", file: str = "a.safetensors") -> ModelFile:
    return model_of(WEIGHTS, folder, file, "Comfy-Org/Qwen", REVISION)


def lock_of(*models: ModelFile) -> ModelsLock:
    return ModelsLock(profile="test", models=models)


def place(root: Path, folder: str, file: str = "a.safetensors", content: bytes = WEIGHTS) -> Path:
    path = root / folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def baked(tmp_path: Path) -> Path:
    (tmp_path / "baked").mkdir()
    return tmp_path / "baked"


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    (tmp_path / "volume").mkdir()
    return tmp_path / "volume"


def find(baked: Path, volume: Path, *models: ModelFile) -> tuple[FoundModel, ...]:
    return find_models(lock_of(*(models or (model(),))), search_places(baked, volume))


# One folder


@pytest.mark.parametrize(
    ("locked", "on_disk"),
    [
        ("unet", "unet"),
        ("unet", "diffusion_models"),
        ("diffusion_models", "unet"),
        ("clip", "clip"),
        ("clip", "text_encoders"),
        ("vae", "vae"),
        ("controlnet", "controlnet"),
    ],
)
def test_a_file_is_found_in_either_spelling(tmp_path: Path, locked: str, on_disk: str) -> None:
    wanted = model(folder=locked)
    path = place(tmp_path, on_disk)
    [found] = find_models(lock_of(wanted), folder_place(tmp_path))
    assert (found.model, found.path) == (wanted, path)


def test_the_locked_spelling_comes_first(tmp_path: Path) -> None:
    place(tmp_path, "text_encoders")
    path = place(tmp_path, "clip")
    [found] = find_models(lock_of(model("clip")), folder_place(tmp_path))
    assert found.path == path


def test_links_to_files_and_to_folders_are_followed(tmp_path: Path) -> None:
    blob = place(tmp_path, "blobs")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "vae").symlink_to(tmp_path / "blobs")
    (tmp_path / "models" / "loras").mkdir()
    link = tmp_path / "models" / "loras" / "b.safetensors"
    link.symlink_to(blob)
    lock = lock_of(model("vae"), model("loras", "b.safetensors"))
    found = find_models(lock, folder_place(tmp_path / "models"))
    assert [at.path for at in found] == [tmp_path / "models" / "vae" / "a.safetensors", link]
    for at in found:
        check_model(at.model, at.path)
        hash_model(at.model, at.path, lambda _: None)


def missing_of(lock: ModelsLock, models_dir: Path) -> ModelMissing:
    with pytest.raises(ModelMissing) as caught:
        find_models(lock, folder_place(models_dir))
    return caught.value


def test_all_missing_files_are_named_with_every_place(tmp_path: Path) -> None:
    place(tmp_path, "vae")
    error = missing_of(
        lock_of(model("unet", "u.safetensors"), model("vae"), model("clip", "c.safetensors")),
        tmp_path,
    )
    assert error.message.startswith("2 model files not found: ")
    for searched in (
        "unet/u.safetensors",
        "diffusion_models/u.safetensors",
        "clip/c.safetensors",
        "text_encoders/c.safetensors",
    ):
        assert str(tmp_path / searched) in error.message
    assert "a.safetensors" not in error.message
    assert [entry["file"] for entry in error.details["missing"]] == [
        "u.safetensors",
        "c.safetensors",
    ]


def test_a_file_with_nearly_the_name_is_pointed_out(tmp_path: Path) -> None:
    place(tmp_path, "diffusion_models", "qwen_image_edit_fp8_e4m3fn.safetensors")
    place(tmp_path, "diffusion_models", "sdxl.safetensors")
    wanted = model("unet", "qwen_image_edit_2509_fp8_e4m3fn.safetensors")
    error = missing_of(lock_of(wanted), tmp_path)
    near = f"{tmp_path / 'diffusion_models'} has qwen_image_edit_fp8_e4m3fn.safetensors"
    assert near in error.message
    assert "sdxl" not in error.message


def test_a_models_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    error = missing_of(lock_of(model()), tmp_path / "none")
    assert f"not there at all: {tmp_path / 'none'} (models folder)" in error.message


def test_a_dead_link_and_a_folder_in_the_files_place_are_named(tmp_path: Path) -> None:
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "a.safetensors").symlink_to("/nowhere/blob")
    (tmp_path / "loras" / "b.safetensors").mkdir(parents=True)
    error = missing_of(lock_of(model(), model("loras", "b.safetensors")), tmp_path)
    assert "is a link to /nowhere/blob, which is not there" in error.message
    assert "b.safetensors is not a file" in error.message


# The table of places


def hub_cache(
    volume: Path, revision: str, content: bytes = WEIGHTS, *, linked: bool = True
) -> Path:
    """The file as huggingface_hub's cache has it, or copied as a tool without links would."""
    repo = volume / "huggingface-cache" / "hub" / "models--Comfy-Org--Qwen"
    at = repo / "snapshots" / revision / "split_files" / "a.safetensors"
    at.parent.mkdir(parents=True, exist_ok=True)
    if not linked:
        at.write_bytes(content)
        return at
    blob = place(repo, "blobs", model_of(content).sha256, content)
    at.symlink_to(os.path.relpath(blob, at.parent))
    return at


def refs_main(volume: Path, revision: str) -> None:
    repo = volume / "huggingface-cache" / "hub" / "models--Comfy-Org--Qwen"
    (repo / "refs").mkdir(parents=True, exist_ok=True)
    (repo / "refs" / "main").write_text(revision)


ON_VOLUME = [".", "models", "ComfyUI/models"]


@pytest.mark.parametrize("folder", ["unet", "diffusion_models"])
@pytest.mark.parametrize("base", ON_VOLUME)
def test_every_layout_of_a_volume_is_found(
    baked: Path, volume: Path, base: str, folder: str
) -> None:
    path = place(volume / base, folder)
    [found] = find(baked, volume, model("unet"))
    assert found.path == path
    assert found.place.startswith("volume")


def test_the_places_are_searched_in_order(baked: Path, volume: Path) -> None:
    expected = [
        place(baked, "vae"),
        *(place(volume / base, "vae") for base in ON_VOLUME),
        hub_cache(volume, REVISION),
    ]
    seen = []
    while len(seen) < len(expected):
        [found] = find(baked, volume)
        seen.append(found.path)
        found.path.unlink()
    assert seen == expected


def test_each_file_is_looked_for_by_itself(baked: Path, volume: Path) -> None:
    place(baked, "clip", "c.safetensors")
    place(volume / "models", "loras", "l.safetensors")
    hub_cache(volume, REVISION)
    found = find(
        baked, volume, model("loras", "l.safetensors"), model("clip", "c.safetensors"), model()
    )
    assert [at.place for at in found] == [
        "volume, models", "models folder", "hub cache on the volume",
    ]  # fmt: skip


def test_the_hub_cache_may_hold_the_file_at_mains_commit(baked: Path, volume: Path) -> None:
    path = hub_cache(volume, MAIN)
    with pytest.raises(ModelMissing):
        find(baked, volume)
    refs_main(volume, f"{MAIN}\n")
    [found] = find(baked, volume)
    assert found.path == path


def test_another_file_at_mains_commit_is_not_taken(baked: Path, volume: Path) -> None:
    path = hub_cache(volume, MAIN, OTHER)
    assert len(OTHER) == len(WEIGHTS)
    refs_main(volume, MAIN)
    with pytest.raises(ModelMissing) as caught:
        find(baked, volume)
    assert f"{path} has sha256 {model_of(OTHER).sha256}" in caught.value.message


@pytest.mark.parametrize("ref", ["", "main", "../../../etc", "2" * 39, "\xff"])
def test_a_ref_that_names_no_commit_is_passed_over(baked: Path, volume: Path, ref: str) -> None:
    refs_main(volume, ref)
    path = hub_cache(volume, REVISION, linked=False)
    assert find(baked, volume)[0].path == path


def test_every_place_is_named_when_a_file_is_missing(baked: Path, volume: Path) -> None:
    for base in ON_VOLUME:
        (volume / base).mkdir(parents=True, exist_ok=True)
    refs_main(volume, MAIN)
    with pytest.raises(ModelMissing) as caught:
        find(baked, volume, model("clip"))
    snapshots = volume / "huggingface-cache" / "hub" / "models--Comfy-Org--Qwen" / "snapshots"
    expected = [
        *(root / folder / "a.safetensors"
          for root in (baked, *(volume / base for base in ON_VOLUME))
          for folder in ("clip", "text_encoders")),
        *(snapshots / commit / "split_files" / "a.safetensors" for commit in (REVISION, MAIN)),
    ]  # fmt: skip
    assert caught.value.details["missing"][0]["searched"] == [str(path) for path in expected]
    assert all(str(path) in caught.value.message for path in expected)


def test_without_a_volume_it_is_said_once_and_its_paths_are_not_listed(
    baked: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelMissing) as caught:
        find(baked, tmp_path / "none", model(), model("loras", "l.safetensors"))
    assert caught.value.message.count(f"{tmp_path / 'none'} (volume)") == 1
    assert str(tmp_path / "none" / "vae") not in caught.value.message
    assert str(baked / "vae") in caught.value.message


def test_a_near_name_and_an_unfinished_download_are_pointed_out(baked: Path, volume: Path) -> None:
    place(volume / "models", "vae", "a_fp8.safetensors")
    place(volume, "vae", ".a.safetensors.0123456789ab.host.12345678.part")
    with pytest.raises(ModelMissing) as caught:
        find(baked, volume)
    assert f"{volume / 'models' / 'vae'} has a_fp8.safetensors" in caught.value.message
    assert f"{volume / 'vae'} has an unfinished download of it" in caught.value.message


@pytest.fixture
def read_only_volume(volume: Path) -> Iterator[Path]:
    place(volume / "models", "vae")
    place(volume / "models", "clip", "c.safetensors")
    folders = [path for path in [volume, *volume.rglob("*")] if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    yield volume
    for folder in folders:
        folder.chmod(0o755)


def tree(root: Path) -> dict[Path, int]:
    return {path: path.lstat().st_mtime_ns for path in [root, *root.rglob("*")]}


def test_nothing_is_written_on_a_volume(
    baked: Path, read_only_volume: Path, tmp_path: Path
) -> None:
    before = tree(read_only_volume)
    found = find(baked, read_only_volume, model(), model("clip", "c.safetensors"))
    link_models(found, tmp_path / "run")
    for at in found:
        check_model(at.model, at.path)
    assert tree(read_only_volume) == before


# What ComfyUI gets


def test_the_links_lead_to_the_files_that_were_found(
    baked: Path, volume: Path, tmp_path: Path
) -> None:
    place(baked, "diffusion_models", "u.safetensors")
    hub_cache(volume, REVISION)
    found = find(baked, volume, model("unet", "u.safetensors"), model())
    link_models(found, tmp_path / "run")
    link_models(found, tmp_path / "run")
    for at in found:
        link = tmp_path / "run" / at.model.folder / at.model.file
        assert link.samefile(at.path)
        assert link.is_symlink()


def test_a_relative_models_folder_gives_links_that_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(tmp_path / "here", "vae")
    monkeypatch.chdir(tmp_path)
    link_models(find_models(lock_of(model()), folder_place(Path("here"))), tmp_path / "run")
    monkeypatch.chdir("/")
    assert (tmp_path / "run" / "vae" / "a.safetensors").read_bytes() == WEIGHTS


def test_comfyui_is_told_of_the_links_and_of_each_models_folder_that_is_there(
    baked: Path, volume: Path, tmp_path: Path
) -> None:
    (volume / "models").mkdir()
    (volume / "huggingface-cache" / "hub").mkdir(parents=True)
    places = search_places(baked, volume)
    sections = model_folders(tmp_path / "links", places, ["vae", "unet"])
    assert [section["base_path"] for section in sections.values()] == [
        str(path) for path in (volume / "models", volume, baked, tmp_path / "links")
    ]
    for section in sections.values():
        assert section["is_default"] is True
        assert (section["vae"], section["unet"]) == ("vae", "unet")
