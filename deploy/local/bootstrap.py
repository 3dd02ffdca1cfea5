"""Brings Python 3.11 to 3.13, the locked packages and a Redis into `.venv`, then runs a command there.

This file and the three it imports run on any Python from 3.8 on, with the standard library alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
from typing import Iterator, Mapping, NoReturn, Sequence  # noqa: UP035 - this file also runs on 3.8

from deploy.local import stamps
from deploy.local.stamps import ROOT, VENV, VENV_PYTHON
from deploy.local.steps import StepError, step
from deploy.local.uv import CACHE, SetupError, bring_uv, uv_environment

#: Best first: Redis comes ready made for 3.12 and 3.11.
VERSIONS = ("3.12", "3.11", "3.13")
_RUN = ("gateway", "worker", "dashboard", "client", "local")
GROUPS = {
    "run": _RUN,
    "train": ("training", "local"),
    "measure": ("performance", "local"),
    "develop": (*_RUN, "performance", "training", "dev"),
}
_FIND_REDIS = "from deploy.local.redis_server import find_redis_server; print(find_redis_server())"
_SHOW_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"


def main(words: Sequence[str]) -> int:
    """Prepare the group of packages named first, then become the command that follows."""
    group, command = words[0], list(words[1:])
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        prepare(group)
    except SetupError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return become(command) if command else 0


def become(command: Sequence[str]) -> int:
    """Replace this process, so that signals reach the command itself; return only if that fails."""
    path = "{}{}{}".format(VENV / "bin", os.pathsep, os.environ.get("PATH", os.defpath))
    os.environ.update(VIRTUAL_ENV=str(VENV), PATH=path)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 - no shell is wanted
    except OSError:
        print(f"{command[0]} is not in {VENV}: run `make clean`, then this again.", file=sys.stderr)
    return 127


def prepare(group: str) -> None:
    """Do what is still to be done; the second time that is nothing.

    Raises:
        SetupError: something is missing that cannot be brought.
    """
    if is_prepared(group):
        return
    with _alone():
        if not is_prepared(group):
            print("Setting up; the first time this takes a minute or two.", flush=True)
            _prepare_packages(GROUPS[group])
            if needs_redis(group):
                _prepare_redis()


def is_prepared(group: str) -> bool:
    """Whether the environment is there and holds what the lock files name."""
    packages = stamps.venv_is_home() and stamps.locks_are_current(GROUPS[group]) and stamps.project_is_current()
    return packages and (stamps.redis_is_current() or not needs_redis(group))


def needs_redis(group: str) -> bool:
    """Training has no queue, and a Redis given by its address is not ours to bring; tests start their own."""
    return group == "develop" or (group == "run" and not os.environ.get("PAWQUEUE_REDIS_URL"))


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "setup.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a second make in this folder waits for the first
        yield


def _interrupt(_signal: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _prepare_packages(locks: tuple[str, ...]) -> None:
    uv, environ = str(bring_uv()), uv_environment()
    if not stamps.venv_is_home():
        if not adopt_venv():
            make_venv(uv, environ)
        stamps.note("home", str(ROOT))
    if not stamps.locks_are_current(locks):
        install_locks(uv, environ, locks)
    if not stamps.project_is_current():
        install_project(uv, environ)


def adopt_venv() -> bool:
    """Whether a `.venv` that something else made here can be used as it is."""
    scripts_fit = not stamps.stamp_of("home")  # one that was moved here has scripts that name its old place
    return scripts_fit and VENV_PYTHON.exists() and _output([str(VENV_PYTHON), "-c", _SHOW_VERSION]) in VERSIONS


def make_venv(uv: str, environ: Mapping[str, str]) -> None:
    """Create the environment with a Python that is here, else with one that uv downloads."""
    python = find_python(uv) or VERSIONS[0]
    shutil.rmtree(VENV, ignore_errors=True)
    try:
        step(f"Python ({python})", [uv, "venv", "--no-project", "--python", python, str(VENV)], environ, ROOT)
    except StepError as error:
        raise SetupError(
            f"{error}\nNo Python 3.11, 3.12 or 3.13 was found and none could be downloaded: install one "
            "(apt-get install python3.12, or brew install python@3.12), then run make again."
        ) from None


def find_python(uv: str) -> str:
    """Path of the best interpreter on this machine; empty if it has none."""
    find = [uv, "python", "find", "--no-project", "--system", "--no-python-downloads"]
    return next((path for version in VERSIONS if (path := _output([*find, version]))), "")


def install_locks(uv: str, environ: Mapping[str, str], locks: tuple[str, ...]) -> None:
    """Install exactly what the lock files name."""
    install = [uv, "pip", "install", "--python", str(VENV_PYTHON), "--require-hashes", "--compile-bytecode"]
    files = [word for lock in locks for word in ("-r", str(stamps.lock_file(lock)))]
    try:
        step(f"packages of {', '.join(locks)}", [*install, *files], environ, ROOT)
    except StepError as error:
        raise SetupError(
            f"{error}\nThe packages could not be installed: see uv's message above, check the network and the space "
            "on the disk, then run make again."
        ) from None
    for lock in locks:
        stamps.note(lock, stamps.digest(lock))


def install_project(uv: str, environ: Mapping[str, str]) -> None:
    """Install this project so that its commands exist and its files stay where they are."""
    install = [uv, "pip", "install", "--python", str(VENV_PYTHON), "--no-deps", "--no-build-isolation"]
    try:
        step("this project", [*install, "--editable", str(ROOT)], environ, ROOT)
    except StepError as error:
        raise SetupError(f"{error}\nThis project could not be installed: mend what uv says above.") from None
    stamps.note("project", stamps.project_digest())


def _prepare_redis() -> None:
    if not _found_redis():
        uv = str(bring_uv())
        install = [uv, "pip", "install", "--python", str(VENV_PYTHON), "--require-hashes", "--compile-bytecode"]
        with contextlib.suppress(StepError):  # what is missing then is said below
            step(
                "Redis (may have to be built)", [*install, "-r", str(stamps.lock_file("redis"))], uv_environment(), ROOT
            )
    found = _found_redis()
    if not found:
        raise SetupError(
            "There is no Redis here and none could be built: install redis-server 6.2 or newer (apt-get install "
            "redis-server, or brew install redis), or set PAWQUEUE_REDIS_URL, then run make again."
        )
    stamps.note("redis", found)


def _found_redis() -> str:
    return _output([str(VENV_PYTHON), "-c", _FIND_REDIS])


def _output(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
