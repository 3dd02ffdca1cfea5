"""What a confined process cannot do, and what happens where the system does not confine processes."""

import errno
import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="seccomp belongs to Linux")

#: Tries what code that has taken over a decoder could try, and prints the error number of each attempt.
ATTEMPTS = """
import ctypes, json, os, resource, socket, sys, threading
from worker.pipeline.confine import confine

libc = ctypes.CDLL(None, use_errno=True)
opened, listening = socket.socket(), socket.create_server(("127.0.0.1", 0))

def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)

def read_memory():
    part = (ctypes.c_void_p * 2)(ctypes.addressof(ctypes.create_string_buffer(8)), 8)
    call("process_vm_readv", os.getpid(), part, 1, part, 1, 0)

def fork():
    if (child := os.fork()) == 0:
        os._exit(0)
    os.waitpid(child, 0)

attempts = {
    "read a file": lambda: open("/etc/passwd").close(),
    "write a file": lambda: open("written", "w").close(),
    "rename a file": lambda: os.rename("written", "renamed"),
    "list a folder": lambda: os.listdir("/"),
    "create a socket": lambda: socket.socket().close(),
    "connect a socket": lambda: opened.connect(listening.getsockname()),
    "start a process": fork,
    "signal a process": lambda: os.kill(os.getppid(), 0),
    "trace a process": lambda: call("ptrace", 16, 0, 0, 0),
    "read another's memory": read_memory,
    "read another's limits": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_CORE),
    "create a file in memory": lambda: os.close(os.memfd_create("program")),
    "leave the namespaces": lambda: call("unshare", 0),
}
if sys.argv[1] == "confined":
    assert confine()
found = {}
for name, attempt in attempts.items():
    try:
        attempt()
        found[name] = 0
    except OSError as error:
        found[name] = error.errno
threads = []
thread = threading.Thread(target=lambda: threads.append(resource.getrlimit(resource.RLIMIT_AS)))
thread.start()
thread.join()
resource.setrlimit(resource.RLIMIT_AS, *threads)
try:
    os.execv("/bin/echo", ["echo", json.dumps(found | {"run a program": 0})])
except OSError as error:
    print(json.dumps(found | {"run a program": error.errno}))
"""

#: Decodes an image with a helper on a system that refuses seccomp: a filter that refuses its own call is inherited.
WITHOUT_SECCOMP = """
import ctypes, os, pathlib, signal, struct
from tests.support.images import draw
from worker.pipeline.guard import Guard

code = b"".join(struct.pack("=HBBI", *line) for line in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 317), (0x06, 0, 0, 0x50001), (0x06, 0, 0, 0x7FFF0000)
))
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(memory := ctypes.create_string_buffer(code, len(code))))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == libc.prctl(22, 2, program, 0, 0) == 0
guard = Guard(60, 1_000_000)
for _ in range(2):
    print(guard.decode(draw((90, 70), form="TIFF"), 8, 8).width)
    (helper,) = pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    os.kill(int(helper), signal.SIGKILL)
"""


def run(program: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=cwd, env={"PYTHONPATH": str(Path(__file__).parents[3])}, text=True, timeout=60, check=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.stdout


def test_a_confined_process_can_compute_and_nothing_else(tmp_path: Path) -> None:
    free = json.loads(run(ATTEMPTS, "free", cwd=tmp_path))
    assert errno.EPERM not in free.values()
    assert json.loads(run(ATTEMPTS, "confined", cwd=tmp_path)) == dict.fromkeys(free, errno.EPERM)


@pytest.mark.slow
@pytest.mark.skipif(platform.machine() != "x86_64", reason="the filter of the test is for this architecture")
def test_helpers_decode_where_the_system_refuses_seccomp_and_a_worker_logs_it_once(tmp_path: Path) -> None:
    lines = run(WITHOUT_SECCOMP, cwd=tmp_path).splitlines()
    assert lines.count("90") == 2
    assert sum("are not confined" in line for line in lines) == 1
