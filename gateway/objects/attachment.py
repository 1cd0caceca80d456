"""The header that names a download. Pure."""

import re
from urllib.parse import quote

_LONGEST = 100


def attachment(name: str) -> str:
    """A Content-Disposition (RFC 6266): the name as typed, and for old clients one in ASCII."""
    kept = (char if char.isprintable() else "_" for char in name.rpartition("/")[2])
    # What some file system does not take.
    bare = re.sub(r'[<>:"\\|?*]', "_", "".join(kept))
    bare = bare.encode("utf-8", "replace").decode().strip(". ")[-_LONGEST:] or "picture"
    plain = re.sub(r"[^A-Za-z0-9._ -]", "_", bare)
    header = f'attachment; filename="{plain}"'
    return header if plain == bare else f"{header}; filename*=UTF-8''{quote(bare, safe='')}"
