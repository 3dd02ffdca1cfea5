"""The peers, and an environment for each, which is created when it is first needed.

The environments are in `.cache/peers`, apart from the project's, because the peers pin other versions of what the
services use. Keras, TensorFlow, NumPy and Pillow have the same versions everywhere.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ROOT, BenchmarkError

_LOCKS, _ENVIRONMENTS = ROOT / "requirements" / "peers", ROOT / ".cache" / "peers"
_SERVERS = "benchmarks.peers.servers"


@dataclass(frozen=True)
class Peer:
    """A server that is compared with Pawqueue."""

    #: Its lock file in requirements/peers, and its program in `servers/`.
    name: str
    title: str
    #: Arguments of Python that start it; `PORT` stands for the port.
    command: tuple[str, ...]
    path: str
    #: The field of a multipart form that contains the image; if empty, the image is the body.
    form: str = ""
    environ: dict[str, str] = field(default_factory=dict)


MOSEC = Peer("mosec", "mosec", ("-m", f"{_SERVERS}.mosec", "--port", "PORT", "--timeout", "60000"), "/inference")
LITSERVE = Peer("litserve", "LitServe", ("-m", f"{_SERVERS}.litserve", "PORT"), "/predict", form="image")
FASTAPI = Peer("fastapi", "FastAPI", ("-m", f"{_SERVERS}.fastapi", "PORT"), "/predict")
BENTOML = Peer(
    "bentoml",
    "BentoML",
    ("-m", "bentoml", "serve", f"{_SERVERS}.bentoml:Classify", "--host", "127.0.0.1", "--port", "PORT"),
    "/predict",
    form="images",
    environ={"BENTOML_DO_NOT_TRACK": "true"},
)
RAY_SERVE = Peer(
    "rayserve", "Ray Serve", ("-m", f"{_SERVERS}.rayserve", "PORT"), "/", environ={"RAY_USAGE_STATS_ENABLED": "0"}
)
PEERS = (MOSEC, LITSERVE, FASTAPI, BENTOML, RAY_SERVE)


def run_uv(*arguments: str) -> None:
    """Run the project's uv.

    Raises:
        BenchmarkError: it has failed.
    """
    command = ["sh", str(ROOT / "deploy" / "local" / "setup.sh"), "uv", "--quiet", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["uv has failed"]
        raise BenchmarkError(f"its packages cannot be installed: {lines[-1].strip()}")


def environment(
    peer: Peer, locks: Path = _LOCKS, environments: Path = _ENVIRONMENTS, uv: Callable[..., None] = run_uv
) -> Path:
    """The Python of the peer's environment, which is created if it is missing or its lock file has changed.

    Raises:
        BenchmarkError: its packages cannot be installed.
    """
    home, lock = environments / peer.name, locks / f"{peer.name}.txt"
    python, installed = home / "bin" / "python", home / "installed.txt"
    if not (installed.exists() and installed.read_bytes() == lock.read_bytes()):
        uv("venv", "--clear", "--no-project", "--python", sys.executable, str(home))
        uv("pip", "install", "--python", str(python), "--compile-bytecode", "--require-hashes", "-r", str(lock))
        shutil.copy(lock, installed)
    return python
