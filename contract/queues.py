"""The names of the queues, without Celery: the dashboard reads queues but has no broker."""

#: For senders that wait for the result.
INTERACTIVE = "interactive"
#: For large uploads; processed when no interactive job is waiting.
BULK = "bulk"
#: In order of priority.
QUEUES = (INTERACTIVE, BULK)
