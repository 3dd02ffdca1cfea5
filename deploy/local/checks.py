"""The checks of `pawqueue doctor` on this machine. Each returns what it found and how to fix it."""

import difflib
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bundle.locate import bundle_to_serve
from bundle.manifest import BundleError, read_manifest
from contract.ledger.requirements import RedisReport
from contract.ledger.requirements import check_redis as redis_reports
from contract.settings import PREFIX, Settings, SettingsError, is_secret, load_settings, variable_of
from deploy.local.errors import LocalError
from deploy.local.ports import port_problem
from deploy.local.redis_server import find_redis_server
from deploy.local.services import ports_of
from deploy.local.stack import ROOT

#: `requires-python` in pyproject.toml.
_PYTHONS = ((3, 11), (3, 12), (3, 13))
LOCK_FILES = ROOT / "requirements"
#: The lock files that `make up` installs: `LOCKS_run` in the Makefile.
RUN_LOCKS = ("gateway", "worker", "dashboard", "client", "local", "keras2")
#: Known variables that are not settings of a service: those of the CLI, tests, training and Compose.
_OTHER_VARIABLES = (
    "URL",
    "API_KEY",
    "DATA",
    "COMPLETE",
    "BUILD",
    "TRAINING_ERROR_FILE",
    "TRAINING_TERMINAL",
    "PUBLISH",
    "MLFLOW_PORT",
)
_IMAGES = ("GATEWAY", "WORKER", "DASHBOARD", "MLFLOW", "PROMETHEUS", "GRAFANA")
#: How similar (0 to 1) a known name must be to be suggested. High, because all names share the prefix.
_SIMILARITY = 0.8
_LOW_BYTES, _TOO_LOW_BYTES = 5_000_000_000, 500_000_000


