"""Decodes costly images in helper processes with limits on memory and time.

A helper is this module, run as a program without TensorFlow and without the worker's environment and connections. It
can neither open files or connections nor start programs (`confine.py`), and ends with the worker, or when its pipe
closes.
"""

import contextlib
import ctypes
import json
import os
import queue
import resource
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from PIL import Image

from bundle.decode import DecodedImage, UndecodableImageError, decode
from bundle.target import Filter, Resize, Target
from contract.log import get_logger
from worker.pipeline.confine import confine

_log = get_logger(__name__)

#: What decoding needs for each pixel: a WebP 15, a TIFF with 16-bit colors 13, an AVIF with transparency 11.
_BYTES_PER_PIXEL = 15
#: What decoding needs besides, including the file.
_SPARE_BYTES = 96 * 1024 * 1024
#: Larger images are decoded one at a time; phones take photographs of this size.
_LARGE_PIXELS = 12_500_000
#: A helper that has grown by this much is replaced.
_GROWTH_MAX_BYTES = 256 * 1024 * 1024
_START_LIMIT_S = 60.0
#: Pause before another helper is started after one failed to start.
_RETRY_S = 1.0
_PIPE_BYTES = 1024 * 1024
#: Helpers leave the CPU to the model and to cheap images.
_NICENESS = 5

#: Length of the image in bytes; the members of the `Target`.
_REQUEST = struct.Struct("<QII8s8s")
#: Length of the answer, a JSON object. After a decoded image its pixels follow. 0 asks whether a large image may be
#: decoded now; the answer to that is one byte.
_ANSWER = struct.Struct("<I")
_ANSWER_MAX_BYTES = 65_536
_READY, _NOT_CONFINED, _GO_ON = b"R", b"N", b"G"


class StoppedError(Exception):
    """The worker is stopping; the image has not been decoded."""


class Guard:
    """Decodes images in helper processes, one for each thread that calls `decode` at the same time."""

    def __init__(self, limit_s: float, max_pixels: int) -> None:
        self._limit_s = limit_s
        self._max_pixels = max_pixels
        self._large = threading.Lock()
        self._lock = threading.Lock()
        self._idle: queue.LifoQueue[_Helper] = queue.LifoQueue()
        self._helpers: set[_Helper] = set()
        self._stopping = threading.Event()
        self._has_warned = False

    def decode(
        self,
        data: bytes,
        height: int,
        width: int,
        resize: Resize = "squash",
        filter: Filter = "bilinear",  # noqa: A002 - as in `bundle.decode.decode`
    ) -> DecodedImage:
        """Like `bundle.decode.decode`. An image that a used helper fails on is retried on a new one.

        Raises:
            UndecodableImageError: also if decoding takes too long, needs too much memory or ends the helper.
            StoppedError: `stop` was called.
        """
        target = Target(height, width, resize, filter)
        try:
            helper = self._idle.get_nowait()
        except queue.Empty:
            helper = self._start()
        while True:
            try:
                image = helper.decode(data, target)
            except _HelperLostError as error:
                self._remove(helper)
                if self._stopping.is_set():
                    raise StoppedError from None
                if helper.is_late:
                    raise UndecodableImageError(f"decoding took longer than {self._limit_s:g} s") from error
                if helper.is_new:
                    _log.warning("An image ended its decoder", size_bytes=len(data))
                    raise UndecodableImageError("its decoder crashed or ran out of memory") from error
                helper = self._start()
            except UndecodableImageError:
                self._give_back(helper)
                raise
            else:
                self._give_back(helper)
                return image

    def stop(self) -> None:
        """End the helpers. Calls of `decode` raise `StoppedError`."""
        self._stopping.set()
        with self._lock:
            helpers = list(self._helpers)
        for helper in helpers:
            self._remove(helper)

    def _start(self) -> "_Helper":
        """Start a helper; retries until it succeeds, because a failure is not the image's fault."""
        while not self._stopping.is_set():
            try:
                helper = _Helper(self._limit_s, self._max_pixels, self._large)
            except (OSError, _HelperLostError) as error:
                _log.error("A process that decodes images did not start", reason=str(error))
                self._stopping.wait(_RETRY_S)
                continue
            with self._lock:
                self._helpers.add(helper)
                if not (helper.is_confined or self._has_warned):
                    _log.warning("Processes that decode images are not confined: this system does not support seccomp")
                    self._has_warned = True
            if not self._stopping.is_set():
                return helper
            self._remove(helper)
        raise StoppedError

    def _give_back(self, helper: "_Helper") -> None:
        helper.is_new = False
        self._idle.put(helper)

    def _remove(self, helper: "_Helper") -> None:
        helper.end()
        with self._lock:
            self._helpers.discard(helper)


class _HelperLostError(Exception):
    """A helper has ended."""


