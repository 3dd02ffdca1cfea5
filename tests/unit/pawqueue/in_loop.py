"""`AsyncPawqueue` with the interface of `Pawqueue`, so that the tests of one also test the other."""

import asyncio
import inspect
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Self

import httpx

from pawqueue import AsyncPawqueue


class InLoop:
    """Runs each call in an event loop of another thread. Its arguments are those of `Pawqueue`."""

    def __init__(self, *arguments: Any, transport: httpx.BaseTransport | None = None, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        inner = _InThreads(transport) if transport else None
        self._client = AsyncPawqueue(*arguments, transport=inner, **options)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        if inspect.isasyncgenfunction(member):
            return lambda *arguments, **options: self._iterate(member(*arguments, **options))
        return lambda *arguments, **options: self._run(member(*arguments, **options))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)

    def _run(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()

    def _iterate(self, rows: AsyncGenerator[Any, None]) -> Generator[Any]:
        try:
            while (row := self._run(_next(rows))) is not None:
                yield row
        finally:
            with suppress(RuntimeError):
                self._run(_close(rows))


async def _next(rows: AsyncGenerator[Any, None]) -> Any:
    return await anext(rows, None)


async def _close(rows: AsyncGenerator[Any, None]) -> None:
    await rows.aclose()


class _InThreads(httpx.AsyncBaseTransport):
    """Sends each request through a synchronous transport, in a thread."""

    def __init__(self, inner: httpx.BaseTransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        content = await request.aread()
        copy = httpx.Request(
            request.method, request.url, headers=request.headers, content=content, extensions=request.extensions
        )
        return await asyncio.to_thread(partial(_whole, self._inner, copy))


def _whole(transport: httpx.BaseTransport, request: httpx.Request) -> httpx.Response:
    response = transport.handle_request(request)
    content = response.read()
    return httpx.Response(response.status_code, headers=response.headers, content=content)
