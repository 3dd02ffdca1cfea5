"""The Celery task: hands a message to the pipeline and acknowledges it when all its jobs have ended."""

from typing import Any

from celery import Celery
from celery.exceptions import Reject

from contract.broker import TASK
from worker.gate import ClosedError
from worker.pipeline import Pipeline


def register_task(app: Celery, pipeline: Pipeline) -> None:
    """Give `app` the one task, bound to this process's pipeline."""

    @app.task(name=TASK, bind=True)  # type: ignore[untyped-decorator]
    def predict(self: Any, job_ids: list[str]) -> None:
        queue = self.request.delivery_info["routing_key"]
        try:
            pipeline.process(queue, job_ids)
        except ClosedError:
            raise Reject(requeue=True) from None
