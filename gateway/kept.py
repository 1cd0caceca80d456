"""Secrets that nobody has set: made at the first start, and kept in the data folder."""

import base64
import contextlib
import os
import secrets
from pathlib import Path

from gateway.errors import InvalidSettings
from gateway.settings import Settings


def worker_key(settings: Settings) -> str:
    """What is set, or else what is kept in the data folder, made at the first start."""
    if settings.gateway_worker_key is not None:
        return settings.gateway_worker_key.get_secret_value()
    return _kept(settings.gateway_data_dir / "worker-key", secrets.token_urlsafe(32))


def webhook_secret(settings: Settings) -> str:
    """As `worker_key`."""
    if settings.gateway_webhook_secret is not None:
        return settings.gateway_webhook_secret.get_secret_value()
    made = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
    return _kept(settings.gateway_data_dir / "webhook-secret", made)


def _kept(path: Path, new: str) -> str:
    """What is in the file, or else `new`, from now on. Raises InvalidSettings."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor
                file.write(new)
        return path.read_text().strip()
    except OSError as exc:
        raise InvalidSettings(f"GATEWAY_DATA_DIR: {path} can't be read: {exc.strerror}") from exc