class Level(StrEnum):
    """Severity of a finding."""

    OK = "ok"
    #: It works, but should be changed.
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check."""

    check: str
    level: Level
    text: str
    #: How to fix it; empty if nothing is wrong.
    mend: str = ""

    def to_dict(self) -> dict[str, Any]:
        """The JSON object of `pawqueue doctor --json`."""
        return asdict(self)


def check_machine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """All checks that need no gateway."""
    yield check_python(sys.version_info[:2])
    yield check_packages()
    yield check_variables(environ)
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        yield Finding("settings", Level.PROBLEM, str(error), "Correct the variable, or unset it to use the default.")
        return
    yield Finding("settings", Level.OK, "all values are valid")
    checks: list[Callable[[Settings], Finding]] = [check_disk, check_model, check_redis_server]
    for check in checks:
        yield check(settings)
    yield from check_redis(settings)


def check_python(found: tuple[int, int]) -> Finding:
    """Whether the interpreter is supported."""
    text = f"{found[0]}.{found[1]} at {sys.executable}"
    if found in _PYTHONS:
        return Finding("Python", Level.OK, text)
    return Finding("Python", Level.PROBLEM, text, "Use Python 3.11, 3.12 or 3.13: run `make clean`, then `make up`.")


def check_packages(folder: Path = LOCK_FILES) -> Finding:
    """Whether the installed packages match the lock files."""
    if not folder.is_dir():
        return Finding("packages", Level.WARNING, "there are no lock files to compare with")
    wanted = {name: number for lock in RUN_LOCKS for name, number in _locked(folder / f"{lock}.txt")}
    found = {name: _installed(name) for name in wanted}
    wrong = [f"{name} {found[name] or 'missing'} instead of {n}" for name, n in wanted.items() if found[name] != n]
    if not wrong:
        return Finding("packages", Level.OK, f"{len(wanted)} packages match the lock files")
    text = f"{len(wrong)} of {len(wanted)} differ: {'; '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}"
    return Finding("packages", Level.PROBLEM, text, "Run `make clean`, then `make up` to install the locked versions.")


def check_variables(environ: Mapping[str, str]) -> Finding:
    """Whether every `PAWQUEUE_*` variable is known."""
    known = {variable_of(name) for name in Settings.model_fields} | {PREFIX + name for name in _OTHER_VARIABLES}
    known |= {f"{PREFIX}{service}_IMAGE" for service in _IMAGES} | {f"{PREFIX}GRAFANA_PORT"}
    known |= {f"{variable_of(name)}_FILE" for name in Settings.model_fields if is_secret(name)}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if not unknown:
        return Finding("variables", Level.OK, f"all {PREFIX}* variables are known")
    text = ", ".join(f"{name}{_suggestion(name, known)}" for name in unknown)
    return Finding(
        "variables", Level.WARNING, f"unknown: {text}", "Fix or unset them. docs/settings.md lists all variables."
    )


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def check_disk(settings: Settings, free_bytes: Callable[[Path], int] = _free_bytes) -> Finding:
    """Whether the state folder is writable and has free space."""
    folder = settings.state_dir
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(existing, os.W_OK):
        mend = f"Set {variable_of('state_dir')} to a folder that you can write to."
        return Finding("disk", Level.PROBLEM, f"{folder} is not writable", mend)
    free = free_bytes(existing)
    text = f"{free / 1e9:,.1f} GB free for {folder}"
    if free >= _LOW_BYTES:
        return Finding("disk", Level.OK, text)
    level = Level.WARNING if free >= _TOO_LOW_BYTES else Level.PROBLEM
    return Finding("disk", level, text, f"Free some space, or set {variable_of('state_dir')} to a larger disk.")


def check_model(settings: Settings) -> Finding:
    """Whether the bundle that a worker would serve is complete."""
    folder = bundle_to_serve(settings.model, settings.state_dir)
    try:
        manifest = read_manifest(folder, settings.model_checksum)
    except BundleError as error:
        mend = f"Fix the bundle, or unset {variable_of('model')} to serve the included one."
        return Finding("model", Level.PROBLEM, str(error), mend)
    return Finding("model", Level.OK, f"{manifest.name} {manifest.version} ({', '.join(manifest.labels)}) in {folder}")


def check_redis_server(settings: Settings) -> Finding:
    """Whether `make up` can find a redis-server. It needs none if `PAWQUEUE_REDIS_URL` is set."""
    if settings.redis_url:
        return Finding("Redis program", Level.OK, f"not needed: {variable_of('redis_url')} is set")
    try:
        return Finding("Redis program", Level.OK, str(find_redis_server()))
    except LocalError as error:
        return Finding("Redis program", Level.PROBLEM, "none found", str(error))


def check_redis(settings: Settings) -> Iterator[Finding]:
    """Whether every Redis in the settings responds and can be used."""
    for name, report in zip(("Redis", "image store"), redis_reports(settings), strict=False):
        yield from _redis_findings(name, report)


def _redis_findings(name: str, report: RedisReport) -> Iterator[Finding]:
    problems = [report.unavailable] if report.unavailable else report.problems
    for fault in problems:
        yield Finding(name, Level.PROBLEM, fault.text, fault.remedy)
    for fault in report.warnings:
        yield Finding(name, Level.WARNING, fault.text, fault.remedy)
    if not problems and not report.warnings:
        yield Finding(name, Level.OK, f"{report.version} responds")


def check_ports(settings: Settings) -> Finding:
    """Whether the services could listen on their ports. Use it only while none of them is running."""
    taken = [
        f"{port.number} for {port.service} {problem} ({port.variable})"
        for port in ports_of(settings)
        if (problem := port_problem(port.host, port.number))
    ]
    if not taken:
        return Finding("ports", Level.OK, "all are free")
    mend = "Stop the programs that use them, or set these variables to other ports."
    return Finding("ports", Level.PROBLEM, "; ".join(taken), mend)


def _locked(path: Path) -> Iterator[tuple[str, str]]:
    """Name and version of each package in a lock file, without the platform-specific ones."""
    for line in path.read_text().splitlines():
        found = re.match(r"([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)(.*)", line)
        if found and ";" not in found[3]:
            yield found[1], found[2]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _suggestion(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, _SIMILARITY)
    return f" (did you mean {close[0]}?)" if close else ""
