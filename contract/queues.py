"""The names of the queues. Separate from `broker.py` because the dashboard is installed without Celery."""

from collections.abc import Iterable

#: For clients that wait for the result.
INTERACTIVE = "interactive"
#: For many images; processed while no interactive job is waiting.
BULK = "bulk"
#: The queues in order of priority. Jobs that name no model wait here.
QUEUES = (INTERACTIVE, BULK)


def queue_name(queue: str, model: str) -> str:
    """The queue in Redis of jobs for a model, such as `bulk.birds`; without a model, `queue` itself."""
    return f"{queue}.{model}" if model else queue


def split_queue_name(name: str) -> tuple[str, str]:
    """The queue and the model in a name that `queue_name` made; the model is empty for jobs that name none."""
    queue, _, model = name.partition(".")
    return queue, model


def queue_names(models: Iterable[str]) -> list[str]:
    """All queues of these models and those of jobs that name none, in order of priority."""
    names = ["", *models]
    return [queue_name(queue, model) for queue in QUEUES for model in names]
