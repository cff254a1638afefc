"""The operations port from outside: health, readiness, metrics and the dump; and what raises which counter."""

import contextlib
import json
import os
import re
import signal
import subprocess

from prometheus_client.parser import text_string_to_metric_families

import harness
from test_runs import agent, call, program, text
from wire import HEALTH, STREAMING, Wire, run_request
from wire_case import OK, SERVING, UNIMPLEMENTED, WireCase

CALLS = 'grpc_type="server_stream",grpc_service="sluice.v1.AgentRuntime",grpc_method="ExecuteStreaming"'


class Port(harness.Case):
    """HTTP/1.1, byte by byte and hostile."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Daemon(flags=["--loops", "2"])
        cls.addClassCleanup(cls.server.stop)

    def open(self, server=None):
        opened = harness.open_socket((server or self.server).ops_address)
        self.addCleanup(opened.close)
        return opened

    def ask(self, data, pieces=0):
        """Everything that comes until the end of the connection."""
        opened = self.open()
        if pieces:
            for i in range(0, len(data), pieces):
                opened.sendall(data[i : i + pieces])
        else:
            opened.sendall(data)
        seen = b""
        while block := opened.recv(65536):
            seen += block
        return seen

    def statuses(self, seen):
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", seen)]

    def test_the_three_pages_answer(self):
        self.assertEqual(self.server.ops("/healthz"), (200, "ok\n"))
        self.assertEqual(self.server.ops("/readyz"), (200, "ready\n"))
        self.assertEqual(self.server.ops("/readyz?verbose=1"), (200, "ready\n"))
        self.assertEqual(self.server.ops("/metrics")[0], 200)

    def test_a_request_may_come_byte_by_byte(self):
        for path in (b"/healthz", b"/readyz", b"/metrics", b"/debug/dump"):
            request = b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
            self.assertEqual(self.statuses(self.ask(request, 1)), [200], path)

    def test_head_has_the_length_and_no_body(self):
        seen = self.ask(b"HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertIn(b"Content-Length: 3\r\n", seen)
        self.assertTrue(seen.endswith(b"\r\n\r\n"), seen)

    def test_other_pages_and_methods_are_refused(self):
        self.assertEqual(self.server.ops("/")[0], 404)
        self.assertEqual(self.server.ops("/metrics/x")[0], 404)
        self.assertEqual(self.server.ops("/%6detrics")[0], 404)
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            self.assertEqual(self.server.ops("/metrics", method)[0], 405, method)
        seen = self.ask(b"PATCH /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        self.assertIn(b"\r\nAllow: GET, HEAD\r\n", seen)

    def test_requests_behind_each_other_are_answered_in_order(self):
        pages = [b"/readyz", b"/healthz", b"/x", b"/healthz", b"/readyz"]
        requests = b"".join(b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n" % page for page in pages)
        last = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for pieces in (0, 1, 7):
            self.assertEqual(self.statuses(self.ask(requests + last, pieces)), [200, 200, 404, 200, 200, 200])

    def test_what_is_no_request_is_refused_and_closed(self):
        for data, status in (
            (b"\0\0\0\0\r\n\r\n", 400),
            (b"PRINT / HTTP/1.1\r\n\r\n", 404),
            (b"GET /healthz HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
            (b"GET /healthz HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n", 413),
            (b"GET /healthz HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
            (b"GET /healthz HTTP/1.1\r\nA: " + b"x" * 70000, 431),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        ):
            opened = self.open()
            opened.sendall(data)
            seen = opened.recv(65536)
            self.assertEqual(self.statuses(seen)[:1], [status], data[:60])
        self.assertEqual(self.server.ops("/healthz")[0], 200)

    def test_who_asks_and_never_reads_is_dropped(self):
        opened = self.open()
        request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"
        with self.assertRaises(OSError):  # the end of the connection, or of the patience
            opened.settimeout(3)
            for _ in range(100000):
                opened.sendall(request * 100)
        self.assertEqual(self.server.ops("/healthz")[0], 200)

    def test_connections_are_bounded(self):
        server = self.daemon()
        opened = [self.open(server) for _ in range(64)]
        for one in opened:
            one.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            self.assertTrue(one.recv(1000).startswith(b"HTTP/1.1 200 OK"))
        late = self.open(server)
        seen = b""
        with contextlib.suppress(ConnectionError):
            late.sendall(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n")
            seen = late.recv(1000)
        self.assertEqual(seen, b"")
        for one in opened:
            one.close()

        def is_served():
            with contextlib.suppress(OSError):
                return server.ops("/readyz")[0] == 200

        harness.wait_for("room for another", is_served)


class OverHttp2(WireCase):
    """SV-11: gRPC health on the same port, and nothing else."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Daemon(ops="127.0.0.1:0")

    def test_sv11_health_is_served_and_agents_are_not(self):
        wire = Wire(self.server.ops_address)
        self.addCleanup(wire.close)
        self.assertEqual(wire.ask(HEALTH).messages(), [SERVING])
        self.assertEqual(wire.ask(STREAMING, run_request("echo", "x")).status(), UNIMPLEMENTED)
        self.assertEqual(wire.ask("/sluice.v1.AgentRuntime/ListAgents").status(), UNIMPLEMENTED)
        self.assertEqual(self.server.metrics().get("sluice_runs_total"), None)

    def test_the_preface_may_come_byte_by_byte(self):
        wire = Wire(self.server.ops_address, is_opened=False)
        self.addCleanup(wire.close)
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
        for i in range(len(preface)):
            wire.send(preface[i : i + 1])
        self.assertEqual(wire.ask(HEALTH).status(), OK)


