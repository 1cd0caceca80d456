"""The variables of the bucket, which is set whole or not at all."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, ValidationInfo, field_validator

from handler.bucket import (
    DEFAULT_INPUT_PREFIX,
    DEFAULT_KEY_TEMPLATE,
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

_BUCKET_FIELDS = (
    "bucket_endpoint_url",
    "bucket_name",
    "bucket_access_key_id",
    "bucket_secret_access_key",
)


class BucketFields(BaseModel):
    """One field for each variable, named as the variable in lower case."""

    bucket_endpoint_url: Annotated[
        EndpointUrl | None, Field(description="S3 endpoint, for R2 the account's")
    ] = None
    bucket_name: Annotated[BucketName | None, Field(description="bucket")] = None
    bucket_access_key_id: Annotated[AccessKeyId | None, Field(description="access key id")] = None
    bucket_secret_access_key: Annotated[
        SecretAccessKey | None, Field(validate_default=True, description="secret key")
    ] = None
    worker_bucket_region: Annotated[
        Region, Field(description="region that requests are signed for; R2 wants `auto`")
    ] = "auto"
    worker_bucket_key_template: Annotated[
        KeyTemplate,
        Field(description="object key, from `{job_id}`, `{request_id}`, `{name}`, `{ext}`"),
    ] = DEFAULT_KEY_TEMPLATE
    worker_bucket_input_prefix: Annotated[
        InputPrefix,
        Field(description="`bucket:KEY` of a job must begin so; `/` allows the whole bucket"),
    ] = DEFAULT_INPUT_PREFIX
    worker_bucket_public_url: Annotated[
        PublicUrl | None, Field(description="public address of the bucket; default: presigned URLs")
    ] = None
    worker_bucket_url_expires_s: Annotated[
        UrlLife, Field(description="life of a presigned URL, in seconds")
    ] = MAX_URL_EXPIRES_S

    @field_validator("bucket_name")
    @classmethod
    def _is_not_in_the_endpoint(cls, name: str | None, info: ValidationInfo) -> str | None:
        """RunPod's own upload helper wants it there; here the bucket would be named twice."""
        endpoint_url = info.data.get("bucket_endpoint_url")
        if name and endpoint_url and urlsplit(endpoint_url).path.strip("/") == name:
            raise ValueError("the endpoint URL must not end in the bucket's name")
        return name

    @field_validator("bucket_secret_access_key")
    @classmethod
    def _bucket_is_whole(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        """On the last of the four, where the others are known; one with a fault of its own is not
        among them and counts as set."""
        values = {**info.data, "bucket_secret_access_key": value}
        names = [name.upper() for name in _BUCKET_FIELDS]
        missing = [name for name in names if not values.get(name.lower(), True)]
        if missing and len(missing) < len(names):
            raise ValueError(
                f"the bucket is set in part: {', '.join(missing)} missing; "
                f"set all of {', '.join(names)}, or none"
            )
        return value

    @property
    def bucket(self) -> BucketSettings | None:
        if not (self.bucket_endpoint_url and self.bucket_name):
            return None
        assert self.bucket_access_key_id is not None
        assert self.bucket_secret_access_key is not None
        return BucketSettings(
            endpoint_url=self.bucket_endpoint_url,
            access_key_id=self.bucket_access_key_id.get_secret_value(),
            secret_access_key=self.bucket_secret_access_key.get_secret_value(),
            name=self.bucket_name,
            region=self.worker_bucket_region,
            key_template=self.worker_bucket_key_template,
            input_prefix=self.worker_bucket_input_prefix,
            public_url=self.worker_bucket_public_url,
            url_expires_s=self.worker_bucket_url_expires_s,
        )
