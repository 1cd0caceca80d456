"""Bytes from an https address that a caller names: the one module that speaks HTTP to strangers.

Nothing but public addresses is connected to, nothing of this worker is sent along, and what comes
is cut off at a limit. Time limits are the caller's.
"""

import contextlib
import ipaddress
import socket
import ssl
from collections.abc import Callable, Iterator

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from handler.contract import AddressFault, HttpsUrl, IPAddress, is_public
from handler.errors import ImageUnreachable, InvalidImage

_MOST_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
# Of the client errors, those that another try may not meet.
_PASSING = frozenset({408, 425, 429})
_HEADERS = {
    "Accept": "image/png, image/jpeg, image/webp",
    "Accept-Encoding": "identity",
    "User-Agent": "qwen-image-edit-worker",
}


class HttpsSource:
    """The arguments are for tests, whose servers are on loopback."""

    def __init__(
        self,
        *,
        is_allowed: Callable[[IPAddress], bool] = is_public,
        make_resolver: Callable[[], AbstractResolver] = aiohttp.DefaultResolver,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        self._is_allowed = is_allowed
        self._make_resolver = make_resolver
        self._ssl_context = ssl_context

    async def get(self, url: HttpsUrl, *, limit_bytes: int) -> bytes:
        """Raises InvalidImage when the address is refused or has nothing to fetch, and
        ImageUnreachable when another try may do better."""
        resolver = _CheckedResolver(self._make_resolver(), self._is_allowed)
        # trust_env: proxies, and passwords of .netrc.
        session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=resolver, use_dns_cache=False, ssl=self._ssl_context or True
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            headers=_HEADERS,
            timeout=aiohttp.ClientTimeout(),
            trust_env=False,
        )
        async with contextlib.aclosing(resolver), session:
            return await _follow(session, url, limit_bytes)


class _CheckedResolver(AbstractResolver):
    """aiohttp connects to what `resolve` has returned and asks once for each connection, so the
    addresses checked are those connected to. Addresses in digits pass it by: HttpsUrl checks them.
    """

    def __init__(self, resolver: AbstractResolver, is_allowed: Callable[[IPAddress], bool]) -> None:
        self._resolver = resolver
        self._is_allowed = is_allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            if not self._is_allowed(ipaddress.ip_address(result["host"])):
                # Which address it is would be news to a caller who gropes about.
                raise InvalidImage(f"https://{host} is not public")
        return found

    async def close(self) -> None:
        await self._resolver.close()

    aclose = close


async def _follow(session: aiohttp.ClientSession, url: HttpsUrl, limit_bytes: int) -> bytes:
    for _ in range(_MOST_REDIRECTS + 1):
        with _translated(url):
            # encoded: a signature may be over the very spelling.
            request = session.get(URL(url.whole, encoded=True), allow_redirects=False)
            async with request as response:
                location = response.headers.get("Location")
                if response.status not in _REDIRECTS or location is None:
                    _check(response, url)
                    return await _read(response, url, limit_bytes)
        try:
            url = url.join(location)
        except AddressFault as exc:
            raise InvalidImage(f"{url} redirects to an address that {exc}") from exc
    raise InvalidImage(f"{url} redirects once more, after {_MOST_REDIRECTS} times")


def _check(response: aiohttp.ClientResponse, url: HttpsUrl) -> None:
    status = response.status
    if status >= 500 or status in _PASSING:
        raise ImageUnreachable(f"{url} answers {status}", http_status=status)
    if status != 200:
        raise InvalidImage(f"{url} answers {status}", http_status=status)
    if (encoding := response.headers.get("Content-Encoding", "identity").lower()) != "identity":
        raise InvalidImage(f"{url} answers with content encoding {encoding!r}, unasked")


async def _read(response: aiohttp.ClientResponse, url: HttpsUrl, limit_bytes: int) -> bytes:
    data = bytearray()
    too_large = InvalidImage(
        f"{url} is over the limit of {limit_bytes} bytes", limit_bytes=limit_bytes
    )
    if (response.content_length or 0) > limit_bytes:
        raise too_large
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > limit_bytes:
            raise too_large
    return bytes(data)


@contextlib.contextmanager
def _translated(url: HttpsUrl) -> Iterator[None]:
    """Of aiohttp's errors only the kind is told: their texts may hold the query."""
    try:
        yield
    except aiohttp.ClientConnectorCertificateError as exc:
        raise InvalidImage(f"{url} has no valid certificate for its host") from exc
    except aiohttp.ClientConnectorDNSError as exc:
        raise ImageUnreachable(f"{url}: its host name can't be resolved") from exc
    except aiohttp.ClientPayloadError as exc:
        raise ImageUnreachable(f"{url} broke off before its end") from exc
    except (aiohttp.ClientError, OSError) as exc:
        raise ImageUnreachable(f"{url} does not answer ({type(exc).__name__})") from exc
