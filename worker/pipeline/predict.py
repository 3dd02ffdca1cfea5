"""Runs the models on batches. Only this thread calls them, one batch at a time."""

import threading
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bundle.familiarity import UNFAMILIAR_BELOW, UNFAMILIAR_IMAGE
from bundle.manifest import Outputs
from contract import errors
from contract.job import JobError, JobResult, Prediction, Timings
from contract.log import get_logger
from worker.pipeline.batch import Batcher
from worker.pipeline.commit import Committer
from worker.pipeline.item import Item
from worker.pipeline.spans import JobSpans
from worker.runtime.keras import KerasModel
from worker.runtime.models import Models
from worker.upkeep.metrics import WorkerMetrics

_log = get_logger(__name__)

#: Decimal places of a stored probability. More would exceed the precision of float32.
_DIGITS = 6
#: The probabilities of all labels are kept if a model has at most this many; else those of the `_TOP_K` most likely.
_ALL_LABELS_MAX = 100
_TOP_K = 5


class Predictor:
    """Predicts batches from the batcher, and passes the result of each item to the committer."""

    def __init__(
        self,
        models: Models,
        batcher: Batcher[Item],
        committer: Committer,
        metrics: WorkerMetrics,
        spans: JobSpans | None = None,
    ) -> None:
        self._models = models
        self._spans = spans
        self._batcher = batcher
        self._committer = committer
        self._metrics = metrics
        self._call_began_s: float | None = None
        #: How long the last batch took, in seconds.
        self.last_s = 0.0
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
            self._run_batch(batch)

    def _run_batch(self, batch: Sequence[Item]) -> None:
        # While the thread waits for the next batch, none of its variables may keep the model in memory.
        ref = batch[0].model
        if model := self._models.get(ref):
            with self._models.predicting(ref):
                self._predict(model, batch)
        else:  # it was unloaded after the batch was released
            self._batcher.expect(len(batch), ref)
            for item in batch:
                self._batcher.put(item, item.rank, ref)

    def _predict(self, model: KerasModel, batch: Sequence[Item]) -> None:
        started_s = time.monotonic()
        try:
            outputs = self._call(model, batch)
        # One image can make the whole call fail; only its own job may fail.
        except Exception as error:  # noqa: BLE001
            _log.warning("A batch failed; retrying its images one by one", size=len(batch), exc_info=error)
            self._predict_one_by_one(model, batch)
            return
        predict_s = time.monotonic() - started_s
        self.last_s = predict_s
        self._metrics.busy.add(predict_s)
        self._metrics.batch_size.labels(model.name).observe(len(batch))
        self._metrics.images.labels(model.name).inc(len(batch))
        if self._spans:
            self._spans.add_batch(batch, started_s, started_s + predict_s)
        for at, item in enumerate(batch):
            self._committer.put(item, _result(model, item, outputs, at, started_s, predict_s))

    def _predict_one_by_one(self, model: KerasModel, batch: Sequence[Item]) -> None:
        for item in batch:
            started_s = time.monotonic()
            try:
                outputs = self._call(model, [item])
            except Exception as error:  # noqa: BLE001
                _log.error("The model failed on an image", exc_info=error, **item.claim.job.log_fields())
                detail = f"The model failed on this image ({type(error).__name__}). Report it with the job's id."
                self._committer.put(
                    item, JobResult(error=JobError(errors.PredictFailedError.code, detail), model=item.model)
                )
            else:
                predict_s = time.monotonic() - started_s
                self._committer.put(item, _result(model, item, outputs, 0, started_s, predict_s))

    def _call(self, model: KerasModel, batch: Sequence[Item]) -> Outputs:
        pixels = np.stack([item.pixels for item in batch if item.pixels is not None])
        self._call_began_s = time.monotonic()
        try:
            outputs = model.predict(pixels)
        finally:
            self._call_began_s = None
        check_outputs(model, outputs, len(batch))
        return outputs


def check_outputs(model: KerasModel, outputs: Outputs, images: int) -> None:
    """Check what a model returned for this number of images.

    Raises:
        RuntimeError: the shape is wrong, or a value is not finite.
    """
    expected = (images, len(model.labels))
    if outputs.probabilities.shape != expected:
        raise RuntimeError(f"The model returned shape {outputs.probabilities.shape}, expected {expected}.")
    if not np.isfinite(outputs.probabilities).all():
        raise RuntimeError("The model returned a value that is not finite.")


def _result(model: KerasModel, item: Item, outputs: Outputs, at: int, started_s: float, predict_s: float) -> JobResult:
    """The result of the image at position `at` of its batch."""
    row, familiarity, warnings = outputs.probabilities[at], None, item.warnings
    if outputs.familiarity is not None:
        familiarity = round(float(outputs.familiarity[at]), _DIGITS)
        warnings = (*warnings, UNFAMILIAR_IMAGE) if familiarity < UNFAMILIAR_BELOW else warnings
    item.is_first = at == 0
    return JobResult(
        prediction=prediction_of(model, row, item.claim.job.top_k, familiarity),
        model=item.model,
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


def prediction_of(
    model: KerasModel, row: NDArray[np.float32], top_k: int = 0, familiarity: float | None = None
) -> Prediction:
    """The prediction for an image with this row of outputs."""
    best = int(row.argmax())
    confidence = round(float(row[best]), _DIGITS)
    kept = probabilities(row, model.labels, top_k)
    return Prediction(model.labels[best], confidence, kept, familiarity, _labels_of(row, model))


def probabilities(row: NDArray[np.float32], labels: Sequence[str], top_k: int) -> dict[str, float]:
    """The probabilities that are kept: of all labels, or of the `top_k` most likely ones, most likely first."""
    count = top_k or (len(labels) if len(labels) <= _ALL_LABELS_MAX else _TOP_K)
    if count >= len(labels) and not top_k:
        return {label: round(float(value), _DIGITS) for label, value in zip(labels, row, strict=True)}
    count = min(count, len(labels))
    largest = np.argpartition(-row, count - 1)[:count]  # sorting thousands of labels takes much longer
    order = largest[np.argsort(-row[largest], kind="stable")]
    return {labels[at]: round(float(row[at]), _DIGITS) for at in order}


def _labels_of(row: NDArray[np.float32], model: KerasModel) -> list[str] | None:
    """The labels of an image, most likely first, at most `_ALL_LABELS_MAX`; None if the model gives exactly one."""
    if model.threshold is None:
        return None
    found = np.flatnonzero(row >= model.threshold)
    return [model.labels[at] for at in found[np.argsort(-row[found], kind="stable")][:_ALL_LABELS_MAX]]
