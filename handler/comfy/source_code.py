"""ComfyUI's own source, read to know whether what was proved of it still holds."""

import ast
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path


class SourceCode:
    """Reads each file once, which takes tens of milliseconds."""

    def __init__(self, comfy_dir: Path) -> None:
        self._comfy_dir = comfy_dir
        self._files: dict[str, dict[str, str]] = {}

    def digest(self, code: Iterable[tuple[str, Iterable[str]]]) -> str | None:
        """SHA-256 of the source of what `code` names: files of ComfyUI's, and functions, classes or
        constants at their top. None when one is missing or can't be read."""
        digest = hashlib.sha256()
        try:
            for file, names in code:
                found = self._definitions(file)
                for name in names:
                    digest.update(f"{file}:{name}\n{found[name]}\n".encode())
        except (OSError, ValueError, SyntaxError, KeyError):
            return None
        return digest.hexdigest()

    def _definitions(self, file: str) -> dict[str, str]:
        if file not in self._files:
            source = (self._comfy_dir / file).read_text(encoding="utf-8")
            self._files[file] = dict(_definitions(source))
        return self._files[file]


def _definitions(source: str) -> Iterator[tuple[str, str]]:
    lines = source.splitlines()
    for node in ast.parse(source).body:
        match node:
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
                | ast.Assign(targets=[ast.Name(id=name)])
            ):
                yield name, "\n".join(lines[node.lineno - 1 : node.end_lineno])
