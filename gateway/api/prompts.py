"""What can be chosen instead of written, and the prompt that it becomes."""

from typing import Any

from fastapi import APIRouter, Request

from gateway.api.bodies import read_json
from gateway.api.context import Ctx, Owner, answer, offload
from gateway.prompt import attribute_labels, compile_prompt, options, sees_whole_photo

router = APIRouter(prefix="/api", tags=["prompt"])

_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "edits": {"type": "array", "items": {"type": "object"}},
                        "text": {"type": "string"},
                        "subject": {"type": "string"},
                        "masked": {"type": "boolean"},
                    },
                },
                "example": {
                    "edits": [{"category": "outfit_colour", "fields": {"colour": "red"}}],
                    "text": "", "subject": "person", "masked": False,
                },
            }
        },
    }
}  # fmt: skip


@router.get("/options")
def list_options(request: Request, ctx: Ctx, owner: Owner) -> dict[str, Any]:
    """What can be chosen, and how what an edit keeps is called, in Thai and English; and what a
    page must tell of this gateway."""
    service: dict[str, Any] = {"demo": ctx.settings.gateway_route == "demo"}
    if ctx.books.is_on:
        service["credits"] = "test"
    return answer(request, **options(), attributes=attribute_labels(), service=service)


@router.post("/prompt/compile", openapi_extra=_BODY)
async def compile_options(request: Request, ctx: Ctx, owner: Owner) -> dict[str, Any]:
    """The English prompt of what was chosen and typed, what it keeps, and what to know of it;
    `whole` where the model should see all of a masked photo (`fit` in create)."""
    body = await read_json(request, ctx)
    compiled = await offload(compile_prompt, body)
    return answer(request, **compiled, whole=sees_whole_photo(body))
