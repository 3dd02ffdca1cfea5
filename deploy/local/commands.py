"""The commands: `up` runs the services until it is stopped, `demo` classifies a folder with temporary services."""

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bundle.manifest import import_advice
from contract.settings import PREFIX, Settings, load_settings
from deploy.local.checks import Level, check_variables
from deploy.local.errors import UsageError
from deploy.local.ports import check_ports, pick_ports
from deploy.local.services import check_external_redis, gateway_url, is_serving, ports_of, service_environ, stop_limit_s
from deploy.local.stack import claimed, running_stack
from deploy.local.watch import Stop, Watch, say, stop_signals, wait_until_ready

_POLL_S = 0.2
_CLIENT_STOP_S = 5.0
_INTERRUPTED = 130


def up(environ: Mapping[str, str]) -> int:
    """Start all services, print their addresses, and keep the services running until a signal arrives."""
    settings = load_settings(environ)
    _check_model(settings)
    with stop_signals() as stop, _services(settings, environ, stop) as watch:
        if wait_until_ready(lambda: is_serving(settings), watch, stop):
            say(_addresses(settings))
            while not stop.wait(_POLL_S):
                watch.check()
        say("\nStopping. Running jobs are finished first.")
    say("All services are stopped.")
    return 0


def demo(environ: Mapping[str, str], photos: Path, out: Path, model: Sequence[str] = ()) -> int:
    """Classify a folder with temporary services on free ports; returns the exit status of the client.

    `model` is what to import first: the arguments of `pawqueue models import`, without the name.
    """
    _check_photos(photos)
    _check_out(out)
    with _demo_folder(environ) as folder:
        chosen = demo_environ(environ, folder)
        if model:
            store = {f"{PREFIX}MODEL_STORE_URL": str(folder / "models")}
            chosen[f"{PREFIX}MODEL"] = _import(model, chosen | store)
        settings = load_settings(chosen)
        _check_model(settings)
        with stop_signals() as stop, _services(settings, chosen, stop) as watch:
            if not wait_until_ready(lambda: is_serving(settings), watch, stop):
                return _INTERRUPTED
            say(_dashboard_line(settings))
            return _classify(_client(photos, gateway_url(settings), out), watch, stop)


def demo_environ(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """`environ` with free ports and `folder` as the state folder, unless it sets others.

    In a new folder nothing is remembered, and a demo is too short for measuring strategies.
    """
    workers = load_settings(environ).workers
    first = pick_ports(4 + workers)
    names = ("GATEWAY_PORT", "GATEWAY_METRICS_PORT", "NOTIFIER_METRICS_PORT", "DASHBOARD_PORT", "WORKER_METRICS_PORT")
    ports = {PREFIX + name: str(first + index) for index, name in enumerate(names)}
    defaults = {**ports, f"{PREFIX}STATE_DIR": str(folder), f"{PREFIX}MEASURE_S": "0"}
    return defaults | {name: value for name, value in environ.items() if value}


@contextlib.contextmanager
def _services(settings: Settings, environ: Mapping[str, str], stop: Stop) -> Iterator[Watch]:
    _warn_about_unknown_variables(environ)
    with claimed(settings.state_dir):
        check_ports(ports_of(settings))
        check_external_redis(settings, stop.wait)
        service_variables = service_environ(settings, environ)
        with running_stack(settings.state_dir, service_variables, stop_limit_s(settings)) as stack:
            yield Watch(stack)


def _warn_about_unknown_variables(environ: Mapping[str, str]) -> None:
    found = check_variables(environ)
    if found.level is not Level.OK:
        print(f"Warning: {found.text}. {found.mend}", file=sys.stderr, flush=True)


def _addresses(settings: Settings) -> str:
    url = gateway_url(settings)
    return "\n".join(
        (
            "Pawqueue is running.",
            f"  API        {url}",
            f"  metrics    {settings.gateway_metrics_address()}",
            _dashboard_line(settings),
            f"  logs       {settings.state_dir / 'logs'}",
            f"Try: curl -H 'Prefer: wait=10' -F file=@examples/photos/cat-small.png {url}/v1/jobs",
            "Press Ctrl-C to stop.",
        )
    )


def _dashboard_line(settings: Settings) -> str:
    return f"  dashboard  http://127.0.0.1:{settings.dashboard_port}"


def _check_model(settings: Settings) -> None:
    if settings.model and (advice := import_advice(settings.model)):
        raise UsageError(f"{PREFIX}MODEL: {advice}")


def _import(arguments: Sequence[str], environ: Mapping[str, str]) -> str:
    """Import a model, which prints what it finds; returns the folder of the bundle."""
    say("Importing the model.")
    command = [sys.executable, "-m", "pawqueue", "models", "import", *arguments, "--name", "demo", "--json"]
    done = subprocess.run(command, env=dict(environ), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UsageError("The model was not imported (see above). Fix MODEL, LABELS or IMPORT, then run again.")
    result = json.loads(done.stdout)
    say(f"Serving {result['version']}: {', '.join(result['labels'][:10])}.")
    return str(result["folder"])


def _check_photos(photos: Path) -> None:
    if not photos.is_dir():
        raise UsageError(f"{photos} is not a folder. Set PHOTOS=folder to a folder of images.")
    if not any(path.is_file() for path in photos.rglob("*")):
        raise UsageError(f"{photos} is empty. Set PHOTOS=folder to a folder of images.")


def _check_out(out: Path) -> None:
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise UsageError(f"Results cannot be written to {out}. Set OUT=file.csv to a file in an existing folder.")


@contextlib.contextmanager
def _demo_folder(environ: Mapping[str, str]) -> Iterator[Path]:
    given = environ.get(f"{PREFIX}STATE_DIR")
    if given:
        yield Path(given)
        return
    folder = Path(tempfile.mkdtemp(prefix="pawqueue-demo-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)  # kept after an error, whose message may point to a log in it


def _client(photos: Path, url: str, out: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-m", "pawqueue", "submit", photos, "--url", url, "--out", out])


def _classify(client: "subprocess.Popen[bytes]", watch: Watch, stop: Stop) -> int:
    try:
        while client.poll() is None:
            if stop.wait(_POLL_S):
                return _INTERRUPTED
            watch.check()
        return client.returncode
    finally:
        # Ctrl-C reaches the client too: give it time to report its progress.
        _stop_client(client, _CLIENT_STOP_S if stop.from_terminal else 0)


def _stop_client(client: "subprocess.Popen[bytes]", wait_s: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        client.wait(wait_s)
    if client.poll() is None:
        client.terminate()
        client.wait()
