"""comfy/comfyui.lock, read and checked."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Each key with what it must be. A requirement or an address that begins with a dash would be
# taken for an option.
PATH = r"(?!\.{1,2}(/|$))[^/\\]+(/(?!\.{1,2}(/|$))[^/\\]+)*"
TOP = {"commit": "[0-9a-f]{40}", "version": r"\w[\w.+-]*", "tree_sha256": "[0-9a-f]{64}"}
SOURCES = {
    "pypi": {
        "requirement": r"\w[\w.-]*==[\w.+!-]+",
        "wheel": r"\w[\w.+!-]*\.whl",
        "sha256": "[0-9a-f]{64}",
        "folder": PATH,
        "leave_out": PATH,
    },
    "git": {"url": r"[^-].*", "leave_out": PATH},
}


class VendorError(Exception):
    """One sentence: what is wrong, where, and what to do next; then, if need be, indented lines."""


@dataclass(frozen=True)
class Lock:
    path: Path
    commit: str
    version: str
    tree_sha256: str
    sources: dict[str, dict[str, Any]]

    def __str__(self) -> str:
        return f"ComfyUI {self.version} ({self.commit[:7]})"


def read_lock(path: Path) -> Lock:
    """The lock, or a VendorError that names the file and the key at fault."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VendorError(f"There is no lock file {path}; name one with --lock.") from None
    except ValueError as error:
        raise VendorError(f"{path} is not valid TOML: {error}; correct it.") from None
    top = _read_table(path, "", table, TOP)
    named = [name for name in SOURCES if name in table]
    if not named:
        raise VendorError(f"{path} has neither [pypi] nor [git]; add one of them.")
    sources = {name: _read_table(path, f"{name}.", table[name], SOURCES[name]) for name in named}
    return Lock(path, top["commit"], top["version"], top["tree_sha256"], sources)


def _read_table(path: Path, prefix: str, table: Any, rules: Mapping[str, str]) -> dict[str, Any]:
    for key, pattern in rules.items():
        if not isinstance(table, dict) or key not in table:
            raise VendorError(f"{path} lacks `{prefix}{key}`; add it.")
        value, kind = table[key], list if key == "leave_out" else str
        texts = value if isinstance(value, list) else [value]
        if type(value) is not kind or not all(re.fullmatch(pattern, str(text)) for text in texts):
            wanted = f"a {kind.__name__} that matches {pattern}"
            raise VendorError(f"`{prefix}{key}` in {path} is {value!r}; make it {wanted}.")
    return {key: table[key] for key in rules}
