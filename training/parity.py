"""Does a bundle, loaded in a fresh process, answer as the network did that it was made from?"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from bundle.golden import golden_inputs
from bundle.manifest import MODEL_FILE, read_manifest
from training.errors import TrainingError, run_command

#: Largest distance of a probability from the golden output that a worker accepts, by precision.
TOLERANCE = {"float32": 1e-3, "bfloat16": 3e-2}


def check_parity(folder: Path) -> None:
    """Check the bundle in a fresh process.

    Raises:
        TrainingError: it cannot be loaded, or answers differently in float32 or bfloat16.
    """
    command = [sys.executable, "-m", "training.parity", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own module)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it died"]
        raise TrainingError(f"{folder} does not answer as the trained network did: {lines[-1].removeprefix('Error: ')}")
    print(done.stdout, end="")


def golden_distance(folder: Path, precision: str) -> float:
    """Largest distance of a probability of the golden inputs from what the manifest says."""
    import keras  # noqa: PLC0415 (it takes seconds, and only the fresh process needs it)

    manifest = read_manifest(folder)
    network = keras.saving.load_model(folder / MODEL_FILE, compile=False)
    if precision == "bfloat16":
        for layer in network._flatten_layers(include_self=False):  # Keras offers no public walk into nested models
            if layer is not network.layers[-1]:
                layer.dtype_policy = "mixed_bfloat16"
    answers = network.predict(golden_inputs(manifest.input.height, manifest.input.width), verbose=0)
    return float(np.abs(manifest.probabilities(answers) - np.array(manifest.golden.outputs, np.float32)).max())


def main() -> None:
    """Read the command line and check."""
    parser = argparse.ArgumentParser(
        prog="python -m training.parity", description=__doc__, epilog="example: python -m training.parity build/bundle"
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for precision, limit in TOLERANCE.items():
        distance = golden_distance(folder, precision)
        if distance > limit:
            raise TrainingError(f"in {precision} it is off by {distance:.4f}, more than the {limit} allowed.")
        print(f"{precision}: within {distance:.5f} of the golden outputs")


if __name__ == "__main__":
    run_command(main)
