"""The command line against a real daemon: what it prints and how it exits."""

import contextlib
import json
import os
import re
import signal
import socket
import tempfile
import threading
import time
import unittest

import harness

FLAG = re.compile(r'(?:\{|FLAG\(|COMMON\()\s*"(--[a-z-]+)"')


def forward(source, target):
    """Until the source ends."""
    while data := source.recv(65536):
        target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


class Cli(harness.Case):
    def setUp(self):
        self.server = self.daemon()

    def test_run_shows_text_tools_and_tokens(self):
        done = harness.sluice(self.server, "run", "demo", "hello")
        self.assertEqual(done.returncode, 0, done.stderr)
        out = done.stdout.decode()
        for word in ("iteration 1", "→ current_time", "✓ current_time", " ms", "tokens in", "✓ done"):
            self.assertIn(word, out)
        self.assertIsNone(harness.ANSI.search(done.stdout), "no colours in a pipe")

    def test_json_events_are_in_order(self):
        events = harness.run_agent(self.server, "echo", "one two")
        self.assertEqual(harness.text_of(events), "one two")
        self.assertEqual(events[0]["type"], "run_started")
        self.assertEqual(events[-1]["stop_reason"], "END_TURN")

    def test_input_may_come_from_stdin(self):
        done = harness.sluice(self.server, "run", "echo", "-", "--json", input=b"from stdin")
        events = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual(harness.text_of(events), "from stdin")

    def test_input_that_is_no_text_is_refused_before_anything_is_sent(self):
        for data in (b"a\0b", b"a\xff", b"\xed\xa0\x80"):
            done = harness.sluice(self.server, "run", "echo", "-", "--json", input=data)
            self.assertEqual((done.returncode, done.stdout), (2, b""))
            self.assertRegex(done.stderr, rb"^sluice: INPUT: [^\n]*UTF-8[^\n]*\n$")

    def test_wrong_words_are_named(self):
        for words, fault in (
            (("run",), "AGENT is missing"),
            (("run", "a", "b", "c"), "'c' is one word too many"),
            (("run", "echo", "--on-disconnect", "stay"), "--on-disconnect: 'stay'"),
            (("run", "echo", "--on-disconnect", "detach-for:1ms"), "--on-disconnect: 'detach-for:1ms'"),
            (("run", "echo", "--on-disconnect", "cancel", "--detach"), "--on-disconnect: with --detach"),
            (("attach",), "RUN_ID is missing"),
            (("attach", "a", "--after", "-1"), "--after: '-1'"),
            (("attach", "a" * 256), "RUN_ID: over 255 bytes"),
            (("cancel",), "RUN_ID is missing"),
            (("cancel", "a", "b"), "'b' is one word too many"),
            (("runs", "a", "b"), "'b' is one word too many"),
            (("runs", "--limit", "0"), "--limit: '0'"),
            (("runs", "--state", "asleep"), "--state: 'asleep'"),
            (("runs", "--context"), "--context: of one run"),
            (("runs", "a", "--agent", "echo"), "--agent, --state and --limit"),
            (("agents", "x"), "'x' is one word too many"),
            (("health", "a", "b"), "'b' is one word too many"),
            (("check-events", *"x" * 64, "b"), "'b' is one word too many"),
            (("check-events", "a", "--after", "x"), "--after: 'x'"),
            (("check-events", "a", "--after", "1", "--after", "2"), "--after: given more often"),
            (("check-events", "a", "b", "--join", "--after", "1", "--after", "2"), "--after: given more often"),
            (("mock-model", "a", "b"), "'b' is one word too many"),
            (("run", "echo", "--bogus"), "--bogus: no such option"),
            (("run", "echo", "--timeout"), "--timeout: its value is missing"),
            (("run", "echo", "--timeout", "x"), "--timeout: 'x'"),
            (("run", "echo", "--json=1"), "--json: takes no value"),
            (("run", "echo", "--max-iterations", "0"), "--max-iterations: '0'"),
            (("health", "--addr", "nonsense"), "--addr: 'nonsense'"),
            (("health", "--retry", "5"), "--retry: '5'"),
            (("bench", "--retry", "1"), "--retry: a measurement"),
            (("health", "--cert", "c"), "--cert and --key"),
            (("health", "--ca", "/no/such.pem"), "/no/such.pem: no such file"),
            (("check-events", "/no/such"), "/no/such: cannot be read: No such file"),
            (("mock-model", "/no/such"), "/no/such"),
            (("no-such-command",), "no command 'no-such-command'"),
        ):
            done = harness.sluice(self.server, *words)
            self.assertEqual((done.returncode, done.stdout), (2, b""), words)
            self.assertTrue(done.stderr.decode().splitlines()[0].startswith("sluice: "), words)
            self.assertIn(fault, done.stderr.decode().splitlines()[0])

    def test_every_command_explains_itself(self):
        """--help of a command names each option that its file takes."""
        usage = harness.sluice(self.server, "--help")
        self.assertEqual((usage.returncode, usage.stderr), (0, b""))
        self.assertEqual(harness.sluice(self.server, "help").stdout, usage.stdout)
        with open(harness.ROOT + "/service/cli/options.c", encoding="utf-8") as file:
            common = FLAG.findall(file.read())
        self.assertIn("--tls", common)
        for command in ("run", "attach", "cancel", "runs", "agents", "health", "call", "frame", "proto", "check-events", "mock-model", "bench"):
            done = harness.sluice(self.server, command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, b""), command)
            with open("%s/service/cli/cmd_%s.c" % (harness.ROOT, command.replace("-", "_")), encoding="utf-8") as file:
                own = FLAG.findall(file.read())
            is_remote = command not in ("proto", "check-events", "mock-model")
            for flag in own + (common if is_remote else []):
                self.assertRegex(done.stdout.decode(), r"(?m)^  %s " % flag)
            self.assertIn(command, usage.stdout.decode())

    def test_addresses_of_every_kind_are_reached(self):
        path = tempfile.mkdtemp() + "/socket"
        server = self.daemon(flags=("--listen", "unix:" + path, "--listen", "[::1]:0"))
        v6 = re.search(r"address=(\[::1\]:\d+)", server.wait_log("[::1]")).group(1)
        for address in ("unix:" + path, v6, server.address.replace("127.0.0.1", "localhost")):
            done = harness.sluice(self.server, "health", "--addr", address)
            self.assertEqual(done.stdout, b"SERVING\n", done.stderr)
        for address in ("unix:" + path + "x", "[::1]:1", "127.0.0.1:1", "no-such-host.invalid:1"):
            done = harness.sluice(self.server, "health", "--addr", address)
            self.assertEqual(done.returncode, 3)
            self.assertRegex(done.stderr.decode(), r"^sluice: UNAVAILABLE: [^\n]+\n$")
            self.assertIn(address.removesuffix(":1"), done.stderr.decode())

    def test_a_server_that_comes_late_is_asked_again(self):
        path = tempfile.mkdtemp() + "/socket"
        with socket.socket(socket.AF_UNIX) as early:  # somebody who hangs up
            early.bind(path)
            early.listen()
            early.settimeout(20)
            waiting = harness.start_sluice(self.server, "health", "--addr", "unix:" + path, "--retry", "4")
            early.accept()[0].close()
        os.unlink(path)
        self.daemon(flags=("--listen", "unix:" + path))
        out, err = waiting.communicate(timeout=60)
        self.assertEqual((waiting.returncode, out), (0, b"SERVING\n"), err)

    def test_a_run_whose_answer_was_lost_does_not_start_twice(self):
        path = tempfile.mkdtemp() + "/socket"

        def runs():
            return sum(self.server.metrics().get("sluice_runs_total", {}).values())

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(20)
            running = harness.start_sluice(
                self.server, "run", "echo", "once", "--addr", "unix:" + path, "--retry", "4", "--json"
            )
            near, _ = listener.accept()
            with near, harness.open_socket(self.server.address) as far:
                near.settimeout(20)
                far.sendall(near.recv(65536))
                near.sendall(far.recv(65536))  # SETTINGS; nothing that comes later arrives
                near.settimeout(0.1)
                while not runs():
                    with contextlib.suppress(TimeoutError):
                        far.sendall(near.recv(65536))
        os.unlink(path)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            listener.settimeout(60)
            near, _ = listener.accept()
            with near, harness.open_socket(self.server.address) as far:
                pump = [threading.Thread(target=forward, args=ends) for ends in ((near, far), (far, near))]
                for thread in pump:
                    thread.start()
                out, err = running.communicate(timeout=60)
                for thread in pump:
                    thread.join()
        self.assertEqual(running.returncode, 0, err)
        self.assertEqual(runs(), 1)
        self.assertIn(json.loads(out.splitlines()[0])["run_id"], self.server.log(), "it has the events of that one")

    def test_exit_status_says_what_happened(self):
        self.assertEqual(harness.sluice(self.server, "run", "nobody").returncode, 1)
        self.assertEqual(harness.sluice(self.server, "run").returncode, 2)
        self.assertEqual(harness.sluice(self.server, "no-such-command").returncode, 2)
        self.assertEqual(harness.sluice(None, "run", "echo", "x").returncode, 3)
        self.assertEqual(harness.sluice(None, "health").returncode, 3)
        self.assertEqual(harness.sluice(self.server, "run", "load", "events=9 fail_after=1").returncode, 1)

    def test_an_interrupt_cancels_the_run(self):
        child = harness.start_sluice(self.server, "run", "load", "hang=true", "--json")
        run_id = json.loads(child.stdout.readline())["run_id"]
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130)
        self.server.wait_log(run_id, "CLIENT_RESET")

    def test_a_killed_client_is_a_lost_connection(self):
        child = harness.start_sluice(self.server, "run", "load", "hang=true", "--json")
        run_id = json.loads(child.stdout.readline())["run_id"]
        child.kill()
        child.communicate()
        self.server.wait_log(run_id, "CLIENT_DISCONNECTED")

    def test_a_deadline_ends_the_run(self):
        done = harness.sluice(self.server, "run", "load", "hang=true", "--json", "--timeout", "300ms")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"DEADLINE_EXCEEDED", done.stderr)
        run_id = json.loads(done.stdout.splitlines()[0])["run_id"]
        # The client resets the stream at its own deadline; which of the two the server sees first is a race.
        line = self.server.wait_log(run_id, "ended")
        self.assertRegex(line, "code=DEADLINE_EXCEEDED|cancel_reason=CLIENT_RESET")

    def test_agents_and_health_answer(self):
        done = harness.sluice(self.server, "agents", "--json")
        names = [json.loads(line)["name"] for line in done.stdout.splitlines()]
        self.assertEqual(names, sorted(names))
        self.assertTrue({"demo", "echo", "load"} <= set(names))
        self.assertEqual(harness.sluice(self.server, "health").stdout, b"SERVING\n")
        self.assertEqual(harness.sluice(self.server, "health", "sluice.v1.AgentRuntime").stdout, b"SERVING\n")
        self.assertEqual(harness.sluice(self.server, "health", "no.Such").returncode, 1)

    def refuses(self, lines, line, fault, *flags):
        done = harness.sluice(None, "check-events", *flags, input=b"".join(lines))
        self.assertEqual((done.returncode, done.stdout), (1, b""), fault)
        self.assertRegex(done.stderr.decode(), r"^sluice: stdin: line %d: [^\n]*%s[^\n]*\n$" % (line, fault))

    def test_check_events_names_every_fault_and_its_line(self):
        lines = harness.sluice(self.server, "run", "demo", "x", "--json").stdout.splitlines(keepends=True)
        kinds = [json.loads(line)["type"] for line in lines]
        start, complete, n = kinds.index("tool_call_start"), kinds.index("tool_call_complete"), len(lines)
        calls = kinds[: kinds.index("iteration_complete")].count("tool_call_start")
        self.assertGreater(calls, 0)

        def event(at, **changes):
            return json.dumps(dict(json.loads(lines[at]), **changes)).encode() + b"\n"

        def numbered(chosen):
            return [json.dumps(dict(json.loads(x), sequence=i + 1)).encode() + b"\n" for i, x in enumerate(chosen)]

        def heartbeat(**changes):
            fields = {"type": "heartbeat", "sequence": 0, "timestamp_ms": 1, "last_sequence": 1, **changes}
            return json.dumps(fields).encode() + b"\n"

        self.refuses(lines[:2] + lines[3:], 3, "event 4 follows event 2")
        self.refuses(lines[:3] + lines[2:], 4, "event 3 follows event 3")
        self.refuses(lines + lines[-1:], n + 1, "follows event %d" % n)
        self.refuses(lines + [event(-1, sequence=n + 1)], n + 1, "RunDone in state END")
        self.refuses(numbered(lines[:complete] + lines[complete + calls :]), complete + 1, "in state TOOLS")
        self.refuses(numbered(lines[:start] + lines[start + 1 :]), start + 1, "tool use without a call|not open|nothing is open")
        self.refuses(numbered(lines + lines[2:3]), n + 1, "in state END")
        self.refuses(lines[:-1], n - 1, "no terminal event")
        self.refuses(numbered(lines[1:]), 1, "IterationStart in state NEW")
        self.refuses(lines[1:], 1, "event 2 follows event 0")
        self.refuses([heartbeat(last_sequence=0)] + lines, 1, "Heartbeat in state NEW")
        self.refuses(lines[:1] + [heartbeat(sequence=2)] + lines[1:], 2, "heartbeat after event 1")
        self.refuses(lines[:2] + [heartbeat()] + lines[2:], 3, "heartbeat after event 2")
        self.refuses(lines + [heartbeat(last_sequence=n)], n + 1, "Heartbeat in state END")
        self.refuses(lines[:3] + [lines[3][:20]], 4, "no JSON")
        self.refuses(lines[:3] + [b"\n", b"\n", b"nonsense\n"], 6, "no JSON")
        self.refuses(lines[:2] + [event(2, type="mystery")], 3, "'mystery'")
        self.refuses(lines[:2] + [b"[]\n"], 3, '"type"')
        self.refuses(lines[:2] + [event(2, sequence="3")], 3, "sequence")
        self.refuses([], 0, "no terminal event")
        self.refuses([b"\n"], 1, "no terminal event", "--may-be-cut")
        # A deadline cuts between events: what is missing may be missing, what is there is in order.
        cut = harness.sluice(None, "check-events", "--may-be-cut", input=b"".join(lines[:5]))
        self.assertEqual((cut.returncode, cut.stdout), (0, b"5 events, in order\n"))
        self.refuses(lines[:2] + lines[3:5], 3, "event 4 follows event 2", "--may-be-cut")
        whole = harness.sluice(None, "check-events", input=b"\n".join(lines[:1] + [heartbeat()] + lines[1:]))
        self.assertEqual((whole.returncode, whole.stdout), (0, b"%d events, in order\n" % n), whole.stderr)

    def test_check_events_reads_messages_as_they_stand_on_the_wire(self):
        for data, fault in ((b"\0\0\0", b"not a frame"), (b"\0\0\0\0\5abc", b"the stream ends inside"), (b"\0\0\0\0\1\xff", b"not a Stream")):
            done = harness.sluice(None, "check-events", input=data)
            self.assertEqual((done.returncode, done.stdout), (1, b""))
            self.assertIn(b"sluice: stdin: message 1: " + fault, done.stderr)
        self.assertIn(b"cannot be read", harness.sluice(None, "check-events", "/").stderr)

    def test_bench_counts_what_was_sent(self):
        words = ("bench", "--streams", "10", "--connections", "2", "--runs", "40", "--input", "events=100 bytes=50")
        done = harness.sluice(self.server, *words, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        report = json.loads(done.stdout)
        self.assertEqual(report["messages"], 40 * 104)
        self.assertEqual(report["status"], {"OK": 40})
        self.assertIn(b"first message", harness.sluice(self.server, *words).stdout)

    def test_control_characters_of_a_model_do_not_reach_the_terminal(self):
        done = harness.sluice(self.server, "run", "echo", "a\x1b[31mb\x07")
        self.assertNotIn(b"\x1b", done.stdout)
        self.assertNotIn(b"\x07", done.stdout)


class Load(harness.Case):
    def test_load_sends_exactly_what_was_asked(self):
        server = self.daemon()
        for text in ('{"events": 5000, "bytes": 1000}', "events=5000 bytes=1000 rate=0"):
            events = harness.run_agent(server, "load", text)
            self.assertEqual(len(events), 5004)
            self.assertEqual(len(harness.text_of(events)), 5000 * 1000)
            self.assertEqual(events[-1]["content"], "")
        done = harness.sluice(server, "run", "load", "evnts=5")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"INVALID_ARGUMENT", done.stderr)

    def test_load_thinks_calls_tools_and_is_refused_as_asked(self):
        server = self.daemon()
        events = harness.run_agent(server, "load", "events=5 bytes=64 thinking=3 tools=2 seed=1 stamp=true")
        self.assertEqual(len(events), 5 + 4 + 3 + 2 * 2 + 2)
        self.assertTrue(all(e["success"] for e in events if e["type"] == "tool_call_complete"))
        stamps = [e["delta"].split(" ")[:2] for e in events if e["type"] == "text_delta"]
        self.assertEqual([int(index) for index, _ in stamps], [0, 1, 2, 3, 4])
        self.assertTrue(all(0 < int(ns) <= time.monotonic_ns() for _, ns in stamps))
        again = harness.run_agent(server, "load", "seed=5 events=9 thinking=1")
        self.assertEqual(harness.text_of(again), harness.text_of(harness.run_agent(server, "load", "seed=5 events=9")))
        done = harness.sluice(server, "run", "load", "refuse=SERVER_FULL", "--json")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"RESOURCE_EXHAUSTED", done.stderr)


