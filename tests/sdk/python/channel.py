"""A worker for tests of channels. Provides `<prefix>::read`, which reads a channel to its end.

With a target, creates a channel, lets `<target>::read` have its reader, writes, and reports what the target got:
{event: "outcome", result}.
"""

import asyncio
import hashlib
import json
import os
import sys
import threading

from iii import InitOptions, register_worker

prefix = sys.argv[1]
worker = register_worker(os.environ["III_URL"], InitOptions(worker_name=prefix))


async def read(payload):
    reader = payload["reader"]
    texts = []
    digest = hashlib.sha256()
    count = 0
    reader.on_message(texts.append)
    async for chunk in reader:
        count += len(chunk)
        digest.update(chunk)
    return {"bytes": count, "texts": texts, "sha256": digest.hexdigest()}


worker.register_function(f"{prefix}::read", read)


def create_channel(size):
    if hasattr(worker, "create_channel"):
        return worker.create_channel(size)
    from iii.helpers import create_channel as create

    return create(worker, size)


async def write(writer):
    await writer.send_message_async("text first")
    for part in range(30):
        await writer.write(bytes([part]) * 100_000)
    await writer.close_async()


def run(target):
    channel = create_channel(16)
    reference = channel.reader_ref
    reader = {"channel_id": reference.channel_id, "access_key": reference.access_key, "direction": "read"}
    results = []

    def call():
        results.append(worker.trigger({"function_id": f"{target}::read", "payload": {"reader": reader}}))

    reading = threading.Thread(target=call)
    reading.start()
    asyncio.run(write(channel.writer))
    reading.join()
    print(json.dumps({"event": "outcome", "result": results[0]}), flush=True)


if len(sys.argv) > 2:
    run(sys.argv[2])
threading.Event().wait()
