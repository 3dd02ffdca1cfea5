"""Measures servers in turns: in each round, every server runs alone, between two runs of the bare loop.

Each figure is a ratio to the mean of the two bare loops around it, because the speed of a shared machine changes within
minutes. The order rotates from round to round, so that no server always follows the same other one.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.image import large_image
from benchmarks.load import Load
from benchmarks.parts import Run
from benchmarks.peers.environments import FASTAPI, PEERS, Peer, environment
from benchmarks.processes import ROOT, BenchmarkError, running, wait_until
from benchmarks.service import bare_loop, run_load, service
from deploy.local.ports import pick_ports

_WARM_UP_CLIENTS = 32
_ANSWER_S = 30
PAWQUEUE, PAWQUEUE_AUTO = "Pawqueue", "Pawqueue, precision `auto`"


@dataclass(frozen=True)
class Contestant:
    """A server that can be started; its context yields the arguments of the load generator, first the port."""

    title: str
    start: Callable[[Path], AbstractContextManager[tuple[Any, ...]]]


def peers(run: Run) -> None:
    """baseline_cnn behind Pawqueue and five other model servers, with 1, 32 and 128 clients (15 minutes)."""
    _contest(run, "peers", run.model, (1, 32, 128))


def peers_shipped(run: Run) -> None:
    """The included model behind Pawqueue and five other model servers, with 1 and 32 clients (10 minutes)."""
    _contest(run, "peers-shipped", run.shipped, (1, 32))


def _contest(run: Run, name: str, model: Path, clients: Sequence[int]) -> None:
    folder = run.folder / name
    folder.mkdir()
    contestants = [
        Contestant(PAWQUEUE, partial(pawqueue_server, model, "float32")),
        Contestant(PAWQUEUE_AUTO, partial(pawqueue_server, model, "auto")),
    ]
    left_out = {}
    for peer in PEERS:
        try:
            python = environment(peer)
        except BenchmarkError as error:
            run.log(f"  {peer.title} is left out: {error}")
            left_out[peer.title] = str(error)
        else:
            contestants.append(Contestant(peer.title, partial(peer_server, peer, python, model)))
    with bare_loop(folder, model, "float32") as bare:
        measure = partial(bare.measure, "loop", run.scale.seconds)
        found = hold(run, folder, contestants, lambda: measure()["images_per_s"], clients)
    found["left_out"] = left_out | found["left_out"]
    run.details[name] = [found]
    for figure, values in figures(name, found).items():
        for value in values:
            run.add(figure, value)


def hold(
    run: Run,
    folder: Path,
    contestants: Sequence[Contestant],
    bare: Callable[[], float],
    clients: Sequence[int],
    load: Callable[..., dict[str, Any]] = run_load,
) -> dict[str, Any]:
    """Measure every server once in each round; a server that fails is left out with the reason.

    Returns what `table.markdown` shows: by server and number of clients, the ratio to the bare loop and the latency of
    each round.
    """
    load_average = os.getloadavg()[0]
    measured: dict[str, dict[str, list[dict[str, float]]]] = {
        contestant.title: {str(count): [] for count in clients} for contestant in contestants
    }
    left_out: dict[str, str] = {}
    bare_rates = [bare()]
    for number in range(run.scale.rounds):
        turn = number % len(contestants)
        for contestant in [*contestants[turn:], *contestants[:turn]]:
            if contestant.title in left_out:
                continue
            try:
                own_folder = folder / f"{number}-{contestants.index(contestant)}"
                loads = _measure(contestant, own_folder, clients, run.scale.seconds, load)
            except BenchmarkError as error:
                run.log(f"  {contestant.title} is left out: {error}")
                left_out[contestant.title] = str(error).splitlines()[0]
                del measured[contestant.title]
                continue
            bare_rates.append(bare())
            reference = (bare_rates[-2] + bare_rates[-1]) / 2
            for count, result in loads.items():
                ratio = result["images_per_s"] / reference
                kept = {key: result[key] for key in ("images_per_s", "p50_ms", "p99_ms")}
                measured[contestant.title][count].append({"ratio": ratio, **kept})
                run.log(f"  {contestant.title}, {count} clients: {ratio:.2f}, p50 {result['p50_ms']:.1f} ms")
    return {
        "load_average": load_average,
        "rounds": run.scale.rounds,
        "seconds": run.scale.seconds,
        "clients": list(clients),
        "bare_images_per_s": bare_rates,
        "servers": measured,
        "left_out": left_out,
    }


def figures(name: str, found: dict[str, Any]) -> dict[str, list[float]]:
    """The figures that have goals, by name, with one value for each round: Pawqueue relative to the best peer.

    The best peer is the one with the highest median for that number of clients.
    """
    others = dict(found["servers"])
    ours, auto = others.pop(PAWQUEUE, None), others.pop(PAWQUEUE_AUTO, None)
    if not ours or not others:
        return {}
    values = {}
    for count in (str(count) for count in found["clients"] if count > 1):
        best = max((loads[count] for loads in others.values()), key=lambda rounds: median(_column(rounds, "ratio")))
        values[f"{name}-{count}"] = _quotients(ours[count], best, "ratio")
        if auto and count == "32":
            values[f"{name}-auto-32"] = _quotients(auto[count], best, "ratio")
    if FASTAPI.title in others and "1" in ours:
        values[f"{name}-latency-1"] = _quotients(ours["1"], others[FASTAPI.title]["1"], "p50_ms")
    return values


def _column(rounds: list[dict[str, float]], key: str) -> list[float]:
    return [row[key] for row in rounds]


def _quotients(rounds: list[dict[str, float]], others: list[dict[str, float]], key: str) -> list[float]:
    pairs = zip(_column(rounds, key), _column(others, key), strict=True)
    return [value / other for value, other in pairs]


def _measure(
    contestant: Contestant, folder: Path, clients: Sequence[int], seconds: float, load: Callable[..., dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """The figures of the load generator by number of clients."""
    folder.mkdir()
    with contestant.start(folder) as target:
        load(*target, "--clients", _WARM_UP_CLIENTS, "--seconds", seconds / 2)
        return {str(count): load(*target, "--clients", count, "--seconds", seconds) for count in clients}


@contextmanager
def pawqueue_server(model: Path, precision: str, folder: Path) -> Iterator[tuple[Any, ...]]:
    """Redis, a gateway and a worker; the load generator sends `Prefer: wait`, so a response contains the result."""
    with service(folder, model=model, precision=precision) as stack:
        yield (stack.port,)


@contextmanager
def peer_server(peer: Peer, python: Path, model: Path, folder: Path) -> Iterator[tuple[Any, ...]]:
    """A peer, run by the Python of its environment."""
    port = pick_ports(1)
    arguments = [str(port) if argument == "PORT" else argument for argument in peer.command]
    environ = {"MODEL": str(model), "PYTHONPATH": str(ROOT), "KERAS_BACKEND": "tensorflow", **peer.environ}
    with running(peer.name, [str(python), *arguments], folder, environ) as process:
        request = Load(port, "plain", peer.path, large_image(), peer.form).request
        wait_until(lambda: _answers(port, request), process)
        yield (port, "--mode", "plain", "--path", peer.path, *(("--form", peer.form) if peer.form else ()))


def _answers(port: int, request: bytes) -> bool:
    """Whether the server returns 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=_ANSWER_S) as connection:
            connection.sendall(request)
            return connection.recv(64).split()[1:2] == [b"200"]
    except OSError:
        return False
