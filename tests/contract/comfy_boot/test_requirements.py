"""comfy/requirements.in against the requirements of the vendored ComfyUI."""

import re

from handler.settings import PROJECT_DIR

# What a worker never serves, and audio nodes, whose package has no wheel for this torch.
LEFT_OUT = {
    "comfyui-frontend-package",
    "comfyui-workflow-templates",
    "comfyui-embedded-docs",
    "torchaudio",
}
ADDED = {"requests"}


def requirements(path: str) -> dict[str, str]:
    """Version range by lower-case name."""
    lines = (PROJECT_DIR / path).read_text().splitlines()
    plain = [line.partition("#")[0].strip() for line in lines]
    found = [re.fullmatch(r"([\w.-]+)(.*)", line) for line in plain if line]
    return {match[1].lower(): match[2] for match in found if match}


def test_every_requirement_of_comfyui_is_there_or_left_out_on_purpose() -> None:
    upstream = requirements("comfy/ComfyUI/requirements.txt")
    ours = requirements("comfy/requirements.in")
    # What is there besides is for packs of custom nodes.
    assert set(upstream) - LEFT_OUT | ADDED <= set(ours)
    assert not LEFT_OUT & set(ours)
    pinned_by_us = {"torch", "torchvision"}
    for name in set(ours) & set(upstream) - pinned_by_us:
        assert ours[name] == upstream[name], name


def test_the_lock_holds_every_requirement_with_hashes() -> None:
    lock = (PROJECT_DIR / "comfy" / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([\w.-]+)==(\S+)", lock, re.MULTILINE))
    assert set(requirements("comfy/requirements.in")) <= {name.lower() for name in locked}
    for block in re.split(r"^(?=\w)", lock, flags=re.MULTILINE)[1:]:
        assert "--hash=sha256:" in block, block[:80]
