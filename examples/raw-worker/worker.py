"""The smallest worker: one function, no packages, only a socket. Shows what an SDK does for you."""

import base64
import json
import os
import socket
import struct
from urllib.parse import urlparse

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

url = urlparse(os.environ.get("III_URL", "ws://localhost:49134"))
connection = socket.create_connection((url.hostname, url.port or 49134))
stream = connection.makefile("rb")


def upgrade():
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET / HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
    )
    assert b" 101 " in stream.readline()
    while stream.readline().strip():
        pass  # the headers of the answer


def write(opcode, payload):
    length = len(payload)
    size = bytes([0x80 | length]) if length < 126 else struct.pack("!BH", 0xFE, length)
    # Clients must mask; a mask of zeros leaves the payload as it is.
    connection.sendall(bytes([0x80 | opcode]) + size + bytes(4) + payload)


def read():
    opcode, length = stream.read(2)
    if length == 126:
        (length,) = struct.unpack("!H", stream.read(2))
    elif length == 127:
        (length,) = struct.unpack("!Q", stream.read(8))
    return opcode & 0x0F, stream.read(length)


def send(message):
    write(TEXT, json.dumps(message).encode())


upgrade()
send({"type": "registerfunction", "id": "raw::greet"})
# The announcement names the worker, and makes its registrations effective.
data = {"name": "raw-worker", "runtime": "python"}
send({"type": "invokefunction", "function_id": "engine::workers::register", "data": data, "action": {"type": "void"}})
print("Raw worker started - listening for calls", flush=True)

while True:
    opcode, payload = read()
    if opcode == PING:
        write(PONG, payload)
    elif opcode == CLOSE:
        break
    elif opcode == TEXT:
        message = json.loads(payload)
        # A call without an id wants no answer.
        if message["type"] == "invokefunction" and message.get("invocation_id"):
            name = (message["data"] or {}).get("name", "stranger")
            answer = {"type": "invocationresult", "invocation_id": message["invocation_id"]}
            send({**answer, "function_id": message["function_id"], "result": {"greeting": f"Hello, {name}!"}})
