"""The daemon as an operator meets it: bad files, bad flags, drain, tools that must die, hostile bytes."""

import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import tempfile
import unittest

import harness


def sluiced(*words):
    return subprocess.run([harness.BIN + "/sluiced", *words], capture_output=True, timeout=60, check=False)


class Files(harness.Case):
    def test_a_broken_agent_file_is_named_and_the_others_load(self):
        server = self.daemon(
            agents={"good.yaml": "name: good\nmodel: echo:echo\n", "bad.yaml": "name: bad\nmodle: echo:echo\n"}
        )
        self.assertRegex(server.log(), r"bad\.yaml:2:1: .*modle")
        self.assertIn("model", server.log())
        done = harness.sluice(server, "agents", "--json")
        names = [json.loads(line)["name"] for line in done.stdout.splitlines()]
        self.assertIn("good", names)
        self.assertNotIn("bad", names)

    def test_every_mistake_of_the_configuration_is_reported(self):
        path = harness.write("listne: [x]\nlimits: {runs: -1, no_such: 3}\nlog: {level: loud}\nproviders: [{nam: x}]\n")
        done = sluiced("--config", path)
        err = done.stderr.decode()
        self.assertEqual(done.returncode, 78, err)
        for word in (":1:1:", "listne", "listen", "limits.runs", "no_such", "log.level", "nam"):
            self.assertIn(word, err)

    def test_wrong_flags_and_environment_are_refused(self):
        self.assertEqual(sluiced("--no-such-flag").returncode, 2)
        self.assertEqual(sluiced("--listen").returncode, 2)
        self.assertEqual(sluiced("--limit", "runs=0").returncode, 78)
        self.assertEqual(sluiced("--limit", "nothing=1").returncode, 78)
        self.assertEqual(sluiced("--listen", "0.0.0.0:0").returncode, 78, "plaintext needs --insecure")
        self.assertEqual(sluiced("--config", "/no/such/file").returncode, 78)
        self.assertEqual(sluiced("--tls-cert", "/no/such", "--tls-key", "/no/such").returncode, 78)
        self.assertEqual(sluiced("--check").returncode, 0)
        broken = sluiced("--check", "--agents", harness.write("name: x\n"))
        self.assertEqual(broken.returncode, 78, broken.stderr)

    def test_a_second_daemon_on_the_port_fails_with_one_line(self):
        server = self.daemon()
        done = sluiced("--listen", server.address)
        self.assertEqual(done.returncode, 69)
        line = "sluiced: cannot listen on '%s': address already in use\n" % server.address
        self.assertEqual((done.stdout, done.stderr.decode()), (b"", line))

    def test_what_cannot_be_used_at_the_start_is_one_line(self):
        files = tempfile.mkdtemp()
        for name in ("a", "b"):
            harness.make_certificate(files + "/" + name)
        with open(files + "/text", "w", encoding="ascii") as file:
            file.write("no certificate\n")
        os.mkdir(files + "/folder")
        tls = ("--listen", "127.0.0.1:0", "--tls-cert")
        for words, status, line in (
            ((*tls, files + "/no", "--tls-key", files + "/a.key"), 78, "/no: no such file"),
            ((*tls, files + "/a.cert", "--tls-key", files + "/no"), 78, "/no: no such file"),
            ((*tls, files + "/text", "--tls-key", files + "/a.key"), 78, "/text: there is no such PEM block"),
            ((*tls, files + "/a.cert", "--tls-key", files + "/b.key"), 78, "/b.key: key values mismatch"),
            ((*tls, files + "/folder", "--tls-key", files + "/a.key"), 78, "/folder"),
            (("--agents", files + "/no"), 78, "/no: there is no such file or folder"),
            (("--config", files + "/no"), 78, "/no: No such file or directory"),
            (("--config", files + "/folder"), 78, "/folder"),
            (("--listen", "unix:" + files + "/no/socket"), 78, "/no/socket': no such file or directory"),
            (("--listen",), 2, "--listen: its value is missing"),
            (("--bogus", "x"), 2, "--bogus: no such option"),
            (("extra",), 2, "extra: no such option"),
        ):
            done = sluiced(*words)
            err = done.stderr.decode()
            self.assertEqual((done.returncode, done.stdout), (status, b""), err)
            self.assertRegex(err, r"^sluiced: [^\n]*\n$")
            self.assertIn(line, err)
            self.assertLessEqual(err.count(files), 1, err)

    def test_a_port_file_that_cannot_be_written_ends_the_start(self):
        done = sluiced("--listen", "127.0.0.1:0", "--port-file", "/no/such/folder/file")
        self.assertEqual(done.returncode, 78)
        self.assertIn(b"\nsluiced: cannot write /no/such/folder/file: No such file or directory\n", done.stderr)
        self.assertNotIn(b"draining", done.stderr)


