"""`AsyncPawqueue`: the methods of `Pawqueue` as coroutines.

They run the code of `Pawqueue` itself, each call in a greenlet: where that code waits for the network or pauses, the
greenlet hands an awaitable to the coroutine, and continues with its result.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial, wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, overload

import greenlet
import httpx

from contract.job import Job
from pawqueue.client.client import DEFAULT_URL, Pawqueue
from pawqueue.client.connection import transport_options
from pawqueue.client.deadline import Deadline
from pawqueue.client.submissions import Submission

P = ParamSpec("P")
R = TypeVar("R")

#: Maximum number of open connections that no call uses.
_IDLE_MAX = 500
_END = object()


def _awaited(
    method: Callable[Concatenate[Pawqueue, P], R],
) -> Callable[Concatenate["AsyncPawqueue", P], Coroutine[Any, Any, R]]:
    """The method as a coroutine."""

    @wraps(method)
    async def call(self: "AsyncPawqueue", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._run(partial(method, self._client, *args, **kwargs))

    return call


def _iterated(
    method: Callable[Concatenate[Pawqueue, P], Iterator[R]],
) -> Callable[Concatenate["AsyncPawqueue", P], AsyncGenerator[R, None]]:
    """The method as an asynchronous generator."""

    @wraps(method)
    async def iterate(self: "AsyncPawqueue", /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, None]:
        iterator: Any = method(self._client, *args, **kwargs)
        try:
            while (item := await self._run(partial(next, iterator, _END))) is not _END:
                yield item
        finally:
            await self._run(iterator.close)

    return iterate


def _threaded(
    method: Callable[Concatenate[Pawqueue, P], Generator[R]],
) -> Callable[Concatenate["AsyncPawqueue", P], AsyncGenerator[R, None]]:
    """A run over files as an asynchronous generator; it reads files and a database, so it has a thread of its own."""

    @wraps(method)
    async def iterate(self: "AsyncPawqueue", /, *args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[R, None]:
        rows: Any = method(self._client, *args, **kwargs)
        thread = ThreadPoolExecutor(1, "pawqueue-files")
        try:
            while (row := await self._run_in(thread, partial(next, rows, _END))) is not _END:
                yield row
        finally:
            closed = self._run_in(thread, rows.close)
            thread.shutdown(wait=False)  # waiting would block the event loop, which the thread needs
            await closed

    return iterate


class AsyncPawqueue:
    """A client of one gateway for `asyncio`: the methods of `Pawqueue`, with the same arguments, as coroutines.

    Methods that yield rows are asynchronous generators. A call that is canceled ends at once, a run over files with its
    next row. Use a client in one event loop only.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        api_key: str | None = None,
        *,
        timeout_s: float = 30.0,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._bridge = _Bridge()
        self._client = _Client(url, api_key, timeout_s=timeout_s, transport=self._bridge)
        # After the client has checked the address.
        self._bridge.inner = transport or _Connections(transport_options(url))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection."""
        await self._bridge.inner.aclose()

    submit = _awaited(Pawqueue.submit)
    get = _awaited(Pawqueue.get)
    find = _awaited(Pawqueue.find)
    predict = _awaited(Pawqueue.predict)
    submit_folder = _threaded(Pawqueue.submit_folder)
    submit_files = _threaded(Pawqueue.submit_files)
    submission = _awaited(Pawqueue.submission)
    submissions = _awaited(Pawqueue.submissions)
    results = _iterated(Pawqueue.results)
    cancel = _awaited(Pawqueue.cancel)
    purge = _awaited(Pawqueue.purge)
    dead_jobs = _awaited(Pawqueue.dead_jobs)
    retry_dead = _awaited(Pawqueue.retry_dead)
    drop_dead = _awaited(Pawqueue.drop_dead)
    models = _awaited(Pawqueue.models)
    promote = _awaited(Pawqueue.promote)
    rollback = _awaited(Pawqueue.rollback)
    set_shadow = _awaited(Pawqueue.set_shadow)
    canary = _awaited(Pawqueue.canary)
    end_canary = _awaited(Pawqueue.end_canary)
    feedback = _awaited(Pawqueue.feedback)
    reviewed = _iterated(Pawqueue.reviewed)
    review_image = _awaited(Pawqueue.review_image)
    model = _awaited(Pawqueue.model)
    model_feedback = _awaited(Pawqueue.model_feedback)
    model_report = _awaited(Pawqueue.model_report)
    model_agreement = _awaited(Pawqueue.model_agreement)
    model_disagreements = _awaited(Pawqueue.model_disagreements)
    webhook_secret = _awaited(Pawqueue.webhook_secret)
    rotate_webhook_secret = _awaited(Pawqueue.rotate_webhook_secret)
    deliveries = _awaited(Pawqueue.deliveries)
    delivery = _awaited(Pawqueue.delivery)
    redeliver = _awaited(Pawqueue.redeliver)
    service_status = _awaited(Pawqueue.service_status)

    # Written out because a wrapped method has no overloads.
    @overload
    async def wait(self, what: Job | str, *, timeout_s: float | None = None) -> Job: ...

    @overload
    async def wait(self, what: Submission, *, timeout_s: float | None = None) -> Submission: ...

    async def wait(self, what: Job | Submission | str, *, timeout_s: float | None = None) -> Job | Submission:
        """Return a job (or the job with this id) or a submission as soon as it has finished, like `Pawqueue.wait`."""
        return await self._run(partial(self._client.wait, what, timeout_s=timeout_s))

    @overload
    def follow(self, what: Job, *, timeout_s: float | None = None) -> AsyncGenerator[Job, None]: ...

    @overload
    def follow(self, what: Submission, *, timeout_s: float | None = None) -> AsyncGenerator[Submission, None]: ...

    @overload
    def follow(self, what: str, *, timeout_s: float | None = None) -> AsyncGenerator[Job | Submission, None]: ...

    async def follow(
        self, what: Job | Submission | str, *, timeout_s: float | None = None
    ) -> AsyncGenerator[Job | Submission, None]:
        """Yield a job or a submission, or the one with this id, now and after each change, like `Pawqueue.follow`."""
        states: Any = self._client.follow(what, timeout_s=timeout_s)
        try:
            while (state := await self._run(partial(next, states, _END))) is not _END:
                yield state
        finally:
            await self._run(states.close)

    async def _run(self, call: Callable[[], R]) -> R:
        """Call a method of `_client`, while other tasks of the event loop run."""
        worker = _Worker(call)
        step: Any = worker.switch()
        while not worker.dead:
            try:
                value = await step
            # Also a cancellation: the code in the greenlet closes its response.
            except BaseException as error:  # noqa: BLE001
                step = worker.throw(error)
            else:
                step = worker.switch(value)
        result: R = step
        return result

    def _run_in(self, thread: Executor, call: Callable[[], R]) -> Awaitable[R]:
        """Begin to call a method of `_client` in a thread."""
        loop = self._bridge.loop = asyncio.get_running_loop()
        return loop.run_in_executor(thread, call)


class _Client(Pawqueue):
    """The client whose code runs in greenlets."""

    def _deadline(self, timeout_s: float | None) -> Deadline:
        return _Deadline(self.timeout_s if timeout_s is None else timeout_s)


class _Deadline(Deadline):
    """A deadline whose pauses do not block the event loop."""

    def pause(self, seconds: float) -> bool:
        if seconds >= self.remaining_s():
            return False
        _wait_for(asyncio.sleep(seconds))
        return not self.canceled


class _Worker(greenlet.greenlet):  # type: ignore[misc]  # greenlet is untyped
    """A greenlet that runs synchronous code for a coroutine, in its context."""

    def __init__(self, call: Callable[[], Any]) -> None:
        current = greenlet.getcurrent()
        super().__init__(call, current)
        self.gr_context = current.gr_context


def _wait_for(awaitable: Awaitable[R]) -> R:
    """The result of an awaitable, for code in a greenlet."""
    parent = greenlet.getcurrent().parent
    assert parent is not None  # noqa: S101
    result: R = parent.switch(awaitable)
    return result


class _Bridge(httpx.BaseTransport):
    """A transport for synchronous code that sends its requests through an asynchronous one."""

    inner: httpx.AsyncBaseTransport
    #: The event loop, for code in other threads.
    loop: asyncio.AbstractEventLoop | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        body = request.stream
        assert isinstance(body, httpx.SyncByteStream)  # noqa: S101
        sent = httpx.Request(
            request.method, request.url, headers=request.headers, stream=_Body(body), extensions=request.extensions
        )
        response = self.wait_for(self.inner.handle_async_request(sent))
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=_Answer(response.stream, self),
            extensions=response.extensions,
        )

    def wait_for(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """The result of a coroutine, for code in a greenlet or in another thread."""
        if isinstance(greenlet.getcurrent(), _Worker):
            return _wait_for(coroutine)
        if self.loop is None or not self.loop.is_running() or _is_in_loop():
            # The garbage collector closes a generator that was not read to its end.
            coroutine.close()
            raise RuntimeError("The event loop of this client does not run. Close generators that you do not read.")
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()


def _is_in_loop() -> bool:
    """Whether the current thread runs an event loop, which waiting would block."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class _Connections(httpx.AsyncBaseTransport):
    """Sends each request through a transport that sends no other one at the time.

    One transport for all searches all its connections for each request: for 200 at the same time that took as long as
    everything else.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self._options = options
        self._idle: list[httpx.AsyncHTTPTransport] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        transport = self._idle.pop() if self._idle else httpx.AsyncHTTPTransport(**self._options)
        try:
            response = await transport.handle_async_request(request)
        except BaseException:
            await self._release(transport)
            raise
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101
        response.stream = _Returning(response.stream, partial(self._release, transport))
        return response

    async def aclose(self) -> None:
        while self._idle:
            await self._idle.pop().aclose()

    async def _release(self, transport: httpx.AsyncHTTPTransport) -> None:
        if len(self._idle) < _IDLE_MAX:
            self._idle.append(transport)
        else:
            await transport.aclose()


class _Returning(httpx.AsyncByteStream):
    """The body of a response; calls `release` when it is closed."""

    def __init__(self, body: httpx.AsyncByteStream, release: Callable[[], Awaitable[None]]) -> None:
        self._body = body
        self._release = release

    def __aiter__(self) -> AsyncIterator[bytes]:
        return aiter(self._body)

    async def aclose(self) -> None:
        try:
            await self._body.aclose()
        finally:
            await self._release()


class _Body(httpx.AsyncByteStream):
    """The body of a request."""

    def __init__(self, body: httpx.SyncByteStream) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        for piece in self._body:
            yield piece


class _Answer(httpx.SyncByteStream):
    """The body of a response."""

    def __init__(self, body: httpx.AsyncByteStream, bridge: _Bridge) -> None:
        self._body = body
        self._bridge = bridge

    def __iter__(self) -> Iterator[bytes]:
        pieces = aiter(self._body)
        while (piece := self._bridge.wait_for(_next(pieces))) is not None:
            yield piece

    def close(self) -> None:
        self._bridge.wait_for(self._body.aclose())


async def _next(pieces: Any) -> bytes | None:
    return await anext(pieces, None)
