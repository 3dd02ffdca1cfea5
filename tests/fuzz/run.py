"""Decodes damaged images for some minutes, and reports what none of them may do.

Every case takes the path of an upload: the gateway's check, then the worker's decoder. A process of its own decodes the
cases, so that a crash or a hang ends only that process.
"""

import argparse
import json
import os
import resource
import selectors
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bundle.cost import is_costly
from bundle.decode import UndecodableImageError, decode
from contract.errors import UploadError
from gateway.accept.check import UploadLimits, check_upload
from tests.fuzz.cases import case

_LIMITS = UploadLimits(max_bytes=20_000_000, max_pixels=50_000_000)
_MB = 1024 * 1024
#: The limits of a cheap image and of a costly one: memory in MB, and CPU time in seconds.
_CHEAP, _COSTLY = (110, 2.0), (900, 20.0)
#: CPU time of the gateway's check in milliseconds. It takes up to 1.5 ms on an idle machine.
_CHECK_MAX_MS = 10.0
#: malloc returns freed memory at once; otherwise only the first large image would be seen to need memory.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "131072"}
#: A case that takes longer counts as a hang, in seconds.
_HANG_S = 120.0


def main() -> int:
    """Run the fuzzer; returns the exit status: 1 if it found something."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--start", type=int, default=0, help="number of the first case; a finding names its number")
    parser.add_argument("--cases", type=int, default=10**9, help="the maximum number of cases")
    parser.add_argument("--folder", type=Path, default=Path("fuzz"), help="where images with findings are written")
    options = parser.parse_args()
    findings, counts, worst = fuzz(60 * options.minutes, options.start, options.cases)
    print(f"{sum(counts.values()):,} cases: " + ", ".join(f"{count:,} {what}" for what, count in counts.most_common()))
    for figure, (amount, number) in sorted(worst.items()):
        print(f"at most {amount:,.1f} {figure}, case {number}")
    for number, finding in findings:
        form, data = case(number)
        options.folder.mkdir(parents=True, exist_ok=True)
        path = options.folder / f"{number}.{form.lower()}"
        path.write_bytes(data)
        print(f"{path}: {finding}")
    return 1 if findings else 0


Findings = list[tuple[int, str]]
Worst = dict[str, tuple[float, int]]


def fuzz(seconds: float, start: int = 0, cases: int = 10**9) -> tuple[Findings, Counter[str], Worst]:
    """Decode cases from number `start` on.

    Returns:
        The numbers of cases with what was found; how many cases ended in which way; the largest figures, each with the
        number of its case.
    """
    end_s, number, last = time.monotonic() + seconds, start, start + cases
    case(start)  # the seeds can be built
    findings: Findings = []
    counts: Counter[str] = Counter()
    worst: Worst = {}
    while time.monotonic() < end_s and number < last:
        program = [sys.executable, "-m", "tests.fuzz.run", "--decode", str(number), str(last)]
        # Libraries print a line for each damaged row.
        with subprocess.Popen(
            program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ | _MALLOC
        ) as decoder:
            for report in _reports(decoder, end_s):
                counts[report["ended"]] += 1
                findings += [(number, finding) for finding in report["findings"]]
                for figure, amount in report["figures"].items():
                    worst[figure] = max(worst.get(figure, (0, 0)), (amount, number))
                number += 1
            if time.monotonic() < end_s and number < last:
                problem = "it hangs" if decoder.poll() is None else f"the process ended with status {decoder.wait()}"
                findings.append((number, problem))
                counts["crashed"] += 1
                number += 1
            decoder.kill()
    return findings, counts, worst


def _reports(decoder: "subprocess.Popen[str]", end_s: float) -> Any:
    """Yield the reports of a process until it ends or hangs, or the time is up."""
    assert decoder.stdout
    with selectors.DefaultSelector() as selector:
        selector.register(decoder.stdout, selectors.EVENT_READ)
        while time.monotonic() < end_s and selector.select(_HANG_S) and (line := decoder.stdout.readline()):
            yield json.loads(line)


def _decode_cases(start: int, last: int) -> None:
    """Write a report of each case to standard output."""
    reports = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for number in range(start, last):
        form, data = case(number)
        figures: dict[str, float] = {}
        ended, findings = _try(form, data, figures)
        reports.write(json.dumps({"ended": ended, "findings": findings, "figures": figures}) + "\n")


def _try(form: str, data: bytes, figures: dict[str, float]) -> tuple[str, list[str]]:
    findings = []
    began_s = time.thread_time()
    try:
        check_upload(data, _LIMITS)
        ended = ""
    except UploadError:
        ended = "rejected by the gateway"
    except Exception as error:
        ended = "failed in the gateway"
        findings.append(f"the gateway raises {error!r}")
    figures[f"ms, check of {form}"] = took_ms = 1000 * (time.thread_time() - began_s)
    if took_ms > _CHECK_MAX_MS:
        findings.append(f"the gateway's check takes {took_ms:.1f} ms")
    return (ended, findings) if ended else _try_decoder(form, data, figures, findings)


def _try_decoder(form: str, data: bytes, figures: dict[str, float], findings: list[str]) -> tuple[str, list[str]]:
    max_mb, max_s = _COSTLY if is_costly(data) else _CHEAP
    before, began_s = _memory("VmRSS"), time.process_time()
    base = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (base + max_mb * _MB, resource.RLIM_INFINITY))
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    try:
        decode(data, 128, 128)
        ended = "decoded"
    except UndecodableImageError:
        ended = "rejected by the decoder"
    except MemoryError:
        ended = "out of memory"
        if (max_mb, max_s) == _CHEAP:
            findings.append(f"a cheap image needs more than {max_mb} MB")
    except Exception as error:
        ended = "failed in the decoder"
        findings.append(f"the decoder raises {error!r}")
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    kind = f"{'cheap' if (max_mb, max_s) == _CHEAP else 'costly'} {form}"
    figures[f"s, {kind}"] = took_s = time.process_time() - began_s
    figures[f"MB, {kind}"] = peak_mb = (_memory("VmHWM") - before) / _MB
    if took_s > max_s:
        findings.append(f"decoding takes {took_s:.1f} s")
    if peak_mb > max_mb:
        findings.append(f"decoding takes {peak_mb:.0f} MB")
    return ended, findings


def _memory(kind: str) -> int:
    """A figure from /proc/self/status, in bytes."""
    return int(Path("/proc/self/status").read_text().split(f"{kind}:")[1].split()[0]) * 1024


if __name__ == "__main__":
    if sys.argv[1:2] == ["--decode"]:
        _decode_cases(*map(int, sys.argv[2:]))
    else:
        sys.exit(main())
