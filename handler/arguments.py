"""The arguments of `python -m handler`, which RunPod's SDK reads too, and its help."""

import argparse
from pathlib import Path

from handler.settings import Settings


def make_parser() -> argparse.ArgumentParser:
    """Only to refuse what nobody reads and to explain; the SDK reads its flags itself."""
    parser = argparse.ArgumentParser(
        prog="python -m handler",
        description="The worker. On RunPod it takes jobs; elsewhere it runs one test job or "
        "serves the SDK's local API. Everything else is set by environment variables. Without a "
        "GPU: `python -m handler compile JOB.json` prints the workflow that a job in prompt mode "
        "becomes, `validate JOB.json` what is wrong with a job, `convert GRAPH.json` the API "
        "format of a graph that the editor saved, `schema input` and `schema output` the contract.",
        epilog=_settings_help(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--test_input", metavar="JSON", help='one job: {"input": {...}}')
    parser.add_argument("--rp_serve_api", action="store_true", help="serve /run and /runsync")
    parser.add_argument("--rp_api_host", help="default: localhost")
    parser.add_argument("--rp_api_port", type=int, help="default: 8000")
    parser.add_argument("--rp_api_concurrency", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--rp_log_level", help=argparse.SUPPRESS)
    parser.add_argument("--rp_debugger", action="store_true", help=argparse.SUPPRESS)
    return parser


def _settings_help() -> str:
    lines = ["environment variables:"]
    for name, field in Settings.model_fields.items():
        lines.append(f"  {name.upper()}\n      {field.description} [{field.default}]")
    return "\n".join(lines)


def check_has_test_input() -> None:
    if not Path("test_input.json").exists():
        raise SystemExit(
            "python -m handler: nothing to run. RUNPOD_WEBHOOK_GET_JOB is not set, so this is a "
            "local run:\ngive a job with --test_input or in ./test_input.json, or serve HTTP with "
            "--rp_serve_api."
        )
