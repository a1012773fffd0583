"""A worker for tests. Provides five functions under a prefix; makes the calls it reads from standard input.

One JSON object per line, in: {call, function_id, payload, void, queue}, {trigger: {type, function_id, config}},
{call, bind: {type, function_id, config}} or {call, unbind: <call that bound>};
out: {event: "handled" | "outcome", ...}.
"""

import json
import os
import sys
import threading
import time

from iii import InitOptions, TriggerAction, register_worker

prefix = sys.argv[1]
worker = register_worker(os.environ["III_URL"], InitOptions(worker_name=prefix))
printing = threading.Lock()


def report(event, **details):
    with printing:
        print(json.dumps({"event": event, **details}), flush=True)


def without_caller(payload):
    if not isinstance(payload, dict):
        return payload
    return {key: value for key, value in payload.items() if key != "_caller_worker_id"}


def fail(_payload):
    raise RuntimeError("handler failed on purpose")


def slow(payload):
    time.sleep(payload["ms"] / 1000)
    return "late"


handlers = {
    "echo": lambda payload: {"echo": without_caller(payload)},
    "nothing": lambda _payload: None,
    "event": lambda _payload: None,
    "throw": fail,
    "slow": slow,
}


def reporting(name, handler):
    def run(payload):
        report("handled", function=name, payload=without_caller(payload))
        return handler(payload)

    return run


for name, handler in handlers.items():
    worker.register_function(f"{prefix}::{name}", reporting(name, handler))


bound = {}


def make_call(command):
    if "bind" in command or "unbind" in command:
        if "bind" in command:
            bound[command["call"]] = worker.register_trigger(command["bind"])
        else:
            bound[command["unbind"]].unregister()
        report("outcome", call=command["call"], result=None)
        return
    request = {"function_id": command["function_id"], "payload": command["payload"]}
    if command.get("void"):
        request["action"] = TriggerAction.Void()
    if command.get("queue"):
        request["action"] = TriggerAction.Enqueue(queue=command["queue"])
    try:
        report("outcome", call=command["call"], result=worker.trigger(request))
    except Exception as error:  # whatever the SDK raises is the outcome
        code = getattr(error, "code", None)
        report("outcome", call=command["call"], error={"code": code, "message": str(error)})


for line in sys.stdin:
    command = json.loads(line)
    if "trigger" in command:
        worker.register_trigger(command["trigger"])
    else:
        threading.Thread(target=make_call, args=(command,), daemon=True).start()
