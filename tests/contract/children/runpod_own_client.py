"""RunPod's SDK against a gateway: `runpod_own_client.py URL KEY ENDPOINT_ID`, with a worker there
that echoes; what it saw goes to stdout. A job whose input has `fails` fails, one that has `waits`
runs until it is stopped."""

import asyncio
import json
import sys
import time
from typing import Any

import aiohttp
import runpod

runpod.endpoint_url_base, runpod.api_key = sys.argv[1:3]
ENDPOINT_ID = sys.argv[3]


def sync() -> dict[str, Any]:
    endpoint = runpod.Endpoint(ENDPOINT_ID)
    job = endpoint.run({"input": {"n": 1}, "policy": {"ttl": 600_000}})
    failed = endpoint.run({"fails": True})
    told = {
        "output": job.output(timeout=60),
        "again": job.output(),
        "status": job.status(),
        "run_sync": endpoint.run_sync({"n": 2}, timeout=60),
        "failed": (failed.output(timeout=60), failed.status()),
    }
    running = endpoint.run({"waits": True})
    while running.status() != "IN_PROGRESS":
        time.sleep(0.02)
    return told | {
        "cancelled": running.cancel()["status"],
        "ended": running.output(timeout=60),
        "stopped": running.status(),
        "cancel_of_ended": job.cancel()["status"],
        "stream": list(endpoint.run({"n": 3}).stream()),
        "health": endpoint.health(),
        "purged": endpoint.purge_queue(),
        "retried": endpoint.rp_client.post(f"{ENDPOINT_ID}/retry/{failed.job_id}", {}),
    }


async def not_sync() -> dict[str, Any]:
    async with aiohttp.ClientSession() as session:
        endpoint = runpod.AsyncioEndpoint(ENDPOINT_ID, session)
        job = await endpoint.run({"n": 4})
        failed = await endpoint.run({"fails": True})
        waiting = await endpoint.run({"waits": True})
        return {
            "output": await job.output(timeout=60),
            "status": await job.status(),
            "failed": (await failed.output(timeout=60), await failed.status()),
            "cancelled": (await waiting.cancel())["status"],
            "health": sorted(await endpoint.health()),
        }


def refused() -> str:
    try:
        runpod.Endpoint(ENDPOINT_ID, api_key="another-key").run({"n": 5})
    except RuntimeError as exc:
        return str(exc)
    return "not refused"


print(json.dumps({"sync": sync(), "async": asyncio.run(not_sync()), "refused": refused()}))
