"""A worker that fails at a chosen point: `python -m tests.support.faulty_worker POINT FLAG_FILE [--light]`.

It kills itself when it reaches POINT while FLAG_FILE exists, and deletes the file first, so that its replacement
survives. At the point `deadly_image`, it is killed by every image whose upper left pixel is pure magenta.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kombu.transport.redis import QoS

import worker.__main__
import worker.pipeline
from bundle.decode import Image
from contract.ledger.ledger import Ledger
from worker.__main__ import main
from worker.model import BrightnessModel
from worker.predictor import Predictor
from worker.watchdog import Watchdog

_MAGENTA = (255, 0, 255)


#: The point of a worker that does not fail.
NO_POINT = "none"


def die_once(flag: Path) -> None:
    """Delete the flag and kill this process; does nothing if the flag is gone."""
    try:
        flag.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def before(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, killing the process before it."""

    def deadly(*arguments: Any, **options: Any) -> Any:
        die_once(flag)
        return call(*arguments, **options)

    return deadly


def after(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, killing the process after it."""

    def deadly(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        die_once(flag)
        return result

    return deadly


def hanging(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, which hangs forever, once."""

    def hangs(self: Any, *arguments: Any, **options: Any) -> Any:
        if flag.exists():
            flag.unlink()
            self._call_began_s = time.monotonic()
            threading.Event().wait()
        return call(self, *arguments, **options)

    return hangs


def hanging_unwatched(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, which hangs forever, with the watchdog disabled so that the process keeps running."""
    Watchdog._run = lambda self: self._stopping.wait()  # type: ignore[method-assign, assignment, return-value]
    return hanging(call, flag)


def held(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, which waits until the flag is deleted."""

    def waits(*arguments: Any, **options: Any) -> Any:
        while flag.exists():
            time.sleep(0.01)
        return call(*arguments, **options)

    return waits


def deadly_image(decode: Callable[..., Image], _: Path) -> Callable[..., Image]:
    """`decode`, which kills the process on a magenta image."""

    def deadly(data: bytes, height: int, width: int) -> Image:
        image = decode(data, height, width)
        if tuple(image.pixels[0, 0]) == _MAGENTA:
            os.kill(os.getpid(), signal.SIGKILL)
        return image

    return deadly


def arm(point: str, flag: Path) -> None:
    """Install the fault of a point."""
    if point == NO_POINT:
        return
    if point not in _TRAPS:
        raise SystemExit(f"Unknown fault point {point!r}.")
    owner, name, trap = _TRAPS[point]
    setattr(owner, name, trap(getattr(owner, name), flag))


#: By fault point: the owner and name of the replaced function, and the wrapper.
_TRAPS: dict[str, tuple[Any, str, Callable[..., Callable[..., Any]]]] = {
    # The message has left the queue, and is not yet recorded as unacknowledged.
    "before_unacked": (QoS, "append", before),
    "before_claim": (Ledger, "claim", before),
    "in_decode": (worker.pipeline, "decode", after),
    "in_predict": (Predictor, "_call", after),
    "before_commit": (Ledger, "commit", before),
    # The result is committed, and the message is not yet acknowledged.
    "after_commit": (Ledger, "commit", after),
    "hang_in_predict": (Predictor, "_call", hanging),
    "hang_unwatched": (Predictor, "_call", hanging_unwatched),
    "held_in_predict": (Predictor, "_call", held),
    "deadly_image": (worker.pipeline, "decode", deadly_image),
}


def go_light() -> None:
    """Serve a trivial model, so that the worker starts within a second."""
    worker.__main__.load_model = lambda *_: BrightnessModel()  # type: ignore[assignment]


if __name__ == "__main__":
    arm(sys.argv[1], Path(sys.argv[2]))
    if "--light" in sys.argv:
        go_light()
    sys.exit(main())
