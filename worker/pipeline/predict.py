"""Runs the model on each batch. Only this thread calls the model."""

import threading
import time
from collections.abc import Sequence

import numpy as np

from bundle.familiarity import UNFAMILIAR_BELOW, UNFAMILIAR_IMAGE
from bundle.manifest import Outputs
from contract import errors
from contract.job import JobError, JobResult, ModelRef, Prediction, Timings
from contract.log import get_logger
from worker.pipeline.batch import Batcher
from worker.pipeline.commit import Committer
from worker.pipeline.item import Item
from worker.runtime.keras import KerasModel
from worker.upkeep.metrics import WorkerMetrics

_log = get_logger(__name__)

#: Decimal places of a stored probability. More would exceed the precision of float32.
_DIGITS = 6


class Predictor:
    """Predicts batches from the batcher, and passes the result of each item to the committer."""

    def __init__(self, model: KerasModel, batcher: Batcher[Item], committer: Committer, metrics: WorkerMetrics) -> None:
        self._model = model
        self._ref = ModelRef(model.name, model.version)
        self._batcher = batcher
        self._committer = committer
        self._metrics = metrics
        self._call_began_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="predict", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Predict the remaining items, then stop the thread."""
        self._batcher.close()
        self._thread.join()

    def running_s(self) -> float:
        """How long the current model call has been running; 0 if there is none."""
        began_s = self._call_began_s
        return 0.0 if began_s is None else time.monotonic() - began_s

    def _run(self) -> None:
        while batch := self._batcher.take():
            self._predict(batch)

    def _predict(self, batch: Sequence[Item]) -> None:
        started_s = time.monotonic()
        try:
            outputs = self._call(batch)
        # One image can make the whole call fail; only its own job may fail.
        except Exception as error:  # noqa: BLE001
            _log.warning("A batch failed; retrying its images one by one", size=len(batch), exc_info=error)
            self._predict_one_by_one(batch)
            return
        predict_s = time.monotonic() - started_s
        self._metrics.busy.add(predict_s)
        self._metrics.batch_size.observe(len(batch))
        self._metrics.images.inc(len(batch))
        for at, item in enumerate(batch):
            self._committer.put(item, self._result(item, outputs, at, started_s, predict_s))

    def _predict_one_by_one(self, batch: Sequence[Item]) -> None:
        for item in batch:
            started_s = time.monotonic()
            try:
                outputs = self._call([item])
            except Exception as error:  # noqa: BLE001
                _log.error("The model failed on an image", exc_info=error, **item.claim.job.log_fields())
                detail = f"The model failed on this image ({type(error).__name__}). Report it with the job's id."
                self._committer.put(
                    item, JobResult(error=JobError(errors.PredictFailedError.code, detail), model=self._ref)
                )
            else:
                self._committer.put(item, self._result(item, outputs, 0, started_s, time.monotonic() - started_s))

    def _call(self, batch: Sequence[Item]) -> Outputs:
        pixels = np.stack([item.pixels for item in batch if item.pixels is not None])
        self._call_began_s = time.monotonic()
        try:
            outputs = self._model.predict(pixels)
        finally:
            self._call_began_s = None
        expected = (len(batch), len(self._model.labels))
        if outputs.probabilities.shape != expected:
            raise RuntimeError(f"The model returned shape {outputs.probabilities.shape}, expected {expected}.")
        if not np.isfinite(outputs.probabilities).all():
            raise RuntimeError("The model returned a value that is not finite.")
        return outputs

    def _result(self, item: Item, outputs: Outputs, at: int, started_s: float, predict_s: float) -> JobResult:
        """The result of the image at position `at` of its batch."""
        row, familiarity, warnings = outputs.probabilities[at], None, item.warnings
        if outputs.familiarity is not None:
            familiarity = round(float(outputs.familiarity[at]), _DIGITS)
            warnings = (*warnings, UNFAMILIAR_IMAGE) if familiarity < UNFAMILIAR_BELOW else warnings
        best = int(row.argmax())
        values = [round(float(value), _DIGITS) for value in row]
        return JobResult(
            prediction=Prediction(
                self._model.labels[best], values[best], dict(zip(self._model.labels, values, strict=True)), familiarity
            ),
            model=self._ref,
            batch_size=len(outputs.probabilities),
            timings=Timings(
                queue_ms=item.queue_ms,
                batch_wait_ms=round((started_s - item.ready_at_s) * 1000, 2),
                decode_ms=round(item.decode_ms, 2),
                predict_ms=round(predict_s * 1000, 2),
            ),
            features=item.features,
            warnings=warnings,
        )
