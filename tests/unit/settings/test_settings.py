import os
import traceback
from pathlib import Path
from typing import Any

import pytest

from handler.errors import InvalidSettings
from handler.settings import (
    Settings,
    child_environment,
    read_settings,
    secret_values,
    set_sdk_defaults,
    unknown_variables,
)

BUCKET = {
    "BUCKET_ENDPOINT_URL": "https://account.r2.cloudflarestorage.com",
    "BUCKET_NAME": "pictures",
    "BUCKET_ACCESS_KEY_ID": "AKIDENTIFIER",
    "BUCKET_SECRET_ACCESS_KEY": "s3cr3t/+key",
}


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("WORKER_", "COMFY_", "BUCKET_", "RUNPOD_")):
            monkeypatch.delenv(name)


def read(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Settings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return read_settings()


def fault_of(monkeypatch: pytest.MonkeyPatch, **variables: str) -> InvalidSettings:
    with pytest.raises(InvalidSettings) as caught:
        read(monkeypatch, **variables)
    return caught.value


def test_an_empty_environment_gives_the_documented_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = read(monkeypatch)
    assert settings.comfy_port == 8188
    assert settings.comfy_argv_tail == []
    assert settings.worker_concurrency == 2
    assert settings.worker_models_dir == Path("/workspace/ComfyUI/models")
    assert settings.worker_log_level == "INFO"
    assert settings.bucket is None
    assert settings.is_local


def test_every_default_can_be_set_by_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else `--help` and the README would promise values that the worker refuses."""
    defaults = read(monkeypatch)
    variables = {
        name.upper(): str(value)
        for name in Settings.model_fields
        if (value := getattr(defaults, name)) is not None
    }
    assert read(monkeypatch, **variables) == defaults


def test_every_setting_is_described() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_variables_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(
        monkeypatch,
        COMFY_PORT="9000",
        COMFY_ARGS="--lowvram --preview-method 'none at all'",
        WORKER_CONCURRENCY="1",
        WORKER_JOB_TIMEOUT_S="30.5",
        WORKER_SAVE_DIR="out",
        WORKER_LOG_LEVEL="DEBUG",
        RUNPOD_WEBHOOK_GET_JOB="https://api.runpod.ai/v2/x/job-take/$ID",
    )
    assert settings.comfy_port == 9000
    assert settings.comfy_argv_tail == ["--lowvram", "--preview-method", "none at all"]
    assert settings.worker_concurrency == 1
    assert settings.worker_job_timeout_s == 30.5
    assert settings.worker_save_dir == Path("out")
    assert settings.worker_log_level == "DEBUG"
    assert not settings.is_local


def test_an_empty_variable_is_one_that_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = read(monkeypatch)
    empty = {name.upper(): "" for name in Settings.model_fields}
    assert read(monkeypatch, **empty) == defaults


def test_settings_can_not_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch)
    with pytest.raises(ValueError, match="frozen"):
        settings.comfy_port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("COMFY_PORT", "eighty"),
        ("COMFY_PORT", "0"),
        ("COMFY_PORT", "65536"),
        ("COMFY_ARGS", "--a 'open"),
        ("COMFY_BOOT_TIMEOUT_S", "0"),
        ("COMFY_RESTARTS", "-1"),
        ("WORKER_CONCURRENCY", "0"),
        ("WORKER_CONCURRENCY", "1.5"),
        ("WORKER_JOB_TIMEOUT_S", "nan"),
        ("WORKER_JOB_TIMEOUT_S", "inf"),
        ("WORKER_JOB_TIMEOUT_S", "-1"),
        ("WORKER_LOG_LEVEL", "LOUD"),
        ("WORKER_MAX_IMAGES", "0"),
        ("WORKER_MAX_IMAGE_BYTES", "20MB"),
        ("WORKER_RUN_LIMIT_BYTES", "10"),
        ("WORKER_BUCKET_PUBLIC_URL", "cdn.example.com"),
        ("WORKER_BUCKET_URL_EXPIRES_S", "604801"),
        ("WORKER_BUCKET_INPUT_PREFIX", "inputs"),
        ("WORKER_BUCKET_INPUT_PREFIX", "/inputs/"),
        ("WORKER_BUCKET_INPUT_PREFIX", "../"),
        ("WORKER_BUCKET_KEY_TEMPLATE", "{name}"),
        ("WORKER_BUCKET_KEY_TEMPLATE", "{request_id}/{file}"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    fault = fault_of(monkeypatch, **{name: value})
    assert fault.message.startswith(f"{name}: ")
    assert fault.details["faults"] == [fault.message]


def test_all_faults_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fault = fault_of(
        monkeypatch,
        COMFY_PORT="eighty",
        COMFY_ARGS="'open",
        WORKER_CONCURRENCY="99",
        WORKER_BUCKET_KEY_TEMPLATE="{name}",
        BUCKET_NAME="pictures",
    )
    assert len(fault.details["faults"]) == 5
    for name in ("COMFY_PORT", "COMFY_ARGS", "WORKER_CONCURRENCY", "WORKER_BUCKET_KEY_TEMPLATE"):
        assert f"{name}: " in fault.message
    assert "the bucket is set in part" in fault.message


def test_a_whole_bucket_is_taken_with_its_options(monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = read(
        monkeypatch,
        **BUCKET,
        WORKER_BUCKET_REGION="eu-1",
        WORKER_BUCKET_KEY_TEMPLATE="x/{job_id}/{name}.{ext}",
        WORKER_BUCKET_INPUT_PREFIX="a/b.c/",
        WORKER_BUCKET_PUBLIC_URL="https://cdn.example.com",
        WORKER_BUCKET_URL_EXPIRES_S="60",
    ).bucket
    assert bucket is not None
    assert bucket.endpoint_url == BUCKET["BUCKET_ENDPOINT_URL"]
    assert bucket.name == "pictures"
    assert bucket.access_key_id == "AKIDENTIFIER"
    assert bucket.secret_access_key == "s3cr3t/+key"
    assert bucket.region == "eu-1"
    assert bucket.key_template == "x/{job_id}/{name}.{ext}"
    assert bucket.input_prefix == "a/b.c/"
    assert bucket.public_url == "https://cdn.example.com"
    assert bucket.url_expires_s == 60


@pytest.mark.parametrize("missing", sorted(BUCKET))
@pytest.mark.parametrize("how", ["unset", "empty"])
def test_a_bucket_without_one_of_its_four_is_refused_with_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, missing: str, how: str
) -> None:
    variables = {name: value for name, value in BUCKET.items() if name != missing}
    if how == "empty":
        variables[missing] = ""
    fault = fault_of(monkeypatch, **variables)
    assert f"the bucket is set in part: {missing} missing" in fault.message


@pytest.mark.parametrize("present", sorted(BUCKET))
def test_a_bucket_of_only_one_is_refused_with_the_other_three(
    monkeypatch: pytest.MonkeyPatch, present: str
) -> None:
    fault = fault_of(monkeypatch, **{present: BUCKET[present]})
    told = fault.message.partition("in part: ")[2].partition(" missing")[0]
    assert sorted(told.split(", ")) == sorted(set(BUCKET) - {present})


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"BUCKET_ENDPOINT_URL": "account.r2.cloudflarestorage.com"}, "BUCKET_ENDPOINT_URL: "),
        ({"BUCKET_ENDPOINT_URL": "host"}, "endpoint URL must be http"),
        ({"BUCKET_ENDPOINT_URL": "https://"}, "endpoint URL must be http"),
        ({"BUCKET_ENDPOINT_URL": "https://host:port"}, "endpoint URL is no URL"),
        ({"BUCKET_ENDPOINT_URL": "https://u:p@host"}, "endpoint URL must not hold a user"),
        ({"BUCKET_ENDPOINT_URL": "https://host/pictures/"}, "must not end in the bucket's name"),
        ({"BUCKET_ENDPOINT_URL": "https://host/pictures"}, "must not end in the bucket's name"),
        ({"BUCKET_NAME": "no/bucket"}, "is no bucket name"),
        ({"BUCKET_SECRET_ACCESS_KEY": "s3cr3t/+key\n"}, "holds a space, a line break"),
        ({"BUCKET_ACCESS_KEY_ID": "ÄK"}, "the access key id is empty, or holds"),
        ({"WORKER_BUCKET_PUBLIC_URL": "cdn.example.com"}, "public URL must be http"),
        ({"WORKER_BUCKET_PUBLIC_URL": "https://c/?a=s3cr3t"}, "public URL must not hold"),
        ({"WORKER_BUCKET_REGION": "a b"}, "'a b' is no region"),
        ({"WORKER_BUCKET_URL_EXPIRES_S": "0"}, "WORKER_BUCKET_URL_EXPIRES_S: "),
        ({"WORKER_BUCKET_KEY_TEMPLATE": "{name}"}, "key template '{name}' is wrong"),
    ],
)
def test_a_bad_bucket_is_refused_when_the_settings_are_read(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], fault: str
) -> None:
    """Not minutes later, when the first picture is there."""
    told = fault_of(monkeypatch, **{**BUCKET, **change})
    assert fault in told.message
    assert len(told.details["faults"]) == 1
    assert "s3cr3t" not in f"{told!r} {told.details}"
    assert "AKIDENTIFIER" not in f"{told!r} {told.details}"


def test_no_secret_is_shown_by_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = read(monkeypatch, **BUCKET, RUNPOD_WEBHOOK_GET_JOB="https://u:webhook-key@host")
    shown = f"{settings!r} {settings} {settings.bucket!r}"
    assert not [secret for secret in ("AKID", "s3cr3t", "webhook-key") if secret in shown]


@pytest.mark.parametrize(
    "change",
    [
        {"COMFY_PORT": "eighty"},
        {"BUCKET_NAME": ""},
        {"BUCKET_ENDPOINT_URL": "s3cr3t/+key"},
        {"BUCKET_ENDPOINT_URL": "https://AKIDENTIFIER:s3cr3t/+key@host"},
        {"BUCKET_SECRET_ACCESS_KEY": "s3cr3t/+key "},
    ],
)
def test_no_secret_is_shown_by_a_fault_nor_by_its_traceback(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str]
) -> None:
    fault = fault_of(monkeypatch, **{**BUCKET, **change})
    shown = "".join(traceback.format_exception(fault)) + repr(fault) + str(fault.details)
    assert not [secret for secret in ("AKIDENTIFIER", "s3cr3t") if secret in shown]


def test_unknown_variables_of_ours_are_told_with_the_nearest() -> None:
    environ = {
        "WORKER_CONCURENCY": "1",
        "WORKER_0000000": "1",
        "WORKER_CONCURRENCY": "1",
        "COMFY_PORT": "1",
        "PATH": "/bin",
    }
    assert unknown_variables(environ) == {
        "WORKER_CONCURENCY": ["WORKER_CONCURRENCY"],
        "WORKER_0000000": [],
    }


def test_secrets_are_told_longest_first_and_the_shortest_not_at_all() -> None:
    environ = {
        **BUCKET,
        "RUNPOD_AI_API_KEY": "rpa_0123456789",
        "HF_TOKEN": "hf",
        "RUNPOD_API_KEY": "",
    }
    assert secret_values(environ) == ["rpa_0123456789", "AKIDENTIFIER", "s3cr3t/+key"]


def test_comfyui_gets_no_key_of_ours() -> None:
    environ = {
        **BUCKET,
        "RUNPOD_AI_API_KEY": "x",
        "RUNPOD_WEBHOOK_GET_JOB": "x",
        "HF_TOKEN": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "WORKER_CONCURRENCY": "2",
        "PYTHONPATH": "x",
    }
    assert child_environment(environ) == {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}


def test_comfyui_gets_what_a_cuda_program_needs() -> None:
    environ = {
        "PATH": "/usr/bin",
        "HOME": "/root",
        "LD_LIBRARY_PATH": "/usr/local/cuda/lib64",
        "CUDA_VISIBLE_DEVICES": "0",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True",
        "OMP_NUM_THREADS": "4",
        "TORCHINDUCTOR_CACHE_DIR": "/tmp/x",
    }
    own = {"PYTHONUNBUFFERED": "1", "PYTHONHASHSEED": "0"}
    assert child_environment(environ) == {**environ, **own}


def sdk_variables() -> dict[str, Any]:
    return {name: value for name, value in os.environ.items() if name.startswith("RUNPOD_")}


def test_the_sdk_is_told_not_to_end_the_worker_nor_to_print_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "environ", {})
    set_sdk_defaults()
    assert sdk_variables() == {
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
        "RUNPOD_SKIP_GPU_CHECK": "true",
        "RUNPOD_DEBUG_LEVEL": "INFO",
    }


def test_what_the_operator_has_told_the_sdk_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "false",
        "RUNPOD_SKIP_GPU_CHECK": "false",
        "RUNPOD_LOG_LEVEL": "DEBUG",
    }
    monkeypatch.setattr(os, "environ", dict(told))
    set_sdk_defaults()
    assert sdk_variables() == told


def test_no_picture_is_kept_uncompressed_for_a_stock_comfyui(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert read(monkeypatch).image_limits.uncompressed_pixels > 1_000_000
    assert read(monkeypatch, COMFY_STOCK="1").image_limits.uncompressed_pixels == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--listen 0.0.0.0", "ComfyUI has no password"),
        ("--listen", "ComfyUI has no password"),
        ("--listen=0.0.0.0", "ComfyUI has no password"),
        # argparse takes the beginning of a name for the whole.
        ("--lis 0.0.0.0", "ComfyUI has no password"),
        ("--cpu --port 9000", "set COMFY_PORT"),
        ("--output-directory /tmp", "set WORKER_RUN_DIR"),
        ("--base-directory /tmp", "set WORKER_RUN_DIR and WORKER_MODELS_DIR"),
        ("--quick-test-for-ci", "would end at once"),
    ],
)
def test_arguments_that_contradict_the_worker_are_refused_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, arguments: str, says: str
) -> None:
    assert says in fault_of(monkeypatch, COMFY_ARGS=arguments).message


@pytest.mark.parametrize(
    "arguments",
    ["--cpu", "--lowvram --fast", "--extra-model-paths-config /x.yaml", "--use-split", "--preview"],
)
def test_other_arguments_are_comfyuis(monkeypatch: pytest.MonkeyPatch, arguments: str) -> None:
    assert read(monkeypatch, COMFY_ARGS=arguments).comfy_args == arguments


def test_no_more_pixels_are_allowed_than_comfyui_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "178956970" in fault_of(monkeypatch, WORKER_MAX_IMAGE_PIXELS="178956971").message


MODES = {"workflow", "prompt"}


@pytest.mark.parametrize(
    ("value", "modes"),
    [
        ("prompt", {"prompt"}),
        ("workflow", {"workflow"}),
        ("workflow, prompt", {"workflow", "prompt"}),
    ],
)
def test_the_modes_that_are_taken(
    monkeypatch: pytest.MonkeyPatch, value: str, modes: set[str]
) -> None:
    assert read(monkeypatch, WORKER_ALLOW=value).job_modes == modes


@pytest.mark.parametrize("value", ["prompts", "prompt;workflow", ",", "prompt,"])
def test_other_modes_are_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert "must be prompt, workflow, or both" in fault_of(monkeypatch, WORKER_ALLOW=value).message
