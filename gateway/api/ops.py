"""For operators: is it alive, is it ready, what does it count, what is it set to."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy import text

from gateway.api.context import Context, Ctx, answer
from gateway.errors import Forbidden, GatewayError, Unauthorized
from gateway.settings import Settings

router = APIRouter(tags=["operation"])


def own_version() -> str:
    try:
        return version("qwen-image-edit-worker")
    except PackageNotFoundError:
        return "0.1.0"


@router.get("/health")
async def health() -> dict[str, Any]:
    """Alive. Asks nothing of the database."""
    return {"ok": True, "version": own_version()}


@router.get("/ready")
def ready(request: Request, ctx: Ctx) -> Response:
    """200 once jobs can be taken and done; else 503 with the reasons. `route` says who does them;
    with `demo` nobody edits: pictures are drawn over."""
    reasons = [reason for reason in (_database(ctx), _store(ctx), _backend(ctx)) if reason]
    if ctx.bell.is_closed:
        reasons.append({"code": "shutting_down", "message": "the gateway is about to end"})
    route = ctx.settings.gateway_route
    body = {
        **answer(request, reasons=reasons), "ok": not reasons, "ready": not reasons, "route": route,
        "demo": route == "demo",
    }  # fmt: skip
    return JSONResponse(body, 503 if reasons else 200)


@router.get("/metrics", response_class=Response)
def metrics(ctx: Ctx) -> Response:
    """For Prometheus."""
    return Response(ctx.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/debug/env")
def debug_env(request: Request, ctx: Ctx) -> dict[str, Any]:
    """What is set, as booleans; never a value."""
    if not ctx.guard.is_admin(request):
        if ctx.settings.gateway_admin_key is None:
            raise Forbidden("GATEWAY_ADMIN_KEY is not set, so nobody may see this")
        raise Unauthorized("this is for the admin key")
    return {
        "ok": True,
        "request_id": request.state.request_id,
        **_set(ctx.settings),
        "version": own_version(),
        "ts": ctx.clock.now(),
    }


def _set(settings: Settings) -> dict[str, Any]:
    return {
        "hasRunpodKey": settings.runpod_api_key is not None,
        "hasRunpodEndpoint": settings.runpod_endpoint_id is not None,
        "hasR2Binding": settings.has_bucket,
        "hasApiKeys": bool(settings.api_keys),
        "hasAdminKey": settings.gateway_admin_key is not None,
        "hasWorkerKey": settings.gateway_worker_key is not None,
        "hasWebhookSecret": settings.gateway_webhook_secret is not None,
        "hasDatabaseUrl": settings.gateway_database_url is not None,
        "hasPublicUrl": settings.gateway_public_url is not None,
    }


def _database(ctx: Context) -> dict[str, str] | None:
    try:
        ctx.store.database.read(lambda connection: connection.execute(text("SELECT 1")))
    except GatewayError as exc:
        return {"code": exc.code, "message": exc.message}
    return None


def _store(ctx: Context) -> dict[str, str] | None:
    try:
        ctx.objects.check()
    except GatewayError as exc:
        return {"code": exc.code, "message": exc.message}
    return None


def _backend(ctx: Context) -> dict[str, str] | None:
    """RunPod is asked by the steps; here only whether an own worker is in touch."""
    if ctx.settings.gateway_route != "own":
        return None
    try:
        workers = ctx.workers.since(ctx.clock.now() - 45_000)
    except GatewayError:
        return None
    return None if workers else {"code": "no_workers", "message": "no worker asks for jobs yet"}
