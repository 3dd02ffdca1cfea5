"""Write a bundle with random weights, for benchmarks and tests that need a model's shape and cost but not its skill."""

import argparse
from pathlib import Path

import keras

from bundle.manifest import Manifest
from training.bundling import BundleFacts, write_bundle
from training.network import ARCHITECTURES, NetworkSpec, build_network


def export_untrained(spec: NetworkSpec, folder: Path, *, labels: list[str], seed: int = 0) -> Manifest:
    """Write a bundle named `untrained` to `folder`; the same seed gives the same weights."""
    keras.utils.set_random_seed(seed)
    return write_bundle(build_network(spec), BundleFacts(name="untrained", labels=labels), folder)


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(prog="python -m training.export_untrained", description=__doc__)
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="baseline_cnn")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; replaced if it exists")
    parser.add_argument("--size", type=int, default=224, help="height and width of the input in pixels")
    parser.add_argument("--labels", nargs="+", default=["cat", "dog"])
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    spec = NetworkSpec(given.architecture, given.size, given.size, classes=len(given.labels))
    manifest = export_untrained(spec, given.out, labels=sorted(given.labels), seed=given.seed)
    print(f"{manifest.name} {manifest.version} written to {given.out}")


if __name__ == "__main__":
    main()
