"""The daemon as a hostile or careless HTTP/2 client meets it: every frame here is made by hand."""

import base64
import gzip
import os
import signal
import socket
import struct
import threading
import time

import harness
from wire import (
    CALM,
    CONT,
    DATA,
    END_HEADERS,
    END_STREAM,
    FLOW,
    GOAWAY,
    HEADERS,
    HEALTH,
    INITIAL_WINDOW,
    INTERNAL,
    MAX_HEADER_LIST,
    NO_ERROR,
    PADDED,
    PING,
    PRIORITY,
    PROTOCOL,
    REFLECT,
    REFUSED,
    RST,
    SETTINGS,
    STREAMING,
    WATCH,
    WINDOW,
    Wire,
    field,
    frame,
    message,
    run_request,
)

OK, INVALID_ARGUMENT, DEADLINE, EXHAUSTED, UNIMPLEMENTED, INTERNAL_STATUS = 0, 3, 4, 8, 12, 13
SERVING = b"\x08\x01"
LIMIT = 4 * 1024 * 1024
KIB = 1024


def resident(pid):
    with open("/proc/%d/statm" % pid, encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class WireCase(harness.Case):
    """One daemon for all tests of a class; every test ends with an answer on a fresh connection."""

    FLAGS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Daemon(flags=cls.FLAGS)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def tearDown(self):
        self.assert_usable(self.wire())

    def wire(self, **options):
        wire = Wire(self.server.address, **options)
        self.addCleanup(wire.close)
        return wire

    def assert_usable(self, wire):
        reply = wire.ask(HEALTH)
        self.assertEqual((reply.status(), reply.messages()), (OK, [SERVING]), reply)

    def assert_trailers_only(self, reply, status, http="200"):
        """RS-2: one HEADERS with END_STREAM, :status first, and no DATA."""
        frames = [kind for kind in reply.frames if kind != RST]
        self.assertEqual((frames, reply.is_ended), ([HEADERS], True), reply)
        names = [name for name, _ in reply.blocks[0][0]]
        self.assertEqual((names[0], reply.get(":status")), (":status", http), reply)
        self.assertEqual((names.count("grpc-status"), reply.status()), (1, status), reply)
        self.assertLessEqual(names.count("grpc-message"), 1)
        self.assertIn("content-type", names)
        self.assertEqual(len(names), len(set(names)), reply)

    def assert_refused(self, status, path=HEALTH, *more, http="200", text=None, body=b"", **fixed):
        """The call is refused, and the connection stays usable."""
        wire = self.wire()
        reply = wire.ask(path, body, *more, **fixed)
        self.assert_trailers_only(reply, status, http)
        if text is not None:
            self.assertIn(text, reply.text())
        self.assert_usable(wire)
        return reply

    def assert_reset(self, code, wire, stream):
        reply = wire.wait_over(stream)
        self.assertEqual((reply.frames, reply.reset), ([RST], code), reply)
        self.assert_usable(wire)

    def assert_over(self, wire, code=CALM, text=None):
        """GOAWAY with this code, then the end of the connection. What was sent into it may have torn GOAWAY off."""
        wire.wait_closed()
        for _, seen, debug in wire.goaways:
            self.assertEqual(seen, code, wire.goaways)
            if text is not None:
                self.assertEqual(debug, text)
        self.assertTrue(wire.goaways, "no GOAWAY")


class Admission(WireCase):
    def test_adm1_headers_over_the_soft_limit_are_refused_politely(self):
        wire = self.wire()
        self.assertEqual(wire.settings[MAX_HEADER_LIST], 8192)
        reply = wire.ask(HEALTH, b"", ("x-big", "a" * 8192))
        self.assert_trailers_only(reply, EXHAUSTED)
        self.assert_usable(wire)
        small = [("x-%d" % i, "") for i in range(230)]
        self.assert_trailers_only(wire.ask(HEALTH, b"", *small), EXHAUSTED)
        self.assertEqual(wire.ask(HEALTH, b"", ("x-fits", "a" * 7000)).status(), OK)

    def test_adm1_binary_headers_count_in_base64(self):
        wire = self.wire()
        value = base64.b64encode(bytes(6200)).decode()
        self.assertEqual(wire.ask(HEALTH, b"", ("x-bin", value)).status(), EXHAUSTED)

    def test_adm1_headers_over_the_hard_limit_reset_the_stream_only(self):
        wire = self.wire()
        self.assert_reset(INTERNAL, wire, wire.start(HEALTH, ("x-big", "!" * 33000), end=True))

    def test_at5_and_at10_too_many_header_fields_reset_the_stream_only(self):
        wire = self.wire()
        self.assert_reset(INTERNAL, wire, wire.start(HEALTH, *[("a", "")] * 500, end=True))

    def test_at6_references_to_one_big_table_entry_reset_the_stream_only(self):
        wire = self.wire()
        wire.encoder.huffman = False
        insert = wire.encoder.encode(wire.request(HEALTH)) + b"\x40\x01b\x7f\x9d\x1d"
        insert += b"v" * 3868 + b"\xbe" * 12000
        stream = wire.new_id()
        wire.send(
            frame(HEADERS, END_STREAM, stream, insert) + frame(CONT, END_HEADERS, stream, b"\xbe" * 12000)
        )
        reply = wire.wait_over(stream)
        self.assertEqual((reply.frames, reply.reset), ([RST], INTERNAL), reply)
        self.assertEqual(wire.goaways, [])

    def test_adm2_connection_headers_reset_the_stream_only(self):
        for name, value in (("connection", "close"), ("te", "gzip"), ("transfer-encoding", "chunked"), ("X-Up", "1")):
            wire = self.wire()
            self.assert_reset(PROTOCOL, wire, wire.start(HEALTH, (name, value), te=None))

    def test_adm3_two_authorities_are_refused(self):
        for more in ((":authority", "b"), ("host", "b")):
            wire = self.wire()
            fields = wire.request(HEALTH)
            if more[0] == "host":
                fields += [more, more]
            else:
                fields.insert(1, more)
            stream = wire.new_id()
            wire.send(wire.block(stream, fields, True))
            reply = wire.wait_over(stream)
            self.assertTrue(reply.reset == PROTOCOL or reply.get(":status") == "400", reply)
            self.assert_usable(wire)

    def test_adm4_what_is_not_grpc_gets_415_without_data(self):
        for kind in (
            "application/grpcfoo",
            "application/grpc-web",
            "application/grpc-web+proto",
            "application/proto",
            "text/html",
            "",
            None,
        ):
            wire = self.wire()
            reply = wire.ask(HEALTH, b"", content_type=kind)
            self.assertEqual(reply.get(":status"), "415", (kind, reply))
            self.assertEqual([k for k in reply.frames if k != RST], [HEADERS], reply)
            self.assertTrue(reply.blocks[0][1], "END_STREAM")
            self.assertIsNone(reply.get("grpc-status"))
            self.assert_usable(wire)

    def test_adm4_grpc_content_types_are_taken_and_repeated(self):
        for kind in (
            "application/grpc",
            "application/grpc+proto",
            "Application/GRPC",
            "application/grpc;charset=utf-8",
            "application/grpc+proto; a=b",
            "application/grpc ; x",
        ):
            reply = self.wire().ask(HEALTH, b"", content_type=kind)
            self.assertEqual((reply.status(), reply.get("content-type")), (OK, kind), reply)

    def test_adm5_an_unknown_subtype_is_unimplemented(self):
        reply = self.assert_refused(UNIMPLEMENTED, content_type="application/grpc+json", text="json")
        self.assertEqual(reply.get("content-type"), "application/grpc+json")

    def test_adm6_a_malformed_timeout_is_refused(self):
        for value in ("", "1", "S", "1s", "-1S", "1.5S", "123456789S", "1SS", " 1S", "1 S", "0x1S", "+1S"):
            self.assert_refused(INTERNAL_STATUS, HEALTH, ("grpc-timeout", value), http="400", text="grpc-timeout")

    def test_adm6_malformed_base64_is_refused(self):
        for value in ("!!!!", "AAA*", "A", "AA=A", "AAAA,*"):
            self.assert_refused(INTERNAL_STATUS, HEALTH, ("x-bin", value), http="400", text="base64")

    def test_md2_padded_and_unpadded_base64_and_lists_are_taken(self):
        for value in ("", "AA", "AA==", "AAA", "AAA=", "AAAA,AA", "AA==,,AAA"):
            self.assertEqual(self.wire().ask(HEALTH, b"", ("x-bin", value)).status(), OK, value)

    def test_md3_bytes_above_0x7f_in_values_do_not_fail_the_call(self):
        self.assertEqual(self.wire().ask(HEALTH, b"", ("x-a", b"\x80\xff\xe9")).status(), OK)

    def test_adm7_host_takes_the_place_of_authority(self):
        self.assertEqual(self.wire().ask(HEALTH, b"", ("host", "a"), authority=None).status(), OK)
        self.assertEqual(self.wire().ask(HEALTH, b"", ("host", "a")).status(), OK)

    def test_adm10_another_method_gets_405(self):
        for method in ("GET", "PUT", "post", "OPTIONS"):
            self.assert_refused(INTERNAL_STATUS, HEALTH, method=method, http="405")

    def test_adm11_odd_paths_are_malformed(self):
        for path in ("/", "//", "/a", "//Check", "/grpc.health.v1.Health/", "/grpc.health.v1.Health"):
            self.assert_refused(UNIMPLEMENTED, path, text="malformed method name")

    def test_adm11_paths_are_not_decoded_or_folded(self):
        for service, method in (
            ("grpc.health.v1.Health", "Check/"),
            ("/grpc.health.v1.Health", "Check"),
            ("grpc.health.v1.Health", "/Check"),
            ("grpc.health.v1.Health%2FCheck", "Check"),
            ("grpc.health.v1.Health", "%43heck"),
            ("grpc.health.v1.Health", "check"),
            ("grpc.health.v1.Health", "Check?x"),
        ):
            path = "/%s/%s" % (service, method)
            self.assert_refused(UNIMPLEMENTED, path)

    def test_at17_a_path_without_a_slash_is_refused_for_any_scheme(self):
        for scheme in ("grpc", "ftp"):
            self.assert_refused(UNIMPLEMENTED, HEALTH[1:], scheme=scheme, text="malformed method name")

    def test_adm12_a_zero_timeout_has_passed_already(self):
        for value in ("0n", "0S", "00000000H"):
            self.assert_refused(DEADLINE, STREAMING, ("grpc-timeout", value), body=run_request("load", "hang=true"))

    def test_adm13_unknown_services_and_methods_have_texts_of_their_own(self):
        self.assert_refused(UNIMPLEMENTED, "/a.B/C", text="unknown service a.B")
        self.assert_refused(
            UNIMPLEMENTED, "/grpc.health.v1.Health/No", text="unknown method No for service grpc.health.v1.Health"
        )
        reply = self.assert_refused(UNIMPLEMENTED, "/a%01\u00e9/C")
        self.assertRegex(reply.text(), r"^[ -~]*$")

    def test_adm14_te_may_be_missing(self):
        self.assertEqual(self.wire().ask(HEALTH, te=None).status(), OK)

    def test_adm15_an_unknown_encoding_is_refused_with_ours_listed(self):
        wire = self.wire()
        stream = wire.start(HEALTH, ("grpc-encoding", "snappy"))
        wire.data(stream, message(b"xx", flag=1), end=True)
        reply = wire.wait_over(stream)
        self.assertEqual(reply.status(), UNIMPLEMENTED, reply)
        self.assertIn("snappy", reply.text())
        self.assertIn("gzip", reply.get("grpc-accept-encoding"))
        self.assert_usable(wire)

    def test_dl1_the_largest_timeout_is_no_fault(self):
        self.assertEqual(self.wire().ask(HEALTH, b"", ("grpc-timeout", "99999999H")).status(), OK)

    def test_dl4_a_deadline_ends_a_hanging_run(self):
        wire = self.wire()
        reply = wire.ask(STREAMING, run_request("load", "hang=true"), ("grpc-timeout", "300m"))
        self.assertEqual((reply.status(), reply.frames[-1]), (DEADLINE, HEADERS), reply)

    def test_dl3_a_deadline_ends_an_upload(self):
        wire = self.wire()
        stream = wire.start(STREAMING, ("grpc-timeout", "300m"))
        wire.data(stream, struct.pack(">BI", 0, 100) + b"x")
        self.assert_trailers_only(wire.wait_over(stream), DEADLINE)


class Framing(WireCase):
    def send_all(self, *frames, path=HEALTH, more=()):
        """HEADERS, then DATA frames (payload or (flags, payload)); END_STREAM on the last."""
        wire = self.wire()
        stream = wire.start(path, *more)
        for i, item in enumerate(frames):
            flags, payload = item if isinstance(item, tuple) else (0, item)
            wire.send(frame(DATA, flags | (END_STREAM if i + 1 == len(frames) else 0), stream, payload))
        reply = wire.wait_over(stream)
        self.assert_usable(wire)
        return reply

    def test_fr1_frame_borders_mean_nothing(self):
        whole = message(field(1, ""))
        self.assertEqual(self.send_all(*[whole[i : i + 1] for i in range(len(whole))]).messages(), [SERVING])
        self.assertEqual(self.send_all(whole, b"").messages(), [SERVING])
        self.assertEqual(self.send_all(b"", whole[:3], b"", whole[3:]).messages(), [SERVING])

    def test_fr1_padding_is_not_content(self):
        whole = message(field(1, ""))
        padded = [(PADDED, bytes([7]) + whole[i : i + 1] + bytes(7)) for i in range(len(whole))]
        self.assertEqual(self.send_all(*padded).messages(), [SERVING])
        self.assertEqual(self.send_all((PADDED, b"\xff" + whole + bytes(255))).messages(), [SERVING])

    def test_fr1_many_messages_share_a_frame(self):
        reply = self.send_all(
            message(field(7, "")) + message(field(3, "no.such")) + message(field(7, ""))[:7],
            message(field(7, ""))[7:],
            path=REFLECT,
        )
        self.assertEqual((reply.status(), len(reply.messages())), (OK, 3), reply)

    def test_fr2_other_flags_are_internal(self):
        for flag in (2, 0x80, 255):
            self.assertEqual(self.send_all(message(b"", flag=flag)).status(), INTERNAL_STATUS)

    def test_fr2_compressed_without_an_encoding_is_internal(self):
        body = gzip.compress(b"")
        self.assertEqual(self.send_all(message(body, flag=1)).status(), INTERNAL_STATUS)
        self.assertEqual(
            self.send_all(message(body, flag=1), more=[("grpc-encoding", "identity")]).status(), INTERNAL_STATUS
        )
        self.assertEqual(self.send_all(message(body, flag=1), more=[("grpc-encoding", "gzip")]).status(), OK)

    def test_fr3_a_length_over_the_limit_is_refused_from_the_prefix_alone(self):
        for length in (0xFFFFFFFF, 0x7FFFFFFF, LIMIT + 1):
            wire = self.wire()
            stream = wire.start(HEALTH)
            wire.data(stream, struct.pack(">BI", 0, length))
            reply = wire.wait_over(stream)
            self.assert_trailers_only(reply, EXHAUSTED)
            self.assert_usable(wire)

    def test_fr3_the_limit_is_inclusive(self):
        wire = self.wire()
        stream = wire.start(HEALTH)
        body = message(field(1, "") + field(2, bytes(LIMIT - 7)))
        self.assertEqual(len(body) - 5, LIMIT)
        for at in range(0, len(body), 16384):
            wire.wait("room", lambda at=at: at + 16384 <= 65535 + self.credit(wire, stream), 20)
            wire.data(stream, body[at : at + 16384], end=at + 16384 >= len(body))
        self.assertEqual(wire.wait_over(stream).status(), OK)

    @staticmethod
    def credit(wire, stream):
        """What the smaller of both windows has grown by."""
        grown = {0: 0, stream: wire.settings[INITIAL_WINDOW] - 65535}
        for kind, _, number, payload in wire.frames:
            if kind == WINDOW and number in grown:
                grown[number] += struct.unpack(">I", payload)[0]
        return min(grown.values())

    def test_fr4_a_compression_bomb_is_refused(self):
        bomb = gzip.compress(bytes(10 * 1024 * KIB))
        for body in (bomb, gzip.compress(bytes(3 * 1024 * KIB)) * 2):
            reply = self.send_all(message(body, flag=1), more=[("grpc-encoding", "gzip")])
            self.assertEqual(reply.status(), EXHAUSTED, reply)

    def test_fr4_broken_gzip_is_internal(self):
        good = gzip.compress(b"\x0a\x00")
        for body in (good[:-4], b"junk" * 4, good + b"tail", good[:12] + b"\xff\xff" + good[14:]):
            reply = self.send_all(message(body, flag=1), more=[("grpc-encoding", "gzip")])
            self.assertEqual(reply.status(), INTERNAL_STATUS, reply)

    def test_fr5_an_empty_message_is_a_message(self):
        self.assertEqual(self.send_all(message(b"")).messages(), [SERVING])

    def test_fr6_an_end_inside_a_message_is_internal(self):
        for part in (b"\0", b"\0\0\0\0", struct.pack(">BI", 0, 5), struct.pack(">BI", 0, 5) + b"abcd"):
            for path in (HEALTH, STREAMING):
                self.assert_trailers_only(self.send_all(part, path=path), INTERNAL_STATUS)

    def test_fr6_an_end_inside_a_message_of_a_stream_is_internal(self):
        self.assertEqual(self.send_all(struct.pack(">BI", 0, 5) + b"abcd", path=REFLECT).status(), INTERNAL_STATUS)

    def test_fr7_none_or_two_requests_are_unimplemented(self):
        run = message(run_request("load", "hang=true"))
        for path, one in ((HEALTH, message(b"")), (WATCH, message(b"")), (STREAMING, run)):
            self.assert_trailers_only(self.send_all(b"", path=path), UNIMPLEMENTED)
            self.assert_trailers_only(self.send_all(one + one, path=path), UNIMPLEMENTED)
            self.assert_trailers_only(self.send_all(one, one, path=path), UNIMPLEMENTED)
            wire = self.wire()
            self.assert_trailers_only(wire.wait_over(wire.start(path, end=True)), UNIMPLEMENTED)

    def test_fr8_a_run_starts_at_end_stream_only(self):
        wire = self.wire()
        stream = wire.start(STREAMING)
        wire.data(stream, message(run_request("echo", "x")))
        wire.drain_input(0.3)
        self.assertEqual(wire.reply(stream).frames, [])
        wire.data(stream, b"", end=True)
        self.assertEqual(wire.wait_over(stream).status(), OK)

    def test_fr11_what_does_not_parse_is_internal(self):
        for body in (b"\x0a\x7f", b"\xff" * 12, b"\x00\x00", b"\x0f", b"\x0c", b"\x0b\x14"):
            for path in (HEALTH, STREAMING):
                self.assertEqual(self.send_all(message(body), path=path).status(), INTERNAL_STATUS, body)

    def test_ws2_deep_nesting_is_internal(self):
        for depth in (150, 20000):
            group = b"\xa3\x06" * depth + b"\xa4\x06" * depth
            reply = self.send_all(*[message(group)[i : i + 16384] for i in range(0, 4 * depth + 5, 16384)])
            self.assertEqual(reply.status(), INTERNAL_STATUS, reply)
            self.assertIn("deep", reply.text())

    def test_ws4_bad_text_is_internal_and_names_the_field(self):
        for bad in (b"\xff", b"a\0b", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
            reply = self.send_all(message(field(1, bad)), path=STREAMING)
            self.assert_trailers_only(reply, INTERNAL_STATUS)
            self.assertIn("agent", reply.text())

    def test_ws5_unknown_groups_and_wrong_wire_types_are_ignored(self):
        extra = b"\xa3\x06\x08\x01\xa4\x06" + field(200, b"new") + b"\x08\x05"
        self.assertEqual(self.send_all(message(extra)).messages(), [SERVING])

    def test_at16_a_message_of_many_fields_is_refused(self):
        body = message(b"\x22\x00" * 300000)
        wire = self.wire()
        stream = wire.start(STREAMING)
        for at in range(0, len(body), 16384):
            wire.wait("room", lambda at=at: at + 16384 <= 65535 + self.credit(wire, stream), 20)
            wire.data(stream, body[at : at + 16384], end=at + 16384 >= len(body))
        self.assertEqual(wire.wait_over(stream).status(), EXHAUSTED)
        self.assert_usable(wire)


class Response(WireCase):
    def test_rs1_and_rs4_a_call_that_succeeds_has_headers_data_trailers(self):
        reply = self.wire().ask(HEALTH)
        self.assertEqual(reply.frames, [HEADERS, DATA, HEADERS])
        (head, head_end), (trailers, trailers_end) = reply.blocks
        self.assertEqual((head[0], head_end, trailers_end), ((":status", "200"), False, True))
        self.assertEqual([name for name, _ in head].count("content-type"), 1)
        self.assertEqual(trailers, [("grpc-status", "0")])

    def test_rs3_a_run_sends_its_headers_at_once(self):
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", "first_ms=60000"))
        wire.wait("headers", lambda: wire.reply(stream).blocks)
        self.assertFalse(wire.reply(stream).is_ended)
        wire.reset(stream)
        self.assert_usable(wire)

    def test_rs5_details_repeat_code_and_message(self):
        reply = self.assert_refused(5, STREAMING, body=run_request("no-such-agent"))
        value = reply.get("grpc-status-details-bin")
        self.assertNotIn("=", value)
        details = base64.b64decode(value + "=" * (-len(value) % 4))
        self.assertTrue(details.startswith(b"\x08\x05" + field(2, reply.text())), (details, reply))
        self.assertIn(b"AGENT_NOT_FOUND", details)

    def test_rs6_messages_are_percent_encoded(self):
        reply = self.assert_refused(5, STREAMING, body=run_request("a%\u00e9\n"))
        self.assertRegex(reply.text(), r"^([ -$&-~]|%[0-9A-F]{2})*$")

    def test_rs7_a_call_that_ends_early_asks_the_client_to_stop(self):
        wire = self.wire()
        for path in ("/a.B/C", HEALTH):
            stream = wire.start(path)
            if path == HEALTH:
                wire.data(stream, message(b"", flag=9))
            wire.wait("RST_STREAM", lambda stream=stream: wire.reply(stream).reset is not None)
            reply = wire.reply(stream)
            self.assertEqual((reply.frames, reply.reset, reply.is_ended), ([HEADERS, RST], NO_ERROR, True), reply)
            wire.data(stream, bytes(5000))
            wire.data(stream, b"", end=True)
        self.assert_usable(wire)

    def test_rs7_no_reset_follows_when_the_client_has_ended(self):
        wire = self.wire()
        reply = wire.ask(HEALTH)
        self.assert_usable(wire)
        self.assertIsNone(reply.reset)

    def test_fc1_early_ended_uploads_leave_the_connection_window_whole(self):
        wire = self.wire()
        for _ in range(200):
            stream = wire.start("/a.B/C")
            wire.data(stream, bytes(16000))
            wire.wait_over(stream)
        self.assert_usable(wire)
        grown = sum(struct.unpack(">I", f[3])[0] for f in wire.frames if f[0] == WINDOW and f[2] == 0)
        self.assertGreater(65535 + grown - 200 * 16000 - 5, 512 * KIB)

    def test_cn6_resets_of_closed_and_finished_streams_are_harmless(self):
        wire = self.wire()
        stream = wire.call(HEALTH)
        wire.wait_over(stream)
        for _ in range(3):
            wire.reset(stream)
        stream = wire.call(STREAMING, run_request("echo", "x"))
        wire.reset(stream)
        wire.reset(stream)
        self.assert_usable(wire)

    def test_request_trailers_end_the_request(self):
        wire = self.wire()
        stream = wire.start(HEALTH)
        wire.data(stream, message(b""))
        wire.send(wire.block(stream, [("x-sum", "1")], end=True))
        self.assertEqual(wire.wait_over(stream).messages(), [SERVING])

    def test_fc6_no_frame_is_larger_than_the_client_allows(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 1 << 20)])
        wire.open_window(0, 1 << 20)
        stream = wire.call(STREAMING, run_request("load", "events=4 bytes=65536"))
        self.assertEqual(wire.wait_over(stream).status(), OK)
        self.assertLessEqual(wire.largest, 16384)
        self.assertGreater(len(wire.reply(stream).data), 4 * 65536)


