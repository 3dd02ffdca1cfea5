"""`python -m deploy.local.supervise CONFIG FOLDER`: supervisord in the foreground, ending when its parent has ended."""

import os
import shutil
import signal
import sys

_LOOK_S = 1.0


def main(config: str, socket_folder: str) -> None:
    """Run until a signal says stop; whoever started this may be gone by then, so it tidies up itself."""
    _end_with_parent()
    from supervisor.supervisord import main as supervise  # noqa: PLC0415 - only this process needs it

    try:
        supervise(["--configuration", config])
    finally:
        shutil.rmtree(socket_folder, ignore_errors=True)


def _end_with_parent() -> None:
    # By a timer, because a process that forks must not have threads.
    parent = os.getppid()

    def look(_signal: int, _frame: object) -> None:
        if os.getppid() != parent:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_S, _LOOK_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
