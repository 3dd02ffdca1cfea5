"""Attacks running services, and reports how they and an honest client fared.

An attack is refused if each of its requests gets a 4xx or 503, or a closed connection. It is broken if a request gets
another 5xx or is accepted although it must not be, if a process dies or exceeds the memory of its container, or if a
service does not respond to a health check for more than a second, plus the time by which the machine delayed the check.
"""

import argparse
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.hostile.attacks import ATTACKS, FULL, SHORT, Attack, Scale, prepare
from tests.hostile.honest import Measured, measuring, quantile
from tests.hostile.target import MEMORY_MAX_BYTES, Target, Watch, running_containers, running_processes

_QUIET_S, _QUIET_SHORT_S = 20.0, 3.0
_STALL_MAX_S = 1.0
_OPEN_FILES = 16_384
_LOWEST_PRIORITY = 19
#: The priority of this session, as a whole, among all sessions and containers of the machine.
_SESSION_PRIORITY = Path("/proc/self/autogroup")


def run(target: Target, scale: Scale, attacks: Mapping[str, Attack] = ATTACKS) -> dict[str, Any]:
    """Run the attacks one after another; returns the report."""
    _allow_many_connections()
    prepare(scale)
    rows: dict[str, dict[str, Any]] = {}
    periods: dict[str, tuple[float, float]] = {}
    with (
        Watch(target.pids) as watch,
        measuring(target) as measured,
        ThreadPoolExecutor(1, initializer=_leave_cores_to_services) as attackers,
    ):
        quiet_s = time.monotonic()
        time.sleep(_QUIET_S if scale is FULL else _QUIET_SHORT_S)
        before, loud_s = watch.peaks_since_last_call(), time.monotonic()
        for name, attack in attacks.items():
            print(f"{name} ...", file=sys.stderr, flush=True)
            start_s, used_s = time.monotonic(), watch.cpu_s()
            rows[name] = attackers.submit(_row, attack, target, scale).result()
            periods[name] = start_s, time.monotonic()
            rows[name]["cpu_s"] = {who: round(after_s - used_s[who], 1) for who, after_s in watch.cpu_s().items()}
            peaks = watch.peaks_since_last_call()
            rows[name]["growth_mb"] = {service: round((peaks[service] - before[service]) / 1e6) for service in peaks}
            rows[name]["dead"] = watch.dead()
        end_s = time.monotonic()
    for name, (start_s, stop_s) in periods.items():
        rows[name]["seconds"] = round(stop_s - start_s, 1)
        rows[name]["honest_p99_ms"] = _milliseconds(measured.waits_s(start_s, stop_s), 0.99)
        rows[name]["stall_ms"] = {
            service: round(1000 * measured.stall_s(service, start_s, stop_s)) for service in measured.health
        }
    return {
        "attacks": rows,
        "growth_mb": {name: round((watch.peak[name] - watch.start[name]) / 1e6) for name in watch.peak},
        "peak_mb": {name: round(watch.peak[name] / 1e6) for name in watch.peak},
        "stall_ms": {name: round(1000 * measured.stall_s(name, loud_s, end_s)) for name in measured.health},
        **{kind: sum(row[kind] for row in rows.values()) for kind in ("refused", "accepted", "held", "broken")},
        "honest": _of_honest(measured, quiet_s, loud_s, end_s),
    }


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, _OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _leave_cores_to_services() -> None:
    """Give attackers the lowest priority: on their own machines, they would not compete with services for the cores."""
    if sys.platform == "linux":  # elsewhere it would apply to the process
        os.nice(_LOWEST_PRIORITY)  # to this thread, and those that it starts


@contextmanager
def _lowest_session_priority() -> Iterator[None]:
    """The same towards containers: Linux compares priorities only within a session, and sessions with containers."""
    with suppress(OSError):
        _SESSION_PRIORITY.write_text(str(_LOWEST_PRIORITY))
    try:
        yield
    finally:
        with suppress(OSError):
            _SESSION_PRIORITY.write_text("0")


def _row(attack: Attack, target: Target, scale: Scale) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    problems: Counter[str] = Counter()
    for answer in attack(target, scale):
        counts[answer.verdict] += 1
        if answer.verdict == "broken":
            problems[f"{answer.request}: {answer.got}"] += 1
    return {kind: counts[kind] for kind in ("refused", "accepted", "held", "broken")} | {"problems": dict(problems)}