class Flow(WireCase):
    def test_at13_a_client_without_window_gets_nothing_and_costs_little(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 0)])
        before = resident(self.server.pid)
        streams = [wire.call(STREAMING, run_request("load", "events=4000 bytes=1000")) for _ in range(50)]
        wire.wait("headers of all", lambda: all(wire.reply(s).blocks for s in streams))
        wire.drain_input(1)
        self.assertEqual([s for s in streams if wire.reply(s).data], [])
        self.assertLess(resident(self.server.pid) - before, 100 * KIB * KIB)
        health = wire.call(HEALTH)
        wire.open_window(health, 100)
        self.assertEqual(wire.wait_over(health).messages(), [SERVING])
        fast = wire.call(STREAMING, run_request("load", "events=10 bytes=100"))
        wire.open_window(fast, 60000)
        self.assertEqual(wire.wait_over(fast).status(), OK)
        for stream in streams:
            wire.reset(stream)
        wire.wait("an answer", lambda: True)

    def test_fc5_a_window_may_become_negative(self):
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", "events=1000 bytes=1000"))
        wire.wait("data", lambda: len(wire.reply(stream).data) > 30000)
        wire.send(frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, 0)))
        wire.drain_input()
        size = len(wire.reply(stream).data)
        self.assertLessEqual(size, 65535)
        wire.send(frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, 4 << 20)))
        wire.open_window(0, 4 << 20)
        self.assertEqual(wire.wait_over(stream).status(), OK)

    def test_fc8_a_long_answer_does_not_hold_back_a_short_one(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 1 << 30)])
        wire.open_window(0, 1 << 30)
        long = wire.call(STREAMING, run_request("load", "events=40000 bytes=1000"))
        wire.wait("data", lambda: wire.reply(long).data)
        self.assert_usable(wire)
        self.assertFalse(wire.reply(long).is_over())
        wire.reset(long)


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

    def test_at3_calls_over_the_quota_are_refused_and_control_calls_still_work(self):
        wire = self.wire()
        self.assertEqual(wire.settings[3], 1064)
        streams = [wire.start(STREAMING) for _ in range(1000)]
        reply = wire.wait_over(wire.call(STREAMING, run_request("echo", "x")))
        self.assertEqual((reply.frames, reply.reset), ([RST], REFUSED))
        self.assert_usable(wire)
        self.assertEqual([s for s in streams if wire.reply(s).is_over()], [])

    def test_at3_streams_over_the_advertised_limit_do_no_harm(self):
        wire = self.wire()
        for _ in range(1100):
            stream = wire.new_id()
            if not wire.try_send(wire.block(stream, wire.request(WATCH))):
                break
        wire.drain_input()
        refused = [s for s, reply in wire.replies.items() if reply.reset == REFUSED]
        self.assertTrue(refused or wire.is_closed)

    def test_at4_a_continuation_flood_ends_the_connection(self):
        wire = self.wire()
        wire.try_send(frame(HEADERS, 0, 1, wire.encoder.encode(wire.request(HEALTH))) + frame(CONT, 0, 1) * 9)
        self.assert_over(wire)

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
        wire = self.wire()
        self.flood(wire, frame(SETTINGS, 0, 0) + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, 9)), 10000)
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
        stream = wire.call(STREAMING, run_request("load", "events=2000 bytes=1000"))
        reply, seen = wire.reply(stream), 0
        while not reply.is_over():
            wire.wait("data", lambda: len(reply.data) > seen or reply.is_over())
            if len(reply.data) > seen:
                for number in (0, stream):
                    wire.open_window(number, len(reply.data) - seen)
                seen = len(reply.data)
        self.assertEqual((reply.status(), wire.goaways), (OK, []))

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

    def test_frames_of_no_known_type_are_ignored(self):
        wire = self.wire()
        wire.send(frame(0x77, 0xFF, 0, b"abc") + frame(0x21, 0, 1, b""))
        self.assert_usable(wire)

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
        slow, stop = [0.0], threading.Event()

        def watch():
            other = Wire(self.server.address)
            while not stop.is_set():
                begin = time.monotonic()
                assert other.ask(HEALTH).status() == OK
                slow[0] = max(slow[0], time.monotonic() - begin)
            other.close()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
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
        finally:
            stop.set()
            thread.join(30)
        self.assertGreater(slow[0], 0, "the other connection was served")
        self.assertLess(slow[0], 5)
        self.assertLessEqual(self.n_runs() - before, 1000)
        self.server.check_baseline()

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
        self.server.check_baseline()


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

    def test_at14_an_unfinished_header_block_ends_the_connection(self):
        wire = self.wire()
        wire.send(frame(HEADERS, 0, 1, wire.encoder.encode(wire.request(HEALTH))))
        self.wait_ended(wire, 0.3)
        wire = self.wire()
        wire.send(wire.block(1, wire.request(HEALTH), True)[:-1])
        self.wait_ended(wire, 0.3)

    def test_at14_silence_inside_a_message_ends_the_call(self):
        wire = self.wire()
        for part in (b"\0", struct.pack(">BI", 0, 9) + b"x"):
            stream = wire.start(HEALTH)
            wire.data(stream, part)
            reply = wire.wait_over(stream)
            self.assertTrue(reply.reset is not None or reply.status() not in (OK, None), reply)
            self.assert_usable(wire)

    def test_fc9_a_stalled_stream_ends_at_a_message_border_with_trailers(self):
        wire = self.wire(settings=[(INITIAL_WINDOW, 0)])
        stream = wire.call(STREAMING, run_request("load", "events=4000 bytes=1000"))
        reply = wire.wait_over(stream)
        self.assertEqual((reply.status(), reply.data), (EXHAUSTED, b""), reply)
        value = reply.get("grpc-status-details-bin")
        self.assertIn(b"last_sequence", base64.b64decode(value + "=" * (-len(value) % 4)))
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
        self.server.check_baseline()

    def test_cm1_a_client_that_answers_pings_stays(self):
        wire = self.wire()
        wire.call(STREAMING, run_request("load", "hang=true"))
        wire.wait("three PINGs", lambda: sum(f[0] == PING for f in wire.frames) == 3)
        self.assert_usable(wire)

    def test_at13_a_socket_that_is_never_read_costs_little(self):
        before = resident(self.server.pid)
        wire = self.wire(settings=[(INITIAL_WINDOW, 1 << 30)])
        wire.open_window(0, 1 << 30)
        for _ in range(30):
            wire.call(STREAMING, run_request("load", "events=20000 bytes=1000"))
        other = self.wire()
        other.open_window(0, 1 << 30)  # for as many answers as come in the time
        end = time.monotonic() + 2
        while time.monotonic() < end:
            self.assertLess(resident(self.server.pid) - before, 100 * KIB * KIB)
            self.assert_usable(other)
        wire.close()
        other.close()
        self.server.check_baseline()

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
            self.server.check_baseline()