class Logs(harness.Case):
    def test_every_line_of_a_json_log_is_one_object(self):
        server = self.daemon(flags=("--log-format", "json", "--log-level", "debug"))
        self.assertEqual(harness.sluice(server, "run", "load", "events=3 fail_after=1").returncode, 1)
        harness.sluice(server, "run", "load", "no=\x1b[2J\n\"")
        server.wait_log('"ended"')
        lines = [json.loads(line) for line in server.log().splitlines()]
        self.assertTrue(all({"ts", "level", "subject"} <= set(line) for line in lines), lines)
        ended = [line for line in lines if line.get("msg") == "ended"]
        self.assertEqual([line["code"] for line in ended], ["PROVIDER_OVERLOADED"])

    def test_every_line_of_a_logfmt_log_is_pairs(self):
        server = self.daemon()
        self.assertEqual(harness.sluice(server, "run", "echo", "x").returncode, 0)
        server.wait_log('msg="ended"')
        for line in server.log().splitlines():
            self.assertRegex(line, r'^ts=\S+ level=[a-z]+ subject=[a-z0-9]+( [a-z0-9_]+=("[^"]*"|[^" ]*))*$')


class Drain(harness.Case):
    def test_sigterm_lets_runs_end_and_then_cuts_the_rest(self):
        server = self.daemon()
        child = harness.start_sluice(server, "run", "load", "hang=true", "--json")
        child.stdout.readline()
        server.process.send_signal(signal.SIGTERM)
        out, err = child.communicate(timeout=30)
        self.assertEqual(server.process.wait(30), 0, server.log())
        last = json.loads(out.splitlines()[-1])
        self.assertEqual((last["type"], last["code"]), ("error", "DRAINING"))
        self.assertIn(b"ABORTED", err)

    def test_health_fails_and_new_runs_are_refused_while_draining(self):
        server = self.daemon(drain_delay="1500ms")
        child = harness.start_sluice(server, "run", "load", "hang=true", "--json")
        child.stdout.readline()
        server.process.send_signal(signal.SIGTERM)
        server.wait_log("draining")
        self.assertEqual(harness.sluice(server, "health").stdout, b"NOT_SERVING\n")
        self.assertEqual(harness.sluice(server, "run", "echo", "x").returncode, 0, "served during the delay")
        child.communicate(timeout=30)
        self.assertEqual(server.process.wait(30), 0, server.log())

    def test_whoever_waits_for_a_slot_is_refused_when_the_drain_begins(self):
        server = self.daemon(flags=("--limit", "runs=1", "--limit", "drain_timeout=60s"))
        running = harness.start_sluice(server, "run", "load", "hang=true", "--json")
        running.stdout.readline()
        waiting = harness.start_sluice(server, "run", "load", "hang=true", "--json")
        with self.assertRaises(subprocess.TimeoutExpired):
            waiting.communicate(timeout=0.5)
        server.process.send_signal(signal.SIGTERM)
        out, err = waiting.communicate(timeout=5)
        self.assertEqual(out, b"")
        self.assertIn(b"UNAVAILABLE", err)
        server.process.send_signal(signal.SIGTERM)
        running.communicate(timeout=20)
        self.assertEqual(server.process.wait(20), 0, server.log())

    def start_run(self, server, text):
        done = harness.sluice(
            server, "call", "sluice.v1.AgentRuntime/StartRun", json.dumps({"agent": "load", "input": text})
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["runId"]

    def test_a_run_that_nobody_reads_goes_on_for_the_drain_timeout(self):
        server = self.daemon(flags=("--limit", "drain_timeout=60s"))
        run_id = self.start_run(server, "events=30 rate=20")
        server.process.send_signal(signal.SIGTERM)
        server.wait_log("draining")
        self.assertEqual(server.process.wait(30), 0, server.log())
        self.assertRegex(server.log(), 'run=%s msg="ended" agent=load status=OK ' % run_id)

    def test_a_run_that_nobody_reads_and_that_does_not_end_is_cut(self):
        server = self.daemon(flags=("--limit", "drain_timeout=500ms"))
        run_id = self.start_run(server, "hang=true")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(20), 0, server.log())
        line = server.wait_log(run_id, 'msg="ended"')
        self.assertRegex(line, r"status=ABORTED code=DRAINING .* duration_ms=\d{3}")

    def test_a_second_sigterm_does_not_wait(self):
        server = self.daemon(drain_delay="60s")
        server.process.send_signal(signal.SIGTERM)
        server.wait_log("draining")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(20), 0)


