"""`python -m deploy.local.supervise FILE`: supervisord in the foreground, ending when whoever started it has ended."""

import os
import signal
import sys

_LOOK_S = 1.0


def end_with_parent() -> None:
    """Send this process a SIGTERM once its parent is gone; a timer, because supervisord must not have threads."""
    parent = os.getppid()

    def look(_signal: int, _frame: object) -> None:
        if os.getppid() != parent:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGALRM, look)
    signal.setitimer(signal.ITIMER_REAL, _LOOK_S, _LOOK_S)


if __name__ == "__main__":
    end_with_parent()
    from supervisor.supervisord import main

    main(["--configuration", sys.argv[1]])
