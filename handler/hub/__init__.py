"""Brings the locked weights from the Hugging Face hub to their places, whatever breaks off."""

from handler.hub.client import Hub, TryAgain
from handler.hub.fetch import fetch_models, fetch_target, find_or_fetch

__all__ = ["Hub", "TryAgain", "fetch_models", "fetch_target", "find_or_fetch"]
