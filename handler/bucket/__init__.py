"""Objects in an S3 bucket: their keys, their upload and download, and the addresses callers get."""

from handler.bucket.client import (
    DEFAULT_INPUT_PREFIX,
    DEFAULT_KEY_TEMPLATE,
    INPUT_PREFIX,
    MAX_URL_EXPIRES_S,
    Bucket,
    BucketSettings,
    check_key_template,
)

__all__ = [
    "DEFAULT_INPUT_PREFIX",
    "DEFAULT_KEY_TEMPLATE",
    "INPUT_PREFIX",
    "MAX_URL_EXPIRES_S",
    "Bucket",
    "BucketSettings",
    "check_key_template",
]
