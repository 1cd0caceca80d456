"""Credits in test mode: what an owner has, and more of them for no money. These routes are there
with GATEWAY_CREDITS=test only."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from gateway.api.context import Ctx, Owner, answer, check_rate
from gateway.api.create import IdempotencyKey
from gateway.errors import InvalidRequest
from gateway.ledger import PACKAGES, PRICES, Account
from handler.contract import REQUEST_ID

router = APIRouter(tags=["credits"])

NOTICE = {
    "th": "นี่คือการทดสอบ เครดิตเหล่านี้ไม่ใช่เงินจริง และไม่มีการเก็บเงิน",
    "en": "This is a test: these credits are no money, and nothing is charged.",
}


class Purchase(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)

    package: Annotated[str, Field(max_length=100)]
    """Its id, of GET /api/credits."""
    request_id: Annotated[str, Field(pattern=f"^{REQUEST_ID}$")] | None = None
    """Makes the purchase idempotent: sent again, it buys nothing more."""


@router.get("/api/credits")
def credits(request: Request, ctx: Ctx, owner: Owner) -> dict[str, Any]:
    """`{test: true, notice: {th, en}, balance, held, cost: {fast, fine}, packages: [{id,
    credits}]}`. `balance` is free to spend, `held` is for jobs that have not ended; `cost` is that
    of an edit by its speed, and `fine` also that of a workflow, an input of /v2/own/run, and an
    edit with more steps than a fast one has."""
    return answer(
        request, **_account(ctx.books.account(owner)), cost=dict(PRICES),
        packages=[{"id": name, "credits": count} for name, count in PACKAGES.items()],
    )  # fmt: skip


@router.post("/api/credits/buy", dependencies=[Depends(check_rate)])
def buy(
    request: Request,
    ctx: Ctx,
    owner: Owner,
    purchase: Annotated[Purchase, Body()],
    idempotency_key: str | None = IdempotencyKey,
) -> dict[str, Any]:
    """Buy a package, for no money: `{package, request_id}` gives `{test: true, notice, balance,
    held, package, credits, deduplicated}`. The id may also come as the header Idempotency-Key;
    without one each call buys."""
    if purchase.request_id and idempotency_key and purchase.request_id != idempotency_key:
        raise InvalidRequest("request_id and the header Idempotency-Key differ; send one")
    bought, is_new = ctx.books.buy(
        owner, purchase.package, purchase.request_id or idempotency_key, ctx.clock.now()
    )
    return answer(
        request, **_account(bought), package=purchase.package,
        credits=PACKAGES[purchase.package], deduplicated=not is_new,
    )  # fmt: skip


def _account(account: Account) -> dict[str, Any]:
    return {"test": True, "notice": NOTICE, "balance": account.balance, "held": account.held}
