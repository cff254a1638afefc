"""A gRPC server that strains its client, made of python3-h2: the servers of grpc/grpc's
http2-interop-test-descriptions.md. Knows only the sizes of UnaryCall, and answers each with a payload of zeros.

  bad_server.py CASE     prints its port; on SIGTERM what it did not like of the client, if anything"""

import asyncio
import signal
import sys

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings

RESPONSE_BYTES = 314159
CHUNK_BYTES = 5  # of data_frame_padding: each frame has more padding than data
PAD_BYTES = 255
CHUNK_COUNT = 4000  # … of so many frames; the rest goes as large frames
FRAME_BYTES = 16384
N_PINGS = 4  # of each call of "ping"

failures = []
connections = []


def varint(number):
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def response(size):
    """SimpleResponse{payload{body}} with its prefix."""
    body = b"\x12" + varint(size) + bytes(size)
    message = b"\x0a" + varint(len(body)) + body
    return b"\0" + len(message).to_bytes(4, "big") + message


def response_size(request):
    """SimpleRequest.response_size: field 2, of a message whose other fields are skipped."""
    at = 0
    while at < len(request):
        key, at = read_varint(request, at)
        if key & 7 == 0:
            value, at = read_varint(request, at)
            if key >> 3 == 2:
                return value
        elif key & 7 == 2:
            size, at = read_varint(request, at)
            at += size
        else:
            break
    return 0


def read_varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


class Connection(asyncio.Protocol):
    def __init__(self, case):
        self.case = case
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.transport = None
        self.requests = {}
        self.queues = {}  # stream → frames that wait for a window: (bytes, padding)
        self.n_calls = 0
        self.n_pings = self.n_acks = 0
        self.is_going = False  # GOAWAY is out, after which h2 takes no frame of the client's, whatever it is

    def connection_made(self, transport):
        self.transport = transport
        connections.append(self)
        if self.case == "max_streams":
            self.h2.update_settings({h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: 1})
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.transport.write(data)

    def data_received(self, data):
        if self.is_going:
            return
        try:
            for event in self.h2.receive_data(data):
                if not self.is_going:
                    self.on_event(event)
        except h2.exceptions.ProtocolError as error:
            failures.append("the client broke the protocol: %s" % error)
        self.flush()

    def on_event(self, event):
        if isinstance(event, h2.events.RequestReceived):
            self.requests[event.stream_id] = b""
            if self.case == "max_streams" and len(self.requests) > 1:
                failures.append("%d streams at once, one is allowed" % len(self.requests))
        elif isinstance(event, h2.events.DataReceived):
            if event.stream_id in self.requests:
                self.requests[event.stream_id] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.answer(event.stream_id)
        elif isinstance(event, h2.events.PingAckReceived):
            self.n_acks += 1
        elif isinstance(event, (h2.events.WindowUpdated, h2.events.RemoteSettingsChanged)):
            for stream_id in list(self.queues):
                self.send(stream_id)

    # ---- Answers

    def ping(self):
        if self.case == "ping":
            self.n_pings += 1
            self.h2.ping(self.n_pings.to_bytes(8, "big"))

    def reset(self, stream_id):
        self.requests.pop(stream_id, None)
        self.h2.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)

    def answer(self, stream_id):
        message = response(response_size(self.requests[stream_id][5:]))
        self.n_calls += 1
        self.ping()
        self.h2.send_headers(stream_id, [(":status", "200"), ("content-type", "application/grpc")])
        self.ping()
        if self.case == "rst_after_header":
            self.reset(stream_id)
            return
        if self.case == "rst_during_data":
            message = message[:len(message) // 2]
        self.queues[stream_id] = list(self.frames(message))
        self.send(stream_id)

    def frames(self, message):
        at = 0
        if self.case == "data_frame_padding":
            for at in range(0, CHUNK_BYTES * CHUNK_COUNT, CHUNK_BYTES):
                yield message[at:at + CHUNK_BYTES], PAD_BYTES
            at += CHUNK_BYTES
        for at in range(at, len(message), FRAME_BYTES):
            yield message[at:at + FRAME_BYTES], None

    def send(self, stream_id):
        """Sends what the windows allow; the end follows the last frame."""
        queue = self.queues[stream_id]
        while queue:
            data, padding = queue[0]
            size = len(data) + (0 if padding is None else padding + 1)
            window = self.h2.local_flow_control_window(stream_id)
            if window < size:
                if padding is None and window > 0:
                    self.h2.send_data(stream_id, data[:window])
                    queue[0] = (data[window:], None)
                return
            self.h2.send_data(stream_id, data, pad_length=padding)
            queue.pop(0)
        del self.queues[stream_id]
        self.end(stream_id)

    def end(self, stream_id):
        self.ping()
        if self.case in ("rst_during_data", "rst_after_data"):
            self.reset(stream_id)
            return
        self.h2.send_headers(stream_id, [("grpc-status", "0")], end_stream=True)
        self.requests.pop(stream_id, None)
        self.ping()
        if self.case == "goaway":
            self.is_going = True
            self.h2.close_connection()


def verdict(case):
    """What the server must have seen, besides what the client saw."""
    n_calls = sum(connection.n_calls for connection in connections)
    used = [connection for connection in connections if connection.n_calls > 0]
    expected = {"goaway": (2, 2), "max_streams": (11, 1)}.get(case, (1, 1))
    if (n_calls, len(used)) != expected:
        failures.append("%d calls on %d connections, expected were %d on %d" % (n_calls, len(used), *expected))
    for connection in used:
        if connection.n_acks != connection.n_pings:
            failures.append("%d of %d PINGs were acknowledged" % (connection.n_acks, connection.n_pings))
    if case == "ping" and sum(connection.n_pings for connection in used) != N_PINGS:
        failures.append("the server did not send its PINGs")


async def main(case):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(case), "127.0.0.1", 0)
    stopped = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stopped.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await stopped.wait()
    verdict(case)
    for failure in failures:
        print(failure, file=sys.stderr)
    sys.exit(1 if failures else 0)


asyncio.run(main(sys.argv[1]))
