"""All settings, as they are read from the environment."""

from typing import Annotated, Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from handler.errors import InvalidSettings
from handler.settings.bucket import BucketFields
from handler.settings.worker import WorkerFields


class Settings(BucketFields, WorkerFields, BaseSettings):
    """One field for each variable, named as the variable in lower case."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    runpod_webhook_get_job: Annotated[
        SecretStr | None, Field(description="set by RunPod; without it the SDK runs one local test")
    ] = None

    @property
    def is_local(self) -> bool:
        """The SDK's own rule: no address to take jobs from means a local run."""
        return self.runpod_webhook_get_job is None


def read_settings() -> Settings:
    """Raises InvalidSettings that lists every fault; secrets are never repeated in it."""
    try:
        return Settings()
    except ValidationError as exc:
        faults = [_fault(error) for error in exc.errors(include_input=False, include_url=False)]
        raise InvalidSettings("; ".join(faults), faults=faults) from exc


def _fault(error: Any) -> str:
    name = ".".join(str(part) for part in error["loc"]).upper()
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{name}: {text}" if name else text