class Odd(WireCase):
    """What honest but unusual clients do."""

    def test_rs7_trailers_that_come_too_late_are_ignored(self):
        wire = self.wire()
        stream = wire.start("/a.B/C")
        wire.wait_over(stream)
        wire.data(stream, b"x")
        wire.send(wire.block(stream, [("x-new-in-the-table", "1")], end=True))
        reply = wire.ask(HEALTH, b"", ("x-new-in-the-table", "1"))
        self.assertEqual(reply.status(), OK)

    def test_rs9_a_small_header_limit_of_the_client_is_kept(self):
        for limit, is_told in ((600, True), (300, True), (150, True), (20, False)):
            wire = self.wire(settings=[(MAX_HEADER_LIST, limit)])
            reply = wire.wait_over(wire.call(STREAMING, run_request("a" * 300)))
            size = sum(len(n) + len(v) + 32 for fields, _ in reply.blocks for n, v in fields)
            self.assertLessEqual(size, limit)
            if is_told:
                self.assertEqual(reply.status(), 5, reply)
            else:
                self.assertEqual((reply.reset, reply.blocks), (INTERNAL, []), reply)

    def test_a_client_may_forbid_the_header_table(self):
        wire = self.wire(settings=[(1, 0)])
        for _ in range(3):
            self.assert_usable(wire)

    def test_headers_may_have_padding_and_priority(self):
        wire = self.wire()
        stream = wire.new_id()
        block = b"\x05\0\0\0\0\x10" + wire.encoder.encode(wire.request(HEALTH)) + bytes(5)
        wire.send(frame(HEADERS, PADDED | 0x20 | END_HEADERS, stream, block))
        wire.data(stream, message(b""), end=True)
        self.assertEqual(wire.wait_over(stream).messages(), [SERVING])

    def test_header_blocks_may_be_cut_anywhere(self):
        wire = self.wire()
        stream = wire.new_id()
        block = wire.encoder.encode(wire.request(HEALTH))
        wire.send(frame(HEADERS, 0, stream, block[:1]))
        for i in range(1, 7):
            wire.send(frame(CONT, 0, stream, block[i : i + 1]))
        wire.send(frame(CONT, END_HEADERS, stream, block[7:]))
        wire.data(stream, message(b""), end=True)
        self.assertEqual(wire.wait_over(stream).messages(), [SERVING])

    def test_adm9_control_calls_have_a_quota_of_their_own(self):
        wire = self.wire()
        watches = [wire.call(WATCH) for _ in range(64)]
        wire.wait("first states", lambda: all(wire.reply(s).messages() for s in watches))
        reply = wire.wait_over(wire.call(HEALTH))
        self.assertEqual((reply.frames, reply.reset), ([RST], REFUSED))
        self.assertEqual(wire.ask(STREAMING, run_request("echo", "x")).status(), OK)
        wire.reset(watches[0])
        # NG-2: the place is free when the task has returned, which may be after the next HEADERS.
        harness.wait_for("a place", lambda: wire.ask(HEALTH).reset != REFUSED)
        self.assert_usable(wire)

    def test_cn3_a_half_closed_stream_goes_on(self):
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", "events=5 rate=20"))
        self.assertEqual(wire.wait_over(stream).status(), OK)

    def test_fr10_a_compressed_answer_says_so_only_to_who_can_read_it(self):
        for accepted in (None, "identity", "snappy", "gzip", "deflate , gzip"):
            more = [("grpc-accept-encoding", accepted)] if accepted else []
            reply = self.wire().ask(STREAMING, run_request("load", "events=3 bytes=3000"), *more)
            encoding = reply.get("grpc-encoding")
            self.assertEqual(reply.status(), OK)
            if encoding not in (None, "identity"):
                self.assertIn(encoding, accepted or "")
            else:
                self.assertEqual(reply.data[0], 0)


class Goodbye(harness.Case):
    def test_cm5_sigterm_says_goaway_in_two_steps(self):
        server = harness.Daemon()
        self.addCleanup(server.process.kill)
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
        self.assertEqual(wire.wait_over(late).status(), 14, "answered, not lost")
        ping = next(f for f in wire.frames if f[0] == PING)
        wire.send(frame(PING, 1, 0, ping[3]))
        wire.wait("the second GOAWAY", lambda: len(wire.goaways) == 2)
        self.assertEqual(wire.goaways[1], (late, NO_ERROR, "drain"))
        reply = wire.wait_over(stream)
        self.assertEqual((reply.status(), reply.frames[-1]), (10, HEADERS), reply)
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

    def test_cm12_connections_over_the_limit_are_refused_and_others_served(self):
        server = self.daemon(flags=["--limit", "connections_per_address=5"])
        wires = [Wire(server.address) for _ in range(5)]
        for wire in wires:
            self.addCleanup(wire.close)
        late = Wire(server.address, is_opened=False)
        self.addCleanup(late.close)
        late.wait_closed()
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
