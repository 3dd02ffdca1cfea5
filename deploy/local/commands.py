"""What can be asked for: `up` keeps the services of this machine running, `demo` sends them a folder of images."""

import contextlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from contract.settings import PREFIX, Settings, load_settings
from deploy.local.checks import Level, check_variables
from deploy.local.claim import claimed
from deploy.local.errors import UsageError
from deploy.local.ports import check_ports, pick_ports
from deploy.local.services import check_given_redis, has_dashboard, ports_of, programs_of
from deploy.local.stack import running_stack
from deploy.local.stopping import Stop, stop_signals
from deploy.local.urls import gateway_url
from deploy.local.watch import Watch, wait_until_ready

_LOOK_S = 0.2
_CLIENT_STOP_S = 5.0
_INTERRUPTED = 130


def up(environ: Mapping[str, str]) -> int:
    """Start all services, say where they are, and keep them running until told to stop."""
    settings = load_settings(environ)
    with stop_signals() as stop, _services(settings, environ) as watch:
        if wait_until_ready(gateway_url(settings), watch, stop):
            print(_addresses(settings), flush=True)
            while not stop.wait(_LOOK_S):
                watch.look()
        print("\nStopping; what is in hand is finished first.", flush=True)
    print("All services are stopped.")
    return 0


def demo(environ: Mapping[str, str], photos: Path, out: Path) -> int:
    """Start the services beside whatever runs, classify a folder, stop them; returns the exit status of the client."""
    _check_photos(photos)
    _check_out(out)
    with _demo_folder(environ) as folder:
        chosen = demo_environ(environ, folder)
        settings = load_settings(chosen)
        with stop_signals() as stop, _services(settings, chosen) as watch:
            url = gateway_url(settings)
            if not wait_until_ready(url, watch, stop):
                return _INTERRUPTED
            print(*_dashboard(settings), sep="\n", flush=True)
            return _classify(_client(photos, url, out), watch, stop)


def demo_environ(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The environment with free ports and a folder of its own, where it does not name any."""
    workers = load_settings(environ).workers
    first = pick_ports(3 + workers)
    names = ("GATEWAY_PORT", "DASHBOARD_PORT", "REDIS_PORT", "WORKER_METRICS_PORT")
    ports = {PREFIX + name: str(first + index) for index, name in enumerate(names)}
    return {**ports, f"{PREFIX}STATE_DIR": str(folder), **{name: value for name, value in environ.items() if value}}


@contextlib.contextmanager
def _services(settings: Settings, environ: Mapping[str, str]) -> Iterator[Watch]:
    _tell_variables(environ)
    with claimed(settings.state_dir):
        check_ports(ports_of(settings))
        check_given_redis(settings)
        with running_stack(programs_of(settings), settings.state_dir, _absolute(environ, settings)) as stack:
            yield Watch(stack)


def _tell_variables(environ: Mapping[str, str]) -> None:
    """Say which variable nobody reads: a misspelt one would go unnoticed."""
    found = check_variables(environ)
    if found.level is not Level.OK:
        print(f"Warning: {found.text}. {found.mend}", file=sys.stderr, flush=True)


def _absolute(environ: Mapping[str, str], settings: Settings) -> dict[str, str]:
    # The services run in the folder of the project, whatever the folder this was called from.
    model = {f"{PREFIX}MODEL": str(settings.model.absolute())} if settings.model else {}
    return {**environ, f"{PREFIX}STATE_DIR": str(settings.state_dir), **model}


def _addresses(settings: Settings) -> str:
    url = gateway_url(settings)
    lines = ["Pawqueue is running.", f"  API        {url}", f"  metrics    {url}/metrics"]
    lines += [
        *_dashboard(settings),
        f"  logs       {settings.state_dir / 'logs'}",
        f"Try: curl -H 'Prefer: wait=10' -F file=@examples/photos/cat-small.png {url}/v1/jobs",
        "Ctrl-C stops everything.",
    ]
    return "\n".join(lines)


def _dashboard(settings: Settings) -> list[str]:
    return [f"  dashboard  http://127.0.0.1:{settings.dashboard_port}"] if has_dashboard() else []


def _check_photos(photos: Path) -> None:
    if not photos.is_dir():
        raise UsageError(f"{photos} is no folder: give one with images by PHOTOS=folder.")
    if not any(path.is_file() for path in photos.rglob("*")):
        raise UsageError(f"{photos} is empty: give a folder with images by PHOTOS=folder.")


def _check_out(out: Path) -> None:
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"Results cannot be written to {out}: give a file in a folder that exists by OUT=file.csv.")


@contextlib.contextmanager
def _demo_folder(environ: Mapping[str, str]) -> Iterator[Path]:
    given = environ.get(f"{PREFIX}STATE_DIR")
    if given:
        yield Path(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="pawqueue-demo-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # after an error the logs stay, for whoever reads the message


def _client(photos: Path, url: str, out: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "pawqueue", "submit", photos, "--url", url, "--out", out])


def _classify(client: "subprocess.Popen[bytes]", watch: Watch, stop: Stop) -> int:
    try:
        while client.poll() is None:
            if stop.wait(_LOOK_S):
                return _INTERRUPTED
            watch.look()
        return client.returncode
    finally:
        _end(client, _CLIENT_STOP_S if stop.from_terminal else 0)


def _end(client: "subprocess.Popen[bytes]", patience_s: float) -> None:
    # Ctrl-C has reached the client as well: it may take a moment to say how far it came.
    with contextlib.suppress(subprocess.TimeoutExpired):
        client.wait(patience_s)
    if client.poll() is None:
        client.terminate()
        client.wait()
