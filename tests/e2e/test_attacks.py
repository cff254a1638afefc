"""The daemon as a hostile or dying HTTP/2 client meets it: every frame here is made by hand."""

import base64
import contextlib
import signal
import socket
import struct
import time

import harness
from wire import (
    ATTACH,
    CALM,
    CONT,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW,
    GET_RUN,
    GOAWAY,
    HEADERS,
    HEALTH,
    INITIAL_WINDOW,
    NO_ERROR,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL,
    REFLECT,
    REFUSED,
    RST,
    SETTINGS,
    START_RUN,
    STREAMING,
    WATCH,
    WINDOW,
    Wire,
    field,
    fields_of,
    frame,
    message,
    run_request,
)
from wire_case import DEADLINE, EXHAUSTED, KIB, OK, SERVING, Honest, WireCase, resident


class Floods(WireCase):
    """Section 3: the connection ends, the process does not."""

    def flood(self, wire, piece, n, read=True):
        """Sends n times; reads meanwhile, as a client would."""
        batch = 200
        for _ in range(0, n, batch):
            if not wire.try_send(piece * batch):
                break
            if read:
                wire.receive(0.0001)
            if wire.is_closed:
                break

    def test_at2_window_overflows_end_the_connection(self):
        wire = self.wire()
        for _ in range(10):
            streams = [wire.new_id() for _ in range(100)]
            out = b""
            for stream in streams:
                out += wire.block(stream, wire.request(REFLECT)) + frame(WINDOW, 0, stream, b"\x7f\xff\xff\xff")
            if not wire.try_send(out):
                break
            wire.drain_input(0.05)
        resets = {reply.reset for reply in wire.replies.values()}
        self.assertLessEqual(resets, {FLOW, None})
        self.assert_over(wire, text="own_resets")

    def test_at2_wrong_content_lengths_end_the_connection(self):
        wire = self.wire()
        for _ in range(10):
            out = b""
            for _ in range(100):
                stream = wire.new_id()
                out += wire.block(stream, wire.request(HEALTH, ("content-length", "3")))
                out += frame(DATA, END_STREAM, stream, b"12345")
            if not wire.try_send(out):
                break
            wire.drain_input(0.05)
        self.assert_over(wire, text="own_resets")

    def test_at2_bad_headers_end_the_connection(self):
        wire = self.wire()
        for _ in range(10):
            out = b""
            for _ in range(100):
                out += wire.block(wire.new_id(), wire.request(HEALTH, ("X-Upper", "x")), end=True)
            if not wire.try_send(out):
                break
            wire.drain_input(0.05)
        self.assert_over(wire, text="own_resets")
        refused = self.counted("sluice_refusals_total")['kind="request",reason="malformed"']
        self.assertGreaterEqual(refused, 500, "each of them")

    def test_at3_calls_over_the_quota_are_refused_and_control_calls_still_work(self):
        wire = self.wire()
        self.assertEqual(wire.settings[3], 1320)
        streams = [wire.start(STREAMING) for _ in range(1000)]
        reply = wire.wait_over(wire.call(STREAMING, run_request("echo", "x")))
        self.assertEqual((reply.frames, reply.reset), ([RST], REFUSED))
        self.assertEqual(self.counted("sluice_refusals_total"), {'kind="request",reason="quota"': 1})
        self.assertEqual(self.counted("sluice_limits_reached_total"), {'limit="runs_per_connection"': 1})
        self.assertEqual(self.server.metrics()["sluice_connections_at_stream_limit"], {"": 1})
        self.assert_usable(wire)
        self.assertEqual([s for s in streams if wire.reply(s).is_over()], [])

    def test_at3_streams_over_the_advertised_limit_do_no_harm(self):
        wire = self.wire()
        for _ in range(1400):
            stream = wire.new_id()
            if not wire.try_send(wire.block(stream, wire.request(WATCH))):
                break
        wire.drain_input()
        refused = [s for s, reply in wire.replies.items() if reply.reset == REFUSED]
        self.assertTrue(refused or wire.is_closed)

    def fill(self, wire):
        """As many streams as are advertised, all open."""
        out = b"".join(wire.block(wire.new_id(), wire.request(STREAMING)) for _ in range(1000))
        out += b"".join(wire.block(wire.new_id(), wire.request(ATTACH)) for _ in range(256))
        out += b"".join(wire.block(wire.new_id(), wire.request(WATCH)) for _ in range(64))
        wire.send(out)

    def test_at3_a_stream_over_the_advertised_limit_is_refused_while_it_is_not_known(self):
        wire = self.wire(is_opened=False)
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        self.fill(wire)
        reply = wire.wait_over(wire.start(HEALTH, end=True))
        self.assertEqual((reply.frames, reply.reset, wire.goaways), ([RST], REFUSED, []))
        self.assertEqual(self.counted("sluice_limits_reached_total"), {'limit="streams_per_connection"': 1})

    def test_at3_a_stream_over_the_advertised_limit_ends_the_connection(self):
        wire = self.wire()
        self.fill(wire)
        wire.try_send(wire.block(wire.new_id(), wire.request(HEALTH), end=True))
        wire.wait_closed()
        self.assertEqual([code for _, code, _ in wire.goaways], [PROTOCOL])
        self.faults.append("protocol_error")

    def test_at3_answers_that_nobody_reads_stop_the_reading(self):
        wire = self.wire(is_opened=False, receive_buffer=4096)
        wire.encoder.huffman = False
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        wire.socket.settimeout(1)
        block = wire.block(1, wire.request(HEALTH, (b"x-long", b"!" * 4000)))
        head, rest = block[:5], block[9:]
        n_sent = 0
        with contextlib.suppress(socket.timeout):  # what the kernel holds is less than 10 MB
            while n_sent < 20000:
                wire.socket.sendall(head + struct.pack(">I", wire.new_id()) + rest)
                n_sent += 1
        self.assertLess(n_sent, 20000)
        n_answers = n_sent - 64  # so many control calls may wait for their request
        wire.wait("an answer to each, once they are read", lambda: len(wire.replies) >= n_answers)
        self.assertEqual({reply.reset for reply in wire.replies.values()}, {REFUSED})

    def test_at4_a_continuation_flood_ends_the_connection(self):
        wire = self.wire()
        wire.try_send(frame(HEADERS, 0, 1, wire.encoder.encode(wire.request(HEALTH))) + frame(CONT, 0, 1) * 9)
        self.assert_over(wire, text="continuation_flood")

    def test_at7_a_ping_flood_ends_the_connection(self):
        for read in (True, False):
            wire = self.wire()
            self.flood(wire, frame(PING, 0, 0, bytes(8)), 10000, read)
            self.assert_over(wire, text="too_many_pings")

    def test_at7_a_ping_after_each_data_is_fine(self):
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", "events=200 bytes=100 rate=400"))
        reply = wire.reply(stream)
        while not reply.is_over():
            size = len(reply.data)
            wire.wait("an event", lambda size=size: len(reply.data) > size or reply.is_over())
            wire.send(frame(PING, 0, 0, bytes(8)))
        self.assertEqual(reply.status(), OK)
        self.assertEqual(wire.goaways, [])

    def test_at8_a_settings_flood_ends_the_connection(self):
        windows = b"".join(frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, size)) for size in (1, 65536))
        for flood, n_streams in ((frame(SETTINGS, 0, 0), 0), (windows, 100)):
            wire = self.wire()
            for _ in range(n_streams):
                wire.start(STREAMING)
            self.flood(wire, flood, 10000)
            self.assert_over(wire, text="settings_flood")

    def test_at9_empty_data_ends_the_connection(self):
        for payload, flags in ((b"", 0), (b"\xc8" + bytes(200), PADDED), (b"\0", PADDED)):
            wire = self.wire()
            stream = wire.start(REFLECT)
            self.flood(wire, frame(DATA, flags, stream, payload), 10000)
            self.assert_over(wire, text="empty_frames")

    def test_at9_empty_data_of_a_closed_stream_ends_the_connection(self):
        for flags in (0, END_STREAM, PADDED):
            wire = self.wire()
            stream = wire.start("/a.B/C")
            wire.wait_over(stream)
            self.flood(wire, frame(DATA, flags, stream, b"\0" if flags & PADDED else b""), 10000)
            self.assert_over(wire, text="empty_frames")

    def test_at9_many_requests_that_end_in_an_empty_frame_are_fine(self):
        wire = self.wire()
        for _ in range(5):
            streams = [wire.start(HEALTH) for _ in range(60)]
            for stream in streams:
                wire.data(stream, message(b""))
            for stream in streams:
                wire.data(stream, b"", end=True)
            for stream in streams:
                self.assertEqual(wire.wait_over(stream).messages(), [SERVING])
        self.assertEqual(wire.goaways, [])

    def test_at11_one_byte_window_updates_end_the_connection(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 0)])
        stream = wire.call(STREAMING, run_request("load", "events=4000 bytes=1000"))
        wire.wait("headers", lambda: wire.reply(stream).blocks)
        for _ in range(5000):
            if not wire.try_send(frame(WINDOW, 0, stream, b"\0\0\0\1")):
                break
            wire.receive(0.0001)
            if wire.is_closed:
                break
        self.assert_over(wire, text="window_update_flood")
        self.assertLess(len(wire.reply(stream).data), 500)

    def test_at11_window_updates_as_a_client_sends_them_are_fine(self):
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", "events=4000 bytes=1000"))
        reply, size, n_frames = wire.reply(stream), 0, 0
        while not reply.is_over():
            wire.wait("data", lambda: len(reply.data) > size or reply.is_over())
            new = reply.frames.count(DATA) - n_frames
            for i in range(new):  # two for each frame
                for number in (0, stream):
                    wire.open_window(number, (len(reply.data) - size + i) // new)
            size, n_frames = len(reply.data), n_frames + new
        self.assertEqual((reply.status(), wire.goaways), (OK, []))
        self.assertGreater(n_frames, 100, "more than a client may send for nothing")

    def test_at12_a_priority_flood_ends_the_connection(self):
        wire = self.wire()
        for i in range(0, 100000, 500):
            out = b"".join(frame(PRIORITY, 0, 2 * k + 1, b"\0\0\0\0\x10") for k in range(i, i + 500))
            if not wire.try_send(out):
                break
        self.assert_over(wire, text="priority_flood")

    def test_at19_http1_gets_a_short_400(self):
        wire = self.wire(is_opened=False)
        wire.send(b"POST / HTTP/1.1\r\nhost: a\r\n\r\n")
        data = b""
        while True:
            piece = wire.socket.recv(4096)
            data += piece
            if not piece:
                break
        self.assertTrue(data.startswith(b"HTTP/1.1 400 "), data)
        self.faults.append("bad_preface")

    def test_frames_of_no_known_type_are_ignored(self):
        wire = self.wire()
        wire.send(frame(0x77, 0xFF, 0, b"abc") + frame(0x21, 0, 1, b""))
        self.assert_usable(wire)

    def assert_flood_is_ended(self, wire, data, text):
        """The connection ends with its reason, while another one is served all the time."""
        honest = Honest(self.server.address)
        for _ in range(200):
            if not wire.try_send(data * 200):
                break
            wire.drain_input(0.001)
            if wire.is_closed:
                break
        self.assert_over(wire, text=text)
        honest.end()

    def test_a_flood_of_frames_of_no_known_type_ends_the_connection(self):
        self.assert_flood_is_ended(self.wire(), frame(0x77, 0, 0, b"abc"), "unknown_frames")

    def test_at7_answers_to_no_ping_and_goaways_end_the_connection(self):
        for flood in (frame(PING, 1, 0, bytes(8)), frame(GOAWAY, 0, 0, bytes(8))):
            wire = self.wire()
            wire.start(STREAMING)
            self.flood(wire, flood, 10000)
            self.assert_over(wire, text="useless_frames")

    def test_floods_of_closed_streams_end_the_connection(self):
        for make in (
            lambda wire, stream: frame(DATA, 0, stream, bytes(1000)),
            lambda wire, stream: frame(HEADERS, END_HEADERS, stream, b"\x82" * 100),
            lambda wire, stream: frame(RST, 0, stream, struct.pack(">I", 8)),
        ):
            wire = self.wire()
            stream = wire.start("/a.B/C")
            wire.wait_over(stream)
            self.assert_flood_is_ended(wire, make(wire, stream), "closed_stream")

    def test_what_is_in_flight_when_a_call_is_refused_is_fine(self):
        wire = self.wire()
        for _ in range(20):
            stream = wire.start("/a.B/C")
            wire.try_send(b"".join(frame(DATA, 0, stream, bytes(16384)) for _ in range(16)))
            wire.wait_over(stream)
        self.assert_usable(wire)
        self.assertEqual(wire.goaways, [])

    def test_protocol_faults_end_the_connection_with_their_code(self):
        for data, code in (
            (frame(DATA, 0, 0, b"x"), PROTOCOL),
            (frame(DATA, 0, 1, b"x"), PROTOCOL),
            (frame(RST, 0, 1, b"\0\0\0\0"), PROTOCOL),
            (frame(WINDOW, 0, 0, b"\0\0\0\0"), PROTOCOL),
            (frame(WINDOW, 0, 0, b"\x7f\xff\xff\xff"), FLOW),
            (frame(SETTINGS, 0, 0, b"\0"), 6),
            (frame(PING, 0, 0, b"\0"), 6),
            (frame(HEADERS, END_HEADERS, 2, b"\x82"), PROTOCOL),
            (frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff"), 9),
            (frame(CONT, END_HEADERS, 1, b"\x82"), PROTOCOL),
            (struct.pack(">I", 16385)[1:] + b"\0\0\0\0\0\1" + bytes(16385), 6),
        ):
            wire = self.wire()
            wire.try_send(data)
            self.assert_over(wire, code=code)


class RapidReset(WireCase):
    def n_runs(self):
        return self.server.log().count('msg="started"')

    def test_at1_rapid_reset_starts_few_runs_and_ends_the_connection(self):
        before = self.n_runs()
        wire = self.wire()
        body = frame(DATA, END_STREAM, 0, message(run_request("load", "hang=true")))
        for _ in range(30):
            out = b""
            for _ in range(100):
                stream = wire.new_id()
                out += wire.block(stream, wire.request(STREAMING))
                out += body[:5] + struct.pack(">I", stream) + body[9:] + frame(RST, 0, stream, b"\0\0\0\x08")
            if not wire.try_send(out):
                break
            wire.receive(0.0001)
        self.assert_over(wire, text="rapid_reset")
        self.assertLessEqual(self.n_runs() - before, 1000)
        self.wait_runs_ended()

    def test_at1_500_runs_cancelled_after_their_first_event_are_honest(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 1 << 20)])
        wire.open_window(0, 1 << 30)
        for _ in range(10):
            streams = [wire.call(STREAMING, run_request("load", "hang=true")) for _ in range(50)]
            for stream in streams:
                wire.wait("the first event", lambda stream=stream: wire.reply(stream).messages())
                wire.reset(stream)
        self.assertEqual(wire.goaways, [])
        self.assert_usable(wire)
        self.wait_runs_ended()


