"""`make train`: list the data, let DVC run the stages whose inputs changed, and record the result in MLflow."""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from training.data.sources import SOURCES_FILE, list_sources
from training.errors import ERROR_FILE_VARIABLE, TrainingError, run_command
from training.files import PARAMS_FILE
from training.params import read_params
from training.release.tracking import record_result_once

_BUILD = Path("build")


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m training.run", description=__doc__, epilog="example: python -m training.run '../images/*.tar'"
    )
    parser.add_argument("data", nargs="*", help="folders, archives or quoted globs; default: the data of the last run")
    parser.add_argument("--no-tracking", action="store_true", help="do not record the result in MLflow")
    args = parser.parse_args()
    read_params(PARAMS_FILE)
    if args.data:
        list_sources(args.data, SOURCES_FILE)
    elif not SOURCES_FILE.is_file():
        raise TrainingError("No data given. Set DATA to a folder, tar or zip of labelled images, or a quoted glob.")
    _run_stages()
    if not args.no_tracking:
        record_result_once(_BUILD)


def _run_stages() -> None:
    """Run `dvc repro` with its output visible; raise `TrainingError` with the message of the stage that failed."""
    with tempfile.TemporaryDirectory() as folder:
        error_file = Path(folder) / "error"
        done = subprocess.run([sys.executable, "-m", "dvc", "repro"], env=_environment(error_file), check=False)
        if done.returncode:
            reason = error_file.read_text(encoding="utf-8") if error_file.is_file() else ""
            reason = reason or "A stage failed (see above)."
            raise TrainingError(f"{reason} Finished stages are kept. The next run resumes from there.")


def _environment(error_file: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {
        **os.environ,
        ERROR_FILE_VARIABLE: str(error_file),
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",  # so that `python` in dvc.yaml is this Python
        "DVC_NO_ANALYTICS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }


if __name__ == "__main__":
    run_command(main)
