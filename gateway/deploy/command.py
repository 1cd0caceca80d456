"""`python -m gateway deploy`: plan, apply, check and destroy, for a terminal."""

import argparse
import asyncio
from collections.abc import Sequence
from pathlib import Path

from gateway.deploy.endpoint import Plan, apply_plan, find_endpoint, make_plan, watch_roll_out
from gateway.deploy.errors import DeployError
from gateway.deploy.management import Management, endpoint_id_of
from gateway.deploy.plan import cost_per_hour
from gateway.deploy.trial import Edit, try_edit
from gateway.deploy.wanted import read_wanted
from gateway.errors import GatewayError
from gateway.runpod.client import RunPodClient
from gateway.runpod.errors import RunPodError
from gateway.settings import PROJECT_DIR, Settings, read_settings

_PHOTO = PROJECT_DIR / "examples" / "portrait.jpg"
_PICTURE = Path("out") / "deploy.png"


def main(argv: Sequence[str]) -> int:
    """0: done, or nothing to do; 1: it failed, after a sentence that says why; 2: bad words."""
    arguments = make_parser().parse_args(argv)
    try:
        settings = read_settings()
        if settings.runpod_api_key is None:
            raise DeployError(
                "RUNPOD_API_KEY is not set; make a key in RunPod's console, under Settings"
            )
        with Management(
            settings.runpod_management_url, settings.runpod_api_key.get_secret_value()
        ) as management:
            return int(arguments.run(arguments, settings, management))
    except (DeployError, GatewayError, RunPodError, OSError) as exc:
        _say(f"deploy: {exc}")
        return 1
    except KeyboardInterrupt:
        _say("deploy: stopped; run it again to go on")
        return 130


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway deploy",
        description="Makes an endpoint at RunPod what deploy.toml says, and tries it. The key comes"
        " from RUNPOD_API_KEY.",
    )
    parser.add_argument(
        "--file", type=Path, default=Path("deploy.toml"), help="default: deploy.toml"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("plan", help="what is there, what would change, what it costs")
    plan.set_defaults(run=_plan)
    apply_ = commands.add_parser("apply", help="do it, watch the roll-out, send one real edit")
    apply_.add_argument("--no-edit", action="store_true", help="send no edit, which costs money")
    apply_.add_argument(
        "--timeout-s", type=float, default=1800, help="for the roll-out, and for the edit (1800)"
    )
    apply_.set_defaults(run=_apply)
    check = commands.add_parser("check", help="may the key manage endpoints, and run jobs?")
    check.set_defaults(run=_check)
    destroy = commands.add_parser("destroy", help="end the endpoint, its workers and its jobs")
    destroy.add_argument("--yes", action="store_true", help="do it without being asked")
    destroy.set_defaults(run=_destroy)
    return parser


def _plan(arguments: argparse.Namespace, _settings: Settings, management: Management) -> int:
    _tell(make_plan(management, read_wanted(arguments.file)))
    return 0


def _apply(arguments: argparse.Namespace, settings: Settings, management: Management) -> int:
    wanted = read_wanted(arguments.file)
    plan = make_plan(management, wanted)
    _tell(plan)
    secret = settings.runpod_registry_password
    password = None if secret is None else secret.get_secret_value()
    endpoint = apply_plan(management, plan, password, _say)
    endpoint_id = endpoint_id_of(endpoint)
    watch_roll_out(management, endpoint_id, arguments.timeout_s, _say)
    if not arguments.no_edit:
        if wanted.workers.max == 0:
            raise DeployError("no edit can run: the most workers are 0")
        _tell_of(asyncio.run(_try(settings, endpoint_id, arguments.timeout_s)))
    _say(f"the endpoint answers; for the gateway: RUNPOD_ENDPOINT_ID={endpoint_id}")
    return 0


def _check(arguments: argparse.Namespace, settings: Settings, management: Management) -> int:
    """Each right by a call that needs it; a key may well have only the second."""
    endpoint_id, faults = settings.runpod_endpoint_id, 0
    try:
        there = management.endpoints()
        _say(f"may manage endpoints: yes ({len(there)} there)")
        if endpoint_id is None and arguments.file.exists():
            found = find_endpoint(management, read_wanted(arguments.file))
            endpoint_id = endpoint_id_of(found) if found else None
    except DeployError as exc:
        faults += 1
        _say(f"may manage endpoints: no; {exc}")
    if endpoint_id is None:
        _say("may run jobs: not known; set RUNPOD_ENDPOINT_ID, or deploy first")
        return 1
    try:
        health = asyncio.run(_health(settings, endpoint_id))
        _say(f"may run jobs on {endpoint_id}: yes (workers: {health.get('workers')})")
    except RunPodError as exc:
        faults += 1
        _say(f"may run jobs on {endpoint_id}: no; {exc}")
    return 1 if faults else 0


def _destroy(arguments: argparse.Namespace, _settings: Settings, management: Management) -> int:
    wanted = read_wanted(arguments.file)
    endpoint = find_endpoint(management, wanted)
    if endpoint is None:
        _say(f"there is no endpoint '{wanted.name}'")
        return 0
    endpoint_id = endpoint_id_of(endpoint)
    if not arguments.yes:
        try:
            answer = input(f"End {endpoint_id} ('{wanted.name}'), its workers and jobs? [y/N] ")
        except EOFError:
            answer = ""
        if answer.strip().lower() not in ("y", "yes"):
            _say("nothing was done; --yes does it without asking")
            return 1
    management.delete(endpoint_id)
    _say(f"ended {endpoint_id}")
    return 0


async def _try(settings: Settings, endpoint_id: str, limit_s: float) -> Edit:
    async with _client(settings) as client:
        return await try_edit(client, endpoint_id, _PHOTO, limit_s, _say)


async def _health(settings: Settings, endpoint_id: str) -> dict[str, object]:
    async with _client(settings) as client:
        return await client.health(endpoint_id)


def _client(settings: Settings) -> RunPodClient:
    if settings.runpod_api_key is None:
        raise AssertionError("main has looked")
    return RunPodClient(settings.runpod_jobs_url, settings.runpod_api_key.get_secret_value())


def _tell(plan: Plan) -> None:
    wanted = plan.wanted
    if plan.current is None:
        _say(f"endpoint '{wanted.name}': not there; it would be made with")
        for field, value in plan.desired.items():
            _say(f"  {field}: {_shown(field, value)}")
    elif plan.is_done:
        _say(f"endpoint '{wanted.name}' ({plan.current.get('id')}): as it should be")
    else:
        _say(f"endpoint '{wanted.name}' ({plan.current.get('id')}): would change")
        for change in plan.changes:
            before, after = _shown(change.field, change.now), _shown(change.field, change.then)
            _say(f"  {change.field}: {before} -> {after}")
    if plan.makes_registry and wanted.registry:
        _say(f"registry login '{wanted.registry.name}' would be made")
    for pool in plan.pools:
        _say(f"cards: {pool.id} ({', '.join(pool.cards)}), stock {pool.availability.lower()}")
    cost = cost_per_hour(wanted, plan.pools)
    if cost is None:
        _say("cost: RunPod's catalogue has no price for these cards")
    else:
        idle, busy = cost[0] * wanted.workers.min, cost[1] * wanted.workers.max
        _say(
            f"cost an hour: ${cost[0]:.2f} to ${cost[1]:.2f} a busy worker; ${idle:.2f} at rest "
            f"({wanted.workers.min} workers), ${busy:.2f} at most ({wanted.workers.max} workers)"
        )


def _tell_of(edit: Edit) -> None:
    if edit.picture is None:
        _say(f"picture: {edit.address}")
    else:
        _PICTURE.parent.mkdir(parents=True, exist_ok=True)
        _PICTURE.write_bytes(edit.picture)
        _say(f"picture: {_PICTURE} ({len(edit.picture)} bytes)")
    _say(f"delay: {edit.delay_ms} ms in the queue, cold start included")
    _say(f"execution: {edit.execution_ms} ms in the worker")


def _shown(field: str, value: object) -> object:
    """Of variables only the names: a value may be a secret that somebody wrote into [env]."""
    return sorted(value) if field == "env" and isinstance(value, dict) else value


def _say(line: str) -> None:
    print(line, flush=True)
