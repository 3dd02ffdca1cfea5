"""Takes from a process almost everything that code in it could do to others.

A confined process may compute, allocate memory, start threads, and read and write the files that are open. The kernel
refuses everything else, also to its threads: opening files, sockets, programs and processes, signals, and access to
other processes. It is a list of what is allowed, so that new system calls of future kernels are refused.
"""

import ctypes
import errno
import platform
import struct
import sys

#: The argument of `prctl` without which only root may install a filter.
_SET_NO_NEW_PRIVS = 38
#: The arguments of `seccomp` that install a filter for all threads.
_SET_FILTER, _ALL_THREADS = 1, 1

#: Instructions of a filter: load a word of the call's description; continue or skip if it is equal, or has a bit; end.
_LOAD, _EQUAL, _HAS_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
#: Where the description has the number of the call, the architecture, and the lower half of the first argument.
_NUMBER, _ARCHITECTURE, _FIRST_ARGUMENT = 0, 4, 16
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000
_CLONE_THREAD = 0x00010000

#: By `platform.machine()`: the architecture as filters see it, and the column in the following table.
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
#: The numbers of the allowed system calls.
_ALLOWED = {
    "read": (0, 63),
    "write": (1, 64),
    "close": (3, 57),
    "fstat": (5, 80),
    "lseek": (8, 62),
    "pread64": (17, 67),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "brk": (12, 214),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "futex": (202, 98),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "nanosleep": (35, 101),
    "clock_nanosleep": (230, 115),
    "clock_gettime": (228, 113),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getrandom": (318, 278),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "setrlimit": (160, 164),
    "exit": (60, 93),
    "exit_group": (231, 94),
}
_SECCOMP = 317, 277
#: Allowed only for a new thread.
_CLONE = 56, 220
#: Refused as unknown, so that the C library uses `clone`, whose flags a filter can read.
_CLONE3 = 435, 435
#: Reads and sets limits; allowed only for the process itself.
_PRLIMIT64 = 302, 261


def confine() -> bool:
    """Confine this process for the rest of its life; False where the system does not support this.

    Modules have to be imported before: their files cannot be opened later.
    """
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return False
    architecture, column = _ARCHITECTURES[platform.machine()]
    libc = ctypes.CDLL(None)
    program = _filter(architecture, column)
    instructions = ctypes.create_string_buffer(program, len(program))
    description = _Program(len(program) // _INSTRUCTION.size, ctypes.addressof(instructions))
    return bool(
        libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        and libc.syscall(_SECCOMP[column], _SET_FILTER, _ALL_THREADS, ctypes.byref(description)) == 0
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def _filter(architecture: int, column: int) -> bytes:
    """The program that the kernel runs before each system call."""
    allow, refuse = [(_RETURN, 0, 0, _ALLOW)], [(_RETURN, 0, 0, _REFUSE | errno.EPERM)]
    program = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_EQUAL, 1, 0, architecture),
        *refuse,
        (_LOAD, 0, 0, _NUMBER),
    ]
    for numbers in _ALLOWED.values():
        program += [(_EQUAL, 0, 1, numbers[column]), *allow]
    program += [
        (_EQUAL, 0, 1, _CLONE3[column]),
        (_RETURN, 0, 0, _REFUSE | errno.ENOSYS),
        (_EQUAL, 0, 4, _CLONE[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_HAS_BIT, 0, 1, _CLONE_THREAD),
        *allow,
        *refuse,
        (_EQUAL, 0, 3, _PRLIMIT64[column]),
        (_LOAD, 0, 0, _FIRST_ARGUMENT),
        (_EQUAL, 0, 1, 0),
        *allow,
        *refuse,
    ]
    return b"".join(_INSTRUCTION.pack(*instruction) for instruction in program)
