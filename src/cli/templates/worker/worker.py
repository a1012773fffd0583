"""The worker {name}: provides the function `{name}::hello`."""

import os
import signal

from iii import InitOptions, register_worker

worker = register_worker(os.environ.get("III_URL", "ws://localhost:49134"), InitOptions(worker_name="{name}"))


def hello(payload):
    return {"greeting": f"Hello, {payload.get('name', 'stranger')}!"}


worker.register_function("{name}::hello", hello)
print("{name} started", flush=True)
signal.pause()
