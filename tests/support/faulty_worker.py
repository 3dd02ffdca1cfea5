"""A worker that kills itself once at a chosen point: `python -m tests.support.faulty_worker POINT FLAG_FILE`.

It dies when it reaches POINT while FLAG_FILE exists, and takes the file with it, so that its successor lives. The point
`deadly_picture` is for ever: any picture whose upper left pixel is pure magenta kills the process that decodes it.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import worker.pipeline
from bundle.decode import Picture
from contract.ledger_redis import RedisLedger
from worker.__main__ import main
from worker.runtime import KerasModel

_MAGENTA = (255, 0, 255)


def die_once(flag: Path) -> None:
    """Kill this process, if nobody has been killed for this flag yet."""
    try:
        flag.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def before(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, with a death before it."""

    def deadly(*arguments: Any, **options: Any) -> Any:
        die_once(flag)
        return call(*arguments, **options)

    return deadly


def after(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, with a death after it."""

    def deadly(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        die_once(flag)
        return result

    return deadly


def deadly_picture(decode: Callable[..., Picture]) -> Callable[..., Picture]:
    """`decode`, which magenta kills."""

    def deadly(data: bytes, height: int, width: int) -> Picture:
        picture = decode(data, height, width)
        if tuple(picture.pixels[0, 0]) == _MAGENTA:
            os.kill(os.getpid(), signal.SIGKILL)
        return picture

    return deadly


def arm(point: str, flag: Path) -> None:
    """Set the trap."""
    if point == "before_claim":
        RedisLedger.claim = before(RedisLedger.claim, flag)  # type: ignore[method-assign]
    elif point == "in_decode":
        worker.pipeline.decode = after(worker.pipeline.decode, flag)  # type: ignore[attr-defined]
    elif point == "in_predict":
        KerasModel.predict = after(KerasModel.predict, flag)  # type: ignore[method-assign]
    elif point == "before_commit":
        RedisLedger.commit = before(RedisLedger.commit, flag)  # type: ignore[method-assign]
    elif point == "after_commit":
        RedisLedger.commit = after(RedisLedger.commit, flag)  # type: ignore[method-assign]
    elif point == "deadly_picture":
        worker.pipeline.decode = deadly_picture(worker.pipeline.decode)  # type: ignore[attr-defined]
    else:
        raise SystemExit(f"There is no fault point {point}.")


if __name__ == "__main__":
    arm(sys.argv[1], Path(sys.argv[2]))
    sys.exit(main())
