#!/usr/bin/env python3
"""Measures accuracy, precision, recall, F1, confusion and latency of a running service; writes JSON and a plot.

    python deploy/performance_tracking.py --api-url http://127.0.0.1:8000 --test-dir test-set --max-samples 200

The test set has one folder per class (`test-set/cats/1.jpg`). Images are sent to `POST /predict`, so the same script
measures the old pipeline.
"""

import argparse
import itertools
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.progress import track

from deploy.performance_report import draw_plot, latency_figures, show_latency
from pawqueue.bulk.accuracy import Comparison
from pawqueue.bulk.files import find_files
from pawqueue.cli.report import show_accuracy

_SEED = 20260101
_TRIES = 5
_TIMEOUT_S = 60.0
_BUSY = (429, 502, 503, 504)
_PROBABILITY = "_probability"


@dataclass(frozen=True, slots=True)
class Answer:
    """The response for one image."""

    path: Path
    latency_ms: float
    label: str = ""
    confidence: float | None = None
    #: Empty if there is a label.
    error: str = ""


@dataclass(slots=True)
class Measurement:
    """The responses for all images."""

    answers: list[Answer] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    seconds: float = 0.0

    def compare(self) -> Comparison:
        """Compare the predicted labels with the names of the images' folders."""
        comparison = Comparison(sorted(self.labels))
        for answer in self.answers:
            comparison.add(answer.path, str(answer.path), answer.label, answer.confidence)
        return comparison

    def latencies_ms(self) -> list[float]:
        """Latencies of the images with a label."""
        return [answer.latency_ms for answer in self.answers if answer.label]

    def to_dict(self, api_url: str, concurrency: int) -> dict[str, Any]:
        """The content of performance.json."""
        return {
            "api_url": api_url,
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "samples": len(self.answers),
            "concurrency": concurrency,
            "seconds": round(self.seconds, 3),
            "images_per_s": round(len(self.latencies_ms()) / self.seconds, 2) if self.seconds else None,
            **self.compare().to_dict(),
            "latency_ms": latency_figures(self.latencies_ms()),
            "errors": dict(Counter(answer.error for answer in self.answers if answer.error)),
        }


class Predictor:
    """Sends images to `/predict`."""

    def __init__(self, api_url: str, api_key: str, measurement: Measurement) -> None:
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(headers=headers, timeout=_TIMEOUT_S)
        self._url = api_url.rstrip("/").removesuffix("/predict") + "/predict"
        self._measurement = measurement

    def predict(self, path: Path) -> Answer:
        """Send one image. Retry while the service is busy; only the last attempt is timed."""
        content = path.read_bytes()
        attempt = 0
        while True:
            attempt += 1
            started_s = time.perf_counter()
            try:
                response = self._client.post(self._url, files={"file": (path.name, content, _media_type(path))})
            except httpx.HTTPError as error:
                return Answer(path, 0.0, error=type(error).__name__)
            latency_ms = 1000 * (time.perf_counter() - started_s)
            if response.status_code not in _BUSY or attempt == _TRIES:
                return self._read(path, response, latency_ms)
            time.sleep(float(response.headers.get("retry-after", "1")))

    def _read(self, path: Path, response: httpx.Response, latency_ms: float) -> Answer:
        if response.status_code != 200:
            return Answer(path, latency_ms, error=f"HTTP {response.status_code}")
        values = response.json()
        self._measurement.labels |= {name.removesuffix(_PROBABILITY) for name in values if name.endswith(_PROBABILITY)}
        return Answer(path, latency_ms, values["class"], values["confidence"])


def samples(folder: Path, limit: int) -> list[Path]:
    """Return up to `limit` images, spread evenly over the folders. The selection is the same every time."""
    by_class: dict[Path, list[Path]] = {}
    for file in find_files([folder]):
        by_class.setdefault(file.path.parent, []).append(file.path)
    for paths in by_class.values():
        random.Random(_SEED).shuffle(paths)  # noqa: S311 - no secret
    turns = itertools.chain.from_iterable(itertools.zip_longest(*by_class.values()))
    return list(itertools.islice((path for path in turns if path), limit))


def measure(api_url: str, paths: list[Path], concurrency: int, console: Console) -> Measurement:
    """Send the images, `concurrency` at a time, after a first request that warms up the service."""
    measurement = Measurement()
    predictor = Predictor(api_url, os.environ.get("PAWQUEUE_API_KEY", ""), measurement)
    predictor.predict(paths[0])
    started_s = time.perf_counter()
    with ThreadPoolExecutor(concurrency) as pool:
        answers: Iterator[Answer] = pool.map(predictor.predict, paths)
        for answer in track(answers, "Measuring", len(paths), console=console, transient=True):
            measurement.answers.append(answer)
    measurement.seconds = time.perf_counter() - started_s
    return measurement


def main(argv: list[str] | None = None) -> int:
    """Measure and report; returns 0 if every image got a label, 1 if some did not, 2 if none did."""
    options = _options(argv)
    paths = samples(options.test_dir, options.max_samples)
    if not paths:
        print(f"{options.test_dir} contains no images. Use a folder with one folder per class.", file=sys.stderr)
        return 2
    console = Console()
    measurement = measure(options.api_url, paths, options.concurrency, Console(stderr=True))
    report = measurement.to_dict(options.api_url, options.concurrency)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "performance.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    show_accuracy(console, measurement.compare())
    show_latency(console, report)
    drawn = draw_plot(options.out / "performance.png", report, measurement.latencies_ms())
    console.print(f"Written: {options.out / 'performance.json'}{f', {drawn}' if drawn else ''}", soft_wrap=True)
    if not drawn:
        print("No plot: matplotlib is missing (run `make performance`), or no image has a label.", file=sys.stderr)
    labeled = len(measurement.latencies_ms())
    return 0 if labeled == len(paths) else 1 if labeled else 2


def _options(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure a running service on labeled images.")
    parser.add_argument("--api-url", required=True, help="URL of the service, such as http://127.0.0.1:8000")
    parser.add_argument("--test-dir", required=True, type=Path, help="folder with one folder per class")
    parser.add_argument("--max-samples", type=_positive, default=200, help="maximum images (default: %(default)s)")
    parser.add_argument("--concurrency", type=_positive, default=1, help="concurrent requests (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("performance"), help="output folder (default: %(default)s)")
    return parser.parse_args(argv)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _media_type(path: Path) -> str:
    extension = path.suffix.lower().lstrip(".")
    subtype = {"jpg": "jpeg", "tif": "tiff"}.get(extension, extension)
    return f"image/{subtype}"


if __name__ == "__main__":
    sys.exit(main())
