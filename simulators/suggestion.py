"""What to say to somebody who wrote a name that nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Collection

_LISTED = 20
_COMPARED = 10_000


def suggest(name: str, known: Collection[str], what: str) -> str:
    """Return a sentence that names the nearest known names, and all of them where they are few."""
    if not known:
        return f"There are no {what}."
    listed = sorted(known)
    near = difflib.get_close_matches(name, listed, n=3, cutoff=0.5) if len(listed) <= _COMPARED else []
    ask = f"Did you mean {' or '.join(near)}? " if near else ""
    rest = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"{ask}Known {what}: {', '.join(listed[:_LISTED])}{rest}."
