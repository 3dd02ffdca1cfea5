"""Habits of the code that no linter knows."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest

from contract import keys
from tests.support.services import ROOT

PACKAGES = ("bundle", "contract", "dashboard", "deploy", "gateway", "pawqueue", "training", "worker")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def functions() -> Iterator[tuple[Path, ast.FunctionDef]]:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                yield path, node


def test_functions_are_short() -> None:
    lengths = sorted((node.end_lineno or 0) - node.lineno + 1 for _, node in functions())
    assert median(lengths) < 10
    assert lengths[len(lengths) * 9 // 10] < 30


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_are_short_and_say_what_they_are(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") < 250
    assert ast.get_docstring(ast.parse(text)), "a module begins with one sentence on what it is"


def test_redis_keys_are_spelt_out_in_one_file() -> None:
    spelt = [path for path in MODULES if re.search(rf'["\']{keys.PREFIX}', path.read_text())]
    assert spelt == [ROOT / "contract" / "keys.py"]


def test_the_gateway_loads_no_framework_of_models_or_numbers() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import gateway.wsgi"],
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
        "def refuse(*a, **k): raise AssertionError('a module connects while it is imported')\n"
        "socket.socket.connect = socket.socket.bind = refuse\n"
        f"[importlib.import_module(name) for name in {names!r}]\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)
