"""Builds the `worker` image and tries it, with scale models on a CPU: what `make test-image` does.

Prints each check. The exit code is 0 when all have passed, 1 when one failed, and 2 when the image
could not be built or run.
"""

import argparse
import base64
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from image_engines import (
    PROJECT_DIR,
    WORK_DIR,
    Buildah,
    Container,
    Docker,
    Engine,
    EngineError,
    Layer,
    Mount,
    has_docker,
    say,
)
from runpod_stand_in import RunPodStandIn, make_job

HANDLER_LAYER_BYTES = 5_000_000
BOOT_S = 300
JOB_S = 600
# What Docker leaves a container between SIGTERM and SIGKILL.
STOP_GRACE_S = 10
WORKER_ID = 10001


@dataclass
class Checks:
    failed: list[str] = field(default_factory=list)
    passed: int = 0

    def check(self, what: str, is_right: bool, seen: object) -> None:
        say(f"  {'ok  ' if is_right else 'FAIL'}  {what}: {seen}")
        if is_right:
            self.passed += 1
        else:
            self.failed.append(what)


def main() -> int:
    """The exit code: 0, 1 when a check failed, 2 when the test could not be made."""
    arguments = parse_arguments()
    started = time.monotonic()
    try:
        engine = choose_engine(arguments)
        try:
            checks = test_image(engine)
        finally:
            engine.close()
    except EngineError as error:
        print(f"test_image: {error}", file=sys.stderr)
        return 2
    for what in checks.failed:
        print(f"test_image: failed: {what}", file=sys.stderr)
    say(f"\n{time.monotonic() - started:.0f} s in all")
    say(f"{checks.passed} passed, {len(checks.failed)} failed")
    return 1 if checks.failed else 0


def test_image(engine: Engine) -> Checks:
    started = time.monotonic()
    engine.build()
    say(f"Built in {time.monotonic() - started:.0f} s")
    checks = Checks()
    check_layers(checks, engine.layers())
    config = engine.config()
    check_config(checks, config)
    volume = WORK_DIR / "volume"
    write_scale_models(engine, volume)
    check_worker(checks, engine, config, volume)
    return checks


def check_layers(checks: Checks, layers: Sequence[Layer]) -> None:
    say("\nLayers, the lowest first:")
    for layer in layers:
        say(f"  {layer.size / 1e6:9.1f} MB  {layer.made_by[:100]}")
    say(f"  {sum(layer.size for layer in layers) / 1e6:9.1f} MB  in all, not compressed")
    say("\nChecks:")
    last = layers[-1]
    is_small = last.size <= HANDLER_LAYER_BYTES and "/app" in last.made_by
    bound = f"at most {HANDLER_LAYER_BYTES / 1e6:g} MB"
    checks.check(f"the handler's layer is the last, {bound}", is_small, f"{last.size} bytes")


def check_config(checks: Checks, config: Mapping[str, Any]) -> None:
    user, entry = config.get("User"), config.get("Entrypoint")
    checks.check("user", user == f"{WORKER_ID}:{WORKER_ID}", user)
    checks.check("entry point is tini", entry == ["/usr/bin/tini", "--"], entry)
    checks.check("stop signal", config.get("StopSignal") == "SIGTERM", config.get("StopSignal"))
    checks.check("no port", not config.get("ExposedPorts"), config.get("ExposedPorts") or "none")
    labels = config.get("Labels") or {}
    licence = labels.get("org.opencontainers.image.licenses")
    checks.check("licence label", licence == "GPL-3.0-or-later", licence)
    secret = re.compile("TOKEN|SECRET|PASSWORD|KEY")
    names = [entry.partition("=")[0] for entry in config["Env"]]
    found = [name for name in names if secret.search(name)]
    checks.check("no secret in the environment", not found, ", ".join(found) or "none")


def write_scale_models(engine: Engine, volume: Path) -> None:
    """With the image's own torch, so that nothing but the image is needed."""
    shutil.rmtree(volume, ignore_errors=True)
    (volume / "models").mkdir(parents=True)
    mounts = [
        Mount(PROJECT_DIR / "comfy" / "scale_models", "/mnt/scale_models"),
        Mount(volume, "/runpod-volume", writable=True),
    ]
    # Readable to the worker's user, as a volume must be; written as ours, who removes them.
    write = "/opt/comfy/bin/python /mnt/scale_models/write.py /runpod-volume/models"
    argv = ["/bin/sh", "-c", f"{write} && chmod -R a+rX /runpod-volume/models"]
    with engine.start({}, mounts, argv, user=f"{os.getuid()}:{os.getgid()}") as container:
        while container.exit_code() is None:
            time.sleep(0.2)
        if container.exit_code() != 0:
            raise EngineError(f"the scale models could not be written:\n{container.log()}")


