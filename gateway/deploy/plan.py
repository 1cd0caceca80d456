"""From what is wanted and what is there to what must be sent. Pure.

Names and rules are those of RunPod's management API v2.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gateway.deploy.errors import DeployFailed
from gateway.deploy.wanted import Wanted

_FLASHBOOT = {"off": "OFF", "on": "FLASHBOOT", "priority": "PRIORITY_FLASHBOOT"}


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool of cards that workers can be had of; `price` is USD an hour for one card, None where
    the catalogue has none. `memory_gb` is the least of its cards'."""

    id: str
    memory_gb: int
    price: float | None
    cards: tuple[str, ...]
    availability: str


@dataclass(frozen=True, slots=True)
class Change:
    """One thing about the endpoint that is not as wanted."""

    field: str
    now: Any
    then: Any


def pools_of(catalogue: Iterable[Mapping[str, Any]], excluded: Sequence[str] = ()) -> list[Pool]:
    """The serverless pools in a catalogue of cards, the cheapest first."""
    cards: dict[str, list[Mapping[str, Any]]] = {}
    for card in catalogue:
        pool = card.get("pool")
        if isinstance(pool, str) and card.get("id") not in excluded:
            cards.setdefault(pool, []).append(card)
    return sorted(
        (_pool(name, found) for name, found in cards.items()),
        key=lambda pool: (pool.price is None, pool.price or 0, pool.id),
    )


def choose_pools(wanted: Wanted, pools: Sequence[Pool]) -> list[Pool]:
    """Those that the file names, in its order; without any, all whose cards have the memory and
    whose price is not over the limit. Raises DeployFailed with what there is."""
    known = {pool.id: pool for pool in pools}
    if missing := [name for name in wanted.pools if name not in known]:
        raise DeployFailed(
            f"RunPod has no pool '{missing[0]}'; its pools are {', '.join(sorted(known))}"
        )
    if wanted.pools:
        return [known[name] for name in wanted.pools]
    chosen = [
        pool
        for pool in pools
        if pool.memory_gb >= wanted.least_gpu_gb
        and (wanted.most_price_per_hour is None or (pool.price or 0) <= wanted.most_price_per_hour)
    ]
    if not chosen:
        there = ", ".join(f"{pool.id} ({pool.memory_gb} GB, {_price(pool)})" for pool in pools)
        raise DeployFailed(
            f"no pool has cards of {wanted.least_gpu_gb} GB at your price; there are: {there}"
        )
    return chosen


def desired_endpoint(
    wanted: Wanted, pools: Sequence[str], registry_id: str | None
) -> dict[str, Any]:
    """The body that makes the endpoint."""
    by_count = wanted.scaling.request_count is not None
    workers: dict[str, Any] = {"min": wanted.workers.min, "max": wanted.workers.max}
    if not by_count:
        # RunPod refuses it where workers follow the number of requests.
        workers["idleTimeout"] = wanted.workers.idle_timeout_s
    return {
        "name": wanted.name,
        "type": "QUEUE",
        "image": wanted.image,
        "gpu": {
            "pools": list(pools),
            "excludedTypes": list(wanted.excluded_gpus),
            "count": wanted.gpu_count,
            "allowedCudaVersions": list(wanted.cuda),
            "minCudaVersion": "" if wanted.cuda else (wanted.least_cuda or ""),
        },
        "workers": workers,
        "scaling": {"type": "REQUEST_COUNT", "requestCount": wanted.scaling.request_count}
        if by_count
        else {"type": "QUEUE_DELAY", "queueDelay": wanted.scaling.queue_delay_s},
        "disk": wanted.disk_gb,
        "env": wanted.env
        | {name: f"{{{{ RUNPOD_SECRET_{secret} }}}}" for name, secret in wanted.secrets.items()},
        "registry": registry_id,
        "networkVolumes": list(wanted.volumes),
        "dataCenterIds": list(wanted.data_centers),
        "timeout": wanted.timeout_s * 1000,
        "flashboot": _FLASHBOOT[wanted.flashboot],
    }


def create_body(desired: Mapping[str, Any]) -> dict[str, Any]:
    """An empty floor clears one in a PATCH, and is refused where there is none to clear."""
    gpu = {key: value for key, value in desired["gpu"].items() if value != ""}
    return {**desired, "gpu": gpu}


def changes_of(desired: Mapping[str, Any], current: Mapping[str, Any]) -> list[Change]:
    """What of the endpoint is not as wanted, with dotted names. An endpoint that takes no queue
    can't become one that does: DeployFailed."""
    if current.get("type", "QUEUE") != desired["type"]:
        raise DeployFailed(
            f"endpoint {current.get('id')} is of type {current.get('type')} and can't become "
            "QUEUE; give deploy.toml another name"
        )
    found: list[Change] = []
    for key, then in desired.items():
        if key == "type":
            continue
        now = current.get(key)
        if isinstance(then, dict) and key != "env":
            inner = now if isinstance(now, Mapping) else {}
            found += [
                Change(f"{key}.{name}", inner.get(name), value)
                for name, value in then.items()
                if not _same(inner.get(name), value)
            ]
        elif not _same(now, then):
            found.append(Change(key, now, then))
    return found


def patch_body(desired: Mapping[str, Any], changes: Sequence[Change]) -> dict[str, Any]:
    """Whole objects, since `env` is replaced and `gpu.pools` without the exclusions clears them."""
    return {key: desired[key] for key in dict.fromkeys(c.field.split(".")[0] for c in changes)}


def cost_per_hour(wanted: Wanted, pools: Sequence[Pool]) -> tuple[float, float] | None:
    """The least and the most that one busy worker costs, in USD; None without prices."""
    prices = [pool.price * wanted.gpu_count for pool in pools if pool.price is not None]
    return (min(prices), max(prices)) if prices else None


def _pool(name: str, cards: Sequence[Mapping[str, Any]]) -> Pool:
    prices = [
        card["price"]["serverless"]
        for card in cards
        if isinstance(card.get("price"), Mapping)
        and isinstance(card["price"].get("serverless"), int | float)
    ]
    stock = {str(card.get("availability") or "") for card in cards}
    levels = ("HIGH", "MEDIUM", "LOW", "NONE")
    return Pool(
        name,
        min((card["memory"] for card in cards if isinstance(card.get("memory"), int)), default=0),
        max(prices, default=None),
        tuple(str(card.get("id")) for card in cards),
        next((level for level in levels if level in stock), "unknown"),
    )


def _same(now: Any, then: Any) -> bool:
    """RunPod leaves out what is empty, gives null for an empty floor, and 4 for 4.0; the order of
    lists but for pools' has no meaning, and pools' only says which is tried first."""
    if then in ("", [], {}, None):
        return now in ("", [], {}, None)
    return bool(now == then)


def _price(pool: Pool) -> str:
    return "price unknown" if pool.price is None else f"${pool.price:.2f} an hour"
