"""`make train`: list the data, let DVC run the stages that have something new, and record the result in MLflow."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from bundle.manifest import read_manifest
from training.errors import ERROR_FILE_VARIABLE, TrainingError, run_command
from training.listing import SOURCES_FILE, list_sources
from training.params import read_params
from training.recorded import is_recorded, tracking_uri


def repro() -> None:
    """Run `dvc repro`, its progress shown as it comes.

    Raises:
        TrainingError: a stage failed, with what it says of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        sentence = Path(folder) / "sentence"
        done = subprocess.run([sys.executable, "-m", "dvc", "repro"], env=_environment(sentence), check=False)
        if done.returncode:
            why = sentence.read_text(encoding="utf-8") if sentence.is_file() else "A stage failed, see above."
            raise TrainingError(f"{why} What was finished is kept; the next run goes on from there.")


def _environment(error_file: Path) -> dict[str, str]:
    here = Path(sys.executable).parent
    return {
        **os.environ,
        ERROR_FILE_VARIABLE: str(error_file),
        "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",  # stages say `python` and mean this one
        "DVC_NO_ANALYTICS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m training.run", description=__doc__, epilog="example: python -m training.run '../images/*.tar'"
    )
    parser.add_argument("data", nargs="*", help="folders, archives or quoted globs; left out: those of the last run")
    parser.add_argument("--no-tracking", action="store_true", help="do not record the result in MLflow")
    given = parser.parse_args()
    read_params(Path("params.yaml"))
    if given.data:
        list_sources(given.data, SOURCES_FILE)
    elif not SOURCES_FILE.is_file():
        raise TrainingError("Give DATA=path: a folder, tar or zip of labelled images, or a quoted glob of them.")
    repro()
    if not given.no_tracking:
        _record(Path("build"))


def _record(build: Path) -> None:
    """Record the result in MLflow, which takes seconds to import, unless it is there."""
    version = read_manifest(build / "bundle").version
    if is_recorded(build, version):
        print(f"{version} is recorded in {tracking_uri()} already.")
        return
    from training.tracking import record_result  # noqa: PLC0415 (see above)

    record_result(build)


if __name__ == "__main__":
    run_command(main)
