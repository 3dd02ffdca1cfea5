"""What training does if some classes have many more images than others."""

from collections.abc import Mapping

#: If the largest class has more than this many images for each of the smallest, classes are weighted.
MAX_IMBALANCE = 20


def balancing_weights(counts: Mapping[str, int]) -> dict[str, float] | None:
    """Weights by class that give all classes the same total weight, or None if the imbalance is within the limit."""
    if max(counts.values()) <= MAX_IMBALANCE * min(counts.values()):
        return None
    total = sum(counts.values())
    return {label: total / (len(counts) * count) for label, count in counts.items()}


def imbalance_note(counts: Mapping[str, int]) -> str:
    """A sentence for the user if classes are weighted, else an empty string."""
    if not balancing_weights(counts):
        return ""
    (small, few), *_, (large, many) = sorted(counts.items(), key=lambda item: item[1])
    return f"classes are weighted, because {large} has {many} training images and {small} has {few}"
