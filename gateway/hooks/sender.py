"""One POST to an address that a caller named: signed, bounded, and to public machines only."""

import asyncio
import ipaddress
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

from gateway.hooks.address import is_at
from handler.contract import HttpsUrl, IPAddress, is_public

_TIMEOUT = httpx.Timeout(20, connect=10)
_WHOLE_S = 30.0
_GONE = 410
_LONGEST_RETRY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is for the owner: a status, or why there was none. `is_over`: 410, which ends it."""

    is_taken: bool
    text: str
    is_over: bool = False
    retry_after_s: float | None = None


class HookSender:
    """`hosts` (`127.0.0.1:9000`) get hooks by http and wherever they are: services beside the
    gateway, and tests. `resolve` and `is_allowed` are for tests."""

    def __init__(
        self,
        secret: str,
        hosts: Collection[str] = (),
        *,
        resolve: Callable[[str], list[IPAddress]] | None = None,
        is_allowed: Callable[[IPAddress], bool] = is_public,
        verify: object = True,
        port: int = 443,
    ) -> None:
        self._signer = _signer(secret)
        self._hosts = frozenset(hosts)
        self._resolve = resolve or _addresses
        self._is_allowed = is_allowed
        self._port = port
        # No connection is kept: they go by address, and another host's may be behind the same one.
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT, trust_env=False, follow_redirects=False, verify=verify,  # type: ignore[arg-type]
            limits=httpx.Limits(max_connections=64, max_keepalive_connections=0),
            headers={"User-Agent": "qwen-image-edit-gateway", "Accept-Encoding": "identity"},
        )  # fmt: skip

    async def aclose(self) -> None:
        await self._client.aclose()

    async def send(self, url: str, message_id: str, body: bytes) -> Answer:
        """Raises nothing that an address or who answers there can cause."""
        try:
            async with asyncio.timeout(_WHOLE_S):
                return await self._send(url, message_id, body)
        except TimeoutError:
            return Answer(False, f"no answer within {_WHOLE_S:.0f} s")
        except ValueError as exc:
            return Answer(False, f"the address {exc}")
        except (httpx.HTTPError, OSError) as exc:
            return Answer(False, f"no answer ({type(exc).__name__})")

    async def _send(self, url: str, message_id: str, body: bytes) -> Answer:
        target, headers, extensions = await self._target(url)
        headers |= self._signed(message_id, body)
        request = self._client.build_request(
            "POST", target, content=body, headers=headers, extensions=extensions
        )
        # Only the head is read: what a stranger answers may have no end.
        answer = await self._client.send(request, stream=True)
        try:
            status = answer.status_code
            return Answer(
                200 <= status < 300, str(status), status == _GONE,
                _retry_after_s(answer.headers.get("retry-after")),
            )  # fmt: skip
        finally:
            await answer.aclose()

    async def _target(self, url: str) -> tuple[str, dict[str, str], dict[str, str]]:
        """By the very address that was checked, so that no second look-up can lead elsewhere."""
        if is_at(url, self._hosts):
            return url, {}, {}
        parsed = HttpsUrl.parse(url)
        host = parsed.host.strip("[]")
        found = await asyncio.to_thread(self._resolve, host)
        if not found or not all(map(self._is_allowed, found)):
            raise ValueError("is not public")
        literal = f"[{found[0]}]" if found[0].version == 6 else str(found[0])
        path = parsed.whole.removeprefix(f"https://{parsed.host}")
        # An address in digits has no name to ask for.
        extensions = {} if parsed.host == literal else {"sni_hostname": host}
        return f"https://{literal}:{self._port}{path}", {"Host": parsed.host}, extensions

    def _signed(self, message_id: str, body: bytes) -> dict[str, str]:
        # The receiver compares it with its own clock. UTC: the library replaces any other zone.
        at = datetime.now(UTC)
        return {
            "Content-Type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._signer.sign(message_id, at, body.decode()),
        }


def _signer(secret: str) -> Webhook:
    """A secret that is no base64, and so none of Standard Webhooks', is a key as it stands."""
    try:
        return Webhook(secret)
    except (ValueError, EmptyWebhookSecretError):
        return Webhook(secret.encode())


def _addresses(host: str) -> list[IPAddress]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [ipaddress.ip_address(entry[4][0]) for entry in found]


def _retry_after_s(value: str | None) -> float | None:
    """Seconds, or a date."""
    if value is None:
        return None
    try:
        seconds = (
            float(value)
            if value.strip().isdecimal()
            else (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds()
        )
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(seconds, 0.0), _LONGEST_RETRY_S)
