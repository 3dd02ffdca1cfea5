"""Numbers and times as text, in one format for all pages. All times are UTC."""

from datetime import UTC, datetime

UNKNOWN = "unknown"


def clock(at_s: float) -> str:
    """`12:03 UTC`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M UTC")


def clock_s(at_s: float) -> str:
    """`12:03:07`, for texts that state the time zone separately."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%H:%M:%S")


def iso_time(at_s: float) -> str:
    """`2026-11-25T12:03:07Z`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def date_time(at_s: float) -> str:
    """`2026-11-25 12:03:07 UTC`."""
    return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def duration(seconds: float | None) -> str:
    """`12 ms`, `3.4 s`, `5 min 20 s`, `3 h 5 min`, `2 d 3 h`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = round(seconds)
    for name, size, next_name, next_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size} {name}" + (f" {rest} {next_name}" if rest else "")
    return f"{whole} s"


def milliseconds(value: float | None) -> str:
    """`3.4 ms`, `250 ms`, `1.2 s`."""
    if value is None or value >= 1000:
        return duration(None if value is None else value / 1000)
    return f"{value:.1f} ms" if value < 100 else f"{value:.0f} ms"


def number(value: float | None, digits: int = 3) -> str:
    """`1,234`, `12.3`, `0.00123`: `digits` significant digits, never an exponent."""
    if value is None:
        return UNKNOWN
    if value == 0 or abs(value) >= 10 ** (digits - 1):
        return f"{value:,.0f}"
    decimals = 0
    while abs(value) * 10**decimals < 10 ** (digits - 1) and decimals < 6:
        decimals += 1
    text = f"{value:.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(ratio: float | None, digits: int = 0) -> str:
    """`93 %`."""
    return UNKNOWN if ratio is None else f"{ratio * 100:.{digits}f} %"


def count(value: float, singular: str, plural: str = "") -> str:
    """`1 job`, `1,200 jobs`."""
    return f"{value:,.0f} {singular if value == 1 else plural or f'{singular}s'}"
