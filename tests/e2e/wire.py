"""A gRPC client that writes its own HTTP/2 frames, so that it can write wrong ones, and that tells what came back
frame by frame. Only HPACK is foreign."""

import base64
import contextlib
import socket
import struct
import time

import hpack
import proof

DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONT = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL, INTERNAL, FLOW, CLOSED, REFUSED, CANCEL, CALM = 0, 1, 2, 3, 5, 7, 8, 11
MAX_HEADER_LIST, INITIAL_WINDOW = 6, 4

HEALTH = "/grpc.health.v1.Health/Check"
AGENTS = "/sluice.v1.AgentRuntime/ListAgents"
EXECUTE = "/sluice.v1.AgentRuntime/Execute"
WATCH = "/grpc.health.v1.Health/Watch"
STREAMING = "/sluice.v1.AgentRuntime/ExecuteStreaming"
CONVERSE = "/sluice.v1.AgentRuntime/Converse"  # a stream of requests, too
DECIDE = "/sluice.v1.AgentRuntime/DecideApproval"
START_RUN, ATTACH, CANCEL_RUN, GET_RUN, LIST_RUNS = (
    "/sluice.v1.AgentRuntime/" + name for name in ("StartRun", "Attach", "CancelRun", "GetRun", "ListRuns")
)
REFLECT = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"  # a stream of requests


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(body, flag=0):
    return struct.pack(">BI", flag, len(body)) + body


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number, content):
    """A protobuf field: bytes or text, or an unsigned number."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    content = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(content)) + content


def run_request(agent, text=""):
    return field(1, agent) + field(2, text)


def fields_of(data):
    """[(number, value)] of a protobuf message of varints and bytes."""
    out, at = [], 0

    def number():
        nonlocal at
        value, shift = 0, 0
        while True:
            at, value, shift = at + 1, value | (data[at] & 127) << shift, shift + 7
            if data[at - 1] < 128:
                return value

    while at < len(data):
        tag = number()
        value = number()
        if tag & 7 == 2:
            at, value = at + value, data[at : at + value]
        out.append((tag >> 3, value))
    return out


class Reply:
    """What came on one stream."""

    def __init__(self):
        self.blocks = []  # [(fields, END_STREAM)]
        self.data = b""
        self.frames = []  # types, in order
        self.reset = None
        self.is_ended = False

    def is_over(self):
        return self.is_ended or self.reset is not None

    def fields(self, name):
        return [v for block, _ in self.blocks for n, v in block if n == name]

    def get(self, name):
        values = self.fields(name)
        return values[0] if values else None

    def status(self):
        value = self.get("grpc-status")
        return None if value is None else int(value)

    def text(self):
        return self.get("grpc-message") or ""

    def error_info(self):
        """(reason, domain, metadata) of the ErrorInfo in the details; None: there is none."""
        value = self.get("grpc-status-details-bin")
        for number, detail in fields_of(base64.b64decode(value + "=" * (-len(value) % 4))) if value else ():
            if number == 3 and dict(fields_of(detail))[1] == b"type.googleapis.com/google.rpc.ErrorInfo":
                info = fields_of(dict(fields_of(detail))[2])
                pairs = [dict(fields_of(entry)) for number, entry in info if number == 3]
                metadata = {pair[1].decode(): pair.get(2, b"").decode() for pair in pairs}
                return dict(info)[1].decode(), dict(info)[2].decode(), metadata
        return None

    def messages(self):
        out, rest = [], self.data
        while len(rest) >= 5 and len(rest) >= 5 + struct.unpack(">I", rest[1:5])[0]:
            size = struct.unpack(">I", rest[1:5])[0]
            out.append(rest[5 : 5 + size])
            rest = rest[5 + size :]
        return out

    def __repr__(self):
        return "<%s data=%r reset=%s ended=%s>" % (self.blocks, self.data[:60], self.reset, self.is_ended)


class Wire:
    """One connection."""

    def __init__(self, address, settings=(), is_opened=True, receive_buffer=0, tls=None):
        host, port = address.rsplit(":", 1)
        self.socket = socket.socket()
        self.socket.settimeout(10)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect((host, int(port)))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:  # an ssl.SSLContext
            self.socket = tls.wrap_socket(self.socket)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder(max_header_list_size=1 << 20)
        self.rest = b""
        self.replies = {}
        self.event_streams = []  # (stream, the event behind which it begins)
        self.frames = []  # (type, flags, stream, payload) but for HEADERS and DATA
        self.goaways = []  # (last stream, code, text)
        self.settings = {}
        self.largest = 0  # payload of a frame
        self.is_closed = False
        self.acks_pings = True
        self.next_id = 1
        self.is_opened = False
        if is_opened:
            self.open(settings)

    def open(self, settings=()):
        self.is_opened = True
        self.send(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in settings))
        )
        self.wait("SETTINGS and their ACK", lambda: any(f[:2] == (SETTINGS, ACK) for f in self.frames))

    def try_open(self):
        try:
            self.open()
        except (AssertionError, OSError):
            return False
        return True

    def close(self):
        self.socket.close()
        self.check_events()
        for reply in self.replies.values():
            proof.search("a reply", repr(reply.blocks).encode() + bytes(reply.data))

    def check_events(self):
        """What came of streams of events is in order, the same for all readers of a run, and whole where the status says so."""
        for stream, after in self.event_streams:
            reply = self.reply(stream)
            size = 0
            while len(reply.data) - size >= 5 and reply.data[size] == 0:
                end = size + 5 + int.from_bytes(reply.data[size + 1 : size + 5], "big")
                if end > len(reply.data):
                    break
                size = end
            is_whole = reply.is_ended and reply.get("grpc-status") == "0"
            if size > 0:
                proof.check_stream(bytes(reply.data[:size]), reply.get("sluice-run-id"), after, not is_whole)
        self.event_streams = []

    # ---- Out

    def send(self, data):
        self.socket.sendall(data)

    def try_send(self, data):
        """For floods: the server may have closed. False: it has."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.is_closed = True
        return not self.is_closed

    def new_id(self):
        self.next_id += 2
        return self.next_id - 2

    def note(self, path, body=None):
        """A new stream; one of events is checked at the end. Of an Attach that is written in pieces the test has to say
        where it begins."""
        stream = self.new_id()
        if path in (STREAMING, CONVERSE):
            self.event_streams.append((stream, 0))
        elif path == ATTACH and body is not None:
            self.event_streams.append((stream, dict(fields_of(body)).get(2, 0)))
        return stream

    @staticmethod
    def request(path, *more, **fixed):
        """Header fields; method, scheme, content_type may be given, None leaves one out."""
        names = [(":method", "method", "POST"), (":scheme", "scheme", "http"), (":path", "path", path)]
        names += [(":authority", "authority", "sluice.test"), ("te", "te", "trailers")]
        names += [("content-type", "content_type", "application/grpc")]
        fields = [(name, fixed.get(key, value)) for name, key, value in names]
        return [pair for pair in fields if pair[1] is not None] + list(more)

    def block(self, stream, fields, end=False):
        """HEADERS and CONTINUATION frames."""
        data = self.encoder.encode(fields)
        out, kind, flags = b"", HEADERS, END_STREAM if end else 0
        while len(data) > 16384:
            out += frame(kind, flags, stream, data[:16384])
            data, kind, flags = data[16384:], CONT, 0
        return out + frame(kind, flags | END_HEADERS, stream, data)

    def start(self, path, *more, end=False, **fixed):
        """Sends HEADERS."""
        stream = self.note(path)
        self.send(self.block(stream, self.request(path, *more, **fixed), end))
        return stream

    def data(self, stream, payload, end=False):
        self.send(frame(DATA, END_STREAM if end else 0, stream, payload))

    def call(self, path, body=b"", *more, **fixed):
        """HEADERS and the one request message in one write."""
        stream = self.note(path, body)
        self.send(
            self.block(stream, self.request(path, *more, **fixed)) + frame(DATA, END_STREAM, stream, message(body))
        )
        return stream

    def reset(self, stream, code=CANCEL):
        self.send(frame(RST, 0, stream, struct.pack(">I", code)))

    def open_window(self, stream, size):
        self.send(frame(WINDOW, 0, stream, struct.pack(">I", size)))

    # ---- In

    def reply(self, stream):
        return self.replies.setdefault(stream, Reply())

    def _take(self, kind, flags, stream, payload):
        self.largest = max(self.largest, len(payload))
        if flags & PADDED and kind in (DATA, HEADERS):
            payload = payload[1 : len(payload) - payload[0]]
        if kind == HEADERS:
            assert flags & END_HEADERS, "a header block over more than one frame"
            reply = self.reply(stream)
            reply.blocks.append((self.decoder.decode(payload), bool(flags & END_STREAM)))
        elif kind == DATA:
            self.reply(stream).data += payload
        elif kind == RST:
            self.reply(stream).reset = struct.unpack(">I", payload)[0]
        else:
            self.frames.append((kind, flags, stream, payload))
        if kind in (DATA, HEADERS, RST):
            self.reply(stream).frames.append(kind)
            self.reply(stream).is_ended |= kind != RST and bool(flags & END_STREAM)
        elif kind == GOAWAY:
            last, code = struct.unpack(">II", payload[:8])
            self.goaways.append((last, code, payload[8:].decode()))
        elif kind == SETTINGS and not flags & ACK:
            self.settings = dict(struct.iter_unpack(">HI", payload))
            if self.is_opened:
                self.try_send(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK and self.acks_pings:
            self.try_send(frame(PING, ACK, 0, payload))

    def receive(self, seconds):
        """Takes what comes within a time, once."""
        self.socket.settimeout(seconds)
        try:
            data = self.socket.recv(1 << 18)
        except (socket.timeout, BlockingIOError):
            return False
        except OSError:
            data = b""
        finally:
            self.socket.settimeout(10)
        self.is_closed |= not data
        self.rest += data
        at = 0
        while len(self.rest) - at >= 9:
            size = int.from_bytes(self.rest[at : at + 3], "big")
            if len(self.rest) - at < 9 + size:
                break
            kind, flags, stream = struct.unpack(">BBI", self.rest[at + 3 : at + 9])
            self._take(kind, flags, stream, self.rest[at + 9 : at + 9 + size])
            at += 9 + size
        self.rest = self.rest[at:]
        return bool(data)

    def wait(self, what, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            left = end - time.monotonic()
            if left <= 0 or self.is_closed:
                raise AssertionError(
                    "%s: %s; GOAWAY %s" % ("closed" if self.is_closed else "not in time", what, self.goaways)
                )
            self.receive(left)

    def wait_over(self, stream, seconds=20):
        reply = self.reply(stream)
        try:
            self.wait("the end of stream %d" % stream, reply.is_over, seconds)
        except AssertionError as error:
            raise AssertionError("%s: %r" % (error, reply)) from None
        return reply

    def wait_closed(self, seconds=20):
        with contextlib.suppress(AssertionError):
            self.wait("the end of the connection", lambda: False, seconds)
        assert self.is_closed, "still open"

    def ask(self, path, body=b"", *more, **fixed):
        return self.wait_over(self.call(path, body, *more, **fixed))

    def drain_input(self, seconds=0.2):
        """Takes what comes until nothing has come for a while."""
        while self.receive(seconds):
            pass
