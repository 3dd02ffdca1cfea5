"""A worker that kills itself once at a chosen point: `python -m tests.support.faulty_worker POINT FLAG_FILE [--light]`.

It dies when it reaches POINT while FLAG_FILE exists, and takes the file with it, so that its successor lives. The point
`deadly_image` is for ever: any image whose upper left pixel is pure magenta kills the process that decodes it.
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


#: For a worker without a fault.
NO_POINT = "none"


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


def hanging(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, which once never comes back."""

    def hangs(self: Any, *arguments: Any, **options: Any) -> Any:
        if flag.exists():
            flag.unlink()
            self._call_began_s = time.monotonic()
            threading.Event().wait()
        return call(self, *arguments, **options)

    return hangs


def hanging_unwatched(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """The same, and nobody ends the process for it: what it says of itself can be read."""
    Watchdog._run = lambda self: self._stopping.wait()  # type: ignore[method-assign, assignment, return-value]
    return hanging(call, flag)


def held(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """`call`, which does not begin while the file is there."""

    def waits(*arguments: Any, **options: Any) -> Any:
        while flag.exists():
            time.sleep(0.01)
        return call(*arguments, **options)

    return waits


def deadly_image(decode: Callable[..., Image], _: Path) -> Callable[..., Image]:
    """`decode`, which magenta kills."""

    def deadly(data: bytes, height: int, width: int) -> Image:
        image = decode(data, height, width)
        if tuple(image.pixels[0, 0]) == _MAGENTA:
            os.kill(os.getpid(), signal.SIGKILL)
        return image

    return deadly


def arm(point: str, flag: Path) -> None:
    """Set the trap."""
    if point == NO_POINT:
        return
    if point not in _TRAPS:
        raise SystemExit(f"There is no fault point {point}.")
    owner, name, trap = _TRAPS[point]
    setattr(owner, name, trap(getattr(owner, name), flag))


#: Fault point -> what is replaced, and by what.
_TRAPS: dict[str, tuple[Any, str, Callable[..., Callable[..., Any]]]] = {
    # Redis has given the message away, and nobody has noted yet that it is being worked on.
    "before_unacked": (QoS, "append", before),
    "before_claim": (Ledger, "claim", before),
    "in_decode": (worker.pipeline, "decode", after),
    "in_predict": (Predictor, "_call", after),
    "before_commit": (Ledger, "commit", before),
    # Committed, but the message is not acknowledged.
    "after_commit": (Ledger, "commit", after),
    "hang_in_predict": (Predictor, "_call", hanging),
    "hang_unwatched": (Predictor, "_call", hanging_unwatched),
    "held_in_predict": (Predictor, "_call", held),
    "deadly_image": (worker.pipeline, "decode", deadly_image),
}


def go_light() -> None:
    """Serve the model of the unit tests, so that a worker starts in a second; everything else is real."""
    worker.__main__.load_model = lambda *_: BrightnessModel()  # type: ignore[assignment]


if __name__ == "__main__":
    arm(sys.argv[1], Path(sys.argv[2]))
    if "--light" in sys.argv:
        go_light()
    sys.exit(main())
