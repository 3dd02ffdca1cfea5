"""The Celery task: one message is acknowledged when all its jobs have finished."""

from typing import Any

from celery import Celery
from celery.exceptions import Reject

from contract.broker import TASK
from worker.pipeline.gate import ClosedError
from worker.pipeline.pipeline import Pipeline


def register_task(app: Celery, pipeline: Pipeline) -> None:
    """Register the task on `app`; it processes its jobs with `pipeline`."""

    @app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
    def predict(self: Any, job_ids: list[str]) -> None:
        queue = self.request.delivery_info["routing_key"]
        try:
            pipeline.process(queue, job_ids)
        except ClosedError:
            raise Reject(requeue=True) from None
