"""The names of the queues. Separate from `broker.py` because the dashboard is installed without Celery."""

#: For clients that wait for the result.
INTERACTIVE = "interactive"
#: For many images; processed while no interactive job is waiting.
BULK = "bulk"
#: All queues, in order of priority.
QUEUES = (INTERACTIVE, BULK)
