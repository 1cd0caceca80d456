"""`deploy.toml`: what an endpoint is to be. Pure, but for the reading of the file."""

import difflib
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from gateway.deploy.errors import InvalidDeployFile

# handler's WORKER_JOB_TIMEOUT_S, and what it needs to say so before RunPod ends the job.
_DEFAULT_JOB_TIMEOUT_S = 600
_LEAST_MARGIN_S = 30
_LARGEST_FILE_BYTES = 1_000_000


def _check_image(value: str) -> str:
    name = value.rsplit("/", 1)[-1]
    if "@sha256:" in name:
        return value
    tag = name.partition(":")[2]
    if not tag:
        raise ValueError("needs a tag or a digest, such as name:1.2.0, so that a roll-out is seen")
    if tag == "latest":
        raise ValueError("must not be 'latest': nobody could tell which one a worker runs")
    return value


def _check_cuda(value: str) -> str:
    if not re.fullmatch(r"\d+\.\d+", value):
        raise ValueError("must be as '13.0'")
    return value


_Cuda = Annotated[str, AfterValidator(_check_cuda)]
_Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
_Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_SecretName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Workers(_Strict):
    min: Annotated[int, Field(ge=0)] = 0
    max: Annotated[int, Field(ge=1)] = 3
    idle_timeout_s: Annotated[int, Field(ge=1, le=3600)] = 10

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is more than max ({self.max})")
        return self


class Scaling(_Strict):
    """By how long jobs wait, or else by how many jobs a worker has."""

    queue_delay_s: Annotated[float, Field(ge=0.5, strict=False)] = 4.0
    request_count: Annotated[int, Field(ge=1)] | None = None


class Registry(_Strict):
    """A login at a private registry, kept at RunPod under `name`. Where it is not there yet, it is
    made of `username` and the password in RUNPOD_REGISTRY_PASSWORD."""

    name: Annotated[str, Field(min_length=1)]
    username: str | None = None


class Wanted(_Strict):
    """The whole file. `secrets` are variables whose values RunPod keeps: variable -> its name."""

    name: Annotated[str, Field(min_length=1, max_length=191)]
    image: Annotated[str, Field(min_length=1), AfterValidator(_check_image)]
    endpoint_id: _Id | None = None
    least_gpu_gb: Annotated[int, Field(ge=1)] = 48
    most_price_per_hour: Annotated[float, Field(gt=0, strict=False)] | None = None
    pools: tuple[str, ...] = ()
    excluded_gpus: tuple[str, ...] = ()
    gpu_count: Annotated[int, Field(ge=1)] = 1
    least_cuda: _Cuda | None = "13.0"
    cuda: tuple[_Cuda, ...] = ()
    data_centers: tuple[str, ...] = ()
    volumes: tuple[_Id, ...] = ()
    disk_gb: Annotated[int, Field(ge=1)] = 60
    timeout_s: Annotated[int, Field(ge=5, le=604_800)] = 660
    flashboot: Literal["off", "on", "priority"] = "on"
    workers: Workers = Workers()
    scaling: Scaling = Scaling()
    registry: Registry | None = None
    env: dict[_Variable, str] = {}
    secrets: dict[_Variable, _SecretName] = {}

    @model_validator(mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: tuple(one) if isinstance(one, list) else one for key, one in value.items()}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.cuda and "least_cuda" in self.model_fields_set:
            raise ValueError("'cuda' and 'least_cuda' exclude each other; keep one")
        if both := self.env.keys() & self.secrets.keys():
            raise ValueError(f"{min(both)} stands in both [env] and [secrets]; keep one")
        job_s = self._job_timeout_s()
        if self.timeout_s < job_s + _LEAST_MARGIN_S:
            raise ValueError(
                f"timeout_s ({self.timeout_s}) must be at least {job_s + _LEAST_MARGIN_S:g}: a job "
                f"may take WORKER_JOB_TIMEOUT_S ({job_s:g}), and the worker could not say that it "
                "took longer if RunPod ended it first"
            )
        return self

    def _job_timeout_s(self) -> float:
        text = self.env.get("WORKER_JOB_TIMEOUT_S", str(_DEFAULT_JOB_TIMEOUT_S))
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"WORKER_JOB_TIMEOUT_S in [env] is no number: {text!r}") from None


def read_wanted(path: Path) -> Wanted:
    """Raises InvalidDeployFile, which names every fault."""
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise InvalidDeployFile(f"{path} has over {_LARGEST_FILE_BYTES} bytes")
        text = path.read_bytes().decode()
        return Wanted.model_validate(tomllib.loads(text))
    except FileNotFoundError as exc:
        raise InvalidDeployFile(
            f"{path} is not there; copy examples/deploy.toml to it and write your image's name in"
        ) from exc
    except OSError as exc:
        raise InvalidDeployFile(f"{path} can't be read: {exc.strerror}") from exc
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise InvalidDeployFile(f"{path} is no TOML: {exc}") from exc
    except ValidationError as exc:
        faults = "; ".join(_fault(error) for error in exc.errors())
        raise InvalidDeployFile(f"{path}: {faults}") from exc


def _fault(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(error["loc"][-1])[:60], _known(error["loc"]), n=1)
        return f"there is no '{where[:80]}'" + (f"; did you mean '{near[0]}'?" if near else "")
    said = error["msg"].removeprefix("Value error, ")
    return f"'{where}' {said[0].lower()}{said[1:]}" if where else said


def _known(place: tuple[int | str, ...]) -> list[str]:
    model: Any = {"workers": Workers, "scaling": Scaling, "registry": Registry}.get(
        str(place[0]) if len(place) > 1 else "", Wanted
    )
    return list(model.model_fields)
