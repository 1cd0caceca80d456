"""Addresses that a picture may be fetched from: https URLs and keys of the bucket.

A caller must not reach through the worker what only the worker can reach. So an address is taken
apart by strict rules and put together again from its checked parts: no second parser can read
another host in it.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

# Signed addresses with a session token have about 2000.
_MOST_CHARACTERS = 8000
# S3's limit.
_MOST_KEY_BYTES = 1024
# Some parsers take a backslash for a slash.
_PLAIN = re.compile(r"[!-\[\]-~]+")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
# Every form that the C library's inet_aton takes for IPv4 ends so: 2130706433, 0x7f.1, 0177.0.0.1.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_NOT_IN_KEYS = re.compile(r"[\\\x00-\x1f\x7f\ud800-\udfff]")

# Python's is_global follows the registries of IANA; these it leaves out or has by version.
_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.0.0.0/24",  # protocol assignments; a cloud has its metadata there
            "192.88.99.0/24",  # relays to 6to4
            "168.63.129.16/32",  # Azure's host, from inside each of its machines
            "2001::/23",  # protocol assignments, Teredo among them
            "2002::/16",  # 6to4: an IPv4 address inside
            "3fff::/20",  # documentation
        ),
    )
)
# All that is assigned as global unicast. NAT64, IPv4-mapped and the private ranges lie outside.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


class AddressFault(ValueError):
    """The text reads on after "the address"; it never holds the address itself."""


@dataclass(frozen=True, slots=True)
class HttpsUrl:
    """As text it has no query, which may hold a signature."""

    host: str
    path: str
    query: str = field(repr=False)

    def __str__(self) -> str:
        return f"https://{self.host}{self.path}"

    @property
    def whole(self) -> str:
        return f"{self}?{self.query}" if self.query else str(self)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises AddressFault."""
        parts = _split(text)
        if parts.scheme != "https":
            raise AddressFault("must begin with https://")
        if "@" in parts.netloc:
            raise AddressFault("must not hold a user name or a password")
        try:
            port = parts.port
        except ValueError as exc:
            raise AddressFault("has a port that is no number") from exc
        if port not in (None, 443):
            raise AddressFault("must not name a port other than 443")
        return cls(_checked_host(parts.hostname or ""), parts.path or "/", parts.query)

    def join(self, location: str) -> Self:
        """Where a redirect leads. Raises AddressFault."""
        try:
            return self.parse(urljoin(self.whole, location))
        except AddressFault:
            raise
        except ValueError as exc:
            raise AddressFault("is no URL") from exc


@dataclass(frozen=True, slots=True)
class BucketKey:
    key: str

    def __str__(self) -> str:
        return f"bucket:{self.key}"

    @classmethod
    def parse(cls, key: str) -> Self:
        """Raises AddressFault for a key that a store, or a proxy before it, may take for another:
        also where it decodes `%2e%2e`."""
        if _NOT_IN_KEYS.search(key) or len(key.encode()) > _MOST_KEY_BYTES:
            raise AddressFault(
                f"must be a key of at most {_MOST_KEY_BYTES} bytes, without a backslash or a "
                "control character"
            )
        for spelling in (key, unquote(key)):
            if {"", ".", ".."} & set(spelling.split("/")):
                raise AddressFault("must be a key without '..', '.' or an empty part")
        return cls(key)


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """An entry of `input.images` that is still at its address; `where` names it in messages."""

    name: str
    where: str
    address: HttpsUrl | BucketKey


def parse_address(text: str) -> HttpsUrl | BucketKey | None:
    """None for a text that is no address: base64 has no ':'. Raises AddressFault."""
    scheme, colon, rest = text[:20].partition(":")
    match scheme.lower():
        case _ if not colon:
            return None
        case "bucket":
            return BucketKey.parse(text.partition(":")[2])
        case "https":
            return HttpsUrl.parse(text)
        case _ if rest.startswith("//"):
            raise AddressFault("must begin with https://, or be bucket: and a key")
        case _:
            return None


def is_public(address: IPAddress) -> bool:
    """Whether anybody's machine can reach it: no private, local, shared, reserved or multicast
    address, and none with another address inside."""
    if address.version == 6 and address not in _GLOBAL_UNICAST:
        return False
    return (
        address.is_global
        and not address.is_multicast
        and not any(address in network for network in _NOT_PUBLIC)
    )


def _split(text: str) -> SplitResult:
    if len(text) > _MOST_CHARACTERS:
        raise AddressFault(f"is longer than {_MOST_CHARACTERS} characters")
    if not _PLAIN.fullmatch(text):
        raise AddressFault(
            "holds a space, a backslash or a character outside ASCII; write it percent-encoded"
        )
    try:
        return urlsplit(text)
    except ValueError as exc:
        raise AddressFault("is no URL") from exc


def _checked_host(host: str) -> str:
    """In the one spelling that every library reads alike. Raises AddressFault."""
    host = host.removesuffix(".")
    labels = host.split(".")
    try:
        if "%" in host:
            raise ValueError("an IPv6 zone, or an escape")
        if ":" in host:
            literal: IPAddress | None = ipaddress.IPv6Address(host)
        else:
            literal = ipaddress.IPv4Address(host) if _NUMBER.fullmatch(labels[-1]) else None
    except ValueError as exc:
        raise AddressFault("has a host that is no name and no plain IP address") from exc
    if literal is not None:
        if not is_public(literal):
            raise AddressFault("has a host that is not public")
        return f"[{literal.compressed}]" if literal.version == 6 else str(literal)
    if len(host) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise AddressFault("has no valid host name")
    return host
