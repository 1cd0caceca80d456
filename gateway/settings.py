"""The environment, read once, checked, and frozen. No other module reads it."""

import difflib
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from limits import parse as parse_rate
from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from gateway.errors import InvalidSettings

PROJECT_DIR = Path(__file__).resolve().parent.parent
_BUCKET_FIELDS = (
    "bucket_endpoint_url", "bucket_name", "bucket_access_key_id", "bucket_secret_access_key",
)  # fmt: skip


def _check_rate(value: str) -> str:
    try:
        parse_rate(value)
    except ValueError as exc:
        raise ValueError("is no rate such as 60/minute") from exc
    return value


def _check_listen(value: str) -> str:
    host, _, port = value.rpartition(":")
    if not host or not port.isdecimal() or not int(port) <= 65535:
        raise ValueError("must be HOST:PORT, such as 127.0.0.1:8787")
    return value


def _check_url(value: str) -> str:
    """http is for loopback only: keys go along."""
    parts = urlsplit(value)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError("must begin with https:// (http:// is for loopback only)")
    return value.rstrip("/")


def _check_keys(value: SecretStr) -> SecretStr:
    parse_keys(value)
    return value


def _check_proxies(value: str) -> str:
    for part in filter(None, value.split(",")):
        ipaddress.ip_network(part.strip(), strict=False)
    return value


_Url = Annotated[str, AfterValidator(_check_url)]


class Settings(BaseSettings):
    """One field for each variable, named as the variable in lower case. Each secret can also come
    from a file, whose path is in `NAME_FILE`."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    gateway_listen: Annotated[
        str, AfterValidator(_check_listen), Field(description="host and port to serve on")
    ] = "127.0.0.1:8787"
    gateway_data_dir: Annotated[
        Path, Field(description="database, pictures and keys, where no other place is set")
    ] = PROJECT_DIR / "data"
    gateway_database_url: Annotated[
        SecretStr | None,
        Field(description="`postgresql://...`; default: SQLite in the data folder"),
    ] = None
    bucket_endpoint_url: Annotated[
        str | None, Field(pattern=r"^https?://[^/\s]+", description="S3 endpoint, for R2 yours")
    ] = None
    bucket_name: Annotated[
        str | None, Field(description="bucket for pictures; default: they are in the data folder")
    ] = None
    bucket_access_key_id: Annotated[SecretStr | None, Field(description="access key id")] = None
    bucket_secret_access_key: Annotated[SecretStr | None, Field(description="secret key")] = None
    gateway_result_prefix: Annotated[
        str,
        Field(pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*/)+$", description="begin of results' keys"),
    ] = "results/"
    gateway_api_keys: Annotated[
        SecretStr | None,
        AfterValidator(lambda value: value and _check_keys(value)),
        Field(description="`name=key,...`: who may call; none is for loopback only"),
    ] = None
    gateway_page: Annotated[
        Literal["off", "key", "public"] | None,
        Field(description="the page: default `public` without keys, `key` with"),
    ] = None
    gateway_admin_key: Annotated[
        SecretStr | None, Field(description="opens /debug/env and /api/proxy")
    ] = None
    gateway_worker_key: Annotated[
        SecretStr | None,
        Field(description="what own workers know; default: made, and kept in the data folder"),
    ] = None
    gateway_public_url: Annotated[
        _Url | None, Field(description="where the gateway is reached from outside")
    ] = None
    gateway_origins: Annotated[
        str, Field(description="origins of pages elsewhere that may call, `https://a.example,...`")
    ] = ""
    gateway_trusted_proxies: Annotated[
        str,
        AfterValidator(_check_proxies),
        Field(description="addresses or networks whose X-Forwarded-For counts"),
    ] = ""
    runpod_api_key: Annotated[SecretStr | None, Field(description="RunPod's key")] = None
    runpod_endpoint_id: Annotated[
        str | None, Field(pattern=r"^[A-Za-z0-9_-]+$", description="RunPod's endpoint")
    ] = None
    runpod_jobs_url: Annotated[_Url, Field(description="RunPod's API of jobs")] = (
        "https://api.runpod.ai/v2"
    )
    runpod_management_url: Annotated[_Url, Field(description="RunPod's API of endpoints")] = (
        "https://api.runpod.io/v2"
    )
    runpod_registry_password: Annotated[
        SecretStr | None,
        Field(description="of the login that `deploy` makes for a private registry"),
    ] = None
    gateway_route: Annotated[
        Literal["own", "runpod", "own-first", "demo"], Field(description="who runs the jobs")
    ] = "own"
    gateway_burst_after_s: Annotated[
        float, Field(ge=0, description="own-first: a job that waits so long goes to RunPod")
    ] = 30
    gateway_rate_limit: Annotated[
        str,
        AfterValidator(_check_rate),
        Field(description="new jobs and uploads, for each key, else for each address and origin"),
    ] = "60/minute"
    gateway_open_jobs: Annotated[
        int, Field(ge=1, description="jobs that an owner may have open")
    ] = 1000
    gateway_runpod_per_day: Annotated[
        int | None, Field(ge=0, description="jobs sent to RunPod in a day; a bound on money")
    ] = None
    gateway_max_body_bytes: Annotated[int, Field(ge=1000, description="largest request")] = (
        100_000_000
    )
    gateway_queue_ttl_s: Annotated[
        float, Field(gt=0, description="a job that waits longer has expired")
    ] = 86_400
    gateway_attempts: Annotated[int, Field(ge=1, le=100, description="tries of a job")] = 3
    gateway_lease_s: Annotated[
        float, Field(ge=1, description="a worker silent so long has lost its job")
    ] = 30
    gateway_result_days: Annotated[
        float, Field(gt=0, description="days that pictures and texts of ended jobs are kept")
    ] = 30
    gateway_disk_bytes: Annotated[
        int, Field(ge=0, description="room for pictures in the data folder")
    ] = 20_000_000_000
    gateway_credits: Annotated[
        Literal["off", "test"], Field(description="whether edits cost credits")
    ] = "off"
    gateway_webhook_secret: Annotated[
        SecretStr | None,
        Field(
            description="signs the hooks that callers asked for: best `whsec_` and base64; "
            "default: made, and kept in the data folder"
        ),
    ] = None
    gateway_webhook_hosts: Annotated[
        str,
        Field(description="`host:port,...` in private networks that hooks may go to, also by http"),
    ] = ""

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: Any, **named: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (named["init_settings"], _SecretFiles(settings_cls), named["env_settings"])

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        missing = [name.upper() for name in _BUCKET_FIELDS if getattr(self, name) is None]
        if missing and len(missing) < len(_BUCKET_FIELDS):
            raise ValueError(f"the bucket is set in part: {', '.join(missing)} missing")
        if self.gateway_route in {"runpod", "own-first"} and not (
            self.runpod_api_key and self.runpod_endpoint_id
        ):
            raise ValueError(
                f"GATEWAY_ROUTE={self.gateway_route} needs RUNPOD_API_KEY and RUNPOD_ENDPOINT_ID"
            )
        return self

    @property
    def database_url(self) -> str:
        if self.gateway_database_url is not None:
            return self.gateway_database_url.get_secret_value()
        return f"sqlite:///{self.gateway_data_dir.resolve() / 'gateway.sqlite'}"

    @property
    def listen(self) -> tuple[str, int]:
        host, _, port = self.gateway_listen.rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def api_keys(self) -> dict[str, str]:
        """Name to key."""
        return parse_keys(self.gateway_api_keys) if self.gateway_api_keys else {}

    @property
    def origins(self) -> list[str]:
        return [
            part.strip().rstrip("/") for part in self.gateway_origins.split(",") if part.strip()
        ]

    @property
    def hook_hosts(self) -> frozenset[str]:
        return frozenset(filter(None, map(str.strip, self.gateway_webhook_hosts.split(","))))

    @property
    def has_bucket(self) -> bool:
        return self.bucket_name is not None


class _SecretFiles(PydanticBaseSettingsSource):
    """`NAME_FILE` for each secret."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{field_name.upper()}_FILE")
        if not path or not is_secret(field):
            return None, field_name, False
        if os.environ.get(field_name.upper()):
            raise InvalidSettings(
                f"{field_name.upper()} and {field_name.upper()}_FILE are both set; keep one"
            )
        try:
            return Path(path).read_text().strip(), field_name, False
        except (OSError, UnicodeDecodeError) as exc:
            raise InvalidSettings(f"{field_name.upper()}_FILE: {path} can't be read") from exc

    def __call__(self) -> dict[str, Any]:
        values = {
            name: self.get_field_value(field, name)[0]
            for name, field in self.settings_cls.model_fields.items()
        }
        return {name: value for name, value in values.items() if value is not None}


