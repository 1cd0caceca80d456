"""Pictures that a caller names instead of sending: by an https address or a key of the bucket."""

from handler.sources.fetch import ImageFetcher
from handler.sources.https import HttpsSource

__all__ = ["HttpsSource", "ImageFetcher"]
