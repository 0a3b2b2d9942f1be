"""Numbers as people read them, with their unit. Shared by the page and the command line."""

from __future__ import annotations

import math


def describe_duration(seconds: float) -> str:
    """Say a duration: ``40 seconds``, ``3 minutes``, ``2 hours 10 minutes``."""
    if seconds < 90:
        return _counted(max(1, round(seconds)), "second")
    minutes = round(seconds / 60)
    if minutes < 90:
        return _counted(minutes, "minute")
    hours, rest = divmod(minutes, 60)
    words = _counted(hours, "hour")
    return f"{words} {_counted(rest, 'minute')}" if rest else words


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def describe_bytes(count: float) -> str:
    """Say a size in decimal units, as disks and downloads are sold: ``4 kB``, ``93 MB``, ``15.2 GB``."""
    if count < 1e6:
        return f"{math.ceil(count / 1e3):,} kB"
    if count < 1e9:
        return f"{count / 1e6:,.0f} MB"
    return f"{count / 1e9:,.1f} GB"


def describe_count(count: int) -> str:
    """Return a large number in millions or billions, for example ``596 million``."""
    if count >= 10**9:
        return f"{count / 10**9:.1f} billion"
    return f"{count / 10**6:.0f} million"


def describe_rows(count: int) -> str:
    """Say how many rows there are: ``1 row``, ``1,200 rows``."""
    return _counted(count, "row")


def describe_clock(seconds: float) -> str:
    """Say a running time as ``m:ss`` or ``h:mm:ss``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
