"""`python -m gateway`: serve, and what an operator does beside it."""

import argparse
import asyncio
import json
import secrets
import shlex
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Any

import uvicorn

from gateway.api.guard import hash_key
from gateway.app import DRAIN_S, ROLES, free_claims, open_parts, open_serving
from gateway.cloud import look_once
from gateway.deploy import main as deploy
from gateway.errors import GatewayError, InvalidRequest, InvalidSettings
from gateway.kept import worker_key
from gateway.settings import Settings, read_settings, secret_values, unknown_variables
from gateway.store.jobs import JobStore
from gateway.store.keys import Keys
from gateway.store.migrate import check_schema, migrate
from gateway.store.reads import Reads
from handler.logs import configure, get_logger

log = get_logger()


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 0, or 1 with one line that says why."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    if words[:1] == ["deploy"]:
        # It has commands and --help of its own.
        return deploy(words[1:])
    options = make_parser().parse_args(words)
    try:
        settings = read_settings()
        result: int = options.run(settings, options)
        return result
    except GatewayError as error:
        print(f"gateway: {error.code}: {error.message}", file=sys.stderr)  # noqa: T201
        return 1


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway",
        description="Queue API, orchestrator and page in front of the workers. Everything else is "
        "set by environment variables.",
        epilog=_settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("serve", help="serve until told to end")
    command.add_argument(
        "--role", choices=ROLES, default="all", help="split roles: PostgreSQL only"
    )
    command.set_defaults(run=_serve)
    command = commands.add_parser("migrate", help="bring the database to this version's schema")
    command.set_defaults(run=_migrate)
    command = commands.add_parser("keys", help="callers' keys")
    command.add_argument("action", choices=("add", "remove", "list"))
    command.add_argument("name", nargs="?")
    command.set_defaults(run=_keys)
    command = commands.add_parser(
        "worker-env", help="print the variables of a worker that takes jobs from here"
    )
    command.add_argument("--name", help="the worker's; default: made up")
    command.add_argument("--url", help="the gateway's address as the worker sees it")
    command.set_defaults(run=_worker_env)
    command = commands.add_parser("job", help="print all that is known of a job")
    command.add_argument("id")
    command.set_defaults(run=_job)
    command = commands.add_parser(
        "recover", help="look once at every open job at RunPod, and fetch its result"
    )
    command.set_defaults(run=_recover)
    commands.add_parser("deploy", help="make RunPod's endpoint what deploy.toml says")
    return parser


