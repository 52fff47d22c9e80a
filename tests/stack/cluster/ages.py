"""How long ago something was, in the words of ``kubectl``; knows no objects."""

from __future__ import annotations

import datetime as dt

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400


def age(time: str | None, now: dt.datetime) -> str:
    """Since a time as the API writes it; ``<unknown>`` where there is none."""
    if not time:
        return "<unknown>"
    return human_duration((now - dt.datetime.fromisoformat(time.replace("Z", "+00:00"))).total_seconds())


def human_duration(seconds: float) -> str:
    """Two or three digits' worth of precision: the shorter the time, the finer the unit."""
    whole = int(seconds)
    if whole < 0:
        return "0s" if whole == -1 else "<invalid>"
    if whole < 2 * MINUTE:
        return f"{whole}s"
    if whole < 3 * HOUR:
        return _parts(whole, (MINUTE, "m"), (1, "s"), fine=whole < 10 * MINUTE)
    if whole < 2 * DAY:
        return _parts(whole, (HOUR, "h"), (MINUTE, "m"), fine=whole < 8 * HOUR)
    if whole < 2 * YEAR:
        return _parts(whole, (DAY, "d"), (HOUR, "h"), fine=whole < 8 * DAY)
    return _parts(whole, (YEAR, "y"), (DAY, "d"), fine=whole < 8 * YEAR)


def _parts(seconds: int, large: tuple[int, str], small: tuple[int, str], *, fine: bool) -> str:
    text = f"{seconds // large[0]}{large[1]}"
    rest = seconds % large[0] // small[0]
    return f"{text}{rest}{small[1]}" if fine and rest else text
