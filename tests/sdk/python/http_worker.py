"""A worker for tests of HTTP triggers: functions of every kind under a prefix, each with its route `/<prefix>/<name>`."""

import asyncio
import json
import os
import sys
import threading

from iii import InitOptions, register_worker

try:
    from iii import http
except ImportError:
    from iii_helpers.http import http

prefix = sys.argv[1]
worker = register_worker(os.environ["III_URL"], InitOptions(worker_name=prefix))


def api(request):
    kinds = ["object" if request[name] is not None else None for name in ("request_body", "response")]
    seen = {name: request[name] for name in ("method", "path", "path_params", "query_params", "body")}
    return {"status_code": 201, "headers": {"X-Sdk": prefix}, "body": {**seen, "ends": kinds}}


def nothing(_request):
    return None


def throw(_request):
    raise RuntimeError("kaboom")


def plain(_request):
    return {"hello": 1}


def html(_request):
    return {"status_code": 200, "headers": {"content-type": "text/html"}, "body": "<p>é</p>"}


async def sse(_request, response):
    await response.status(202)
    await response.headers({"content-type": "text/event-stream"})
    for event in range(3):
        await response.writer.write(f"data: {event}\n\n".encode())
        await asyncio.sleep(0.05)
    await response.writer.close_async()


async def upload(request, response):
    count = 0
    async for chunk in request.request_body:
        count += len(chunk)
    await response.status(200)
    await response.writer.write(f"got {count}".encode())
    await response.writer.close_async()


async def missing(_request, response):
    await response.status(404)
    await response.headers({"content-type": "application/json"})
    await response.writer.write(json.dumps({"missing": True}, separators=(",", ":")).encode())
    await response.writer.close_async()


def guarded(_request):
    return {"status_code": 200, "body": "in"}


def condition(request):
    return request["query_params"].get("ok") == "1"


def middleware(request):
    if request["request"]["headers"].get("x-key") == "k":
        return {"action": "continue"}
    return {"action": "respond", "response": {"status_code": 401, "body": {"error": "no key"}}}


handlers = {
    "api": api,
    "nothing": nothing,
    "throw": throw,
    "plain": plain,
    "html": html,
    "sse": http(sse),
    "upload": http(upload),
    "missing": http(missing),
    "guarded": guarded,
    "condition": condition,
    "middleware": middleware,
}
for name, handler in handlers.items():
    worker.register_function(f"{prefix}::{name}", handler)


def route(name, config):
    worker.register_trigger({"type": "http", "function_id": f"{prefix}::{name}", "config": config})


for name in handlers:
    if name not in ("api", "guarded", "condition", "middleware"):
        route(name, {"api_path": f"{prefix}/{name}", "http_method": "POST"})
route(
    "guarded",
    {
        "api_path": f"{prefix}/guarded",
        "http_method": "GET",
        "condition_function_id": f"{prefix}::condition",
        "middleware_function_ids": [f"{prefix}::middleware"],
    },
)
route("api", {"api_path": f"/{prefix}/api/:id", "http_method": "POST"})
threading.Event().wait()
