"""What `pawqueue doctor` looks at, one function each: what was found, and how to mend it."""

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

import redis

from bundle.manifest import BundleError, read_manifest
from contract.ledger.connection import connect
from contract.settings import PREFIX, Settings, SettingsError, is_secret, load_settings, variable_of
from deploy.local.errors import LocalError
from deploy.local.ports import why_not
from deploy.local.redis_server import OLDEST_VERSION, find_redis_server
from deploy.local.services import ports_of
from deploy.local.stack import ROOT

#: Read by the command, the tests, the shell, training and Compose, not by the services.
_OTHER_VARIABLES = ("URL", "API_KEY", "DATA", "COMPLETE", "BUILD", "TRAINING_ERROR_FILE", "PUBLISH", "MLFLOW_PORT")
_IMAGES = ("GATEWAY", "WORKER", "DASHBOARD", "MLFLOW", "PROMETHEUS")
#: Of names that one may have been mistaken for the other (0 to 1); all begin alike.
_ALIKE = 0.8
_LITTLE_BYTES, _TOO_LITTLE_BYTES = 5_000_000_000, 500_000_000


#: As pyproject.toml has them.
_PYTHONS = ("3.11", "3.12", "3.13")
_LOCK_FILES = ROOT / "requirements"
#: The groups that `make up` installs, as the Makefile names them.
RUN_LOCKS = ("gateway", "worker", "dashboard", "client", "local")


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    #: It works, but is not as it should be.
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    check: str
    level: Level
    text: str
    #: What to do; empty when all is well.
    mend: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for programs."""
        return asdict(self)


def check_machine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Everything that can be looked at without the gateway."""
    yield check_python(sys.version_info[:2])
    yield check_packages()
    yield check_variables(environ)
    try:
        settings = load_settings(environ)
    except SettingsError as error:
        yield Finding("settings", Level.PROBLEM, str(error), "Correct the variable, or unset it to get the default.")
        return
    yield Finding("settings", Level.OK, "every value fits")
    checks: list[Callable[[Settings], Finding]] = [check_disk, check_model, check_redis_server, check_redis]
    for check in checks:
        yield check(settings)


def check_python(found: tuple[int, int]) -> Finding:
    """The interpreter."""
    text = f"{found[0]}.{found[1]} at {sys.executable}"
    if f"{found[0]}.{found[1]}" in _PYTHONS:
        return Finding("Python", Level.OK, text)
    mend = f"Use Python {', '.join(sorted(_PYTHONS))}: `make clean`, then any make target brings one."
    return Finding("Python", Level.PROBLEM, text, mend)


def check_packages(folder: Path = _LOCK_FILES) -> Finding:
    """Whether the installed packages are those that the lock files name."""
    if not folder.is_dir():
        return Finding("packages", Level.WARNING, "no lock files here, so nothing to compare with")
    wanted = {name: number for group in RUN_LOCKS for name, number in _locked(folder / f"{group}.txt")}
    found = {name: _installed(name) for name in wanted}
    wrong = [f"{name} {found[name] or 'missing'} instead of {n}" for name, n in wanted.items() if found[name] != n]
    if not wrong:
        return Finding("packages", Level.OK, f"{len(wanted)} packages, as locked")
    text = f"{len(wrong)} of {len(wanted)} differ: {'; '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}"
    return Finding("packages", Level.PROBLEM, text, "Run `make clean`, then `make up`: it installs what is locked.")


def check_variables(environ: Mapping[str, str]) -> Finding:
    """Whether every variable with our prefix is one that something reads."""
    known = {variable_of(name) for name in Settings.model_fields} | {PREFIX + name for name in _OTHER_VARIABLES}
    known |= {f"{PREFIX}{service}_IMAGE" for service in _IMAGES}
    known |= {f"{variable_of(name)}_FILE" for name in Settings.model_fields if is_secret(name)}
    unknown = sorted(name for name in environ if name.startswith(PREFIX) and name not in known)
    if not unknown:
        return Finding("variables", Level.OK, f"every {PREFIX}* variable is one that is read")
    guesses = [f"{name} ({_guess(name, known)})" for name in unknown]
    return Finding(
        "variables", Level.WARNING, f"nobody reads {', '.join(guesses)}", "Correct or unset; docs/settings.md has all."
    )


