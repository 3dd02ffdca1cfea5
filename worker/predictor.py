"""The one thread that calls the model: takes batches, predicts, pairs each image with its result."""

import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from contract import errors
from contract.job import JobError, JobResult, ModelRef, Prediction, Timings
from contract.log import get_logger
from worker.batcher import Batcher
from worker.committer import ResultCommitter
from worker.message import Item
from worker.metrics import WorkerMetrics
from worker.model import Model

_log = get_logger(__name__)

#: Digits of a probability that are kept: more than float32 can mean.
_DIGITS = 6


class Predictor:
    """Runs the batches of one model."""

    def __init__(
        self, model: Model, batcher: Batcher[Item], committer: ResultCommitter, metrics: WorkerMetrics
    ) -> None:
        self.batcher = batcher
        self._model = model
        self._ref = ModelRef(model.name, model.version)
        self._committer = committer
        self._metrics = metrics
        self._call_began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Predict what waits, then end the thread."""
        self.batcher.close()
        self._thread.join()

    def running_s(self) -> float:
        """How long the current model call has been running; 0 when there is none."""
        began_s = self._call_began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def _run(self) -> None:
        while batch := self.batcher.take():
            self._predict(batch)

    def _predict(self, batch: Sequence[Item]) -> None:
        started_s = time.monotonic()
        try:
            probabilities = self._call(batch)
        # One bad image must not fail the others: each is tried by itself.
        except Exception as error:  # noqa: BLE001
            _log.warning("A batch failed; its images are tried singly", size=len(batch), exc_info=error)
            self._predict_singly(batch)
            return
        predict_s = time.monotonic() - started_s
        self._metrics.busy.add(predict_s)
        self._metrics.batch_size.observe(len(batch))
        self._metrics.images.inc(len(batch))
        for item, row in zip(batch, probabilities, strict=True):
            self._committer.put(item, self._result(item, row, len(batch), started_s, predict_s))

    def _predict_singly(self, batch: Sequence[Item]) -> None:
        for item in batch:
            started_s = time.monotonic()
            try:
                row = self._call([item])[0]
            except Exception as error:  # noqa: BLE001
                _log.error("The model failed on one image", exc_info=error, **item.claim.job.log_fields())
                detail = f"The model failed on this image ({type(error).__name__}). Report it with the job's id."
                self._committer.put(
                    item, JobResult(error=JobError(errors.PredictFailedError.code, detail), model=self._ref)
                )
            else:
                self._committer.put(item, self._result(item, row, 1, started_s, time.monotonic() - started_s))

    def _call(self, batch: Sequence[Item]) -> NDArray[np.float32]:
        pixels = np.stack([item.pixels for item in batch if item.pixels is not None])
        self._call_began_s = time.monotonic()
        try:
            probabilities = self._model.predict(pixels)
        finally:
            self._call_began_s = None
        expected = (len(batch), len(self._model.labels))
        if probabilities.shape != expected:
            raise RuntimeError(f"The model answered {probabilities.shape} where {expected} was due.")
        if not np.isfinite(probabilities).all():
            raise RuntimeError("The model answered with a value that is not a number.")
        return probabilities

    def _result(
        self, item: Item, row: NDArray[np.float32], batch_size: int, started_s: float, predict_s: float
    ) -> JobResult:
        best = int(row.argmax())
        values = [round(float(value), _DIGITS) for value in row]
        return JobResult(
            prediction=Prediction(
                self._model.labels[best], values[best], dict(zip(self._model.labels, values, strict=True))
            ),
            model=self._ref,
            batch_size=batch_size,
            timings=Timings(
                queue_ms=item.queue_ms,
                batch_wait_ms=round((started_s - item.ready_at_s) * 1000, 2),
                decode_ms=round(item.decode_ms, 2),
                predict_ms=round(predict_s * 1000, 2),
            ),
            features=item.features,
        )
