"""The endpoint that a settings file means: found, planned, made or changed, and ended."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gateway.deploy.errors import DeployFailed, NoAnswer, NoSuchThing, NotAllowed
from gateway.deploy.management import Management, endpoint_id_of
from gateway.deploy.plan import (
    Change,
    Pool,
    changes_of,
    choose_pools,
    create_body,
    desired_endpoint,
    patch_body,
    pools_of,
)
from gateway.deploy.wanted import Wanted

_LOOK_AGAIN_S = 5.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is there and what would change. `current` is None where there is no endpoint yet."""

    wanted: Wanted
    pools: list[Pool]
    desired: dict[str, Any]
    current: dict[str, Any] | None
    changes: list[Change]
    makes_registry: bool

    @property
    def is_done(self) -> bool:
        return self.current is not None and not self.changes and not self.makes_registry


def make_plan(management: Management, wanted: Wanted) -> Plan:
    """Changes nothing. Raises DeployError."""
    current = find_endpoint(management, wanted)
    every_pool = pools_of(management.cards(), wanted.excluded_gpus)
    pools = choose_pools(wanted, every_pool)
    registry_id = _registry_id(management, wanted)
    if registry_id is None and wanted.registry and not wanted.registry.username:
        raise DeployFailed(
            f"RunPod has no registry login '{wanted.registry.name}'; add 'username' to [registry] "
            "and set RUNPOD_REGISTRY_PASSWORD to have it made"
        )
    desired = desired_endpoint(wanted, [pool.id for pool in pools], registry_id)
    changes = [] if current is None else changes_of(desired, current)
    makes = wanted.registry is not None and registry_id is None
    return Plan(wanted, pools, desired, current, changes, makes)


def find_endpoint(management: Management, wanted: Wanted) -> dict[str, Any] | None:
    """By its id where the file has one, else by its name, which RunPod keeps no two from having:
    DeployFailed where two have it."""
    if wanted.endpoint_id is not None:
        try:
            return management.endpoint(wanted.endpoint_id)
        except NoSuchThing as exc:
            raise DeployFailed(
                f"there is no endpoint {wanted.endpoint_id}; take endpoint_id out of the file to "
                "make a new one"
            ) from exc
    named = [one for one in management.endpoints() if _is_named(one, wanted.name)]
    if len(named) > 1:
        ids = ", ".join(sorted(endpoint_id_of(one) for one in named))
        raise DeployFailed(
            f"{len(named)} endpoints are named '{wanted.name}' ({ids}); write endpoint_id of the "
            "right one into the file"
        )
    # The list may tell less of each.
    return management.endpoint(endpoint_id_of(named[0])) if named else None


def apply_plan(
    management: Management, plan: Plan, registry_password: str | None, say: Callable[[str], None]
) -> dict[str, Any]:
    """The endpoint as it is then, read again: RunPod has dropped fields of a PATCH before. Raises
    DeployError."""
    desired = dict(plan.desired)
    if plan.makes_registry:
        desired["registry"] = _make_registry(management, plan.wanted, registry_password, say)
    if plan.current is None:
        try:
            made = management.create(create_body(desired))
        except NoAnswer as exc:
            raise DeployFailed(
                f"{exc}. The endpoint may have been made all the same: run it again, which finds "
                "it by its name"
            ) from exc
        endpoint_id = endpoint_id_of(made)
        say(f"made endpoint {endpoint_id}")
    else:
        endpoint_id = endpoint_id_of(plan.current)
        changes = changes_of(desired, plan.current)
        if changes:
            management.patch(endpoint_id, patch_body(desired, changes))
            say(f"changed {', '.join(change.field for change in changes)} of {endpoint_id}")
    there = management.endpoint(endpoint_id)
    if left := changes_of(desired, there):
        fields = ", ".join(f"{one.field} is {one.now!r}" for one in left)
        raise DeployFailed(
            f"RunPod took the change of {endpoint_id} and did not keep it: {fields}; run it again, "
            "or change it in RunPod's console"
        )
    return there


def watch_roll_out(
    management: Management, endpoint_id: str, limit_s: float, say: Callable[[str], None],
    *, monotonic: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep,
) -> None:  # fmt: skip
    """Returns when no worker runs an older release. A busy one is replaced after its job."""
    end, told = monotonic() + limit_s, ""
    while True:
        workers = management.workers(endpoint_id)
        stale = [one for one in workers.get("workers") or [] if one.get("isStale")]
        now = f"workers: {_summary(workers)}; {len(stale)} of an older release"
        if now != told:
            say(now)
            told = now
        if not stale:
            return
        if monotonic() >= end:
            raise DeployFailed(
                f"after {limit_s:g} s {len(stale)} workers of {endpoint_id} still run an older "
                "release; they go on until their jobs end: look again with 'deploy plan'"
            )
        sleep(_LOOK_AGAIN_S)


def may_manage(management: Management) -> str | None:
    """None, or why not."""
    try:
        management.endpoints()
    except (NotAllowed, NoAnswer) as exc:
        return str(exc)
    return None


def _registry_id(management: Management, wanted: Wanted) -> str | None:
    if wanted.registry is None:
        return None
    for one in management.registries():
        if wanted.registry.name in (one.get("name"), one.get("id")):
            return str(one["id"])
    return None


def _make_registry(
    management: Management, wanted: Wanted, password: str | None, say: Callable[[str], None]
) -> str:
    if wanted.registry is None or not wanted.registry.username:
        raise AssertionError("a plan makes a login only of a file that has one")
    if not password:
        raise DeployFailed(
            f"RUNPOD_REGISTRY_PASSWORD is not set, and login '{wanted.registry.name}' is to be made"
        )
    made = management.create_registry(wanted.registry.name, wanted.registry.username, password)
    say(f"made registry login {wanted.registry.name}")
    return str(made.get("id"))


def _is_named(endpoint: Mapping[str, Any], name: str) -> bool:
    # With FlashBoot on, RunPod's console has shown " -fb" behind a name.
    return str(endpoint.get("name", "")).removesuffix(" -fb") == name


def _summary(workers: Mapping[str, Any]) -> str:
    counts = workers.get("summary")
    if not isinstance(counts, Mapping):
        return "unknown"
    shown = [f"{count} {name}" for name, count in counts.items() if count and name != "total"]
    return ", ".join(shown) or "none"
