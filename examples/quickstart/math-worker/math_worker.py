"""A worker that adds: provides the function `math::add`."""

import os
import signal

from iii import InitOptions, register_worker

try:
    from iii_helpers.observability import Logger
except ImportError:  # SDK 0.11 has the logger in the main package
    from iii import Logger

worker = register_worker(
    os.environ.get("III_URL", "ws://localhost:49134"),
    InitOptions(worker_name="math-worker"),
)
logger = Logger()


def add(payload):
    a, b = payload.get("a", 0), payload.get("b", 0)
    logger.info(f"math::add called in Python with a={a}, b={b}")
    return {"c": a + b}


worker.register_function("math::add", add)
print("Math worker started - listening for calls", flush=True)
signal.pause()
