"""RunPod's management API v2: one method for each call used. The only speaker to it.

Errors are `application/problem+json` with title, status, detail and errors; a gateway before it may
send anything else. 60 requests a minute is the order of its limits; 429 has Retry-After.
"""

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx
import structlog

from gateway.deploy.errors import (
    Conflict,
    DeployFailed,
    KeyRefused,
    ManagementError,
    NoAnswer,
    NoSuchThing,
    NotAllowed,
    Refused,
    TooManyRequests,
)

_ATTEMPTS = 5
_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 60.0
_MOST_ANSWER_BYTES = 20_000_000
_MOST_PAGES = 100
_PASSING = frozenset({429, 500, 502, 503, 504, 520, 522, 524})

_log = structlog.get_logger()

_BY_STATUS: Mapping[int, type[ManagementError]] = {
    400: Refused, 401: KeyRefused, 403: NotAllowed, 404: NoSuchThing, 409: Conflict, 422: Refused,
    429: TooManyRequests,
}  # fmt: skip
_WHAT_TO_DO: Mapping[type[ManagementError], str] = {
    KeyRefused: "; RUNPOD_API_KEY is wrong, or was revoked",
    NotAllowed: "; the key may not manage endpoints: give it that right in RunPod's console",
    TooManyRequests: "; wait a minute and run it again",
}


class Management:
    """Use as `with`. Every method raises ManagementError. GET, PATCH and DELETE are sent again
    while a fault may pass; POST only where it was surely not taken. `sleep` is for tests."""

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._base = url.rstrip("/")
        self._sleep = sleep
        self._secret = api_key
        self._http = httpx.Client(
            headers={"Authorization": f"Bearer {api_key}", "Accept": "application/json"},
            timeout=httpx.Timeout(30, connect=10),
            transport=transport,
            trust_env=httpx.URL(url).host not in ("127.0.0.1", "localhost", "::1"),
        )

    def __enter__(self) -> Self:
        self._http.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._http.__exit__(kind, error, trace)

    def endpoints(self) -> list[dict[str, Any]]:
        return self._list("/serverless", "endpoints")

    def endpoint(self, endpoint_id: str) -> dict[str, Any]:
        return self._object("GET", f"/serverless/{quote(endpoint_id, safe='')}")

    def create(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._object("POST", "/serverless", body)

    def patch(self, endpoint_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return self._object("PATCH", f"/serverless/{quote(endpoint_id, safe='')}", body)

    def delete(self, endpoint_id: str) -> None:
        """Ends its workers and cancels its jobs. One that is gone already is no error."""
        try:
            self._ask("DELETE", f"/serverless/{quote(endpoint_id, safe='')}")
        except NoSuchThing:
            return

    def workers(self, endpoint_id: str) -> dict[str, Any]:
        """`workers`, each with `status` and `isStale`, and `summary`, counts by status."""
        return self._object("GET", f"/serverless/{quote(endpoint_id, safe='')}/workers")

    def cards(self) -> list[dict[str, Any]]:
        """The catalogue of GPUs, with `pool`, `memory` (GB), `price.serverless` (USD an hour)."""
        return self._list("/catalog/gpus?include=AVAILABILITY&product=SERVERLESS", "gpus")

    def registries(self) -> list[dict[str, Any]]:
        return self._list("/registries", "registries")

    def create_registry(self, name: str, username: str, password: str) -> dict[str, Any]:
        body = {"name": name, "username": username, "password": password}
        return self._object("POST", "/registries", body)

    def _list(self, path: str, key: str) -> list[dict[str, Any]]:
        """Follows pages where an answer tells of any; today's has none."""
        found: list[dict[str, Any]] = []
        cursor = ""
        for _ in range(_MOST_PAGES):
            asked = path + (
                f"{'&' if '?' in path else '?'}cursor={quote(cursor)}" if cursor else ""
            )
            answer = self._object("GET", asked)
            rows = answer.get(key)
            if not isinstance(rows, list):
                raise NoAnswer(f"RunPod's answer to GET {path} has no list '{key}'")
            found += [row for row in rows if isinstance(row, dict)]
            page = answer.get("pagination")
            cursor = str(page.get("nextCursor") or "") if isinstance(page, dict) else ""
            if not cursor:
                return found
        raise NoAnswer(f"RunPod's answer to GET {path} has over {_MOST_PAGES} pages")

    def _object(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        response = self._ask(method, path, body)
        try:
            answer = response.json()
        except ValueError as exc:
            raise NoAnswer(f"RunPod's answer to {method} {path} is no JSON") from exc
        if not isinstance(answer, dict):
            raise NoAnswer(f"RunPod's answer to {method} {path} is no object")
        return answer

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                response = self._http.request(method, self._base + path, json=body)
            except httpx.HTTPError as exc:
                not_taken = isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout)
                fault = self._fault(method, path, NoAnswer, 0, str(exc) or type(exc).__name__)
                may_repeat, wait_s = not_taken or method != "POST", None
            else:
                if response.is_success and len(response.content) <= _MOST_ANSWER_BYTES:
                    return response
                fault = self._fault_of(method, path, response)
                passing = response.status_code in _PASSING
                may_repeat = passing and (method != "POST" or response.status_code == 429)
                wait_s = _retry_after_s(response)
            if attempt == _ATTEMPTS or not may_repeat or (wait_s or 0) > _LONGEST_WAIT_S:
                raise fault
            self._sleep(_FIRST_WAIT_S * 2 ** (attempt - 1) if wait_s is None else wait_s)
        raise AssertionError("the last attempt returns or raises")

    def _fault_of(self, method: str, path: str, response: httpx.Response) -> ManagementError:
        kind = _BY_STATUS.get(response.status_code, NoAnswer)
        return self._fault(method, path, kind, response.status_code, _said(response))

    def _fault(
        self, method: str, path: str, kind: type[ManagementError], status: int, said: str
    ) -> ManagementError:
        said = said.replace(self._secret, "[key]") if self._secret else said
        _log.warning(
            "call to runpod failed", method=method, path=path, status=status or None, message=said
        )
        code = f" ({status})" if status else ""
        return kind(f"RunPod did not take {method} {path}{code}: {said}{_WHAT_TO_DO.get(kind, '')}")


def endpoint_id_of(endpoint: Mapping[str, Any]) -> str:
    """Raises DeployFailed for an answer without one."""
    found = endpoint.get("id")
    if not isinstance(found, str) or not found:
        raise DeployFailed("RunPod's answer names no endpoint; look into its console")
    return found


def _said(response: httpx.Response) -> str:
    """What a problem+json says, in one line; of a page, that it is one."""
    try:
        problem = response.json()
    except ValueError:
        return f"an answer of type {response.headers.get('content-type', 'unknown')[:80]}"
    if not isinstance(problem, dict):
        return "an answer that says nothing"
    parts = [str(problem.get("detail") or problem.get("title") or "an answer that says nothing")]
    errors = problem.get("errors")
    parts += [str(error) for error in errors[:10]] if isinstance(errors, list) else []
    return "; ".join(part[:500] for part in parts)


def _retry_after_s(response: httpx.Response) -> float | None:
    text = response.headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None
