"""Where the time of a single client's image goes: the steps between sending it and receiving its result."""

import os
import time
from statistics import median
from typing import Any

import httpx

from benchmarks.image import large_image
from benchmarks.otlp import Receiver, receiving
from benchmarks.parts import Run
from benchmarks.processes import BenchmarkError
from benchmarks.service import service

_WARM_UP = 20
_IMAGES_PER_S = 10
_EXPORT_S = 20.0
#: Each step begins when the one before ends.
STEPS = {
    "request": "the client sends; the gateway reads and checks the image; its writing thread wakes",
    "store": "image written and synced",
    "record": "job recorded by a script; Redis writes and syncs",
    "claim": "a ticket wakes the worker; claim by a script, which Redis syncs; the worker reads the image",
    "decode": "decoded",
    "batch": "the prediction thread wakes; the batch is released",
    "predict": "model call",
    "commit": "the commit thread wakes; result committed by a script, which Redis syncs",
    "response": "Redis notifies the gateway, which reads the job and responds; the client receives",
}


def steps(run: Run) -> None:
    """The steps of an image of a single client, baseline_cnn in float32, from the spans of its trace."""
    with (
        receiving() as receiver,
        service(run.folder / "steps", environ=receiver.settings, model=run.model, precision="float32") as stack,
        httpx.Client(base_url=stack.url, timeout=60) as http,
    ):
        image = large_image()
        for _ in range(run.scale.rounds):
            count = _WARM_UP + int(run.scale.seconds * _IMAGES_PER_S)
            found = [_measure(http, receiver, image) for _ in range(count)][_WARM_UP:]
            medians = {name: median(row[name] for row in found) for name in STEPS}
            total_ms = median(sum(row.values()) for row in found)
            run.details.setdefault("steps", []).append(medians | {"total": total_ms})
            run.log(
                "  " + ", ".join(f"{name} {ms:.2f}" for name, ms in medians.items()) + f"; {total_ms:.1f} ms in all"
            )


def _measure(http: httpx.Client, receiver: Receiver, image: bytes) -> dict[str, float]:
    """The duration of each step in milliseconds."""
    trace_id = os.urandom(16).hex()
    headers = {"traceparent": f"00-{trace_id}-{os.urandom(8).hex()}-01", "Prefer": "wait=50"}
    sent_ns = time.time_ns()
    response = http.post("/v1/jobs", content=image, headers=headers)
    received_ns = time.time_ns()
    if response.json().get("status") != "succeeded":
        raise BenchmarkError(f"An image has failed: {response.text[:200]}")
    spans = _spans(receiver, trace_id)
    ends = [
        *(spans["store"].began_ns, spans["store"].ended_ns, spans["record"].ended_ns),
        *(spans["decode"].began_ns, spans["decode"].ended_ns, spans["predict"].began_ns, spans["predict"].ended_ns),
        *(spans["commit"].ended_ns, received_ns),
    ]
    return {name: (end - begin) / 1e6 for name, begin, end in zip(STEPS, [sent_ns, *ends[:-1]], ends, strict=True)}


def _spans(receiver: Receiver, trace_id: str) -> dict[str, Any]:
    end_s = time.monotonic() + _EXPORT_S
    while time.monotonic() < end_s:
        spans = {span.name: span for span in receiver.of_trace(trace_id)}
        if {"store", "record", "commit"} <= spans.keys():
            return spans
        time.sleep(0.01)
    raise BenchmarkError("The spans of an image were not exported.")
