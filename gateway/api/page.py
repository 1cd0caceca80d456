"""The page: its files, and the key that it may ask for."""

import functools
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse

from gateway.api.bodies import read_json
from gateway.api.context import Context, Ctx, answer, check_rate, offload
from gateway.api.guard import COOKIE
from gateway.errors import InvalidRequest, NotFound
from gateway.page_files import PageFile, page_files, page_headers

router = APIRouter(tags=["page"])

ADDRESS = "/services/qwen-image-edit"
_files = functools.cache(page_files)
# Browsers forget a cookie after 400 days at the latest.
_REMEMBER_S = 400 * 24 * 3600


@router.get("/", include_in_schema=False)
def root(ctx: Ctx) -> RedirectResponse:
    """To the page."""
    _check_is_on(ctx)
    return RedirectResponse(ADDRESS.removeprefix("/"))


@router.get(ADDRESS, response_class=Response)
def page(request: Request, ctx: Ctx) -> Response:
    """The page, in Thai and English."""
    return _served(request, ctx, "index.html")


@router.get(f"{ADDRESS}/{{name}}", response_class=Response, include_in_schema=False)
def file(request: Request, ctx: Ctx, name: str) -> Response:
    return _served(request, ctx, name)


@router.post(f"{ADDRESS}/key", dependencies=[Depends(check_rate)])
async def key(request: Request, ctx: Ctx, response: Response) -> dict[str, Any]:
    """`{key}`: a key that is known is kept in a cookie, which no script of a page can read."""
    _check_is_on(ctx)
    body = await read_json(request, ctx)
    value = body.get("key") if isinstance(body, Mapping) else None
    if not isinstance(value, str):
        raise InvalidRequest("key must be a text")
    await offload(ctx.guard.check_key, value)
    is_https = (ctx.settings.gateway_public_url or str(request.url)).startswith("https:")
    response.set_cookie(
        COOKIE, value, max_age=_REMEMBER_S, httponly=True, samesite="strict", secure=is_https
    )
    return answer(request)


def _check_is_on(ctx: Context) -> None:
    if ctx.guard.page == "off":
        raise NotFound("the page is off: GATEWAY_PAGE")


def _served(request: Request, ctx: Context, name: str) -> Response:
    _check_is_on(ctx)
    found: PageFile | None = _files().get(name)
    if found is None:
        raise NotFound(f"the page has no file {name[:100]!r}")
    headers = {**page_headers(_picture_origins(ctx)), "etag": found.etag}
    if found.etag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.body, headers=headers, media_type=found.media_type)


def _picture_origins(ctx: Context) -> list[str]:
    """Where the bucket's signed addresses lead, if there is one."""
    link = ctx.objects.link("picture.png", None)
    return [] if link is None else ["{0.scheme}://{0.netloc}".format(urlsplit(link))]
