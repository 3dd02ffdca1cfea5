"""Write a bundle with random weights, for tests and benchmarks that need a model but not its accuracy."""

import argparse
from pathlib import Path

import keras

from bundle.manifest import Manifest
from training.networks.architectures import ARCHITECTURES, NetworkSpec, build_network
from training.release.bundling import BundleFacts, write_bundle


def export_untrained(spec: NetworkSpec, folder: Path, *, labels: list[str], seed: int = 0) -> Manifest:
    """Write a bundle named `untrained` to `folder`. The same seed gives the same weights."""
    keras.utils.set_random_seed(seed)
    return write_bundle(build_network(spec), BundleFacts(name="untrained", labels=labels), folder)


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(prog="python -m training.release.untrained", description=__doc__)
    parser.add_argument("--architecture", choices=sorted(ARCHITECTURES), default="baseline_cnn")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle; replaced if it exists")
    parser.add_argument("--size", type=int, default=224, help="height and width of the input in pixels")
    parser.add_argument("--labels", nargs="+", default=["cat", "dog"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    spec = NetworkSpec(args.architecture, args.size, args.size, classes=len(args.labels))
    manifest = export_untrained(spec, args.out, labels=sorted(args.labels), seed=args.seed)
    print(f"Wrote {manifest.name} {manifest.version} to {args.out}.")


if __name__ == "__main__":
    main()