class Patience(WireCase):
    """Everything that waits has an end (CM-13, AT-14)."""

    FLAGS = [
        word
        for limit in (
            "preface=600ms",
            "header_block=600ms",
            "message_gap=600ms",
            "stall=800ms",
            "keepalive_time=1s",
            "keepalive_timeout=600ms",
        )
        for word in ("--limit", limit)
    ]

    def wait_ended(self, wire, least, most=8):
        begin = time.monotonic()
        wire.wait_closed(most)
        self.assertGreater(time.monotonic() - begin, least)

    def test_at14_a_client_without_a_preface_is_closed(self):
        for start in (b"", b"PRI * HTTP/2.0\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"):
            wire = self.wire(is_opened=False)
            wire.send(start)
            self.wait_ended(wire, 0.3)
        self.assertEqual(self.counted("sluice_faults_total"), {'reason="preface_timeout"': 3})
        self.assertEqual(self.counted("sluice_limits_reached_total"), {'limit="preface"': 3})

    def test_at14_an_unfinished_header_block_ends_the_connection(self):
        wire = self.wire()
        wire.send(frame(HEADERS, 0, 1, wire.encoder.encode(wire.request(HEALTH))))
        self.wait_ended(wire, 0.3)
        wire = self.wire()
        wire.send(wire.block(1, wire.request(HEALTH), True)[:-1])
        self.wait_ended(wire, 0.3)
        self.assertEqual(self.counted("sluice_faults_total"), {'reason="header_block_timeout"': 2})

    def test_at14_silence_inside_a_message_ends_the_call(self):
        wire = self.wire()
        for part in (b"\0", struct.pack(">BI", 0, 9) + b"x"):
            stream = wire.start(HEALTH)
            wire.data(stream, part)
            reply = wire.wait_over(stream)
            self.assertTrue(reply.reset is not None or reply.status() not in (OK, None), reply)
            self.assert_usable(wire)
        self.assertEqual(self.counted("sluice_limits_reached_total"), {'limit="message_gap"': 2})

    def test_at13_a_socket_that_is_never_read_is_given_up(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 1 << 30)], receive_buffer=4096)
        wire.open_window(0, 1 << 30)
        streams = [wire.call(STREAMING, run_request("load", "events=5000 bytes=1000")) for _ in range(5)]
        # Its streams stall, and so does its socket: whoever notices first.
        harness.wait_for(
            "the end of each", lambda: sum(self.counted("sluice_stream_ends_total").values()) == len(streams)
        )
        self.assertLessEqual(set(self.counted("sluice_stream_ends_total")), {'reason="slow"', 'reason="lost"'})
        self.assertIn('limit="stall"', self.counted("sluice_limits_reached_total"))
        wire.close()
        self.wait_runs_ended()

    def test_fc9_a_stalled_stream_ends_at_a_message_border_with_trailers(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 0)])
        stream = wire.call(STREAMING, run_request("load", "events=4000 bytes=1000"))
        reply = wire.wait_over(stream)
        self.assertEqual((reply.status(), reply.data), (EXHAUSTED, b""), reply)
        value = reply.get("grpc-status-details-bin")
        self.assertIn(b"last_sequence", base64.b64decode(value + "=" * (-len(value) % 4)))
        self.assertEqual(self.counted("sluice_stream_ends_total"), {'reason="slow"': 1})
        self.assertEqual(self.counted("sluice_limits_reached_total"), {'limit="buffer"': 1, 'limit="stall"': 1})
        health = wire.call(HEALTH)
        wire.open_window(health, 100)
        self.assertEqual(wire.wait_over(health).messages(), [SERVING])

    def test_fc9_a_stream_that_stalls_inside_a_message_is_reset(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 10)])
        reply = wire.wait_over(wire.call(STREAMING, run_request("load", "events=4000 bytes=1000")))
        self.assertEqual((reply.reset, reply.status(), len(reply.data)), (CALM, None, 10), reply)

    def test_dl3_a_deadline_passes_a_closed_window(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 0)])
        body = run_request("load", "events=4000 bytes=1000")
        reply = wire.wait_over(wire.call(STREAMING, body, ("grpc-timeout", "200m")))
        self.assertEqual((reply.status(), reply.data), (DEADLINE, b""), reply)

    def test_cm1_a_client_that_does_not_answer_pings_is_dropped(self):
        wire = self.wire()
        wire.acks_pings = False
        stream = wire.call(STREAMING, run_request("load", "hang=true"))
        wire.wait("PING", lambda: any(f[0] == PING for f in wire.frames))
        wire.wait_closed()
        self.assertFalse(wire.reply(stream).is_ended)
        self.wait_runs_ended()
        self.assertEqual(self.counted("sluice_faults_total"), {'reason="ping_timeout"': 1})
        self.assertEqual(self.counted("sluice_stream_ends_total"), {'reason="lost"': 1})

    def test_cm1_a_client_that_answers_pings_stays(self):
        wire = self.wire()
        wire.call(STREAMING, run_request("load", "hang=true"))
        wire.wait("three PINGs", lambda: sum(f[0] == PING for f in wire.frames) == 3)
        self.assert_usable(wire)

    def test_cn2_a_client_that_goes_leaves_nothing(self):
        for how in ("close", "half", "tear"):
            wire = self.wire()
            streams = [wire.call(STREAMING, run_request("load", "hang=true")) for _ in range(20)]
            wire.wait("first events", lambda wire=wire, streams=streams: all(wire.reply(s).data for s in streams))
            if how == "half":
                wire.socket.shutdown(socket.SHUT_WR)
                wire.wait_closed()
            elif how == "tear":
                wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.close()
            self.wait_runs_ended()


