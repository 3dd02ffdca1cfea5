"""Runs one command of the set-up behind one line that says what it does and how long it takes (Python 3.8)."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Mapping, Sequence  # noqa: UP035 - this file also runs on 3.8

_TICK_S = 1.0
_TAIL_LINES = 12


class StepError(Exception):
    """A command failed; the text is the end of what it wrote."""


def step(text: str, command: Sequence[str], environ: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a command to its end, quietly.

    Raises:
        StepError: it failed.
    """
    started = time.monotonic()
    with tempfile.TemporaryFile() as output:
        status = _run(text, command, output, environ, cwd, started)
        if status:
            show(f"  {text}: failed", last=True)
            raise StepError(_tail(output))
    show(f"  {text}: {time.monotonic() - started:.0f} s", last=True)


def _run(
    text: str,
    command: Sequence[str],
    output: IO[bytes],
    environ: Mapping[str, str] | None,
    cwd: Path | None,
    started: float,
) -> int:
    try:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environ, cwd=cwd)
    except OSError as error:
        output.write(str(error).encode())
        return 1
    try:
        return _wait(process, text, started)
    except BaseException:  # an interrupt must not leave an installer behind
        process.terminate()
        process.wait()
        raise


def _wait(process: subprocess.Popen[bytes], text: str, started: float) -> int:
    while True:
        try:
            return process.wait(_TICK_S)
        except subprocess.TimeoutExpired:
            show(f"  {text} ... {time.monotonic() - started:.0f} s")


def show(line: str, *, last: bool = False) -> None:
    """Write a line over the one before it; without a terminal only what is last."""
    if sys.stdout.isatty():
        print("\r\033[K" + line, end="\n" if last else "", flush=True)
    elif last:
        print(line, flush=True)


def _tail(output: IO[bytes]) -> str:
    output.seek(0)
    lines = output.read().decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-_TAIL_LINES:])
