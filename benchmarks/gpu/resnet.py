"""Writes a ResNet-50 with random weights and one output as a bundle: `python -m benchmarks.gpu.resnet --out FOLDER`."""

import argparse
from pathlib import Path

import keras

from training.release.bundling import BundleFacts, write_bundle


def main() -> None:
    """Read the command line and export."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.resnet", description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--size", type=int, default=224, help="height and width of the input in pixels")
    given = parser.parse_args()
    keras.utils.set_random_seed(0)
    inputs = keras.Input((given.size, given.size, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    features = keras.applications.ResNet50(weights=None, include_top=False, pooling="avg", input_tensor=scaled).output
    outputs = keras.layers.Dense(1, activation="sigmoid", dtype="float32")(features)
    network = keras.Model(inputs, outputs, name="resnet50")
    write_bundle(network, BundleFacts(name="untrained", labels=["cat", "dog"]), given.out)


if __name__ == "__main__":
    main()