class Readiness(harness.Case):
    def test_sigterm_makes_it_unready_at_once_and_health_stays(self):
        server = self.daemon(drain_delay="3s")
        self.assertEqual(server.ops("/readyz")[0], 200)
        server.process.send_signal(signal.SIGTERM)
        harness.wait_for("unready", lambda: server.ops("/readyz") == (503, "draining\n"))
        self.assertEqual(server.ops("/healthz")[0], 200)
        self.assertEqual(server.process.wait(20), 0)

    def test_a_port_in_use_is_one_line_and_an_exit(self):
        address = self.daemon(ops="127.0.0.1:0").ops_address
        done = subprocess.run(
            [harness.BIN + "/sluiced", "--listen", "127.0.0.1:0", "--ops-listen", address],
            capture_output=True,
            timeout=20,
            check=False,
        )
        self.assertEqual(done.returncode, 69)
        self.assertIn(b"cannot listen on '%s'" % address.encode(), done.stderr)

    def test_the_dump_is_for_loopback_only(self):
        server = self.daemon(ops="0.0.0.0:0")
        self.assertEqual((server.ops("/healthz")[0], server.ops("/debug/dump")[0]), (200, 404))
        server.unchecked = "nobody can ask"


SLOW = program("nap", "/bin/sleep", "{{seconds}}")


