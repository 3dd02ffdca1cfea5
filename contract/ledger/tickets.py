"""Tickets: the Celery messages that wake a worker. The ledger's scripts put them into the queues of Celery."""

import base64
import json
from uuid import uuid4

#: Name of the only task.
TASK = "pawqueue.predict"

_CALLBACKS = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
_BODY = base64.b64encode(json.dumps([[], {}, _CALLBACKS]).encode()).decode()
_ID, _TAG = "TASK_ID", "DELIVERY_TAG"
#: What `send_task` writes to Redis, in version 2 of Celery's protocol.
_MESSAGE = json.dumps(
    {
        "body": _BODY,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": TASK,
            "id": _ID,
            "root_id": _ID,
            "parent_id": None,
            "group": None,
            "argsrepr": "",
            "kwargsrepr": "",
            "ignore_result": True,
        },
        "properties": {
            "correlation_id": _ID,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "QUEUE"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": _TAG,
        },
    },
    separators=(",", ":"),
)


def new_ticket() -> str:
    """A new message without arguments, in which `QUEUE` stands for the name of its queue."""
    return _MESSAGE.replace(_ID, str(uuid4())).replace(_TAG, str(uuid4()))
