"""The page's files as they are served: from one folder, with the headers that guard them. Pure but
for reading the folder.

The page is at `/services/qwen-image-edit`, its files are below that address, and all its own
addresses are relative.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file with what its answer says of it; `etag` is quoted, as the header has it."""

    body: bytes
    media_type: str
    etag: str


def page_files() -> dict[str, PageFile]:
    """Every file of the page by its name; `index.html` is the page itself."""
    return {path.name: _read(path) for path in sorted(FOLDER.iterdir()) if path.suffix in _TYPES}


def page_headers(picture_origins: Iterable[str] = ()) -> dict[str, str]:
    """What every answer carries. `picture_origins` are those of a bucket to which results are
    redirected: the page shows pictures of its own origin and of these only."""
    pictures = " ".join(("img-src 'self' blob: data:", *picture_origins))
    connections = " ".join(("connect-src 'self'", *picture_origins))
    policy = (
        f"default-src 'none'; script-src 'self'; style-src 'self'; {pictures}; {connections}; "
        "font-src 'self'; manifest-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        # Asked for each time and answered with 304: a new version is whole at once.
        "cache-control": "no-cache",
    }


def _read(path: Path) -> PageFile:
    body = path.read_bytes()
    return PageFile(body, _TYPES[path.suffix], f'"{sha256(body).hexdigest()[:32]}"')
