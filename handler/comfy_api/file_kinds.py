"""What kind of file a node saved, and its content type: by its first bytes where they are sure,
else by its name."""

from dataclasses import dataclass
from enum import StrEnum

# Enough for every mark below; a Matroska file names its kind within the first 64 bytes.
HEAD_BYTES = 64


class FileKind(StrEnum):
    """`kind` of an entry of `files`; pictures have a list of their own."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    MODEL_3D = "3d"
    TEXT = "text"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class FileType:
    kind: FileKind
    content_type: str


UNKNOWN = FileType(FileKind.OTHER, "application/octet-stream")
# IANA's names; the commonly used one where there is none.
_BY_EXTENSION = {
    extension: FileType(kind, content_type)
    for kind, types in {
        FileKind.IMAGE: {
            "png apng": "image/png", "jpg jpeg": "image/jpeg", "webp": "image/webp",
            "gif": "image/gif", "tif tiff": "image/tiff", "bmp": "image/bmp",
            "avif": "image/avif", "jp2": "image/jp2", "tga": "image/x-tga",
            "ppm": "image/x-portable-pixmap", "qoi": "image/qoi", "ico": "image/vnd.microsoft.icon",
        },
        FileKind.VIDEO: {
            "mp4 m4v": "video/mp4", "webm": "video/webm", "mkv": "video/x-matroska",
            "mov": "video/quicktime", "avi": "video/x-msvideo", "mpg mpeg": "video/mpeg",
            "ogv": "video/ogg",
        },
        FileKind.AUDIO: {
            "flac": "audio/flac", "mp3": "audio/mpeg", "wav": "audio/wav", "m4a": "audio/mp4",
            "opus ogg oga": "audio/ogg", "aac": "audio/aac", "aiff aif": "audio/aiff",
        },
        FileKind.MODEL_3D: {
            "glb": "model/gltf-binary", "gltf": "model/gltf+json", "obj": "model/obj",
            "mtl": "model/mtl", "ply": "model/ply", "stl": "model/stl", "3mf": "model/3mf",
            "usdz": "model/vnd.usdz+zip", "dae": "model/vnd.collada+xml",
            "fbx usd splat ksplat spz": "application/octet-stream",
        },
        FileKind.TEXT: {
            "txt log srt": "text/plain", "md": "text/markdown", "csv": "text/csv",
            "tsv": "text/tab-separated-values", "vtt": "text/vtt", "html": "text/html",
            "xml": "application/xml", "json": "application/json",
            "jsonl": "application/jsonl", "yaml yml": "application/yaml",
        },
        FileKind.OTHER: {
            "svg": "image/svg+xml", "exr": "image/x-exr", "zip": "application/zip",
            "pdf": "application/pdf", "heic": "image/heic",
        },
    }.items()
    for extensions, content_type in types.items()
    for extension in extensions.split()
}  # fmt: skip
_BY_START = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpg",
    b"GIF8": "gif",
    b"fLaC": "flac",
    b"ID3": "mp3",
    b"glTF": "glb",
    b"ply\n": "ply",
    b"ply\r": "ply",
    b"%PDF-": "pdf",
}
_BY_RIFF = {b"WEBP": "webp", b"WAVE": "wav", b"AVI ": "avi"}
# The brand of an ISO file (MP4 and its kin); of the many that are left, all are of videos.
_BY_BRAND = {
    b"avif": "avif", b"avis": "avif", b"heic": "heic", b"heix": "heic", b"mif1": "heic",
    b"qt  ": "mov", b"M4A ": "m4a", b"M4B ": "m4a",
}  # fmt: skip


def extension_of(filename: str) -> str:
    """In lower case, without the dot; "bin" when the name has none."""
    stem, _, extension = filename.rpartition(".")
    return extension.lower() if stem and extension else "bin"


def file_type(head: bytes, filename: str) -> FileType:
    """`head` is the file's first HEAD_BYTES, or all of a shorter one."""
    named = extension_of(filename)
    return _BY_EXTENSION.get(_extension_by_content(head, named) or named, UNKNOWN)


def is_named_as_media(filename: str) -> bool:
    """Whether the name alone tells a picture, a video, a sound or a 3D model."""
    kind = _BY_EXTENSION.get(extension_of(filename), UNKNOWN).kind
    return kind not in {FileKind.OTHER, FileKind.TEXT}


def _extension_by_content(head: bytes, named: str) -> str | None:
    if extension := next((to for start, to in _BY_START.items() if head.startswith(start)), None):
        return extension
    if head.startswith(b"RIFF"):
        return _BY_RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        # Sound in an MP4 may have the brand of a video.
        return _BY_BRAND.get(head[8:12]) or (named if named == "m4a" else "mp4")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return "webm" if b"webm" in head else "mkv"
    if head.startswith(b"OggS"):
        return "ogv" if b"theora" in head else "ogg"
    return None
