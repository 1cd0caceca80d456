"""What strangers must know to be heard: the token of a job's hook, and signed addresses of its
pictures. Pure.

Both are derived from RunPod's API key, which every process of one gateway has and nobody else: so
nothing is stored, and a job that is sent again has the same hook.
"""

import base64
import hashlib
import hmac

_HOOK_BYTES = 24
_SIGNATURE_BYTES = 24


class Tokens:
    def __init__(self, api_key: str) -> None:
        self._key = hashlib.sha256(f"qwen-image-edit-gateway:{api_key}".encode()).digest()

    def hook(self, job_id: str) -> str:
        """192 bits that RunPod sends back to us in the address of the hook."""
        return _text(self._digest(f"hook:{job_id}")[:_HOOK_BYTES])

    def sign(self, key: str, until: int) -> str:
        """Opens the object of that key until then, in milliseconds since 1970."""
        value = f"{until}:{key}".encode()
        return f"{_text(value)}.{self._signature(value)}"

    def opened(self, token: str, now: int) -> str | None:
        """The key, unless the token is forged or out of date."""
        text, _, signature = token.partition(".")
        try:
            value = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
            until, _, key = value.decode().partition(":")
            signed = hmac.compare_digest(signature.encode(), self._signature(value).encode())
        except ValueError:
            return None
        if not signed:
            return None
        return key if now < int(until) else None

    def _signature(self, value: bytes) -> str:
        return _text(self._digest("input:" + value.decode())[:_SIGNATURE_BYTES])

    def _digest(self, text: str) -> bytes:
        return hmac.digest(self._key, text.encode(), "sha256")


def hash_token(token: str) -> str:
    """What the database holds of it."""
    return hashlib.sha256(token.encode()).hexdigest()


def _text(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()
