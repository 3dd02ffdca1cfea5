"""What the user of `make train` sees on the terminal."""

import os
import pty
import subprocess
import sys
import termios

from tests.support.services import ROOT

FAILING = """
from training.errors import TrainingError, run_command
from training.terminal import progress_bar
bar = progress_bar(total=3, desc="work")
bar.update()
def work():
    raise TrainingError("It failed.")
run_command(work)
"""


def test_a_message_replaces_an_unfinished_progress_bar() -> None:
    own, terminal = pty.openpty()
    termios.tcsetwinsize(terminal, (24, 80))
    done = subprocess.run([sys.executable, "-c", FAILING], cwd=ROOT, stderr=terminal, check=False)
    shown = os.read(own, 10_000).decode()
    os.close(own)
    os.close(terminal)
    assert done.returncode == 1
    bar, _, message = shown.partition("\r\x1b[K")  # to the start of the line, and erase it
    assert "work" in bar
    assert message.startswith("Error: It failed.")
