"""Small questions about series that several pages ask."""

from collections.abc import Sequence

from dashboard.quantities import Point, Series


def known(series: Series) -> float | None:
    """The newest value that is known."""
    return next((value for _, value in reversed(series.points) if value is not None), None)


def total(lines: Sequence[Series], **labels: str) -> float | None:
    """Sum of the newest known values of the lines with these labels; None where there is none."""
    values = [known(line) for line in lines if all(line.label(name) == text for name, text in labels.items())]
    found = [value for value in values if value is not None]
    return sum(found) if found else None


def summed(lines: Sequence[Series]) -> tuple[Point, ...]:
    """Lines added up, point by point."""
    sums: dict[float, float | None] = {}
    for line in lines:
        for at_s, value in line.points:
            before = sums.get(at_s)
            sums[at_s] = value if before is None else before + (value or 0.0)
    return tuple(sorted(sums.items()))


def has_points(rows: Sequence[tuple[str, Sequence[Point]]]) -> bool:
    """Whether any line has anything to draw."""
    return any(value is not None for _, points in rows for _, value in points)


def rises(lines: Sequence[Series]) -> bool:
    """Whether any value is above zero."""
    return any(value for line in lines for _, value in line.points)
