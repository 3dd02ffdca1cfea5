"""The files that stages read and write: their names, and their command-line options."""

import argparse
from pathlib import Path

PARAMS_FILE = Path("params.yaml")
#: Output folders of the stages.
PREPARED, TRAINED, EVALUATED, BUNDLE = (Path("build", name) for name in ("prepared", "trained", "evaluated", "bundle"))
#: Written by `train`.
WEIGHTS_FILE, SPEC_FILE, HISTORY_FILE = "weights.npz", "network.json", "history.json"
#: Written by `evaluate`. The predictions are copied into the bundle.
METRICS_FILE, RESULTS_FILE, PREDICTIONS_FILE = "metrics.json", "results.json", "predictions.csv"
FAMILIARITY_FILE = "familiarity.npz"


def parse_paths(module: str, description: str | None, **defaults: Path) -> argparse.Namespace:
    """Parse a command line of `--name PATH` options with these defaults."""
    usage = f"python -m {module}"
    example = " ".join(f"--{name} {path}" for name, path in defaults.items())
    parser = argparse.ArgumentParser(prog=usage, description=description, epilog=f"example: {usage} {example}")
    for name, path in defaults.items():
        parser.add_argument(f"--{name}", type=Path, default=path, metavar="PATH", help=f"default: {path}")
    return parser.parse_args()