def _of_honest(measured: Measured, quiet_s: float, loud_s: float, end_s: float) -> dict[str, Any]:
    quiet, loud = measured.waits_s(quiet_s, loud_s), measured.waits_s(loud_s, end_s)
    return {
        "images": len(measured.images),
        "lost": len(measured.lost),
        "lost_as": dict(Counter(sample.status for sample in measured.lost)),
        **{
            f"{period}_p{percent}_ms": _milliseconds(waits, percent / 100)
            for period, waits in (("quiet", quiet), ("attacked", loud))
            for percent in (50, 99)
        },
        "p99_ratio": round(quantile(loud, 0.99) / quantile(quiet, 0.99), 1),
    }


def _milliseconds(waits_s: Sequence[float], share: float) -> float | None:
    """The quantile; None if no image was due in that time."""
    return round(1000 * quantile(waits_s, share), 1) if waits_s else None


def failed_checks(report: Mapping[str, Any], *, judge_times: bool = True) -> list[str]:
    """What must not have happened, but did. Without `judge_times`, a slow response is not a failure."""
    failed = []
    for name, row in report["attacks"].items():
        failed += [f"{name}: {problem}" for problem in row["problems"]]
        failed += [f"{name}: {process} died" for process in row["dead"]]
        for service, stall_ms in row["stall_ms"].items() if judge_times else ():
            if stall_ms - row["stall_ms"]["machine"] > 1000 * _STALL_MAX_S:
                failed.append(f"{name}: the {service} did not respond to a health check for {stall_ms:,} ms")
    for service, maximum in MEMORY_MAX_BYTES.items():
        if report["peak_mb"][service] * 1e6 > maximum:
            failed.append(
                f"the {service} used {report['peak_mb'][service]:,} MB; its container has {maximum >> 20:,} MiB"
            )
    if report["honest"]["lost"]:
        failed.append(f"images of the honest client were lost: {report['honest']['lost_as']}")
    return failed


def as_table(report: Mapping[str, Any]) -> str:
    """The report as a table with a row for each attack."""
    services = ("gateway", "worker", "dashboard", "redis")
    head = f"{'attack':20} {'refused':>7} {'accepted':>8} {'held':>5} {'broken':>6} {'seconds':>7} "
    head += f"{'stall ms: gateway':>17} {'dashboard':>9} {'machine':>7}   honest p99 ms   "
    users = (*services, "attackers")
    head += "growth MB: " + " ".join(f"{name:>9}" for name in services)
    head += "   CPU s: " + " ".join(f"{name:>9}" for name in users)
    lines = [head]
    for name, row in report["attacks"].items():
        counts = f"{row['refused']:7} {row['accepted']:8} {row['held']:5} {row['broken']:6} {row['seconds']:7.1f} "
        stalls = f"{row['stall_ms']['gateway']:17} {row['stall_ms']['dashboard']:9} {row['stall_ms']['machine']:7}"
        growth = " ".join(f"{row['growth_mb'].get(service, 0):9}" for service in services)
        cpu = " ".join(f"{row['cpu_s'].get(user, 0):9.1f}" for user in users)
        lines.append(f"{name:20} {counts}{stalls}   {row['honest_p99_ms'] or '':13}   {'':10} {growth}   {'':6} {cpu}")
    lines += [
        f"{name.replace('_', ' '):20} {', '.join(f'{key} {value}' for key, value in report[name].items())}"
        for name in ("stall_ms", "growth_mb", "peak_mb", "honest")
    ]
    return "\n".join(lines)


def main() -> int:
    """Attack, print the report as a table, and write it to a file; returns 1 if an attack is broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.run", description=__doc__)
    parser.add_argument(
        "--on", choices=("containers", "processes"), default="containers", help="what to attack (default containers)"
    )
    parser.add_argument("--engine", default="docker", help="docker or podman (default docker)")
    parser.add_argument("--compose", default="docker compose", help='"docker compose" or podman-compose')
    parser.add_argument("--images", default="localhost/pawqueue", help="prefix of the images, which have the tag local")
    parser.add_argument("--short", action="store_true", help="send as little as the test suite does")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, default=list(ATTACKS), help="only these attacks")
    parser.add_argument("--out", type=Path, default=Path("hostile.json"), help="report (default hostile.json)")
    given = parser.parse_args()
    attacks = {name: ATTACKS[name] for name in given.only}
    with ExitStack() as services:
        if given.on == "containers":
            services.enter_context(_lowest_session_priority())
            running = running_containers(given.engine, given.compose, given.images)
        else:
            running = running_processes(Path(services.enter_context(TemporaryDirectory(prefix="pawqueue-hostile-"))))
        report = run(services.enter_context(running), SHORT if given.short else FULL, attacks)
    given.out.write_text(json.dumps(report, indent=2) + "\n")
    print(as_table(report))
    failed = failed_checks(report)
    for check in failed:
        print(f"FAILED  {check}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
