"""Objects in an S3 bucket: their keys, their upload and download, and the addresses callers get."""

from handler.bucket.client import Bucket
from handler.bucket.keys import DEFAULT_KEY_TEMPLATE
from handler.bucket.settings import (
    DEFAULT_INPUT_PREFIX,
    MAX_URL_EXPIRES_S,
    AccessKeyId,
    BucketName,
    BucketSettings,
    EndpointUrl,
    InputPrefix,
    KeyTemplate,
    PublicUrl,
    Region,
    SecretAccessKey,
    UrlLife,
)

__all__ = [
    "DEFAULT_INPUT_PREFIX",
    "DEFAULT_KEY_TEMPLATE",
    "MAX_URL_EXPIRES_S",
    "AccessKeyId",
    "Bucket",
    "BucketName",
    "BucketSettings",
    "EndpointUrl",
    "InputPrefix",
    "KeyTemplate",
    "PublicUrl",
    "Region",
    "SecretAccessKey",
    "UrlLife",
]
