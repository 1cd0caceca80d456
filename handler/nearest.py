"""The known names that are near a wrong one, for messages. Pure."""

import difflib
from collections.abc import Iterable

# A wrong name may be all of a job, of which difflib would make hundreds of megabytes. No known
# name is as long.
LONGEST_NAME = 300


def nearest(name: str, known: Iterable[str], *, most: int = 1, cutoff: float = 0.6) -> list[str]:
    """At most so many, the nearest first; as `difflib.get_close_matches`, in bounded time."""
    known = [one for one in known if len(one) <= LONGEST_NAME]
    return difflib.get_close_matches(name[:LONGEST_NAME], known, n=most, cutoff=cutoff)


def shown(name: str) -> str:
    """As a message quotes it: the beginning of one that is too long."""
    if len(name) <= LONGEST_NAME:
        return repr(name)
    return f"{name[:LONGEST_NAME]!r}... ({len(name)} characters)"
