import pytest

from handler.comfy_api.file_kinds import (
    HEAD_BYTES,
    FileKind,
    extension_of,
    file_type,
    is_named_as_media,
)

MATROSKA = b"\x1a\x45\xdf\xa3\x9f\x42\x86\x81\x01\x42\xf7\x81\x01\x42\x82"


def mp4(brand: bytes) -> bytes:
    return b"\x00\x00\x00\x20ftyp" + brand + b"\x00\x00\x02\x00"


@pytest.mark.parametrize(
    ("head", "kind", "content_type"),
    [
        (b"\x89PNG\r\n\x1a\n", "image", "image/png"),
        (b"\xff\xd8\xff\xe0", "image", "image/jpeg"),
        (b"RIFF\x00\x01\x00\x00WEBPVP8X", "image", "image/webp"),
        (b"GIF89a", "image", "image/gif"),
        (mp4(b"avif"), "image", "image/avif"),
        (mp4(b"isom"), "video", "video/mp4"),
        (mp4(b"mp42"), "video", "video/mp4"),
        (mp4(b"qt  "), "video", "video/quicktime"),
        (MATROSKA + b"\x84webm", "video", "video/webm"),
        (MATROSKA + b"\x88matroska", "video", "video/x-matroska"),
        (b"RIFF\x00\x01\x00\x00AVI LIST", "video", "video/x-msvideo"),
        (b"RIFF\x00\x01\x00\x00WAVEfmt ", "audio", "audio/wav"),
        (b"fLaC\x00\x00\x00\x22", "audio", "audio/flac"),
        (b"ID3\x04\x00", "audio", "audio/mpeg"),
        (b"OggS" + bytes(24) + b"OpusHead", "audio", "audio/ogg"),
        (b"OggS" + bytes(24) + b"\x80theora", "video", "video/ogg"),
        (mp4(b"M4A "), "audio", "audio/mp4"),
        (b"glTF\x02\x00\x00\x00", "3d", "model/gltf-binary"),
    ],
)
@pytest.mark.parametrize("name", ["a", "a.bin", "a.txt"])
def test_content_decides_where_it_is_sure(
    head: bytes, kind: str, content_type: str, name: str
) -> None:
    found = file_type(head[:HEAD_BYTES], name)
    assert (found.kind, found.content_type) == (kind, content_type)


@pytest.mark.parametrize(
    ("name", "kind", "content_type"),
    [
        ("a.mp3", "audio", "audio/mpeg"),
        ("a.OBJ", "3d", "model/obj"),
        ("a.stl", "3d", "model/stl"),
        ("a.gltf", "3d", "model/gltf+json"),
        ("a.txt", "text", "text/plain"),
        ("a.json", "text", "application/json"),
        ("a.latent", "other", "application/octet-stream"),
        ("a.svg", "other", "image/svg+xml"),
        ("a", "other", "application/octet-stream"),
    ],
)
def test_else_the_name_decides(name: str, kind: str, content_type: str) -> None:
    found = file_type(b"\x7f\x00\x01\x02", name)
    assert (found.kind, found.content_type) == (kind, content_type)


def test_sound_in_an_mp4_is_told_by_its_name() -> None:
    assert file_type(mp4(b"isom"), "a.m4a").content_type == "audio/mp4"


@pytest.mark.parametrize(
    ("name", "extension"),
    [("a.PNG", "png"), ("a.b.mp4", "mp4"), ("a", "bin"), ("a.", "bin"), (".hidden", "bin")],
)
def test_every_name_has_an_extension(name: str, extension: str) -> None:
    assert extension_of(name) == extension


def test_only_names_of_media_tell_media() -> None:
    assert all(is_named_as_media(f"a.{name}") for name in ("glb", "mp4", "wav", "png"))
    assert not any(is_named_as_media(name) for name in ("a.txt", "a.latent", "a"))
    assert FileKind("3d") is FileKind.MODEL_3D
