"""Limits of runs and tools that can be set, each one reached with the real binaries; and the credentials of a request,
which reach the tools that forward them and are seen nowhere else."""

import http.server
import json
import threading
import unittest

import harness
from test_runs import agent, call, kinds, program, text
from wire import STREAMING, Wire, field

INVALID_ARGUMENT, OK = 3, 0
SECRET = "planted-credential-5f2a9c\"7e1b"  # with a character that JSON escapes
SEEN = harness.plant("planted-credential-5f2a9c")
RESULT = text("model saw: {{last_tool_result}}")


class Page(http.server.BaseHTTPRequestHandler):
    """3,000 bytes."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "3000")
        self.end_headers()
        self.wfile.write(b"x" * 3000)

    def log_message(self, *_):
        pass


TURNS = {
    "two-calls": [[call(arguments={"timezone": "+0%d:00" % i}) for i in range(2)], [text("over")]],
    "same-call": [[call()], [call()], [text("over")]],
    "sleeps": [[call("nap", {"seconds": "30"})], [RESULT]],
    "two-naps": [[call("nap", {"seconds": "0.4"}), call("nap", {"seconds": "0"})], [RESULT]],
    "says-much": [[call("flood", {"bytes": "100000"})], [RESULT]],
    "asks-much": [[call("nap", {"seconds": "1" * 2000})], [RESULT]],
    "ulimit": [[call("ulimit")], [RESULT]],
    "hangs": [[text("a"), {"hang": True}]],
    "quiet": [[text("a"), {"delay_ms": 1500}, text("b")]],
    "long-text": [[text("é" * 3000)]],
    "uses": [[call("uses")], [text("over")]],
    "holds": [[call("holds")], [text("over")]],
    "other": [[call("other")], [RESULT]],
    "needs": [[call("needs")], [RESULT]],
}
TOOLS = [
    "current_time",
    program("nap", "/bin/sleep", "{{seconds}}"),
    program("flood", "head", "-c", "{{bytes}}", "/dev/zero"),
    program("ulimit", "/bin/sh", "-c", "ulimit -n; ulimit -f; ulimit -c; umask; cat /proc/self/oom_score_adj"),
]
# What it reads it only counts, so that its own output does not tell.
COUNT = "eval cat \"<&$SLUICE_CREDENTIALS_FD\" | wc -c"
KEEPERS = [
    program("uses", "/bin/sh", "-c", COUNT, forward=["token"]),
    program("holds", "/bin/sh", "-c", "echo here; exec sleep 30", forward=["token"]),
    program("other", "/bin/sh", "-c", "env; ls /proc/self/fd"),
    program("needs", "/bin/sh", "-c", "true", forward=["token", "absent"]),
]


def scenario(turns):
    return json.dumps({"turns": [{"match": case, "steps": steps} for case, all in turns.items() for steps in all]})


# Limits that are never counted (docs/operations.md). Two tools at once are within two.
SHAPES = {"heartbeat", "window_keep", "tool_file", "tool_files", "tools=2"}


class Limits(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.model = harness.MockModel(scenario(TURNS), ["--quiet"])
        cls.addClassCleanup(cls.model.stop)

    def server_with(self, *limits, config="", tools=TOOLS, **more):
        flags = [word for limit in limits for word in ("--limit", limit)]
        server = self.daemon(
            agents={"a.yaml": agent("a", tools=tools, **more)}, env=self.model.env(), flags=flags, config=config
        )
        self.addCleanup(self.check_reached, server, {limit.split("=")[0] for limit in limits if limit not in SHAPES} - SHAPES)
        return server

    def check_reached(self, server, names):
        """The right outcome for another reason is no success."""
        reached = server.dump()["limits_reached"]
        self.assertEqual(names - set(reached), set(), reached)

    def tool(self, server, case):
        """The completion of the one call, and what the model saw."""
        events = harness.run_agent(server, "a", case)
        return kinds(events, "tool_call_complete")[0], harness.text_of(events)

    def fails(self, server, case, code):
        events = harness.run_agent(server, "a", case, expected=1)
        self.assertEqual((events[-1]["type"], events[-1]["code"]), ("error", code))
        return events

    # ---- A run ----

    def test_calls_per_run(self):
        events = self.fails(self.server_with("calls_per_run=1"), "two-calls", "BUDGET_EXCEEDED")
        self.assertEqual({e["error_code"] for e in kinds(events, "tool_call_complete")}, {"NOT_RUN"})

    def test_calls_per_iteration(self):
        self.fails(self.server_with("calls_per_iteration=1"), "two-calls", "PROVIDER_LIMIT")

    def test_loop_guard(self):
        self.fails(self.server_with("loop_guard=2"), "same-call", "LOOP_DETECTED")

    def test_run_timeout(self):
        self.fails(self.server_with("run_timeout=300ms"), "hangs", "DEADLINE_EXCEEDED")

    def test_heartbeat(self):
        events = harness.run_agent(self.server_with("heartbeat=1s"), "a", "quiet")
        self.assertTrue(kinds(events, "heartbeat"))

    def test_delta_and_final_text(self):
        events = harness.run_agent(self.server_with("delta=1KiB", "final_text=2KiB"), "a", "long-text")
        sizes = [len(e["delta"].encode()) for e in kinds(events, "text_delta")]
        self.assertEqual((sum(sizes), max(sizes)), (6000, 1024))
        self.assertEqual((len(events[-1]["content"].encode()), events[-1]["content_truncated"]), (2048, True))

    def test_parallel_tools_and_tools(self):
        for limit, order in (("parallel_tools=1", 1), ("tools=1", 1), ("tools=2", -1)):
            events = harness.run_agent(self.server_with(limit), "a", "two-naps")
            starts = [e["tool_id"] for e in kinds(events, "tool_call_start")]
            self.assertEqual([e["tool_id"] for e in kinds(events, "tool_call_complete")], starts[::order], limit)

    def test_window_keep_is_how_long_a_request_id_is_known(self):
        server = self.server_with("window_keep=1s")

        def run_id():
            return harness.run_agent(server, "echo", "x", flags=("--request-id", "order-1"))[0]["run_id"]

        first = run_id()
        self.assertEqual(run_id(), first)
        harness.wait_for("the id is free", lambda: run_id() != first)

    # ---- A tool ----

    def test_tool_timeout(self):
        complete, _ = self.tool(self.server_with("tool_timeout=300ms"), "sleeps")
        self.assertEqual(complete["error_code"], "TIMEOUT")
        self.assertIn("0.300 s", complete["error"])

    def test_tool_arguments(self):
        complete, seen = self.tool(self.server_with("tool_arguments=1KiB"), "asks-much")  # T8
        self.assertEqual(complete["error_code"], "INVALID_ARGS")
        self.assertIn("more than 1024 bytes", seen)

    def test_tool_output_edge_and_tool_result_event(self):
        complete, seen = self.tool(self.server_with("tool_output_edge=1KiB", "tool_result_event=2KiB"), "says-much")
        self.assertEqual((complete["result_bytes"], complete["result_truncated"]), (100000, True))
        self.assertLessEqual(len(complete["result_json"].encode()), 2048)
        self.assertIn("[... 97952 bytes omitted ...]", seen)

    def test_tool_output_kill(self):
        complete, _ = self.tool(self.server_with("tool_output_kill=64KiB"), "says-much")
        self.assertEqual(complete["error_code"], "OUTPUT_LIMIT")

    def test_tool_file_and_tool_files(self):
        complete, _ = self.tool(self.server_with("tool_file=1MiB", "tool_files=33"), "ulimit")
        self.assertEqual(json.loads(complete["result_json"])["stdout"], "33\n2048\n0\n0077\n1000\n")

    def test_tool_http_body(self):
        page = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
        self.addCleanup(page.server_close)
        thread = threading.Thread(target=page.serve_forever)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(page.shutdown)
        host = "127.0.0.1:%d" % page.server_port
        fetch = [[call("http_request", {"url": "http://%s/" % host})], [RESULT]]
        model = self.mock(scenario({"fetches": fetch}), ["--quiet"])
        config = "tools: {http_request: {allow_hosts: ['%s'], allow_http: true, allow_private: true}}\n" % host
        for limit, code in (("tool_http_body=2KiB", "OUTPUT_LIMIT"), ("tool_http_body=3KiB", "UNSPECIFIED")):
            server = self.daemon(
                agents={"a.yaml": agent("a", tools=["http_request"])},
                env=model.env(),
                flags=("--limit", limit),
                config=config,
            )
            server.kept += 4  # the client of http_request, too
            complete, _ = self.tool(server, "fetches")
            self.assertEqual(complete["error_code"], code, complete)


def pair(number, key, value):
    """An entry of a map<string, string>."""
    return field(number, field(1, key) + field(2, value))


class Credentials(harness.Case):
    """AL-6.1."""

    @classmethod
    def setUpClass(cls):
        cls.model = harness.MockModel(scenario(TURNS), ["--quiet"])
        cls.addClassCleanup(cls.model.stop)
        cls.server = harness.Daemon(
            agents={"keeper.yaml": agent("keeper", tools=KEEPERS)},
            env=cls.model.env(),
            flags=("--log-level", "debug", "--limit", "metadata=2", "--limit", "credentials=2"),
        )
        cls.server.kept *= 2  # the runs come over connections of their own, on any loop
        cls.addClassCleanup(cls.server.stop)

    def start(self, text, *entries):
        wire = Wire(self.server.address)
        self.addCleanup(wire.close)
        body = field(1, "keeper") + field(2, text) + b"".join(entries)
        return wire, wire.call(STREAMING, body)

    def run_with(self, text, *entries):
        wire, stream = self.start(text, *entries)
        return wire.wait_over(stream)

    def tearDown(self):
        self.assertIn("run=", self.server.log())
        self.assertNotIn(SEEN, self.server.log())

    def test_a_value_reaches_its_tool_and_no_event(self):
        reply = self.run_with("uses", pair(8, "token", SECRET), pair(8, "spare", SECRET + "2"))
        self.assertEqual(reply.status(), OK, reply)
        size = len(json.dumps({"token": SECRET}, separators=(",", ":")))
        self.assertIn(b'"stdout":"%d\\n"' % size, reply.data)
        self.assertNotIn(SEEN.encode(), reply.data)

    def test_no_value_stands_in_the_files_of_a_process(self):
        wire, stream = self.start("holds", pair(8, "token", SECRET))
        wire.wait("the tool runs", lambda: b"here\n" in wire.reply(stream).data)
        found = self.processes_below(self.server.pid)
        self.assertGreaterEqual(len(found), 2, "sluice-exec and the tool")
        for pid in [self.server.pid, *found]:
            for name in ("environ", "cmdline"):
                with open("/proc/%d/%s" % (pid, name), "rb") as file:
                    self.assertNotIn(SEEN.encode(), file.read(), "%d %s" % (pid, name))
        wire.reset(stream)
        harness.wait_for("they end", lambda: not self.processes_below(self.server.pid))

    def processes_below(self, pid):
        children = [int(child) for child in harness.state_of(pid)[2]]
        with_theirs = list(children)
        for child in children:
            try:
                with_theirs += self.processes_below(child)
            except (FileNotFoundError, ProcessLookupError):
                pass
        return with_theirs

    def test_a_tool_that_forwards_nothing_gets_nothing(self):
        reply = self.run_with("other", pair(8, "token", SECRET))
        self.assertEqual(reply.status(), OK, reply)
        self.assertNotIn(b"SLUICE_CREDENTIALS_FD", reply.data)
        self.assertNotIn(SEEN.encode(), reply.data)

    def test_a_missing_one_is_denied_by_name(self):
        reply = self.run_with("needs", pair(8, "token", SECRET))
        self.assertEqual(reply.status(), OK, "the run goes on")
        self.assertIn(b"needs the credential 'absent', which this run does not have", reply.data)
        self.assertIn(b"DENIED", reply.data, "the model sees it")

    def test_too_many_are_refused_without_a_value_in_the_message(self):
        entries = [pair(8, "a%d" % i, SECRET) for i in range(3)]
        reply = self.run_with("uses", *entries)
        self.assertEqual(reply.status(), INVALID_ARGUMENT)
        self.assertIn("credentials: 3 entries, at most 2", reply.text())
        reply = self.run_with("uses", pair(8, SECRET, "x"))
        self.assertEqual(reply.status(), INVALID_ARGUMENT)
        self.assertNotIn(SEEN, repr(reply.blocks))

    def test_metadata_is_bounded(self):
        entries = [pair(7, "a%d" % i, "v") for i in range(3)]
        self.assertIn("metadata: 3 entries, at most 2", self.run_with("uses", *entries).text())
        self.assertEqual(self.run_with("uses", *entries[:2], pair(8, "token", SECRET)).status(), OK)


if __name__ == "__main__":
    unittest.main(verbosity=2)
