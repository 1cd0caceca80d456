"""Faults of ComfyUI's HTTP side, set with POST /faults; each post replaces what was set before."""

import asyncio
import os
import signal

from aiohttp import web


def install(server):
    # Seconds that each of these paths takes longer, and paths whose POST kills the process.
    faults = {"delay_s": {}, "die_at": []}

    @server.routes.post("/faults")
    async def set_faults(request):
        faults.update({"delay_s": {}, "die_at": []} | await request.json())
        return web.Response()

    @web.middleware
    async def misbehave(request, handler):
        if request.method == "POST" and request.path in faults["die_at"]:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(faults["delay_s"].get(request.path.split("/")[1], 0))
        return await handler(request)

    server.app.middlewares.append(misbehave)
