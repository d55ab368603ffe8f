"""Speaks AWS's data channel as session-manager-plugin does, with nothing but the standard library.

The AWS CLI starts it by that name: once without arguments to see that it is there, then with the session that
ExecuteCommand answered. Like the plugin it is not ready to show output at first, and drops what comes until then
without acknowledging it.
"""

import base64
import hashlib
import json
import os
import select
import socket
import struct
import sys
import time
import uuid

HEADER = 116


class WebSocket:
    def __init__(self, url):
        host, _, path = url.removeprefix("ws://").partition("/")
        name, _, port = host.partition(":")
        self.socket = socket.create_connection((name, int(port)))
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert head.startswith(b"HTTP/1.1 101"), head
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        assert b"sec-websocket-accept: " + accept.lower() in head.lower(), head

    def fill(self):
        some = self.socket.recv(65536)
        if not some:
            raise EOFError("the connection ended")
        self.buffer += some

    def take(self, count):
        while len(self.buffer) < count:
            self.fill()
        taken, self.buffer = self.buffer[:count], self.buffer[count:]
        return taken

    def receive(self):
        """The next message's opcode and bytes; messages are not fragmented here."""
        first, length = self.take(2)
        assert first & 0x80, "a fragment"
        if length == 126:
            (length,) = struct.unpack(">H", self.take(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", self.take(8))
        return first & 0x0F, self.take(length)

    def send(self, opcode, data):
        length = len(data)
        head = bytes([0x80 | opcode])
        if length < 126:
            head += bytes([0x80 | length])
        else:
            head += bytes([0x80 | 126]) + struct.pack(">H", length)
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(data))
        self.socket.sendall(head + mask + masked)


class Plugin:
    def __init__(self, session):
        self.session = session
        self.web = WebSocket(session["streamUrl"])
        self.sequence = 0
        self.expected = 0
        self.kept = {}
        self.dropped = 0
        self.ready = False
        opening = {
            "MessageSchemaVersion": "1.0",
            "RequestId": str(uuid.uuid4()),
            "TokenValue": session["tokenValue"],
            "ClientId": str(uuid.uuid4()),
            "ClientVersion": "1.2.707.0",
        }
        self.web.send(1, json.dumps(opening).encode())
        self.web.send(9, b"keepalive")

    def message(self, kind, payload_type, payload, sequence, flags):
        ident = uuid.uuid4().bytes
        return (
            struct.pack(">I", HEADER)
            + kind.ljust(32).encode()
            + struct.pack(">IQqQ", 1, int(time.time() * 1000), sequence, flags)
            + ident[8:]
            + ident[:8]
            + hashlib.sha256(payload).digest()
            + struct.pack(">II", payload_type, len(payload))
            + payload
        )

    def input(self, payload_type, payload):
        # As the plugin does for winpty.
        payload = b"\r" if payload == b"\n" else payload
        self.web.send(2, self.message("input_stream_data", payload_type, payload, self.sequence, 0))
        self.sequence += 1

    def acknowledge(self, kind, ident, sequence):
        content = {
            "AcknowledgedMessageType": kind,
            "AcknowledgedMessageId": ident,
            "AcknowledgedMessageSequenceNumber": sequence,
            "IsSequentialMessage": True,
        }
        self.web.send(2, self.message("acknowledge", 0, json.dumps(content).encode(), 0, 3))

    def take(self, message):
        """Takes one message in. Says whether the channel goes on."""
        (header,) = struct.unpack(">I", message[:4])
        kind = message[4:36].decode().strip()
        (created, sequence, _flags) = struct.unpack(">QqQ", message[40:64])
        ident = str(uuid.UUID(bytes=message[72:80] + message[64:72]))
        payload = message[header + 4 :]
        assert created and hashlib.sha256(payload).digest() == message[80:112], "the digest"
        (payload_type, length) = struct.unpack(">II", message[112:120])
        assert length == len(payload)
        if kind == "channel_closed":
            closed = json.loads(payload)
            assert closed["SessionId"] == self.session["sessionId"]
            print(f"\n\nSessionId: {closed['SessionId']} : {closed['Output']}\n\n", flush=True)
            return False
        if kind != "output_stream_data":
            return True
        if sequence == self.expected:
            if payload_type not in (5, 7) and not self.ready:
                # Not yet ready to show anything.
                self.dropped += 1
                self.ready = True
                return True
            self.acknowledge(kind, ident, sequence)
            self.process(payload_type, payload)
            self.expected += 1
            while self.expected in self.kept:
                self.process(*self.kept.pop(self.expected))
                self.expected += 1
        elif sequence > self.expected:
            self.acknowledge(kind, ident, sequence)
            self.kept[sequence] = (payload_type, payload)
        return True

    def process(self, payload_type, payload):
        if payload_type == 5:
            actions = [
                {"ActionType": action["ActionType"], "ActionStatus": 1, "ActionResult": None, "Error": ""}
                for action in json.loads(payload)["RequestedClientActions"]
            ]
            assert [action["ActionType"] for action in actions] == ["SessionType"]
            response = {"ClientVersion": "1.2.707.0", "ProcessedClientActions": actions, "Errors": None}
            self.input(6, json.dumps(response).encode())
        elif payload_type == 7:
            assert json.loads(payload)["HandshakeTimeToComplete"] >= 0
            self.input(3, b'{"cols":80,"rows":24}')
        else:
            sys.stdout.buffer.write(payload)
            sys.stdout.flush()

    def run(self):
        typing = True
        while True:
            watched = [self.web.socket] + ([sys.stdin] if typing and self.expected >= 2 else [])
            readable = [self.web.socket] if self.web.buffer else select.select(watched, [], [], 60)[0]
            assert readable, "nothing for a minute"
            if sys.stdin in readable:
                keys = os.read(sys.stdin.fileno(), 1024)
                typing = bool(keys)
                if keys:
                    self.input(1, keys)
            if self.web.socket in readable:
                opcode, data = self.web.receive()
                if opcode == 8:
                    raise EOFError("closed without a word")
                if opcode == 2 and not self.take(data):
                    return


if len(sys.argv) == 1:
    print("The Session Manager plugin was installed successfully.")
else:
    operation, target = sys.argv[3], json.loads(sys.argv[5])["Target"]
    assert operation == "StartSession" and target.startswith("ecs:"), sys.argv
    session = {key[0].lower() + key[1:]: value for key, value in json.loads(sys.argv[1]).items()}
    print(f"\nStarting session with SessionId: {session['sessionId']}", flush=True)
    plugin = Plugin(session)
    plugin.run()
    assert plugin.dropped or plugin.expected == 2, "something was sent again, if there was anything"