def check_worker(checks: Checks, engine: Engine, config: Mapping[str, Any], volume: Path) -> None:
    """One job through the worker as RunPod runs it, and its end."""
    mounts = [
        Mount(PROJECT_DIR / "comfy" / "scale_models", "/mnt/scale_models"),
        Mount(volume, "/runpod-volume"),
    ]
    arguments = "--use-pytorch-cross-attention --extra-model-paths-config"
    env = {
        "WORKER_MODELS_LOCK": "/runpod-volume/models/models.lock",
        "COMFY_ARGS": f"--cpu {arguments} /mnt/scale_models/custom_nodes.yaml",
        "COMFY_PORT": str(free_port()),
    }
    health = config["Healthcheck"]["Test"]
    assert health[0] == "CMD", health
    with RunPodStandIn(make_job()) as api, engine.start(env | api.env(), mounts) as container:
        started = time.monotonic()
        early = container.execute(health[1:], WORKER_ID)
        shown = early.stderr.strip()
        checks.check("health check fails before ComfyUI is up", early.returncode == 1, shown)
        while container.execute(health[1:], WORKER_ID).returncode != 0:
            wait_a_bit(container, started, BOOT_S, "ComfyUI is up")
        seconds = time.monotonic() - started
        checks.check("health check passes", True, f"{seconds:.1f} s after the start")
        while api.result is None:
            wait_a_bit(container, started, JOB_S, "the job is done")
        check_answer(checks, api.result, time.monotonic() - started)
        check_processes(checks, container)
        check_contents(checks, container)
        check_end(checks, container)


def check_answer(checks: Checks, result: Mapping[str, Any], seconds: float) -> None:
    output = result.get("output") or {}
    text = result.get("error") or "no picture"
    is_right = False
    if output.get("ok"):
        image = output["images"][0]
        data = base64.b64decode(image["data"], validate=True)
        text = f"{image['width']} x {image['height']} PNG, {len(data)} bytes, after {seconds:.0f} s"
        is_right = data.startswith(b"\x89PNG") and len(data) == image["bytes"] > 10_000
    checks.check("the edit of examples/ on scale models", is_right, text)


def check_processes(checks: Checks, container: Container) -> None:
    processes = look_inside(container, "processes")
    first = next(process for process in processes if process["pid"] == 1)
    checks.check("PID 1 is tini", first["name"] == "tini", first["name"])
    owners = sorted({process["uid"] for process in processes})
    names = ", ".join(process["name"] for process in processes)
    checks.check("user id of every process", owners == [WORKER_ID], f"{owners} ({names})")


def check_contents(checks: Checks, container: Container) -> None:
    found = look_inside(container, "unwanted")
    for what, paths in found.items():
        more = f" and {len(paths) - 5} more" if len(paths) > 5 else ""
        checks.check(f"no {what}", not paths, ", ".join(paths[:5]) + more or "none")


def check_end(checks: Checks, container: Container) -> None:
    started = time.monotonic()
    container.terminate()
    while container.exit_code() is None and time.monotonic() - started < 3 * STOP_GRACE_S:
        time.sleep(0.05)
    seconds, code = time.monotonic() - started, container.exit_code()
    is_right = code == 0 and seconds < STOP_GRACE_S
    checks.check(
        f"SIGTERM ends it within {STOP_GRACE_S} s", is_right, f"exit code {code}, {seconds:.1f} s"
    )


def look_inside(container: Container, what: str) -> Any:
    """By image_inside.py, as root, who may look everywhere."""
    source = (Path(__file__).parent / "image_inside.py").read_text()
    done = container.execute(["/usr/bin/python3", "-I", "-c", source, what], 0)
    if done.returncode != 0:
        raise EngineError(f"a look inside the image failed:\n{done.stderr}")
    return json.loads(done.stdout)


def wait_a_bit(container: Container, started: float, limit_s: float, what: str) -> None:
    if container.exit_code() is not None:
        why = f"the worker ended with exit code {container.exit_code()} before {what}"
        raise EngineError(f"{why}; its log ends:\n{container.log()}")
    if time.monotonic() - started > limit_s:
        why = f"not within {limit_s:g} s: {what}"
        raise EngineError(f"{why}; the worker's log ends:\n{container.log()}")
    time.sleep(0.2)


def choose_engine(arguments: argparse.Namespace) -> Engine:
    kind = arguments.engine or ("docker" if has_docker() else "buildah")
    if kind == "docker":
        return Docker(arguments.build_arg, arguments.keep)
    return Buildah(arguments.build_arg, arguments.keep, arguments.mirror)


def free_port() -> int:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as probe:
        return int(probe.server_port)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--engine", choices=["docker", "buildah"], help="default: what is there")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--mirror", metavar="URL", help="default: debootstrap's own")
    parser.add_argument(
        "--keep", action="store_true", help="keep image and layers, 14 GB, so that the next is fast"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
