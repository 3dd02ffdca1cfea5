"""`python -m deploy.prometheus_rule` prints the rules of rules.yml as the Prometheus operator wants them."""

from pathlib import Path
from typing import Any

import yaml

_RULES = Path(__file__).parent / "k8s" / "components" / "monitoring" / "rules.yml"


def as_resource(rules: dict[str, Any]) -> dict[str, Any]:
    """Wrap the groups of a rule file into a PrometheusRule."""
    metadata = {"name": "pawqueue", "namespace": "pawqueue"}
    return {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": metadata, "spec": rules}


def main() -> None:
    """Print the resource."""
    resource = as_resource(yaml.safe_load(_RULES.read_text(encoding="utf-8")))
    print("# Made of rules.yml by `make docs`; a test compares them.")
    print(yaml.safe_dump(resource, sort_keys=False, width=120), end="")


if __name__ == "__main__":
    main()
