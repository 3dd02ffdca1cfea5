"""Confidence intervals of shares, such as an accuracy. Uses only the standard library."""

import math

#: The 97.5 % quantile of the normal distribution.
_Z_95 = 1.959963984540054


def wilson(hits: int, total: int) -> tuple[float, float]:
    """The 95 % confidence interval of a share by Wilson's method (1927); (0, 1) if the total is 0."""
    if not total:
        return 0.0, 1.0
    share, spread = hits / total, _Z_95**2 / total
    center = (share + spread / 2) / (1 + spread)
    half = math.sqrt(spread * (share * (1 - share) + spread / 4)) / (1 + spread)
    return max(0.0, center - half), min(1.0, center + half)
