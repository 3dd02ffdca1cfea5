"""Computes the decisions of a HorizontalPodAutoscaler, with the settings of our Kubernetes manifest.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling", algorithm details and configurable scaling behavior. The
steps and their order are those of the Kubernetes controller: ratio with tolerance, stabilization, rate limits, bounds.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

MANIFEST = Path(__file__).parent.parent / "deploy" / "k8s" / "base" / "worker" / "worker.yaml"
#: Within this relative distance from the target, nothing changes (`--horizontal-pod-autoscaler-tolerance`).
_TOLERANCE = 0.1
#: Period of the controller, in seconds (`--horizontal-pod-autoscaler-sync-period`).
SYNC_S = 15.0


@dataclass(frozen=True)
class Behavior:
    """The limits for one direction: a stabilization window, and at most `pods` added or removed per period."""

    window_s: float
    pods: int
    period_s: float


@dataclass(frozen=True)
class Spec:
    """The settings of an autoscaler; `target` is the desired value of the metric per replica."""

    metric: str
    target: float
    min_replicas: int
    max_replicas: int
    up: Behavior
    down: Behavior

    def faster(self, factor: float) -> "Spec":
        """The same settings with all times divided by `factor`."""
        up, down = (
            replace(side, window_s=side.window_s / factor, period_s=side.period_s / factor)
            for side in (self.up, self.down)
        )
        return replace(self, up=up, down=down)


def read_spec(manifest: Path = MANIFEST) -> Spec:
    """Read the autoscaler from a manifest with one external metric and one pod policy in each direction."""
    documents = yaml.safe_load_all(manifest.read_text())
    spec = next(each["spec"] for each in documents if each and each["kind"] == "HorizontalPodAutoscaler")
    (metric,) = spec["metrics"]
    external, behavior = metric["external"], spec["behavior"]
    return Spec(
        metric=external["metric"]["name"],
        target=float(external["target"]["averageValue"]),
        min_replicas=spec["minReplicas"],
        max_replicas=spec["maxReplicas"],
        up=_behavior(behavior["scaleUp"]),
        down=_behavior(behavior["scaleDown"]),
    )


def _behavior(section: Mapping[str, Any]) -> Behavior:
    (policy,) = section["policies"]
    if policy["type"] != "Pods":
        raise ValueError(f"Unsupported policy type {policy['type']}; only Pods is supported.")
    return Behavior(section["stabilizationWindowSeconds"], policy["value"], policy["periodSeconds"])


@dataclass
class Autoscaler:
    """Decides the number of replicas; all times are in seconds on the same clock."""

    spec: Spec
    #: (time, recommended replicas) of each decision.
    _recommended: list[tuple[float, int]] = field(default_factory=list)
    #: (time, added replicas) of each change; negative if replicas were removed.
    _changes: list[tuple[float, int]] = field(default_factory=list)

    def decide(self, now_s: float, replicas: int, value: float) -> int:
        """The desired number of replicas, given that `replicas` are running and the metric is `value`."""
        self._recommended.append((now_s, self._recommend(replicas, value)))
        wanted = self._limit(now_s, replicas, self._stabilize(now_s, replicas))
        wanted = max(self.spec.min_replicas, min(self.spec.max_replicas, wanted))
        if wanted != replicas:
            self._changes.append((now_s, wanted - replicas))
        return wanted

    def _recommend(self, replicas: int, value: float) -> int:
        if replicas and abs(value / (self.spec.target * replicas) - 1) <= _TOLERANCE:
            return replicas
        return math.ceil(value / self.spec.target)

    def _stabilize(self, now_s: float, replicas: int) -> int:
        newest = self._recommended[-1][1]
        highest = max([newest, *_since(self._recommended, now_s - self.spec.down.window_s)])
        lowest = min([newest, *_since(self._recommended, now_s - self.spec.up.window_s)])
        return min(max(replicas, lowest), highest)

    def _limit(self, now_s: float, replicas: int, wanted: int) -> int:
        behavior = self.spec.up if wanted > replicas else self.spec.down
        before = replicas - sum(_since(self._changes, now_s - behavior.period_s))
        if wanted > replicas:
            return min(wanted, max(replicas, before + behavior.pods))
        return max(wanted, min(replicas, before - behavior.pods))


def _since(rows: Sequence[tuple[float, int]], from_s: float) -> list[int]:
    return [number for at_s, number in rows if at_s > from_s]