class _Helper:
    """A helper process, seen from the worker."""

    def __init__(self, limit_s: float, max_pixels: int, large: threading.Lock) -> None:
        self._limit_s = limit_s
        self._large = large
        #: Whether it has not decoded an image yet.
        self.is_new = True
        #: Whether it was killed because it took too long.
        self.is_late = False
        program = [sys.executable, "-P", "-m", "worker.pipeline.guard", str(max_pixels), str(limit_s), str(os.getpid())]
        self._process = subprocess.Popen(  # noqa: S603
            program,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pipesize=_PIPE_BYTES,
            cwd="/",
            # One arena and one thread: what others reserve counts as memory.
            env={"PYTHONPATH": str(Path(__file__).parents[2]), "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            with self._deadline(_START_LIMIT_S):
                self.is_confined = self._read(len(_READY)) == _READY
        except _HelperLostError:
            self.end()
            raise

    def decode(self, data: bytes, target: Target) -> DecodedImage:
        """Decode an image.

        Raises:
            UndecodableImageError: the helper cannot decode it.
            _HelperLostError: the helper has ended.
        """
        pixel_bytes = target.height * target.width * 3
        rules = target.resize.encode(), target.filter.encode()
        answer = self._ask(pixel_bytes, _REQUEST.pack(len(data), target.height, target.width, *rules), data)
        if answer is None:
            with self._large:
                answer = self._ask(pixel_bytes, _GO_ON)
        if answer is None:
            raise _HelperLostError("it asked twice")
        found, pixels = answer
        try:
            if "error" in found:
                raise UndecodableImageError(str(found["error"]))
            return DecodedImage(
                np.frombuffer(pixels, np.uint8).reshape(target.height, target.width, 3),
                int(found["width"]),
                int(found["height"]),
                tuple(map(str, found["warnings"])),
            )
        except (KeyError, TypeError) as error:
            raise _HelperLostError("its answer is incomplete") from error

    def end(self) -> None:
        """Kill the process and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError, ValueError):
                if pipe:
                    pipe.close()

    def _ask(self, pixel_bytes: int, *parts: bytes) -> tuple[dict[str, Any], bytes] | None:
        """Send a request and read the answer; None if the helper asks whether it may decode a large image."""
        with self._deadline(self._limit_s):
            try:
                for part in parts:
                    _pipe(self._process.stdin).write(part)
                _pipe(self._process.stdin).flush()
                (size,) = _ANSWER.unpack(self._read(_ANSWER.size))
                if size == 0:
                    return None
                found = json.loads(self._read(min(size, _ANSWER_MAX_BYTES)))
                return found, b"" if "error" in found else self._read(pixel_bytes)
            except (OSError, ValueError, TypeError) as error:  # the pipe is closed, or no JSON object arrived
                raise _HelperLostError(str(error)) from error

    def _read(self, size: int) -> bytes:
        data = _pipe(self._process.stdout).read(size)
        if len(data) < size:
            raise _HelperLostError("it has ended")
        return data

    @contextlib.contextmanager
    def _deadline(self, limit_s: float) -> Iterator[None]:
        """Kill the helper if the `with` block takes longer than `limit_s`: its end of the pipes then closes."""
        timer = threading.Timer(limit_s, self._kill_late)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _kill_late(self) -> None:
        self.is_late = True
        self._process.kill()


def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
    if pipe is None:
        raise _HelperLostError("it has no pipe")
    return pipe


def main(max_pixels: int, limit_s: float, worker_pid: int) -> None:
    """Decode the images that arrive on standard input until it closes; the answers go to standard output."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    _restrict(worker_pid)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(nowhere, output)  # libraries print a line for each damaged row of an image
    os.close(nowhere)
    measure_bytes = _memory_meter()
    Image.init()  # loads the modules of all formats
    answers.write(_READY if confine() else _NOT_CONFINED)
    answers.flush()
    started_bytes = measure_bytes()
    while len(head := requests.read(_REQUEST.size)) == _REQUEST.size:
        length, height, width, *rules = _REQUEST.unpack(head)
        resize, how = (cast("Any", rule.rstrip(b"\0").decode()) for rule in rules)
        data = requests.read(length)
        used_s = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
        _limit(resource.RLIMIT_CPU, int(used_s + limit_s) + 2)
        base_bytes = measure_bytes()
        _limit(resource.RLIMIT_AS, base_bytes + _needed_bytes(_LARGE_PIXELS))
        approve = partial(_approve, requests, answers, base_bytes + _needed_bytes(max_pixels))
        pixels = b""
        try:
            image = decode(data, height, width, resize, how, before_loading=approve)
            pixels = image.pixels.tobytes()
            answer: dict[str, Any] = {"width": image.width, "height": image.height, "warnings": image.warnings}
        except UndecodableImageError as error:
            answer = {"error": str(error)[:1000]}
        except MemoryError:
            return
        text = json.dumps(answer).encode()
        answers.write(_ANSWER.pack(len(text)) + text + pixels)
        answers.flush()
        if measure_bytes() > started_bytes + _GROWTH_MAX_BYTES:
            return


def _approve(requests: IO[bytes], answers: IO[bytes], limit_bytes: int, pixels: int) -> None:
    """Wait until the image may be decoded, if it is large."""
    if pixels > _LARGE_PIXELS:
        answers.write(_ANSWER.pack(0))
        answers.flush()
        if requests.read(len(_GO_ON)) != _GO_ON:
            raise MemoryError
        _limit(resource.RLIMIT_AS, limit_bytes)


def _needed_bytes(pixels: int) -> int:
    return _BYTES_PER_PIXEL * pixels + _SPARE_BYTES


def _restrict(worker_pid: int) -> None:
    """End with the worker; leave the CPU to others; write no core dumps; be the first to end if memory runs out."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group; the worker decides
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != worker_pid:
            sys.exit()  # the worker has already ended
        Path("/proc/self/oom_score_adj").write_text("1000")


def _limit(kind: int, amount: int) -> None:
    if sys.platform == "linux":  # macOS accepts no limit on memory
        resource.setrlimit(kind, (amount, resource.getrlimit(kind)[1]))


def _memory_meter() -> Callable[[], int]:
    """A function that returns the virtual memory of this process; 0 where it cannot be read."""
    if sys.platform != "linux":
        return lambda: 0
    file = os.open("/proc/self/statm", os.O_RDONLY)  # a confined process can read it, but not open it
    return lambda: int(os.pread(file, 100, 0).split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
