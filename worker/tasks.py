"""The Celery task: a ticket is acknowledged when no queue has waiting jobs."""

from typing import Any

from celery import Celery
from celery.exceptions import Reject

from contract.ledger.tickets import TASK
from worker.pipeline.gate import ClosedError
from worker.pipeline.pipeline import Pipeline


def register_task(app: Celery, pipeline: Pipeline) -> None:
    """Register the task on `app`; it processes waiting jobs with `pipeline`."""

    @app.task(name=TASK)  # type: ignore[untyped-decorator]
    def predict(*_: Any) -> None:
        # Messages of version 0.1 have arguments, the ids of jobs. Those jobs wait in the ledger like any others.
        try:
            pipeline.serve()
        except ClosedError:
            raise Reject(requeue=True) from None
