"""`make train`: list the data, let DVC run the stages whose inputs changed, and record the result in MLflow.

The output of the stages, TensorFlow and MLflow goes to a log file.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from training.data.sources import SOURCES_FILE, list_sources
from training.data.teacher import read_teacher
from training.errors import ERROR_FILE_VARIABLE, TrainingError, run_command
from training.files import PARAMS_FILE
from training.networks.backbones import check_pretrained_weights
from training.params import TrainParams, read_params
from training.release.summary import render_summary
from training.release.tracking import record_result_once
from training.terminal import TERMINAL_VARIABLE, output_in, terminal_name

_BUILD = Path("build")
LOG_FILE = _BUILD / "train.log"


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(
        prog="python -m training.run", description=__doc__, epilog="example: python -m training.run '../images/*.tar'"
    )
    parser.add_argument("data", nargs="*", help="folders, archives or quoted globs; default: the data of the last run")
    parser.add_argument("--no-tracking", action="store_true", help="do not record the result in MLflow")
    args = parser.parse_args()
    _check_start(read_params(PARAMS_FILE).train)
    if args.data:
        list_sources(args.data, SOURCES_FILE)
    elif not SOURCES_FILE.is_file():
        raise TrainingError("No data given. Set DATA to a folder, tar or zip of labeled images, or a quoted glob.")
    _BUILD.mkdir(exist_ok=True)
    LOG_FILE.write_bytes(b"")
    _run_stages()
    with output_in(LOG_FILE):
        recorded = "not in MLflow (--no-tracking)" if args.no_tracking else record_result_once(_BUILD)
        summary = render_summary(_BUILD, LOG_FILE, recorded)
    print(summary)


def _check_start(params: TrainParams) -> None:
    """Check the files that training starts from, before any data is read."""
    check_pretrained_weights(params)
    if params.teacher:
        read_teacher(params.teacher)


def _run_stages() -> None:
    """Run `dvc repro`; raise `TrainingError` with the message of the stage that failed."""
    with tempfile.TemporaryDirectory() as folder, LOG_FILE.open("ab") as log:
        error_file = Path(folder) / "error"
        command = [sys.executable, "-m", "dvc", "repro"]
        done = subprocess.run(command, env=_environment(error_file), stdout=log, stderr=log, check=False)  # noqa: S603 (fixed words)
        if done.returncode:
            reason = error_file.read_text(encoding="utf-8") if error_file.is_file() else ""
            reason = reason or f"A stage failed; {LOG_FILE} has its output."
            raise TrainingError(f"{reason} Finished stages are kept. The next run resumes from there.")


def _environment(error_file: Path) -> dict[str, str]:
    scripts = Path(sys.executable).parent
    terminal = terminal_name()
    return {
        **os.environ,
        **({TERMINAL_VARIABLE: terminal} if terminal else {}),
        ERROR_FILE_VARIABLE: str(error_file),
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}",  # so that `python` in dvc.yaml is this Python
        "DVC_NO_ANALYTICS": "1",
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2"),
    }


if __name__ == "__main__":
    run_command(main)
