"""Rules that the code follows and that no linter checks."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from contract.ledger import keys
from tests.support.services import ROOT

PACKAGES = ("bundle", "contract", "dashboard", "deploy", "gateway", "importer", "pawqueue", "training", "worker")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_starts_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_redis_keys_are_defined_in_one_file() -> None:
    found = [path for path in MODULES if re.search(rf'["\']{keys.PREFIX}', path.read_text())]
    assert found == [ROOT / "contract" / "ledger" / "keys.py"]


def test_the_gateway_imports_neither_keras_nor_numpy() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import gateway.app"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "flask" in loaded
    assert not loaded & {"tensorflow", "keras", "numpy", "bundle", "worker", "training"}


def test_importing_any_module_opens_no_connection_and_starts_no_thread() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.name != "__main__.py" and path.relative_to(ROOT).parts[0] != "training"
    ]
    program = (
        "import importlib, socket, threading\n"
        "def fail(*a, **k): raise AssertionError('a module opened a connection on import')\n"
        "socket.socket.connect = socket.socket.bind = fail\n"
        f"[importlib.import_module(name) for name in {names!r}]\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)
