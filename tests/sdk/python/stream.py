"""A worker for tests of streams.

Provides the stream `<prefix>-own` itself, and has `<prefix>::changed` fired by changes of the stream `<prefix>`. Makes the
calls it reads from standard input, like worker.py.
"""

import json
import os
import sys
import threading

from iii import InitOptions, register_worker
from iii.stream import IStream, StreamDeleteResult, StreamSetResult

prefix = sys.argv[1]
worker = register_worker(os.environ["III_URL"], InitOptions(worker_name=prefix))
printing = threading.Lock()
items = {}


def report(event, **details):
    with printing:
        print(json.dumps({"event": event, **details}), flush=True)


def member(given, name):
    return given[name] if isinstance(given, dict) else getattr(given, name)


class Own(IStream):
    async def get(self, input):
        return items.get(member(input, "item_id"))

    async def set(self, input):
        old = items.get(member(input, "item_id"))
        items[member(input, "item_id")] = member(input, "data")
        return StreamSetResult(old_value=old, new_value=member(input, "data"))

    async def delete(self, input):
        return StreamDeleteResult(old_value=items.pop(member(input, "item_id"), None))

    async def list(self, input):
        return list(items.values())

    async def list_groups(self, input):
        return ["own"]

    async def update(self, input):
        return None


def changed(payload):
    rest = {key: value for key, value in payload.items() if key != "_caller_worker_id"}
    report("handled", function="changed", payload=rest)


def make_call(command):
    try:
        result = worker.trigger({"function_id": command["function_id"], "payload": command["payload"]})
        report("outcome", call=command["call"], result=result)
    except Exception as error:  # whatever the SDK raises is the outcome
        report("outcome", call=command["call"], error={"code": getattr(error, "code", None), "message": str(error)})


if hasattr(worker, "create_stream"):
    worker.create_stream(f"{prefix}-own", Own())
else:
    from iii.helpers import create_stream

    create_stream(worker, f"{prefix}-own", Own())
worker.register_function(f"{prefix}::changed", changed)
worker.register_trigger({"type": "stream", "function_id": f"{prefix}::changed", "config": {"stream_name": prefix}})
worker.register_function(f"{prefix}::echo", lambda payload: payload)

for line in sys.stdin:
    threading.Thread(target=make_call, args=(json.loads(line),), daemon=True).start()
