"""The names of the queues. Separate from `broker.py` because the dashboard does not have Celery."""

#: For senders that wait for the result.
INTERACTIVE = "interactive"
#: For many images; processed while no interactive job is waiting.
BULK = "bulk"
#: All queues, in order of priority.
QUEUES = (INTERACTIVE, BULK)