def is_secret(field: FieldInfo) -> bool:
    return "SecretStr" in str(field.annotation)


def parse_keys(value: SecretStr) -> dict[str, str]:
    """`name=key,...`. Raises ValueError, which repeats no key."""
    keys: dict[str, str] = {}
    for part in filter(None, map(str.strip, value.get_secret_value().split(","))):
        name, sign, key = part.partition("=")
        if not sign or not name.strip() or len(key.strip()) < 8:
            raise ValueError("must be name=key,... with keys of at least 8 characters")
        if name.strip() in keys or key.strip() in keys.values():
            raise ValueError("must not hold a name or a key twice")
        keys[name.strip()] = key.strip()
    return keys


def is_loopback(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def read_settings() -> Settings:
    """Raises InvalidSettings that lists every fault; secrets are never repeated in it."""
    try:
        return Settings()
    except ValidationError as exc:
        faults = [_fault(error) for error in exc.errors(include_input=False, include_url=False)]
        raise InvalidSettings("; ".join(faults), faults=faults) from exc


def _fault(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"][:1]).upper()
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {text}" if name else text


def secret_values(settings: Settings) -> list[str]:
    """For the log's scrubber."""
    found = [getattr(settings, name) for name in Settings.model_fields]
    texts = [value.get_secret_value() for value in found if isinstance(value, SecretStr)]
    return [*texts, *settings.api_keys.values()]


def unknown_variables(environ: Mapping[str, str] = os.environ) -> dict[str, list[str]]:
    """Variables with our prefix that nothing reads, each with the nearest names: likely typos."""
    fields = Settings.model_fields.items()
    known = [name.upper() for name in Settings.model_fields]
    known += [f"{name.upper()}_FILE" for name, field in fields if is_secret(field)]
    return {
        # The prefix alone makes any two of them alike.
        name: difflib.get_close_matches(name, known, n=1, cutoff=0.75)
        for name in sorted(environ)
        if name.startswith("GATEWAY_") and name not in known
    }
