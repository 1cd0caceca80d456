"""A job's pictures: fetched where an address or a key of the bucket names them, and checked."""

from handler.sources.checker import PictureChecker
from handler.sources.fetch import ImageFetcher
from handler.sources.https import HttpsSource

__all__ = ["HttpsSource", "ImageFetcher", "PictureChecker"]
