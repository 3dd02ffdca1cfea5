"""The text of supervisord's configuration: which programs, in which order, with which logs."""

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from deploy.local.errors import UsageError

_LOG_BYTES = 10_000_000
_LOG_BACKUPS = 3
#: Living this long counts as started; shorter lives are tried again, after ever longer pauses, then given up.
_START_S = 1
_START_RETRIES = 3


@dataclass(frozen=True, slots=True)
class Program:
    """One process to keep running."""

    name: str
    command: tuple[str, ...]
    #: Lower stages are started first and stopped last.
    stage: int
    #: How long it may take to stop before it is killed.
    stop_s: float
    #: Programs of one group are stopped together.
    group: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """Where supervisord and the programs work and write."""

    #: Working folder of every program.
    root: Path
    logs: Path
    run: Path
    socket: Path

    def log_of(self, name: str) -> Path:
        """Log file of a program."""
        return self.logs / f"{name}.log"


def supervisor_config(programs: Sequence[Program], places: Places) -> str:
    """The whole file.

    Raises:
        UsageError: a path cannot be written in such a file.
    """
    sections = [
        _section("unix_http_server", file=places.socket, chmod="0700"),
        _section("supervisorctl", serverurl=f"unix://{places.socket}"),
        _section("rpcinterface:supervisor", **{"supervisor.rpcinterface_factory": _RPC_FACTORY}),
        _supervisord(places),
        *(_program(program, places) for program in programs),
        *(_group(name, programs) for name in dict.fromkeys(program.group for program in programs) if name),
    ]
    return "\n".join(sections)


_RPC_FACTORY = "supervisor.rpcinterface:make_main_rpcinterface"


def _supervisord(places: Places) -> str:
    return _section(
        "supervisord",
        nodaemon="true",
        silent="true",  # its own lines go to its log, the terminal belongs to whoever typed the command
        logfile=places.log_of("supervisord"),
        logfile_maxbytes=_LOG_BYTES,
        logfile_backups=_LOG_BACKUPS,
        pidfile=places.run / "supervisord.pid",
    )


def _program(program: Program, places: Places) -> str:
    return _section(
        f"program:{program.name}",
        command=shlex.join(program.command),
        directory=places.root,
        priority=program.stage,
        environment=",".join(f'{name}="{value}"' for name, value in program.environment.items()),
        autorestart="true",
        startsecs=_START_S,
        startretries=_START_RETRIES,
        stopwaitsecs=math.ceil(program.stop_s),
        killasgroup="true",
        redirect_stderr="true",
        stdout_logfile=places.log_of(program.name),
        stdout_logfile_maxbytes=_LOG_BYTES,
        stdout_logfile_backups=_LOG_BACKUPS,
    )


def _group(name: str, programs: Sequence[Program]) -> str:
    members = [program for program in programs if program.group == name]
    return _section(f"group:{name}", programs=",".join(m.name for m in members), priority=members[0].stage)


def _section(title: str, **options: object) -> str:
    lines = (f"{name} = {_escape(str(value))}" for name, value in options.items() if value != "")
    return "\n".join([f"[{title}]", *lines, ""])


def _escape(value: str) -> str:
    if re.search(r"[\r\n]|\s[;#]", value):
        raise UsageError(f"{value!r} holds what supervisor takes for a comment: use a folder without ' #' and ' ;'.")
    return value.replace("%", "%%")
