"""Which addresses hooks may go to, by their form alone. Pure."""

from collections.abc import Collection
from urllib.parse import urlsplit

from handler.contract import AddressFault, HttpsUrl


def check_address(url: str, hosts: Collection[str] = ()) -> str:
    """Raises ValueError unless it is https to a name or a public address, or leads to one of the
    `hosts` that the operator has named."""
    if is_at(url, hosts):
        return url
    try:
        HttpsUrl.parse(url)
    except AddressFault as exc:
        raise ValueError(f"the address {exc}") from exc
    return url


def is_at(url: str, hosts: Collection[str]) -> bool:
    """Whether it leads to one of the hosts, which are as `127.0.0.1:9000`."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and url.isascii() and parts.netloc in hosts
