"""How a bucket is reached: its values, and the types that check what an operator sets."""

import re
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from handler.bucket.keys import DEFAULT_KEY_TEMPLATE, check_key_template

# R2 documents 604800 s (7 days) for a presigned URL. boto3 signs longer ones without complaint, and
# they fail only when somebody opens them.
MAX_URL_EXPIRES_S = 604_800

DEFAULT_INPUT_PREFIX = "inputs/"
# Folders, since "inputs" alone would open "inputs-of-others/" too; or "/", any key.
_INPUT_PREFIX = r"^(/|([A-Za-z0-9_-][A-Za-z0-9_.-]*/)+)$"
_BUCKET_NAME = re.compile(r"[A-Za-z0-9._-]{3,255}")
_PRINTABLE = re.compile(r"[\x21-\x7e]+")


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """One bucket and how to reach it, of values that have been checked."""

    endpoint_url: str
    access_key_id: str = field(repr=False)
    secret_access_key: str = field(repr=False)
    name: str
    # R2's only region. With another one and no signature version boto3 presigns with SigV2.
    region: str = "auto"
    key_template: str = DEFAULT_KEY_TEMPLATE
    input_prefix: str = DEFAULT_INPUT_PREFIX
    public_url: str | None = None
    url_expires_s: int = MAX_URL_EXPIRES_S


def _check_url(what: str, url: str) -> str:
    # The URL is never quoted: people paste keys into it.
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError as exc:
        raise ValueError(f"{what} is no URL") from exc
    if not valid or not _PRINTABLE.fullmatch(url):
        raise ValueError(f"{what} must be http:// or https:// and a host")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(f"{what} must not hold a user, a password, '?' or '#'")
    return url


def _check_key(what: str, key: SecretStr) -> SecretStr:
    # A pasted line break would surface as a ValueError that quotes the header with the key.
    if not _PRINTABLE.fullmatch(key.get_secret_value()):
        raise ValueError(f"{what} is empty, or holds a space, a line break or non-ASCII")
    return key


def _check_name(name: str) -> str:
    if not _BUCKET_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no bucket name")
    return name


def _check_region(region: str) -> str:
    if not _PRINTABLE.fullmatch(region):
        raise ValueError(f"{region!r} is no region")
    return region


def _check_template(template: str) -> str:
    check_key_template(template)
    return template


EndpointUrl = Annotated[str, AfterValidator(partial(_check_url, "the endpoint URL"))]
PublicUrl = Annotated[str, AfterValidator(partial(_check_url, "the public URL"))]
AccessKeyId = Annotated[SecretStr, AfterValidator(partial(_check_key, "the access key id"))]
SecretAccessKey = Annotated[SecretStr, AfterValidator(partial(_check_key, "the secret access key"))]
BucketName = Annotated[str, AfterValidator(_check_name)]
Region = Annotated[str, AfterValidator(_check_region)]
KeyTemplate = Annotated[str, AfterValidator(_check_template)]
InputPrefix = Annotated[str, Field(pattern=_INPUT_PREFIX)]
UrlLife = Annotated[int, Field(ge=1, le=MAX_URL_EXPIRES_S)]
