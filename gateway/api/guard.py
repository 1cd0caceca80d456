"""Who may call, and how often."""

import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from fastapi import Request
from limits import parse as parse_rate
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from gateway.errors import Forbidden, RateLimited, Unauthorized
from gateway.settings import Settings, is_loopback

COOKIE = "gateway_key"
EVERYBODY = "everybody"
"""The one owner where no keys are set, and of a public page where they are."""
_KEYS_KNOWN_S = 5.0


def hash_key(key: str) -> str:
    """Keys that the gateway makes have 256 bits, so that no slower hash is needed."""
    return hashlib.sha256(key.encode()).hexdigest()


class Guard:
    """`stored_keys` gives hash to name of those that `keys add` has made."""

    def __init__(self, settings: Settings, stored_keys: Callable[[], Mapping[str, str]]) -> None:
        self._settings = settings
        self._given = {hash_key(key): name for name, key in settings.api_keys.items()}
        self._stored_keys = stored_keys
        self._known: Mapping[str, str] = {}
        self._known_until = 0.0
        self._rate = parse_rate(settings.gateway_rate_limit)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    @property
    def has_keys(self) -> bool:
        return bool(self._keys())

    @property
    def page(self) -> str:
        """`off`, `key` or `public`."""
        return self._settings.gateway_page or ("key" if self.has_keys else "public")

    def owner_of(self, request: Request) -> str:
        """Raises Unauthorized and Forbidden."""
        key = bearer(request.headers.get("authorization"))
        if key is not None and self.has_keys:
            return self._owner_of_key(key)
        # Without a key of its own a request may be some web page's, sent by a visitor's browser.
        self._check_origin(request)
        cookie = request.cookies.get(COOKIE)
        if self.has_keys and cookie:
            return self._owner_of_key(cookie)
        if not self.has_keys or self.page == "public":
            return EVERYBODY
        raise Unauthorized("send your key: Authorization: Bearer KEY")

    def check_key(self, key: str) -> None:
        """Raises Unauthorized."""
        self._owner_of_key(key)

    def check_rate(self, request: Request) -> None:
        """Raises RateLimited."""
        key = bearer(request.headers.get("authorization")) or request.cookies.get(COOKIE)
        if key is not None and self.has_keys:
            who: tuple[str, ...] = (hash_key(key),)
        else:
            address = request.client.host if request.client else "-"
            who = (address, request.headers.get("origin", "-"))
        if not self._limiter.hit(self._rate, *who):
            left_s = self._limiter.get_window_stats(self._rate, *who).reset_time - time.time()
            wait_s = max(1, round(left_s))
            raise RateLimited(
                f"more than {self._rate}; try again in {wait_s} s", retry_after_s=wait_s
            )

    def is_admin(self, request: Request) -> bool:
        """Without an admin key: whoever may call, where no keys are set."""
        admin = self._settings.gateway_admin_key
        key = bearer(request.headers.get("authorization"))
        if admin is None:
            return not self.has_keys
        return key is not None and hmac.compare_digest(
            key.encode(), admin.get_secret_value().encode()
        )

    def _owner_of_key(self, key: str) -> str:
        name = self._keys().get(hash_key(key))
        if name is None:
            raise Unauthorized("the key is not known")
        return name

    def _keys(self) -> Mapping[str, str]:
        if time.monotonic() > self._known_until:
            self._known = {**self._stored_keys(), **self._given}
            self._known_until = time.monotonic() + _KEYS_KNOWN_S
        return self._known

    def _check_origin(self, request: Request) -> None:
        host = request.headers.get("host", "")
        name = urlsplit(f"//{host}").hostname
        public = self._settings.gateway_public_url
        if not self.has_keys and not (is_loopback(name) or (public and name == _host(public))):
            # A name that an attacker points at this machine would make his page one of ours.
            raise Forbidden(f"this gateway has no keys, so it does not answer for {host[:100]!r}")
        origin = request.headers.get("origin")
        if origin is None or urlsplit(origin).netloc == host:
            return
        if origin not in {*self._settings.origins, public}:
            raise Forbidden(f"pages of {origin[:100]!r} may not call; see GATEWAY_ORIGINS")


def bearer(header: str | None) -> str | None:
    """RunPod's SDKs send the bare key in places."""
    if not header:
        return None
    scheme, space, rest = header.partition(" ")
    return rest.strip() if space and scheme.lower() == "bearer" else header.strip()


def _host(url: str) -> str | None:
    return urlsplit(url).hostname
