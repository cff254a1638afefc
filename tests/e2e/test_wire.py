"""The daemon as a careless HTTP/2 client meets it: every frame here is made by hand."""

import base64
import gzip
import struct

import harness
from wire import (
    AGENTS,
    CONT,
    DATA,
    END_HEADERS,
    END_STREAM,
    EXECUTE,
    HEADERS,
    HEALTH,
    INITIAL_WINDOW,
    INTERNAL,
    MAX_HEADER_LIST,
    NO_ERROR,
    PADDED,
    PROTOCOL,
    REFLECT,
    REFUSED,
    RST,
    SETTINGS,
    STREAMING,
    WATCH,
    WINDOW,
    field,
    frame,
    message,
    run_request,
)
from wire_case import DEADLINE, EXHAUSTED, INTERNAL_STATUS, INVALID_ARGUMENT, KIB, LIMIT, OK, SERVING, UNIMPLEMENTED, WireCase, resident

LIMITS, REFUSALS = "sluice_limits_reached_total", "sluice_refusals_total"


class Admission(WireCase):
    def test_fc2_and_ng6_settings_tell_windows_and_streams(self):
        wire = self.wire()
        streams = 3
        self.assertEqual((wire.settings[streams], wire.settings[INITIAL_WINDOW]), (1320, 256 * KIB))
        updates = [struct.unpack(">I", f[3])[0] for f in wire.frames if f[0] == WINDOW and f[2] == 0]
        self.assertEqual(65535 + sum(updates), 1024 * KIB)

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
        self.assertEqual(self.counted(LIMITS), {'limit="header_list_hard"': 1})

    def test_at5_a_list_over_the_soft_limit_is_refused(self):
        wire = self.wire()
        for _ in range(20):
            reply = wire.ask(HEALTH, b"", *[("x-%d" % i, "v" * 60) for i in range(90)])
            self.assert_trailers_only(reply, EXHAUSTED)
        self.assertEqual(self.counted(LIMITS), {'limit="header_list_soft"': 20})
        self.assertEqual(self.counted(REFUSALS), {'kind="request",reason="header_list"': 20})
        self.assert_usable(wire)

    def test_at5_and_at10_too_many_header_fields_reset_the_stream_only(self):
        wire = self.wire()
        self.assert_reset(INTERNAL, wire, wire.start(HEALTH, *[("a", "")] * 500, end=True))
        self.assertEqual(self.counted(LIMITS), {'limit="header_fields"': 1})

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
        self.assertEqual(self.counted(LIMITS), {'limit="header_list_hard"': 1})

    def test_adm2_connection_headers_reset_the_stream_only(self):  # NG-14
        for name, value in (("connection", "close"), ("te", "gzip"), ("transfer-encoding", "chunked"), ("X-Up", "1")):
            wire = self.wire()
            self.assert_reset(PROTOCOL, wire, wire.start(HEALTH, (name, value), te=None))
        self.assertEqual(self.counted(REFUSALS), {'kind="request",reason="malformed"': 4})

    def test_ng14_a_request_without_an_authority_or_with_an_empty_name_is_reset(self):
        wire = self.wire()
        self.assert_reset(PROTOCOL, wire, wire.start(HEALTH, authority=None))
        self.assert_reset(PROTOCOL, wire, wire.start(HEALTH, ("", "x")))
        self.assertEqual(self.counted(REFUSALS), {'kind="request",reason="malformed"': 2})

    def test_at20_line_breaks_in_a_value_reset_the_stream_only(self):
        for value in ("a\r\nb: c", "a\nb", "a\rb", "a\0b"):
            wire = self.wire()
            self.assert_reset(PROTOCOL, wire, wire.start(HEALTH, ("x", value)))
        self.assertEqual(self.counted(REFUSALS), {'kind="request",reason="malformed"': 4})

    def test_at20_what_a_client_says_makes_no_line_of_a_log_and_no_header(self):  # MD-6
        evil = 'x"\x1b[31m\nlevel=error msg=planted\r\n\x7f\u009b'
        wire = self.wire()
        for path in (STREAMING, EXECUTE):
            reply = wire.ask(path, run_request(evil))
            self.assertEqual(reply.status(), 5, reply)
            self.assertNotRegex(reply.text(), "[^ -~]")
        reply = wire.ask("/a.B/" + "\xc2\x9b31m", b"")
        self.assertNotRegex(reply.text(), "[^ -~]")
        log = self.server.log()
        self.assertNotRegex(log, "[^ -~\n]")
        self.assertEqual([line for line in log.splitlines() if line.startswith("level=error")], [])
        self.assertEqual(self.counted(REFUSALS).get('kind="run",reason="AGENT_NOT_FOUND"'), 2)
        self.assert_usable(wire)

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

    def test_at20_a_content_type_that_may_not_be_sent_is_not_repeated(self):
        for kind, status, repeated in (
            (" application/grpc\t", OK, "application/grpc"),
            ("application/grpc; a=\xff", OK, "application/grpc"),
            ("application/grpc+\xff", UNIMPLEMENTED, "application/grpc"),
        ):
            reply = self.wire().ask(HEALTH, b"", content_type=kind)
            self.assertEqual((reply.status(), reply.get("content-type")), (status, repeated), reply)

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

    def test_at17_a_path_without_a_slash_is_refused_for_any_scheme(self):  # NG-4
        for scheme in ("grpc", "ftp"):
            self.assert_refused(UNIMPLEMENTED, HEALTH[1:], scheme=scheme, text="malformed method name")
        self.assertEqual(self.counted(REFUSALS), {'kind="request",reason="path"': 2})

    def test_adm12_a_zero_timeout_has_passed_already(self):
        for value in ("0n", "0S", "00000000H"):
            self.assert_refused(DEADLINE, STREAMING, ("grpc-timeout", value), body=run_request("load", "hang=true"))
            self.assert_refused(DEADLINE, "/no.such.Service/Method", ("grpc-timeout", value))

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
        for more in ([], [("grpc-encoding", "identity")]):
            reply = self.send_all(message(body, flag=1), more=more)
            self.assertEqual(reply.status(), INTERNAL_STATUS, reply)
            self.assertIn("compressed message without", reply.text())
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

    def test_at15_a_compression_bomb_is_refused(self):  # FR-4
        bomb = gzip.compress(bytes(10 * 1024 * KIB))
        for body in (bomb, gzip.compress(bytes(3 * 1024 * KIB)) * 2):
            reply = self.send_all(message(body, flag=1), more=[("grpc-encoding", "gzip")])
            self.assertEqual(reply.status(), EXHAUSTED, reply)
        self.assertEqual(self.counted(LIMITS), {'limit="message_recv"': 2})

    def test_at15_a_length_of_4_gib_is_refused_from_its_prefix(self):  # FR-3
        wire = self.wire()
        stream = wire.start(HEALTH)
        wire.data(stream, b"\0\xff\xff\xff\xff")
        self.assertEqual(wire.wait_over(stream).status(), EXHAUSTED)
        self.assertEqual(self.counted(LIMITS), {'limit="message_recv"': 1})

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

    def test_at16_deep_nesting_is_internal(self):  # WS-2, PB-1
        for depth in (150, 20000):
            group = b"\xa3\x06" * depth + b"\xa4\x06" * depth
            reply = self.send_all(*[message(group)[i : i + 16384] for i in range(0, 4 * depth + 5, 16384)])
            self.assertEqual(reply.status(), INTERNAL_STATUS, reply)
            self.assertIn("deep", reply.text())
        self.assertEqual(self.counted(LIMITS), {'limit="message_depth"': 2})

    def test_ws4_bad_text_is_internal_and_names_the_field(self):  # PB-4
        for bad in (b"\xff", b"a\0b", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"):
            reply = self.send_all(message(field(1, bad)), path=STREAMING)
            self.assert_trailers_only(reply, INTERNAL_STATUS)
            self.assertIn("agent", reply.text())

    def test_ws5_unknown_groups_and_wrong_wire_types_are_ignored(self):
        extra = b"\xa3\x06\x08\x01\xa4\x06" + field(200, b"new") + b"\x08\x05"
        self.assertEqual(self.send_all(message(extra)).messages(), [SERVING])

    def send_map_entries(self, wire, n):
        """A run whose map `metadata` has so many empty entries, as fast as the windows let it through."""
        body = message(b"\x22\x00" * n)
        stream = wire.start(STREAMING)
        for at in range(0, len(body), 16384):
            wire.wait("room", lambda at=at: at + 16384 <= 65535 + self.credit(wire, stream), 20)
            wire.data(stream, body[at : at + 16384], end=at + 16384 >= len(body))
        return wire.wait_over(stream)

    def test_at16_a_message_of_many_fields_is_refused(self):  # PB-6
        wire = self.wire()
        reply = self.send_map_entries(wire, 300000)
        self.assertEqual(reply.status(), EXHAUSTED)
        self.assertIn("262144 fields", reply.text())
        self.assertEqual(self.counted(LIMITS), {'limit="message_tags"': 1})
        self.assert_usable(wire)

    def test_at16_a_message_that_grows_in_memory_is_refused(self):  # WS-6
        wire = self.wire()
        reply = self.send_map_entries(wire, 250000)
        self.assertEqual(reply.status(), EXHAUSTED)
        self.assertIn("too much memory", reply.text())
        self.assertEqual(self.counted(LIMITS), {'limit="message_memory"': 1})
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

    def assert_info(self, reply, status, reason, is_started=False):
        self.assertEqual(reply.status(), status, reply)
        info = reply.error_info()
        self.assertIsNotNone(info, reply)
        expected = (reason, "sluice.v1", "true" if is_started else "false")
        self.assertEqual((info[0], info[1], info[2].get("run_started")), expected, reply)
        return info[2]

    def test_st6_every_refusal_has_a_reason_and_says_that_nothing_was_started(self):
        wire = self.wire()

        def refuse(body=b"", *more, path=AGENTS, raw=None, end=True, **fixed):
            stream = wire.start(path, *more, **fixed)
            wire.data(stream, message(body) if raw is None else raw, end=end)
            return wire.wait_over(stream)

        bad = "INVALID_REQUEST"
        for reply, status, reason in (
            (refuse(run_request("nobody"), path=STREAMING), 5, "AGENT_NOT_FOUND"),
            (refuse(run_request("nobody"), path=EXECUTE), 5, "AGENT_NOT_FOUND"),
            (refuse(field(2, "no number")), INVALID_ARGUMENT, bad),
            (refuse(path="/sluice.v1.AgentRuntime/Nothing"), UNIMPLEMENTED, bad),
            (refuse(path="/sluice.v1.AgentRuntime/DecideApproval"), INVALID_ARGUMENT, bad),
            (refuse(path="/sluice.v1.AgentRuntime/CancelRun"), INVALID_ARGUMENT, bad),
            (refuse(path="/sluice.v9.AgentRuntime/ListAgents"), UNIMPLEMENTED, bad),
            (refuse(path="/sluice.v1.AgentRuntime/ListAgents/"), UNIMPLEMENTED, bad),
            (refuse(content_type="application/grpc+json"), UNIMPLEMENTED, bad),
            (refuse(method="PUT"), INTERNAL_STATUS, bad),
            (refuse(b"", ("grpc-timeout", "1")), INTERNAL_STATUS, bad),
            (refuse(b"", ("x-bin", "!")), INTERNAL_STATUS, bad),
            (refuse(b"", ("grpc-timeout", "0n")), DEADLINE, "DEADLINE_EXCEEDED"),
            (refuse(b"", ("grpc-timeout", "20m"), raw=b"", end=False), DEADLINE, "DEADLINE_EXCEEDED"),
            (refuse(b"", ("x-big", "a" * 9000)), EXHAUSTED, bad),
            (refuse(raw=struct.pack(">BI", 0, LIMIT + 1), end=False), EXHAUSTED, bad),
            (refuse(raw=message(b"", 2)), INTERNAL_STATUS, bad),
            (refuse(raw=b""), UNIMPLEMENTED, bad),
            (refuse(raw=message(b"") * 2), UNIMPLEMENTED, bad),
            (refuse(raw=b"\0\0"), INTERNAL_STATUS, bad),
            (refuse(b"\xff"), INTERNAL_STATUS, bad),
            (refuse(raw=message(b"x", 1), path=STREAMING), INTERNAL_STATUS, bad),
        ):
            self.assert_info(reply, status, reason)

    def test_st6_a_run_that_its_deadline_ends_was_started(self):
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", "first_ms=60000"), ("grpc-timeout", "300m"))
        info = self.assert_info(wire.wait_over(stream), DEADLINE, "DEADLINE_EXCEEDED", is_started=True)
        self.assertGreaterEqual(int(info["last_sequence"]), 1)
        stream = wire.call(EXECUTE, run_request("load", "first_ms=60000"), ("grpc-timeout", "300m"))
        self.assert_info(wire.wait_over(stream), DEADLINE, "DEADLINE_EXCEEDED", is_started=True)

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


if __name__ == "__main__":
    harness.main()
