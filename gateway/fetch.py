"""Fetches a picture from the address that a worker has given: where its bucket holds it."""

import httpx

from gateway.errors import InvalidOutput, StoreUnavailable

_MOST_BYTES = 100_000_000
_TIMEOUT = httpx.Timeout(30, connect=10)


def fetch_picture(url: str) -> bytes:
    """Raises StoreUnavailable where another try may help, else InvalidOutput."""
    data = bytearray()
    try:
        with httpx.stream("GET", url, timeout=_TIMEOUT, follow_redirects=False) as response:
            if response.status_code >= 500 or response.status_code == 429:
                raise StoreUnavailable(f"the worker's bucket answers {response.status_code}")
            if response.status_code != 200:
                raise InvalidOutput(f"the worker's bucket answers {response.status_code}")
            for chunk in response.iter_bytes():
                data += chunk
                if len(data) > _MOST_BYTES:
                    raise InvalidOutput(f"the worker's picture is over {_MOST_BYTES} bytes")
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as exc:
        raise InvalidOutput("the worker has given no address of a picture") from exc
    except httpx.HTTPError as exc:
        raise StoreUnavailable(f"the worker's bucket fails: {type(exc).__name__}") from exc
    return bytes(data)
