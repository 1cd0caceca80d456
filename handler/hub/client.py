"""The Hugging Face hub: what a file is, and its bytes. The one module that knows huggingface_hub.

The library's own download into a folder starts again from nothing when its process dies (2.4.0,
file_download.py: the temporary file has a new name each time and is removed on failure), and a
file here has 20 GB. So its session, headers, addresses and errors are used, and the loop over
ranges is fetch.py's.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_url,
    hf_raise_for_status,
)
from huggingface_hub.errors import FileMetadataError, HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.hf_api import RepoFile

from handler.errors import ModelFetchFailed
from handler.models import ModelFile

FetchFault = Literal[
    "unauthorized", "not_found", "rate_limited", "unreachable", "broken_off", "other_file",
    "wrong_bytes", "disk_full", "not_writable", "offline", "waited",
]  # fmt: skip

_CONNECT_S = 10.0
# Without a byte for so long a connection counts as broken off.
_READ_S = 30.0
# The hub's 5xx, a gateway's, and "request timeout": worth another try.
_PASSING = frozenset({408, 500, 502, 503, 504})


class TryAgain(Exception):
    """A fault that may pass. `after_s`: the seconds that the hub asks to wait, if it does."""

    def __init__(self, fault: ModelFetchFailed, after_s: float | None = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.after_s = after_s


@dataclass(frozen=True, slots=True)
class HubFile:
    """What the hub says of one file; `revision` is the commit that last changed it."""

    bytes: int
    sha256: str
    revision: str


def fetch_failed(model: ModelFile, kind: FetchFault, fault: str) -> ModelFetchFailed:
    return ModelFetchFailed(f"{model.place}: {fault}", file=model.file, kind=kind)


class Hub:
    """`endpoint`: an address such as https://huggingface.co, which is the default. No token is
    looked for on disk: `token` or none."""

    def __init__(self, endpoint: str | None = None, token: str | None = None) -> None:
        # Else the library asks the hub for a list by which it describes this machine's programs in
        # each request (2.4.0, utils/_detect_agent.py).
        constants.HF_HUB_DISABLE_TELEMETRY = True
        address = endpoint.rstrip("/") if endpoint else None
        self._api = HfApi(endpoint=address, token=token or False)
        self._token = token

    def check(self, model: ModelFile) -> str:
        """The address of the file's bytes at the locked commit, valid for a while.

        Raises ModelFetchFailed when the hub refuses or has another file there, TryAgain.
        """
        endpoint = self._api.endpoint
        url = hf_hub_url(model.repo, model.path, revision=model.revision, endpoint=endpoint)
        with self._translated(model):
            found = get_hf_file_metadata(
                url, timeout=_CONNECT_S, token=self._token or False, endpoint=endpoint
            )
        # A mirror need not name the digest; the bytes are hashed in the end in any case.
        is_digest = found.etag is not None and len(found.etag) == len(model.sha256)
        if (is_digest and found.etag != model.sha256) or found.size not in (None, model.bytes):
            raise fetch_failed(
                model, "other_file",
                f"{url} is another file than the locked one: {found.size} bytes, sha256 "
                f"{found.etag}, and the lock has {model.bytes} bytes, {model.sha256}",
            )  # fmt: skip
        return found.location

    @contextlib.contextmanager
    def read(self, model: ModelFile, start: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """The file's bytes from `start` on, and the offset at which they really begin: 0 where a
        server does not serve ranges.

        Raises ModelFetchFailed, TryAgain; both also while the bytes are read.
        """
        url = self.check(model)
        with self._reading(model, url, start) as response:
            offset = start if response.status_code == httpx2.codes.PARTIAL_CONTENT else 0
            # In chunks as they come: collecting larger ones would lose some at each break.
            yield offset, response.iter_bytes()

    def read_part(self, model: ModelFile, start: int, length: int) -> bytes:
        """Raises ModelFetchFailed, TryAgain."""
        url = self.check(model)
        with self._reading(model, url, start, start + length - 1) as response:
            return response.read()

    @contextlib.contextmanager
    def _reading(
        self, model: ModelFile, url: str, start: int, last: int | None = None
    ) -> Iterator[httpx2.Response]:
        # The address is signed for a CDN: the token is for the hub alone.
        is_hub = urlsplit(url)[:2] == urlsplit(self._api.endpoint)[:2]
        headers = {"Accept-Encoding": "identity"}
        if self._token and is_hub:
            headers["Authorization"] = f"Bearer {self._token}"
        if start or last is not None:
            headers["Range"] = f"bytes={start}-{'' if last is None else last}"
        timeout = httpx2.Timeout(_READ_S, connect=_CONNECT_S)
        with (
            self._translated(model),
            get_session().stream("GET", url, timeout=timeout, headers=headers) as response,
        ):
            hf_raise_for_status(response)
            yield response

    def describe(self, repo: str, path: str, revision: str = "main") -> HubFile | None:
        """What `path` is at `revision`; None when it is not there or not in large-file storage.

        Raises httpx2.HTTPError.
        """
        for found in self._api.get_paths_info(repo, [path], revision=revision, expand=True):
            if isinstance(found, RepoFile) and found.lfs and found.last_commit:
                return HubFile(found.lfs.size, found.lfs.sha256, found.last_commit.oid)
        return None

    @contextlib.contextmanager
    def _translated(self, model: ModelFile) -> Iterator[None]:
        """The library's errors as ours; HfHubHTTPError and TransportError are both HTTPError."""
        try:
            yield
        except HfHubHTTPError as exc:
            raise self._refusal(model, exc) from exc
        except OfflineModeIsEnabled as exc:
            text = "HF_HUB_OFFLINE is set, so nothing is fetched"
            raise fetch_failed(model, "offline", text) from exc
        except FileMetadataError as exc:
            raise fetch_failed(model, "unreachable", f"{self._api.endpoint}: {exc}") from exc
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol) as exc:
            text = f"{self._api.endpoint} is no address of a hub: {exc}"
            raise fetch_failed(model, "unreachable", text) from exc
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as exc:
            text = f"{self._api.endpoint} can't be reached: {exc}"
            raise TryAgain(fetch_failed(model, "unreachable", text)) from exc
        except httpx2.HTTPError as exc:
            text = f"the connection broke off: {str(exc) or type(exc).__name__}"
            raise TryAgain(fetch_failed(model, "broken_off", text)) from exc

    def _refusal(self, model: ModelFile, exc: HfHubHTTPError) -> Exception:
        status, headers = exc.response.status_code, exc.response.headers
        where = f"{model.repo} at {model.revision}"
        if status in (401, 403):
            reason = headers.get("X-Error-Message") or "it is private, gated or does not exist"
            text = f"the hub refuses {where} ({status}: {reason}); {self._token_hint()}"
            return fetch_failed(model, "unauthorized", text)
        if status == 404:
            code = headers.get("X-Error-Code")
            what = "no such revision" if code == "RevisionNotFound" else f"no {model.path}"
            return fetch_failed(model, "not_found", f"the hub has {what} in {where} (404)")
        if status == 429:
            wait = headers.get("Retry-After", "")
            after = float(wait) if wait.isdigit() else None
            text = "the hub takes no more requests for now (429" + (
                f"; it asks to wait {after:.0f} s)" if after is not None else ")"
            )
            return TryAgain(fetch_failed(model, "rate_limited", text), after)
        fault = fetch_failed(model, "unreachable", f"the hub answers {status} for {where}")
        return TryAgain(fault) if status in _PASSING else fault

    def _token_hint(self) -> str:
        if self._token:
            return "accept its terms on its page, or set HF_TOKEN to a token that may read it"
        return "set HF_TOKEN to a token that may read it"
