"""The Celery application, which only carries job messages from the relay to the workers.

A message is a task name and one id. It is acknowledged on receipt: the lease in PostgreSQL replaces the visibility
timeout. There are no results and no schedules, and messages may be lost or duplicated (`paretofit.db.outbox`).
"""

from __future__ import annotations

import logging
from typing import Any, Final

from celery import Celery
from celery.signals import setup_logging
from kombu.entity import Exchange, Queue

from paretofit.core import tracing
from paretofit.core.logging import configure_logging
from paretofit.core.settings import get_settings
from paretofit.db.outbox import ADVANCE, CONVERT, DELIVER, EXPORT, INGEST, TRAIN

LIGHT: Final = "light"
TRAINING: Final = "train"
QUEUES: Final = {ADVANCE: LIGHT, INGEST: LIGHT, CONVERT: LIGHT, EXPORT: LIGHT, DELIVER: LIGHT, TRAIN: TRAINING}
"""The queue of each task. `light` tasks never wait for a training, and planning never waits for a longer job
(`paretofit.workers.job_slots`)."""

TRACE: Final = "traceparent"
"""The message header that holds the trace context."""

_PRIORITIES: Final = 10


def _queue(name: str) -> Queue:
    # The default exchange needs no binding in Redis, so messages are routed even after a flush.
    return Queue(name, Exchange(""), routing_key=name)


app = Celery("paretofit", broker=get_settings().broker_url, include=["paretofit.workers.tasks"])
app.conf.update(
    accept_content=["json"],
    task_serializer="json",
    result_backend=None,
    task_ignore_result=True,
    task_acks_late=False,
    task_queues=[_queue(LIGHT), _queue(TRAINING)],
    task_default_queue=LIGHT,
    task_default_exchange="",
    task_default_routing_key=LIGHT,
    task_create_missing_queues=False,
    task_publish_retry=False,
    worker_prefetch_multiplier=1,
    worker_disable_prefetch=True,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    worker_enable_remote_control=False,
    worker_hijack_root_logger=False,
    worker_redirect_stdouts=False,
    broker_connection_retry=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_transport_options={
        "priority_steps": list(range(_PRIORITIES)),
        "queue_order_strategy": "priority",
        "socket_connect_timeout": 5,
        "socket_timeout": 30,
        "socket_keepalive": True,
    },
)


def send(task: str, subject: str, priority: int) -> None:
    """Publish a job message; a higher `priority` (0-9) is served first, and planning before everything in its queue.

    Raises kombu.exceptions.OperationalError.
    """
    traceparent = tracing.traceparent()
    # Redis serves the lowest number first.
    app.send_task(
        task,
        args=[subject],
        queue=QUEUES[task],
        priority=0 if task == ADVANCE else _PRIORITIES - 1 - priority,
        headers={TRACE: traceparent} if traceparent else {},
    )


def _configure_logging(**_: Any) -> None:
    configure_logging(get_settings().log_level)
    # They log two lines per message, most of which change nothing; jobs log their own events.
    for name in ("celery.worker.strategy", "celery.app.trace"):
        logging.getLogger(name).setLevel(logging.WARNING)


setup_logging.connect(_configure_logging)