class Tls(harness.Case):
    def test_the_client_checks_the_certificate(self):
        files = tempfile.mkdtemp()
        harness.make_certificate(files + "/own")
        server = self.daemon(flags=("--tls-cert", files + "/own.cert", "--tls-key", files + "/own.key"))
        good = harness.sluice(server, "run", "echo", "x", "--ca", files + "/own.cert")
        self.assertEqual(good.returncode, 0, good.stderr)
        # Each refusal says what is wrong, in one line.
        for words, fault in (
            (("--tls",), b"certificate"),
            (("--ca", files + "/own.cert", "--server-name", "example.org"), b"hostname mismatch"),
        ):
            refused = harness.sluice(server, "health", *words)
            self.assertEqual((refused.returncode, refused.stdout), (3, b""), words)
            self.assertIn(b"the TLS handshake failed: ", refused.stderr)
            self.assertIn(fault, refused.stderr)
            self.assertEqual(refused.stderr.count(b"\n"), 1)
        named = harness.sluice(server, "health", "--ca", files + "/own.cert", "--server-name", "localhost")
        self.assertEqual((named.returncode, named.stdout), (0, b"SERVING\n"), named.stderr)
        self.assertEqual(harness.sluice(server, "health").returncode, 3, "plaintext to a TLS port")

    def test_a_missing_client_certificate_has_a_name_at_both_ends(self):
        files = tempfile.mkdtemp()
        harness.make_certificate(files + "/own")
        own = (files + "/own.cert", files + "/own.key")
        server = self.daemon(
            flags=("--tls-cert", own[0], "--tls-key", own[1], "--tls-client-ca", own[0], "--log-level", "debug")
        )
        refused = harness.sluice(server, "health", "--ca", own[0])
        self.assertEqual((refused.returncode, refused.stdout), (3, b""))
        self.assertIn(b"the peer refused TLS: tlsv13 alert certificate required", refused.stderr)
        self.assertEqual(refused.stderr.count(b"\n"), 1)
        line = server.wait_log('msg="TLS handshake failed"')
        self.assertRegex(line, 'level=debug subject=net .*peer=127.* reason="peer did not return a certificate"')


if __name__ == "__main__":
    unittest.main(verbosity=2)
