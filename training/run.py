"""`make train`: list the data, let DVC run the stages that have something new, and record the result in MLflow."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from training.errors import TrainingError, run_command
from training.listing import SOURCES_FILE, list_sources


def repro() -> None:
    """Run `dvc repro`, its progress shown as it comes.

    Raises:
        TrainingError: a stage failed; it has said why by itself.
    """
    here = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",  # stages say `python` and mean this one
        "DVC_NO_ANALYTICS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"], env=environment, check=False)
    if done.returncode:
        raise TrainingError("A stage failed, see above; what was finished is kept; the next run goes on from there.")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(prog="python -m training.run", description=__doc__)
    parser.add_argument("data", nargs="*", help="folders, archives or quoted globs; left out: those of the last run")
    parser.add_argument("--no-tracking", action="store_true", help="do not record the result in MLflow")
    given = parser.parse_args()
    if given.data:
        list_sources(given.data, SOURCES_FILE)
    elif not SOURCES_FILE.is_file():
        raise TrainingError("Give DATA=path: a folder, tar or zip of labelled pictures, or a quoted glob of them.")
    repro()
    if not given.no_tracking:
        from training.tracking import record_result  # noqa: PLC0415 (MLflow takes seconds to import)

        record_result(Path("build"))


if __name__ == "__main__":
    run_command(main)
