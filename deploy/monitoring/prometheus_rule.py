"""`python -m deploy.monitoring.prometheus_rule` prints rules.yml as a resource for the Prometheus operator."""

from pathlib import Path
from typing import Any

import yaml

_RULES = Path(__file__).with_name("rules.yml")


def as_resource(rules: dict[str, Any]) -> dict[str, Any]:
    """The content of a rule file as a PrometheusRule."""
    metadata = {"name": "pawqueue", "namespace": "pawqueue"}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata, "spec": rules}


def main() -> None:
    """Print the resource."""
    resource = as_resource(yaml.safe_load(_RULES.read_text(encoding="utf-8")))
    print("# Generated from deploy/monitoring/rules.yml by `make docs`.")
    print(yaml.safe_dump(resource, sort_keys=False, width=120), end="")


if __name__ == "__main__":
    main()