class Goodbye(harness.Case):
    def test_at13_a_socket_that_is_never_read_costs_little(self):
        server = self.daemon()  # with its own patience: a stall would end the streams before they cost anything
        before = resident(server.pid)
        wire = Wire(server.address, settings=[(INITIAL_WINDOW, 1 << 30)])
        self.addCleanup(wire.close)
        wire.open_window(0, 1 << 30)
        for _ in range(50):  # 250 MB, if nothing held them back
            wire.call(STREAMING, run_request("load", "events=5000 bytes=1000"))
        other = Wire(server.address)
        self.addCleanup(other.close)
        harness.wait_for("the runs", lambda: server.log().count('msg="started"') == 50)
        for _ in range(20):  # seldom: a sanitizer keeps for a while what each call has freed
            time.sleep(0.2)
            self.assertLess(resident(server.pid) - before, 100 * KIB * KIB)
            begin = time.monotonic()
            self.assertEqual(other.ask(HEALTH).status(), OK)
            self.assertLess(time.monotonic() - begin, Honest.PATIENCE)
        wire.close()
        other.close()
        harness.wait_for("the end of the runs", lambda: server.log().count('msg="ended"') == 50)

    def test_at13_large_replies_that_are_never_read_cost_little(self):
        server = self.daemon(flags=["--limit", "connection_send=1MiB", "--limit", "send_total=8MiB"])
        run_id = self.run_with_long_conversation(server)
        wire = Wire(server.address, settings=[(INITIAL_WINDOW, 0)])
        self.addCleanup(wire.close)
        asked = []

        def ask(n):
            asked.extend(wire.call(GET_RUN, field(1, run_id) + field(2, 1)) for _ in range(n))

        def n_held_or_refused():  # which of them: it depends on whether the run is on the connection's loop
            reached = server.metrics()["sluice_limits_reached_total"]
            return reached['limit="connection_send"'] + reached['limit="send_total"']

        honest = Honest(server.address)
        ask(60)  # 45 MB, and as many as may run at once
        harness.wait_for("calls that wait or are refused", lambda: n_held_or_refused() >= 40)
        ask(4)  # 64 may be open
        harness.wait_for("calls that wait", lambda: n_held_or_refused() >= 50)
        # By its account: a sanitizer keeps what is freed.
        self.assertLess(server.metrics()["sluice_stream_buffer_bytes"][""], 9 * KIB * KIB)
        honest.end()
        wire.open_window(0, 1 << 30)
        for stream in asked:
            wire.open_window(stream, 1 << 20)
        replies = [wire.wait_over(stream) for stream in asked]
        self.assertLessEqual({reply.status() for reply in replies}, {OK, EXHAUSTED})
        self.assertEqual({len(reply.data) > 500000 for reply in replies if reply.status() == OK}, {True})
        refused = [reply for reply in replies if reply.status() == EXHAUSTED]
        self.assertLessEqual({reply.error_info()[0] for reply in refused}, {"SERVER_FULL"})
        ask(1)
        wire.open_window(asked[-1], 1 << 20)
        self.assertEqual(wire.wait_over(asked[-1]).status(), OK)
        wire.close()

    def test_at15_requests_that_never_end_cost_little(self):
        server = self.daemon(flags=["--limit", "receive_total=8MiB"])
        honest = Honest(server.address)
        wires = [Wire(server.address) for _ in range(2)]
        for wire in wires:
            self.addCleanup(wire.close)
        begun = [(wire, wire.start(STREAMING)) for wire in wires for _ in range(20)]
        for wire, stream in begun:
            wire.data(stream, struct.pack(">BI", 0, 4 * KIB * KIB))
        for _ in range(32):  # 20 MB, if all were kept
            for wire, stream in begun:
                if not wire.reply(stream).is_over():
                    wire.data(stream, bytes(16384))
            for wire in wires:
                wire.drain_input(0.01)
        replies = [wire.reply(stream) for wire, stream in begun]
        refused = [reply for reply in replies if reply.is_over()]
        n_kept = len(replies) - len(refused)
        self.assertIn(n_kept, range(12, 17), "as many as fit, 512 KiB each, or two loops have refused at once")
        self.assertEqual({reply.status() for reply in refused}, {EXHAUSTED})
        self.assertEqual({reply.error_info()[0] for reply in refused}, {"SERVER_FULL"})
        self.assertEqual({reply.get("grpc-retry-pushback-ms") for reply in refused}, {"1000"})
        reached = server.metrics()["sluice_limits_reached_total"]
        self.assertEqual(reached['limit="receive_total"'], len(refused))
        honest.end()
        for wire in wires:
            wire.close()
        again = Wire(server.address)
        self.addCleanup(again.close)

        def is_taken():
            body, stream = message(run_request("echo", "x" * 20000)), again.start(STREAMING)
            again.data(stream, body[:16384])
            again.data(stream, body[16384:], end=True)
            return again.wait_over(stream).status() == OK

        harness.wait_for("room for a request", is_taken)

    def run_with_long_conversation(self, server):
        wire = Wire(server.address, settings=[(INITIAL_WINDOW, 1 << 24)])
        self.addCleanup(wire.close)
        wire.open_window(0, 1 << 24)
        body = message(run_request("echo", "x" * 250 * 1000))  # fits into the window
        stream = wire.start(START_RUN)
        for at in range(0, len(body), 16384):
            wire.data(stream, body[at : at + 16384], end=at + 16384 >= len(body))
        reply = wire.wait_over(stream)
        self.assertEqual(reply.status(), OK, reply)
        run_id = dict(fields_of(reply.messages()[0]))[1]
        harness.wait_for("the end of the run", lambda: server.log().count('msg="ended"') == 1)
        wire.close()
        return run_id

    def test_cm5_sigterm_says_goaway_in_two_steps(self):
        server = self.daemon()
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        wire.acks_pings = False
        stream = wire.call(STREAMING, run_request("load", "hang=true"))
        wire.wait("the run", lambda: wire.reply(stream).messages())
        server.process.send_signal(signal.SIGTERM)
        wire.wait("GOAWAY", lambda: wire.goaways)
        self.assertEqual(wire.goaways[0][:2], (0x7FFFFFFF, NO_ERROR))
        wire.wait("PING", lambda: any(f[0] == PING for f in wire.frames))
        kinds = [f[0] for f in wire.frames if f[0] in (GOAWAY, PING)]
        self.assertEqual(kinds, [GOAWAY, PING])
        late = wire.call(STREAMING, run_request("echo", "x"))
        refusal = wire.wait_over(late)
        self.assertEqual(refusal.status(), 14, "answered, not lost")
        self.assertEqual(refusal.error_info(), ("DRAINING", "sluice.v1", {"run_started": "false"}))
        self.assertEqual(refusal.get("grpc-retry-pushback-ms"), "1000", "RT-1")
        ping = next(f for f in wire.frames if f[0] == PING)
        wire.send(frame(PING, 1, 0, ping[3]))
        wire.wait("the second GOAWAY", lambda: len(wire.goaways) == 2)
        self.assertEqual(wire.goaways[1], (late, NO_ERROR, "drain"))
        reply = wire.wait_over(stream)
        self.assertEqual((reply.status(), reply.frames[-1]), (10, HEADERS), reply)
        self.assertEqual((reply.error_info()[0], reply.error_info()[2]["run_started"]), ("DRAINING", "true"))
        wire.wait_closed()
        self.assertEqual(server.process.wait(20), 0, server.log())
        self.assertEqual(len(wire.goaways), 2)

    def test_cm4_an_old_connection_is_left_to_end_its_calls(self):
        server = self.daemon(flags=["--limit", "connection_age=1s"])
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        stream = wire.call(STREAMING, run_request("load", "events=30 rate=10"))
        wire.wait("both GOAWAYs", lambda: len(wire.goaways) == 2)
        self.assertEqual(wire.goaways, [(0x7FFFFFFF, NO_ERROR, ""), (stream, NO_ERROR, "max_age")])
        self.assertEqual(wire.wait_over(stream).status(), OK)
        wire.wait_closed()

    def test_cm12_connections_over_the_limit_are_refused_and_others_served(self):  # AT-18
        server = self.daemon(flags=["--limit", "connections_per_address=5", "--limit", "preface=60s"])
        wires = [Wire(server.address) for _ in range(5)]
        for wire in wires:
            self.addCleanup(wire.close)
        late = Wire(server.address, is_opened=False)
        self.addCleanup(late.close)
        late.wait_closed()
        self.assertEqual(server.dump()["limits_reached"], {"connections_per_address": 1})
        for wire in wires:
            self.assertEqual(wire.ask(HEALTH).status(), OK)
        wires[0].close()

        def is_served():
            again = Wire(server.address, is_opened=False)
            self.addCleanup(again.close)
            return again.try_open() and again.ask(HEALTH).status() == OK

        harness.wait_for("room for another", is_served)


if __name__ == "__main__":
    harness.main()