STUBBORN = """
name: stubborn
model: openai:mock-1
tools:
  - type: Process
    name: stubborn
    description: Does not want to end.
    config:
      command: [/bin/sh, -c, "trap '' TERM; sleep 300 & echo started; while :; do sleep 1; done"]
    parameters: {type: object}
"""
CALL = "turns:\n  - steps:\n      - tool_call: {name: stubborn, arguments: {}}\n  - steps: [{text: over}]\n"


class Tools(harness.Case):
    def test_a_cancel_kills_the_whole_process_tree(self):
        mock = self.mock(CALL)
        server = self.daemon(agents={"stubborn.yaml": STUBBORN}, env=mock.env())
        child = harness.start_sluice(server, "run", "stubborn", "x", "--json")
        harness.wait_for("the tool runs", lambda: harness.state_of(server.pid)[2])
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130)
        harness.wait_for("nothing is left", lambda: not harness.state_of(server.pid)[2], seconds=8)
        server.wait_log("CLIENT_RESET")

    def test_a_drain_that_has_to_cut_counts_its_limit(self):
        server = self.daemon(
            agents={"stubborn.yaml": STUBBORN}, env=self.mock(CALL).env(), flags=("--limit", "drain_timeout=100ms")
        )
        child = harness.start_sluice(server, "run", "stubborn", "x", "--json")
        harness.wait_for("the tool runs", lambda: harness.state_of(server.pid)[2])
        server.process.send_signal(signal.SIGTERM)
        cut = ('limit="drain_timeout"', 1)  # the tool lives on for tool_kill
        harness.wait_for("the cut", lambda: cut in server.metrics()["sluice_limits_reached_total"].items())
        child.communicate(timeout=20)
        self.assertEqual(server.process.wait(20), 0, server.log())


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


class Hostile(harness.Case):
    def setUp(self):
        self.server = self.daemon()
        host, port = self.server.address.rsplit(":", 1)
        self.target = (host, int(port))

    def send(self, data):
        """What the server answers until it closes, or falls silent for half a second."""
        with socket.create_connection(self.target, timeout=5) as conn:
            conn.sendall(data)
            conn.settimeout(0.5)
            answer = b""
            try:
                while True:
                    block = conn.recv(65536)
                    if not block:
                        break
                    answer += block
            except (TimeoutError, ConnectionResetError):
                pass
            return answer

    def ends(self, data):
        """The codes of the GOAWAYs with which the server answers; it must close, too."""
        with socket.create_connection(self.target, timeout=10) as conn:
            conn.sendall(data)
            answer = b""
            with contextlib.suppress(ConnectionResetError):
                for block in iter(lambda: conn.recv(65536), b""):
                    answer += block
        codes, at = [], 0
        while at < len(answer):
            size = int.from_bytes(answer[at : at + 3], "big")
            if answer[at + 3] == 7:
                codes.append(int.from_bytes(answer[at + 13 : at + 17], "big"))
            at += 9 + size
        return codes

    def still_lives(self):
        self.assertEqual(harness.sluice(self.server, "health").stdout, b"SERVING\n")

    def test_bytes_that_are_no_http2_are_refused(self):
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\x02\x00", os.urandom(4096), b"PRI * HTTP/2.0\r\n"):
            self.send(data)
            self.still_lives()
        self.assertIn(b"400", self.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"))

    def test_broken_frames_end_the_connection_and_nothing_else(self):
        settings = frame(4, 0, 0)
        attacks = [
            (frame(4, 0, 0, b"x"), 6),  # SETTINGS of a wrong size
            (frame(0, 0, 0, b"data on stream 0"), 1),
            (frame(9, 4, 1, b"continuation alone"), 1),
            (frame(8, 0, 0, b"\0\0\0\0"), 1),  # WINDOW_UPDATE of 0
            (struct.pack(">I", 0xFFFFFF)[1:] + b"\0\0\0\0\0\1", 6),  # a giant frame
            (frame(1, 4, 1, b"\xff" * 200), 9),  # a header block that does not decode
            (frame(1, 0, 1, b"") + b"".join(frame(9, 0, 1, b"") for _ in range(100)), 11),
        ]
        for attack, code in attacks:
            self.assertEqual(self.ends(PREFACE + frame(4, 0, 0) + attack), [code], attack[:20])
            self.still_lives()

    def test_a_probe_that_says_nothing_is_no_line_in_the_log(self):  # CM-8
        before = self.server.log()
        socket.create_connection(self.target, timeout=5).close()
        self.still_lives()
        self.assertEqual(self.server.log(), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
