"""Errors as answers: the only place that catches everything."""

import math
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from gateway.errors import (
    GatewayError,
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    RequestError,
    StoreUnavailable,
)
from gateway.objects import ObjectMissing
from handler.logs import get_logger

_WAIT = "retry_after_s"

log = get_logger()


def install(app: FastAPI) -> None:
    app.add_exception_handler(GatewayError, _known)
    app.add_exception_handler(RequestValidationError, _not_valid)
    app.add_exception_handler(HTTPException, _of_framework)
    app.add_exception_handler(ObjectMissing, _missing)
    app.add_exception_handler(ClientDisconnect, _broken_off)
    app.add_exception_handler(Exception, _unforeseen)


def problem(request: Request, error: GatewayError, status: int | None = None) -> JSONResponse:
    request.app.state.context.metrics.errors.labels(error.code).inc()
    headers = {}
    if wait_s := error.details.get(_WAIT):
        headers["Retry-After"] = str(math.ceil(wait_s))
    if error.http_status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    body = {
        "ok": False,
        "error": f"{error.code}: {error.message}",
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
        "request_id": getattr(request.state, "request_id", None),
    }
    if details := {name: value for name, value in error.details.items() if name != _WAIT}:
        body["details"] = details
    return JSONResponse(body, status or error.http_status, headers)


async def _known(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, GatewayError)
    if not isinstance(error, RequestError):
        log.error("request failed", path=request.url.path, code=error.code, message=error.message)
    return problem(request, error)


async def _not_valid(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    first: Any = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"][1:])
    return problem(request, InvalidRequest(f"{where}: {first['msg']}".removeprefix(": ")))


async def _of_framework(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return problem(request, NotFound(f"there is no route {request.url.path[:200]}"))
    if error.status_code == 405:
        found = problem(request, MethodNotAllowed(f"{request.method} is not for this address"))
        found.headers.update(error.headers or {})
        return found
    return problem(request, InvalidRequest(str(error.detail)), error.status_code)


async def _broken_off(request: Request, _error: Exception) -> JSONResponse:
    """Nobody reads the answer; it is counted."""
    return problem(request, InvalidRequest("the body broke off"))


async def _missing(request: Request, error: Exception) -> JSONResponse:
    log.error("object is gone", path=request.url.path, key=str(error))
    return problem(request, StoreUnavailable("a file that should be there is not"))


async def _unforeseen(request: Request, error: Exception) -> JSONResponse:
    log.error("unforeseen fault", path=request.url.path, exc_info=error)
    fault = InternalError(f"the gateway failed with {type(error).__name__}; see its log")
    return problem(request, fault)