class _Server(uvicorn.Server):
    """Tells those who hold a connection that the end is near, so that they let go of it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.config.app.state.context.bell.close_soon()  # type: ignore[union-attr]
        super().handle_exit(sig, frame)


def _serve(settings: Settings, options: argparse.Namespace) -> int:
    configure("INFO", secret_values(settings))
    for name, near in unknown_variables().items():
        log.warning("unknown setting", name=name, nearest=near)
    host, port = settings.listen
    proxies = [part.strip() for part in settings.gateway_trusted_proxies.split(",") if part.strip()]
    with open_serving(settings, options.role) as app:
        config = uvicorn.Config(
            app, host=host, port=port, log_config=None, access_log=False, lifespan="on",
            server_header=False, proxy_headers=bool(proxies), forwarded_allow_ips=proxies,
            timeout_keep_alive=75, timeout_graceful_shutdown=int(DRAIN_S),
        )  # fmt: skip
        log.info("serving", listen=settings.gateway_listen, role=options.role)
        server = _Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn raises the signal again once it has drained; by then it is answered.
            signal.signal(number, lambda *_: None)
        server.run()
        return 0 if server.started else 1


def _migrate(settings: Settings, _options: argparse.Namespace) -> int:
    with open_parts(settings) as parts:
        _print(f"schema {migrate(parts.database)}")
    return 0


def _keys(settings: Settings, options: argparse.Namespace) -> int:
    with open_parts(settings) as parts:
        if parts.database.is_sqlite:
            migrate(parts.database)
        check_schema(parts.database)
        keys = Keys(parts.database)
        if options.action == "list":
            _print("\n".join(sorted({*keys.all().values(), *settings.api_keys})))
            return 0
        if not options.name:
            raise InvalidRequest(f"keys {options.action} needs a name")
        if options.action == "add":
            if options.name in settings.api_keys:
                raise InvalidRequest(f"GATEWAY_API_KEYS has a key {options.name!r} already")
            key = secrets.token_urlsafe(32)
            keys.add(options.name, hash_key(key), parts.clock.now())
            # It is shown once and kept nowhere.
            _print(key)
            return 0
        if not keys.remove(options.name):
            raise InvalidRequest(f"there is no key {options.name!r}")
    return 0


def worker_environment(url: str, key: str, name: str, lease_s: float) -> dict[str, str]:
    """Of an unchanged worker that takes its jobs from the gateway at `url` (RUNPOD.md's forms)."""
    base = f"{url.rstrip('/')}/v2/own"
    query = "?gpu=own"
    return {
        # The SDK appends "&name=value": without a query that would be part of the path.
        "RUNPOD_WEBHOOK_GET_JOB": f"{base}/job-take/$ID{query}",
        "RUNPOD_WEBHOOK_POST_OUTPUT": f"{base}/job-done/$RUNPOD_POD_ID/$ID{query}",
        "RUNPOD_WEBHOOK_POST_STREAM": f"{base}/job-stream/$RUNPOD_POD_ID/$ID{query}",
        "RUNPOD_WEBHOOK_PING": f"{base}/ping/$RUNPOD_POD_ID{query}",
        # Three pings a lease, in whole seconds as the SDK counts.
        "RUNPOD_PING_INTERVAL": str(max(1, int(lease_s / 3)) * 1000),
        "RUNPOD_POD_ID": name,
        "RUNPOD_AI_API_KEY": key,
        # Pictures come back in the answer, and the gateway takes them of any size.
        "WORKER_RUN_LIMIT_BYTES": "150000000",
        "WORKER_RUNSYNC_LIMIT_BYTES": "150000000",
    }


def _worker_env(settings: Settings, options: argparse.Namespace) -> int:
    url = options.url or settings.gateway_public_url or f"http://{settings.gateway_listen}"
    name = options.name or f"gpu-{secrets.token_hex(4)}"
    found = worker_environment(url, worker_key(settings), name, settings.gateway_lease_s)
    _print("\n".join(f"{name}={shlex.quote(value)}" for name, value in found.items()))
    return 0


def _recover(settings: Settings, _options: argparse.Namespace) -> int:
    """For when the gateway is down, as RunPod keeps results for half an hour only."""
    configure("WARNING", secret_values(settings))
    with open_serving(settings) as app:
        context = app.state.context
        if context.cloud is None:
            raise InvalidSettings("recover needs RUNPOD_API_KEY and RUNPOD_ENDPOINT_ID")
        free_claims(context)
        looked_at = asyncio.run(look_once(context.cloud))
        counts = {f"{state}/{backend}": n for (state, backend), n in context.reads.counts().items()}
        _print(json.dumps({"looked_at": looked_at, "open": counts}))
    return 0


def _job(settings: Settings, options: argparse.Namespace) -> int:
    with open_parts(settings) as parts:
        job = JobStore(parts.database).get(options.id)
        if job is None:
            raise InvalidRequest(f"there is no job {options.id!r}")
        found: dict[str, Any] = {name: getattr(job, name) for name in job.__slots__}
        found["events"] = Reads(parts.database).history(job.id)
        _print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


def _print(text: str) -> None:
    print(text)  # noqa: T201 - a command's answer


def _settings_help() -> str:
    lines = ["environment variables (each secret also from a file, by NAME_FILE):"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default is None else f" [{field.default}]"
        lines.append(f"  {name.upper()}\n      {field.description}{default}")
    return "\n".join(lines)
