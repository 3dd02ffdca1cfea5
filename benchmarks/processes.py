"""CPU time and memory of processes, out of /proc: right even when the machine is busy with other things."""

import os
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    found = [pid]
    for task in _tasks(pid):
        try:
            children = (task / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            found += family(int(child))
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds that a process, its ended threads and its descendants have used."""
    return sum(map(_own_cpu_s, family(pid)))


def threads_cpu_s(pid: int) -> dict[int, float]:
    """CPU seconds by thread id."""
    return {int(task.name): _read_cpu_s(task / "stat") for task in _tasks(pid)}


def memory_bytes(pid: int) -> int:
    """Proportional resident memory of a process and its descendants: what they share counts once."""
    return sum(map(_own_memory, family(pid)))


def _tasks(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []


def _own_cpu_s(pid: int) -> float:
    return _read_cpu_s(Path(f"/proc/{pid}/stat"))


def _read_cpu_s(stat: Path) -> float:
    try:
        fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def _own_memory(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