def check_disk(settings: Settings) -> Finding:
    """Whether the state folder can be written and has room."""
    folder = settings.state_dir
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        mend = f"Set {variable_of('state_dir')} to a folder that you may write."
        return Finding("disk", Level.PROBLEM, f"{folder} cannot be written", mend)
    free = shutil.disk_usage(there).free
    text = f"{free / 1e9:,.1f} GB free for {folder}"
    if free >= _LITTLE_BYTES:
        return Finding("disk", Level.OK, text)
    level = Level.WARNING if free >= _TOO_LITTLE_BYTES else Level.PROBLEM
    return Finding("disk", level, text, f"Make room, or set {variable_of('state_dir')} to a larger disk.")


def check_model(settings: Settings) -> Finding:
    """Whether the model that a worker would serve is whole."""
    places = (settings.state_dir / "models" / "champion", ROOT / "models" / "cats-dogs")
    folder = settings.model or next((place for place in places if place.exists()), places[-1])
    try:
        manifest = read_manifest(folder)
    except BundleError as error:
        return Finding("model", Level.PROBLEM, str(error), f"Or unset {variable_of('model')} to serve the shipped one.")
    return Finding("model", Level.OK, f"{manifest.name} {manifest.version} ({', '.join(manifest.labels)}) in {folder}")


def check_redis_server(settings: Settings) -> Finding:
    """Whether there is a Redis that can be started here, where none elsewhere is named."""
    if settings.redis_url:
        return Finding("Redis program", Level.OK, f"not needed: {variable_of('redis_url')} names one that runs")
    try:
        return Finding("Redis program", Level.OK, str(find_redis_server()))
    except LocalError as error:
        return Finding("Redis program", Level.PROBLEM, "none that is new enough", str(error))


def check_redis(settings: Settings) -> Finding:
    """Whether the ledger's Redis answers and keeps what it is given."""
    start = f"Start it, or mend {variable_of('redis_url')}." if settings.redis_url else "`make up` starts one."
    try:
        with connect(settings.redis_address()) as client:
            number = str(client.info("server")["redis_version"])
            kept = client.config_get("appendonly").get("appendonly") == "yes"
    except (redis.RedisError, ValueError) as error:
        return Finding("Redis", Level.PROBLEM, f"does not answer ({error})", start)
    if tuple(map(int, number.split(".")[:2])) < OLDEST_VERSION:
        oldest = ".".join(map(str, OLDEST_VERSION))
        return Finding("Redis", Level.PROBLEM, f"is version {number}", f"Use Redis {oldest} or newer.")
    if not kept:
        mend = "Set `appendonly yes` and `appendfsync always` in its configuration."
        return Finding("Redis", Level.WARNING, f"{number} keeps no append-only file: a restart loses jobs", mend)
    return Finding("Redis", Level.OK, f"{number} answers")


def check_ports(settings: Settings) -> Finding:
    """Whether the services could listen; to be asked only while none of them runs."""
    taken = [
        f"{port.number} for {port.service} {problem} ({port.variable})"
        for port in ports_of(settings)
        if (problem := why_not(port.host, port.number))
    ]
    if not taken:
        return Finding("ports", Level.OK, "all free")
    return Finding(
        "ports", Level.PROBLEM, "; ".join(taken), "Stop what uses them, or set the variables named to other ports."
    )


def _locked(path: Path) -> Iterator[tuple[str, str]]:
    """Name and version of every package of a lock file that this machine needs whatever it is."""
    for line in path.read_text().splitlines():
        found = re.match(r"([a-z0-9][a-z0-9._-]*)==([^\s;\\]+)(.*)", line)
        if found and ";" not in found[3]:
            yield found[1], found[2]


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _guess(name: str, known: set[str]) -> str:
    close = difflib.get_close_matches(name, known, 1, _ALIKE)
    return f"meant {close[0]}?" if close else "no such setting"