class Metrics(WireCase):
    """Each counter rises by exactly what happened."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Daemon()

    def assert_rise(self, name, expected):
        harness.wait_for(
            "%s to rise by %s; it has by %s" % (name, expected, self.counted(name)),
            lambda: self.counted(name) == expected,
            5,
        )

    def test_format_and_names_are_what_prometheus_reads(self):
        harness.run_agent(self.server, "echo", "x")
        status, body = self.server.ops("/metrics")
        self.assertEqual(status, 200)
        names = re.findall(r"^# TYPE (\S+) (counter|gauge|histogram)$", body, re.M)
        helps = re.findall(r"^# HELP (\S+) .+$", body, re.M)
        self.assertEqual([name for name, _ in names], helps)
        self.assertEqual(len(set(helps)), len(helps))
        sample = r'([a-z_]+)(\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\})? (-?[0-9.]+)'
        seen = set()
        for line in body.splitlines():
            if not line.startswith("#"):
                match = re.fullmatch(sample, line)
                self.assertTrue(match, line)
                self.assertNotIn(match.group(1, 2), seen, line)
                seen.add(match.group(1, 2))
        families = {family.name: family for family in text_string_to_metric_families(body)}
        self.assertEqual(len(families), len(names), "its parser takes _total off the name")
        parsed = harness.parse_metrics(body)
        for name, kind in names:
            if kind == "histogram":
                for labels, count in parsed.get(name + "_count", {}).items():
                    last = parsed[name + "_bucket"][(labels + "," if labels else "") + 'le="+Inf"']
                    self.assertEqual(last, count, name)

    def test_a_run_is_counted_once_everywhere(self):
        wire = self.wire()
        self.assertEqual(wire.ask(STREAMING, run_request("echo", "a b")).status(), OK)
        self.assert_rise("sluice_runs_total", {'agent="echo",code="OK"': 1})
        self.assert_rise("grpc_server_started_total", {CALLS: 1})
        self.assert_rise("grpc_server_handled_total", {CALLS + ',grpc_code="OK"': 1})
        self.assert_rise("grpc_server_handling_seconds_count", {CALLS: 1})
        self.assert_rise("sluice_run_duration_seconds_count", {"": 1})
        self.assert_rise("sluice_stream_ends_total", {'reason="done"': 1})
        events = self.counted("sluice_events_total")[""]
        self.assert_rise("grpc_server_msg_sent_total", {CALLS: events})
        self.assert_rise("grpc_server_msg_received_total", {CALLS: 1})
        self.assertEqual(self.server.metrics()["sluice_runs_active"].get('agent="echo"'), 0)

    def test_ends_of_streams_have_their_reason(self):
        wire = self.wire()
        wire.ask(STREAMING, run_request("load", "hang=true"), ("grpc-timeout", "100m"))
        stream = wire.call(STREAMING, run_request("load", "hang=true"))
        wire.wait("the run", lambda: wire.reply(stream).messages())
        self.assertEqual(self.server.metrics()["sluice_runs_active"]['agent="load"'], 1)
        wire.reset(stream)
        other = self.wire()
        stream = other.call(STREAMING, run_request("load", "hang=true"))
        other.wait("the run", lambda: other.reply(stream).messages())
        other.close()
        self.assert_rise(
            "sluice_stream_ends_total", {'reason="deadline"': 1, 'reason="reset"': 1, 'reason="lost"': 1}
        )
        self.assert_rise(
            "sluice_runs_total",
            {'agent="load",code="CANCELLED"': 2, 'agent="load",code="DEADLINE_EXCEEDED"': 1},
        )
        self.assert_rise("sluice_cancel_duration_seconds_count", {"": 3})

    def test_the_memory_of_a_run_is_shown_by_its_parts_until_it_ends(self):
        """I6: a server without a run takes nothing for runs."""
        server = self.daemon(config="limits: {window_keep: 0}\n")
        total = lambda: server.metrics()["sluice_runs_memory_bytes"][""]  # pylint: disable=unnecessary-lambda-assignment
        self.assertEqual((total(), server.dump()["totals"]["runs_memory_bytes"]), (0, 0))
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        stream = wire.call(STREAMING, run_request("load", "hang=true"))
        wire.wait("the run", lambda: wire.reply(stream).messages())
        dump = server.dump()
        run = next(run for loop in dump["loops"] for run in loop["runs"])
        self.assertEqual(sum(run["memory"].values()), run["memory_bytes"])
        self.assertEqual(run["memory"]["log"], run["log_bytes"])
        for part in ("own", "log", "conversation", "model", "readers"):
            self.assertGreater(run["memory"][part], 0, part)
        self.assertEqual(dump["totals"]["runs_memory_bytes"], run["memory_bytes"])
        self.assertEqual(sum(loop["memory"]["runs"] for loop in dump["loops"]), run["memory_bytes"])
        self.assertGreater(total(), 0)
        wire.reset(stream)
        harness.wait_for("nothing", lambda: total() == 0)

    def test_every_loop_is_watched(self):
        loops = set(self.before["sluice_loop_lag_seconds_count"])
        self.assertTrue(loops)
        harness.wait_for("the loops' timers", lambda: set(self.counted("sluice_loop_lag_seconds_count")) == loops)

    def test_tls_handshakes_that_fail_are_counted(self):
        path = self.server.files + "/own"
        harness.make_certificate(path)
        server = self.daemon(flags=["--tls-cert", path + ".cert", "--tls-key", path + ".key"])
        for _ in range(2):
            words = ["openssl", "s_client", "-connect", server.address, "-alpn", "http/1.1"]
            done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False)
            self.assertNotEqual(done.returncode, 0)
        harness.wait_for("two", lambda: server.metrics()["sluice_tls_handshake_failures_total"] == {"": 2}, 5)

    def test_refusals_have_their_reason(self):
        for reason, path, more, fixed in (
            ("service", "/a.B/C", (), {}),
            ("method", "/sluice.v1.AgentRuntime/Nope", (), {}),
            ("path", "/nope", (), {}),
            ("timeout", HEALTH, (("grpc-timeout", "1x"),), {}),
            ("deadline", HEALTH, (("grpc-timeout", "0S"),), {}),
            ("base64", HEALTH, (("a-bin", "?"),), {}),
            ("header_list", HEALTH, (("a", "x" * 9000),), {}),
        ):
            self.before = self.server.metrics()
            self.wire().ask(path, b"", *more, **fixed)
            self.assert_rise("sluice_refusals_total", {'kind="request",reason="%s"' % reason: 1})

    def test_refused_runs_have_the_reason_that_the_client_sees(self):
        wire = self.wire()
        wire.ask(STREAMING, run_request("nobody", "x"))
        wire.ask(STREAMING, run_request("nobody", "x"))
        wire.ask(STREAMING, run_request("", "x"))
        self.assert_rise(
            "sluice_refusals_total",
            {'kind="run",reason="AGENT_NOT_FOUND"': 2, 'kind="run",reason="INVALID_REQUEST"': 1},
        )
        self.assert_rise("sluice_runs_total", {})

    def test_a_run_without_its_reader_is_detached_until_it_ends(self):
        server = self.daemon(agents={"d.yaml": "name: d\nmodel: load:any\non_disconnect: DETACH\n"})
        wire = Wire(server.address)
        stream = wire.call(STREAMING, run_request("d", "events=20 rate=10"))
        wire.wait("the run", lambda: wire.reply(stream).messages())
        wire.close()
        harness.wait_for("detached", lambda: server.metrics()["sluice_runs_detached"] == {'agent="d"': 1}, 5)
        self.assertEqual([run["detached"] for loop in server.dump()["loops"] for run in loop["runs"]], [True])


class Models(harness.Case):
    """What is counted of models and tools."""

    def test_answers_tokens_tools_and_errors(self):
        steps = [
            {"match": "uses", "steps": [call("nap", {"seconds": "0"})]},
            {"match": "uses", "steps": [text("over"), {"usage": {"input": 100, "output": 5}}]},
            {"match": "fails", "steps": [{"error": {"status": 401}}]},
            {"match": "waits", "steps": [{"error": {"status": 429, "attempts": 1, "retry_after": 0}}, text("over")]},
        ]
        model = self.mock(json.dumps({"turns": steps}), ["--quiet"])
        server = self.daemon(agents={"a.yaml": agent("a", tools=[SLOW])}, env=model.env())
        before = server.metrics()
        harness.run_agent(server, "a", "uses")
        harness.run_agent(server, "a", "fails", expected=1)
        after = server.metrics()
        self.assertEqual(harness.rises(before, after, "sluice_tool_calls_total"), {'tool="nap",code="OK"': 1})
        self.assertEqual(harness.rises(before, after, "sluice_tool_duration_seconds_count"), {'tool="nap"': 1})
        errors = harness.rises(before, after, "sluice_provider_errors_total")
        self.assertEqual(errors, {'provider="openai",code="PROVIDER_AUTH"': 1})
        labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="mock-1"'
        answers = harness.rises(before, after, "gen_ai_client_operation_duration_seconds_count")
        self.assertEqual(
            answers, {labels + ',error_type=""': 2, labels + ',error_type="PROVIDER_AUTH"': 1}
        )
        first = harness.rises(before, after, "gen_ai_client_operation_time_to_first_chunk_seconds_count")
        self.assertEqual(first, {labels: 2})
        harness.run_agent(server, "a", "waits")
        retries = harness.rises(after, server.metrics(), "sluice_provider_retries_total")
        self.assertEqual(retries, {'provider="openai",code="PROVIDER_RATE_LIMITED"': 1})
        self.assertNotIn("planted-secret", server.ops("/metrics")[1] + server.ops("/debug/dump")[1])

    def test_the_dump_shows_a_tool_while_it_runs(self):
        model = self.mock(json.dumps({"turns": [{"steps": [call("nap", {"seconds": "30"})]}]}), ["--quiet"])
        server = self.daemon(agents={"a.yaml": agent("a", tools=[SLOW])}, env=model.env())
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        stream = wire.call(STREAMING, run_request("a", "x"))

        def children():
            return [child for loop in server.dump()["loops"] for child in loop["children"]]

        harness.wait_for("the child", children)
        child = children()[0]
        run = next(run for loop in server.dump()["loops"] for run in loop["runs"])
        self.assertEqual((child["tool"], run["state"], run["agent"]), ("nap", "tools", "a"))
        self.assertEqual(child["call"].split(":")[0], run["id"])
        self.assertTrue(os.path.exists("/proc/%d" % child["pid"]))
        wire.reset(stream)
        harness.wait_for("rest", server.is_empty)


if __name__ == "__main__":
    harness.main()
