"""A worker with a fault at a chosen point: `python -m tests.support.faulty_worker POINT FLAG_FILE [--light]`.

When the worker reaches POINT while FLAG_FILE exists, it deletes the file and kills itself, or hangs if POINT starts
with `hang`. Once the file is gone, a restarted worker runs normally. There are exceptions: at `held_in_predict` the
worker waits until the file is deleted; with `deadly_image` every image whose upper left pixel is magenta kills the
worker that decodes it; with `deadly_load` and `deadly_predict` the model `deadly`, except its version 1, kills every
worker that loads it or predicts with it, while the file exists; with `failing_predict` it raises an exception.
`deadly_shadow_load`, `deadly_shadow` and `hanging_shadow` do the same with version 9 of every model.
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

from bundle.decode import DecodedImage
from bundle.decode import decode as decode_image
from contract.ledger.ledger import Ledger
from contract.ledger.models import ModelRegistry
from tests.support.brightness import load_light
from worker.__main__ import main
from worker.app import build_worker
from worker.process import Worker
from worker.runtime.keras import load_model

#: The fault point of a worker without a fault.
NO_POINT = "none"

_MAGENTA = (255, 0, 255)


def die_once(flag: Path) -> None:
    """Kill this process if the flag file exists, and delete the file."""
    try:
        flag.unlink()
    except FileNotFoundError:
        return
    os.kill(os.getpid(), signal.SIGKILL)


def before(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """Wrap `call` so that the process dies once before it."""

    def deadly(*arguments: Any, **options: Any) -> Any:
        die_once(flag)
        return call(*arguments, **options)

    return deadly


def after(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """Wrap `call` so that the process dies once after it."""

    def deadly(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        die_once(flag)
        return result

    return deadly


def hanging(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """Wrap `call` so that it hangs once."""

    def hangs(*arguments: Any, **options: Any) -> Any:
        if flag.exists():
            flag.unlink()
            threading.Event().wait()
        return call(*arguments, **options)

    return hangs


def held(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """Wrap `call` so that it waits while the flag file exists."""

    def waits(*arguments: Any, **options: Any) -> Any:
        while flag.exists():
            time.sleep(0.01)
        return call(*arguments, **options)

    return waits


def deadly_image(decode: Callable[..., DecodedImage], _: Path) -> Callable[..., DecodedImage]:
    """Wrap `decode` so that the process dies on a magenta image."""

    def deadly(data: bytes, *target: Any) -> DecodedImage:
        image = decode(data, *target)
        if tuple(image.pixels[0, 0]) == _MAGENTA:
            os.kill(os.getpid(), signal.SIGKILL)
        return image

    return deadly


def deadly_model(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """Wrap `call` so that the process dies while the flag file exists."""

    def deadly(*arguments: Any, **options: Any) -> Any:
        if flag.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)

    return deadly


def failing_model(call: Callable[..., Any], flag: Path) -> Callable[..., Any]:
    """Wrap `call` so that it raises an exception while the flag file exists."""

    def failing(*arguments: Any, **options: Any) -> Any:
        if flag.exists():
            raise RuntimeError("The network is broken.")
        return call(*arguments, **options)

    return failing


Fault = Callable[[Callable[..., Any], Path], Callable[..., Any]]
#: Fault point -> (class, method, fault).
_IN_METHODS: dict[str, tuple[Any, str, Fault]] = {
    # Redis has delivered the message, but the worker has not recorded it as unacknowledged.
    "before_unacked": (QoS, "append", before),
    "before_claim": (Ledger, "claim", before),
    "before_commit": (Ledger, "commit", before),
    # The job is committed, but its message is not acknowledged.
    "after_commit": (Ledger, "commit", after),
    "before_settle": (ModelRegistry, "settle", before),
    "after_settle": (ModelRegistry, "settle", after),
    "before_end_canary": (ModelRegistry, "end_canary", before),
    "after_end_canary": (ModelRegistry, "end_canary", after),
}
_IN_DECODE: dict[str, Fault] = {"in_decode": after, "deadly_image": deadly_image}
_IN_PREDICT: dict[str, Fault] = {
    "in_predict": after,
    "hang_in_predict": hanging,
    "hang_unwatched": hanging,
    "held_in_predict": held,
}

#: In one model or version.
_IN_MODEL: dict[str, Fault] = {
    "deadly_predict": deadly_model,
    "failing_predict": failing_model,
    "deadly_shadow": deadly_model,
    "hanging_shadow": hanging,
}
_IN_LOAD = ("deadly_load", "deadly_shadow_load")
_IN_SHADOW = ("deadly_shadow_load", "deadly_shadow", "hanging_shadow")


def run(point: str, flag: Path, *, light: bool) -> int:
    """Run a worker with a fault at `point`; a `light` worker serves a trivial model, which loads faster."""
    if point not in {NO_POINT, *_IN_METHODS, *_IN_DECODE, *_IN_PREDICT, *_IN_MODEL, *_IN_LOAD}:
        raise SystemExit(f"Unknown fault point {point}.")
    if point in _IN_METHODS:
        owner, name, fault = _IN_METHODS[point]
        setattr(owner, name, fault(getattr(owner, name), flag))

    def load(folder: Path, *arguments: Any, **options: Any) -> Any:
        is_deadly = folder.parent.name == "deadly" and folder.name != "1"
        is_faulty = folder.name == "9" if point in _IN_SHADOW else is_deadly
        if point in _IN_LOAD and is_faulty and flag.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        model: Any = load_light(folder) if light else load_model(folder, *arguments, **options)
        fault = _IN_PREDICT.get(point) or (_IN_MODEL.get(point) if is_faulty else None)
        if fault:
            model.predict = fault(model.predict, flag)
        return model

    def build(*arguments: Any, **options: Any) -> Worker:
        if point in _IN_DECODE:
            options["decode"] = _IN_DECODE[point](decode_image, flag)
        if point == "hang_unwatched":  # the process keeps running, for a health check
            options["end_process"] = lambda _: threading.Event().wait()
        return build_worker(*arguments, **options)

    return main(load, build)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1], Path(sys.argv[2]), light="--light" in sys.argv))
