"""gRPC calls over a plain socket, for cases that `sluice bench` does not have: unary calls, the time of
one event, and of a cancel. It knows as much HTTP/2 as these need, so that it costs little."""

import re
import socket
import struct
import time

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1
CANCEL = 8
INITIAL_WINDOW = 4


def frame(kind, flags, stream_id, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream_id) + payload


def literal(name, value):
    """A field that is neither indexed nor compressed."""
    return bytes([0, len(name)]) + name.encode() + bytes([len(value)]) + value.encode()


def field(number, value):
    """A string field of a protobuf message, shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(value)]) + value.encode()


def message(payload):
    return b"\0" + struct.pack(">I", len(payload)) + payload


class RawClient:
    """One connection. Waits at most ten seconds for anything."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.next_id = 1
        self.buffer = b""
        self.socket.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, 2**30)) +
                            frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 2**30)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def request(self, path, payload):
        """(stream id, bytes that start the call)."""
        stream_id = self.next_id
        self.next_id += 2
        block = b"".join(literal(*pair) for pair in (
            (":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost"),
            ("content-type", "application/grpc"), ("te", "trailers")))
        return stream_id, (frame(HEADERS, END_HEADERS, stream_id, block) +
                           frame(DATA, END_STREAM, stream_id, message(payload)))

    def start(self, path, payload):
        stream_id, out = self.request(path, payload)
        self.socket.sendall(out)
        return stream_id

    def frames(self):
        """What has come: (kind, flags, stream id, payload), after at least one read."""
        self.buffer += self.socket.recv(1 << 20)
        at, found = 0, []
        while len(self.buffer) - at >= 9:
            size = int.from_bytes(self.buffer[at:at + 3], "big")
            if len(self.buffer) - at < 9 + size:
                break
            kind, flags = self.buffer[at + 3], self.buffer[at + 4]
            stream_id = int.from_bytes(self.buffer[at + 5:at + 9], "big")
            payload = self.buffer[at + 9:at + 9 + size]
            at += 9 + size
            if kind == SETTINGS and not flags & ACK:
                self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
            elif kind == PING and not flags & ACK:
                self.socket.sendall(frame(PING, ACK, 0, payload))
            elif kind == RST_STREAM:
                raise RuntimeError(f"stream {stream_id} was reset: {payload!r}")
            found.append((kind, flags, stream_id, payload))
        self.buffer = self.buffer[at:]
        return found

    def unary(self, path, payload, outstanding, calls):
        """`calls` calls, `outstanding` at a time, begun together and awaited together."""
        n_messages = 0
        for _ in range(calls // outstanding):
            self.socket.sendall(b"".join(self.request(path, payload)[1] for _ in range(outstanding)))
            n_ended = 0
            while n_ended < outstanding:
                for kind, flags, _, payload_in in self.frames():
                    n_messages += kind == DATA and len(payload_in) > 5
                    n_ended += kind in (DATA, HEADERS) and flags & END_STREAM
        if n_messages != calls // outstanding * outstanding:
            raise RuntimeError(f"{n_messages} replies to {calls} calls of {path}")

    def wait_data(self, stream_id, pattern):
        """The match of `pattern` in a DATA frame of the stream, and when it was read (ns)."""
        while True:
            found = self.frames()
            now = time.monotonic_ns()
            for kind, flags, at, payload in found:
                match = pattern.search(payload) if kind == DATA and at == stream_id else None
                if match:
                    return match, now
                if at == stream_id and flags & END_STREAM and kind in (DATA, HEADERS):
                    return None, now

    def reset(self, stream_id):
        self.socket.sendall(frame(RST_STREAM, 0, stream_id, struct.pack(">I", CANCEL)))


STAMP = re.compile(rb"\d+ (\d{6,}) ")


def lone_events(client, path, request):
    """Nanoseconds from the making of each event (`load stamp=true`) to its being read."""
    client.start(path, request)
    latencies, is_over = [], False
    while not is_over:
        found = client.frames()
        now = time.monotonic_ns()
        for kind, flags, stream_id, payload in found:
            if kind == DATA:
                latencies += [now - int(match.group(1)) for match in STAMP.finditer(payload)]
            is_over |= stream_id != 0 and bool(flags & END_STREAM)
    return latencies


class Provider:
    """A model provider that answers one request after the other with one token, and then is silent."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(10)
        self.address = f"127.0.0.1:{self.listener.getsockname()[1]}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.close()

    def answer(self):
        connection, _ = self.listener.accept()
        connection.settimeout(10)
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
                           b'data: {"choices":[{"index":0,"delta":{"content":"token"}}]}\n\n')
        return connection


def cancels(client, provider, path, request, count):
    """Nanoseconds from RST_STREAM to the end of the provider's connection: the run was cancelled in between."""
    latencies = []
    for _ in range(count):
        stream_id = client.start(path, request)
        with provider.answer() as connection:
            client.wait_data(stream_id, re.compile(rb"token"))
            begin = time.monotonic_ns()
            client.reset(stream_id)
            while connection.recv(65536):
                pass
            latencies.append(time.monotonic_ns() - begin)
    return latencies
