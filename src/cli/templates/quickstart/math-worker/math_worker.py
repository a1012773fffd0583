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
    result = {"c": a + b}
    # State: after `iii worker add iii-state`, take the "# " from these lines and save.
    # total = worker.trigger({"function_id": "state::get", "payload": {"scope": "math", "key": "running_total"}})
    # total = (total or 0) + a + b
    # worker.trigger({"function_id": "state::set", "payload": {"scope": "math", "key": "running_total", "value": total}})
    # result["running_total"] = total
    return result


worker.register_function("math::add", add)
print("Math worker started - listening for calls", flush=True)
signal.pause()
