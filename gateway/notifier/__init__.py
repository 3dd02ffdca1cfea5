"""The notifier: delivers the events of finished jobs and submissions to webhooks, as Standard Webhooks specifies.

`python -m gateway.notifier` runs it. Start reading at `notifier.py`; `message.py` signs an event and sends it.
"""
