"""Statistics of shares, such as an accuracy. Uses only the standard library."""

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


def mcnemar(only_first: int, only_second: int) -> float:
    """The p-value of the two-sided exact McNemar test of two models on the same images.

    Args:
        only_first: Number of images that only the first one predicts correctly.
        only_second: Number of images that only the second one predicts correctly.
    """
    total = only_first + only_second
    fewer = min(only_first, only_second)
    # The binomial distribution with p = 0.5 is symmetric: both tails are the same.
    logs = (math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) for k in range(fewer + 1))
    return min(1.0, 2 * math.fsum(math.exp(value - total * math.log(2)) for value in logs))
