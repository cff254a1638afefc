"""sluice bench: against sluiced, and against a server that is not ours."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

import grpc_peer
import harness

HERE = os.path.dirname(os.path.abspath(__file__))
SVG = "{http://www.w3.org/2000/svg}"


def bench(server, *words, expected=0):
    """The report as JSON."""
    done = harness.sluice(server, "bench", *words, "--json", timeout=120)
    assert done.returncode == expected, "exit status %d: %s%s" % (
        done.returncode,
        done.stdout.decode(),
        done.stderr.decode(),
    )
    return json.loads(done.stdout)


class OfRuns(harness.Case):
    def test_a_closed_loop_counts_every_message_in_order(self):
        server = self.daemon()
        words = ("--streams", "12", "--connections", "4", "--threads", "2", "--runs", "60")
        report = bench(server, *words, "--input", "events=100 bytes=64 stamp=true")
        self.assertEqual((report["calls"], report["status"]), (60, {"OK": 60}))
        self.assertEqual((report["messages"], report["gaps"], report["duplicates"]), (60 * 104, 0, 0))
        self.assertGreater(report["bytes"], 60 * 100 * 64)
        self.assertEqual((report["streams"], report["connections"], report["threads"]), (12, 4, 2))
        for time in ("first", "gap", "lag", "call"):
            names = ["%s_%s_ms" % (share, time) for share in ("p50", "p90", "p99", "p999", "p9999", "max")]
            values = [report[name] for name in names]
            self.assertEqual(values, sorted(values), time)
        self.assertGreaterEqual(report["max_call_ms"], report["max_first_ms"])
        self.assertIsNone(report["p50_late_ms"], "nothing is due in a closed loop")
        self.assertIsNone(report["rss_mb"], "no --pid")

    def test_an_open_loop_starts_what_is_due_and_counts_waiting(self):
        server = self.daemon()
        words = ("--rate", "100", "--runs", "50", "--input", "events=10 bytes=64 rate=100")
        report = bench(server, *words)
        self.assertEqual((report["rate"], report["calls"], report["starved_starts"]), (100, 50, 0))
        self.assertGreaterEqual(report["seconds"], 0.49, "the last one is due after 490 ms")
        self.assertIsNotNone(report["p50_late_ms"])
        # One stream at a time, a call of 90 ms every 10 ms: the 50th is due at 490 ms and starts after 4,410 ms.
        report = bench(server, *words, "--streams", "1")
        self.assertEqual(report["open_max"], 1)
        self.assertGreater(report["starved_starts"], 40)
        self.assertGreater(report["max_first_ms"], 3900, "latency counts from the due time")
        self.assertTrue(any("calls were due while all 1 streams" in remark for remark in report["remarks"]))

    def test_a_ramp_starts_slowly(self):
        server = self.daemon()
        words = ("--streams", "4", "--ramp", "2s", "--runs", "4", "--input", "events=1 bytes=64")
        report = bench(server, *words)  # slot 3 is due at 1.5 s, unless the others took all the runs
        self.assertEqual(report["calls"], 4)
        report = bench(server, "--rate", "100", "--ramp", "2s", "--runs", "25", "--input", "events=1 bytes=64")
        self.assertGreaterEqual(report["seconds"], 0.97, "call 24 is due at sqrt(2 * 24 * 2 / 100) s")

    def test_what_happened_in_the_warm_up_is_not_counted(self):
        server = self.daemon()
        with tempfile.TemporaryDirectory() as work:
            # The run begins in the warm-up and ends 2.4 s later: its messages count from then on, the call does not.
            words = ("--warmup", "1s", "--runs", "1", "--histogram", work + "/h.csv")
            report = bench(server, *words, "--input", "events=25 bytes=64 rate=10")
            self.assertEqual((report["calls"], report["status"], report["p50_first_ms"]), (0, {}, None))
            self.assertLess(report["messages"], 29)
            self.assertGreater(report["messages"], 0)
            with open(work + "/h.csv", encoding="utf-8", newline="") as file:
                n = sum(int(row["count"]) for row in csv.DictReader(file) if row["time"] == "gap_ms")
            self.assertLess(n, 28, "28 are all of them")

    def test_cancelled_calls_are_counted_apart_and_cancel_their_run(self):
        server = self.daemon()
        words = ("--streams", "5", "--runs", "20", "--cancel-after", "50:25")
        report = bench(server, *words, "--input", "events=20 bytes=64 rate=100")
        self.assertEqual((report["cancelled"], report["status"], report["errors"]), (5, {"OK": 15}, 0))
        harness.wait_for("five runs are reset", lambda: server.log().count("CLIENT_RESET") == 5)

    def test_a_slow_reader_reads_no_faster_and_holds_its_run_back(self):
        server = self.daemon()
        words = ("--runs", "1", "--read-rate", "100", "--window", "64KiB", "--timeout", "60s")
        report = bench(server, *words, "--input", "events=46 bytes=30000")
        self.assertEqual((report["messages"], report["status"]), (50, {"OK": 1}))
        self.assertGreaterEqual(report["seconds"], 0.49)
        self.assertGreater(report["p50_gap_ms"], 5)
        self.assertGreater(report["p50_call_ms"], 480, "what is unread is not over")

    def test_slow_readers_may_be_a_share(self):
        server = self.daemon()
        words = ("--streams", "4", "--runs", "4", "--read-rate", "50:25%")
        report = bench(server, *words, "--input", "events=26 bytes=64")
        self.assertEqual(report["messages"], 4 * 30)
        self.assertGreater(report["max_call_ms"], 550)

    def test_gates_decide_the_exit_status(self):
        server = self.daemon()
        words = ("--runs", "5", "--input", "events=10 bytes=64")
        report = bench(server, *words, "--fail-if", "p99_first_ms>60000", "--fail-if=errors > 0")
        self.assertEqual(report["failed"], [])
        report = bench(server, *words, "--fail-if", "messages_per_s>1", "--fail-if", "gaps>0", expected=1)
        self.assertEqual(report["failed"], ["messages_per_s>1"])
        report = bench(server, *words, "--fail-if", "p99_lag_ms>1", expected=1)
        self.assertEqual(report["failed"], ["p99_lag_ms>1"], "what was not measured does not pass")
        done = harness.sluice(server, "bench", *words, "--fail-if", "p50_call_ms>=0")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, rb"^sluice: failed: --fail-if p50_call_ms>=0: p50_call_ms is [0-9.]+\n$")
        done = harness.sluice(server, "bench", *words, "--fail-if", "gaps >> 3")
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"character 7: a number is expected", done.stderr)

    def test_failed_calls_have_their_status_and_reason(self):
        server = self.daemon()
        words = ("--runs", "6", "--input", "refuse=SERVER_FULL")
        report = bench(server, *words, expected=1)
        self.assertEqual(report["status"], {"RESOURCE_EXHAUSTED": 6})
        self.assertEqual(report["reasons"], {"SERVER_FULL": 6})
        self.assertEqual((report["errors"], report["error_pct"]), (6, 100))
        self.assertIn("RESOURCE_EXHAUSTED: ", report["first_error"])
        bench(server, *words, "--fail-if", "errors>6")  # a gate on errors says how many may be
        report = bench(server, "--runs", "3", "--timeout", "200ms", "--input", "hang=true", expected=1)
        self.assertEqual(report["status"], {"DEADLINE_EXCEEDED": 3})

    def test_the_limit_of_streams_is_named(self):
        server = self.daemon(flags=("--limit", "streams_per_connection=4"))
        words = ("--streams", "10", "--runs", "10", "--input", "events=5 bytes=64 rate=50")
        report = bench(server, *words)
        self.assertEqual((report["calls"], report["limit_waits"], report["stream_limit"]), (10, 6, 4))
        self.assertTrue(any("MAX_CONCURRENT_STREAMS" in remark for remark in report["remarks"]))
        report = bench(server, *words, "--connections", "3")
        self.assertEqual((report["limit_waits"], report["stream_limit"], report["remarks"]), (0, None, []))

    def test_the_servers_cost_is_read_from_proc(self):
        server = self.daemon()
        words = ("--streams", "4", "--runs", "400", "--input", "events=200 bytes=64")
        report = bench(server, *words, "--pid", str(server.pid))
        self.assertGreater(report["user_s"] + report["system_s"], 0)
        self.assertGreater(report["cpu_us_per_message"], 0)
        self.assertGreater(report["rss_mb"], 1)
        done = harness.sluice(server, "bench", "--runs", "1", "--pid", "2147483646", "--json")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"/proc/2147483646/stat is not readable", done.stderr)
        self.assertIsNone(json.loads(done.stdout)["cpu_us_per_message"])

    def test_histogram_and_picture_are_well_formed(self):
        server = self.daemon()
        with tempfile.TemporaryDirectory() as work:
            paths = [work + "/h.csv", work + "/p.svg"]
            words = ("--streams", "3", "--runs", "30", "--input", "events=20 bytes=64 stamp=true")
            report = bench(server, *words, "--histogram", paths[0], "--plot", paths[1])
            with open(paths[0], encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            self.assertEqual(list(rows[0]), ["time", "value_ms", "count", "percentile"])
            for time, n in (("first_ms", 30), ("gap_ms", 30 * 23), ("lag_ms", 30 * 20), ("call_ms", 30)):
                mine = [row for row in rows if row["time"] == time]
                self.assertEqual(sum(int(row["count"]) for row in mine), n)
                self.assertEqual(float(mine[-1]["percentile"]), 100)
                self.assertAlmostEqual(float(mine[-1]["value_ms"]), report["max_" + time], 5)
            root = ElementTree.parse(paths[1]).getroot()
            texts = [element.text for element in root.iter(SVG + "text")]
            for text in ("Latency by percentile, milliseconds", "Messages a second", "first message", "lag", "call"):
                self.assertIn(text, texts)
            self.assertGreaterEqual(len(list(root.iter(SVG + "polyline"))), 5)
        done = harness.sluice(server, "bench", "--plot", "/no/such/place.svg")
        self.assertEqual((done.returncode, done.stdout), (2, b""))
        self.assertIn(b"/no/such/place.svg: cannot be written: No such file", done.stderr)

    def test_the_text_report_names_everything(self):
        server = self.daemon()
        done = harness.sluice(server, "bench", "--runs", "5", "--input", "events=20 bytes=64", "--gzip", "--header", "x-a: b")
        self.assertEqual(done.returncode, 0, done.stderr)
        for word in ("ExecuteStreaming on 127", "closed loop", "first message", "p99.99", "5 runs on 1 stream and", "120 messages (", "OK                   5", "0 gaps"):
            self.assertIn(word, done.stdout.decode())

    def test_ctrl_c_prints_what_was_measured(self):
        server = self.daemon()
        child = harness.start_sluice(server, "bench", "--duration", "1h", "--streams", "3", "--json", "--input", "hang=true")
        self.addCleanup(child.kill)
        harness.wait_for("three runs", lambda: server.log().count('msg="started"') >= 3)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 130, err)
        report = json.loads(out)
        self.assertEqual((report["unfinished"], report["errors"]), (3, 0))
        self.assertLessEqual(report["messages"], 9)
        self.assertTrue(any("Interrupted" in remark for remark in report["remarks"]))

    def test_nobody_there_is_exit_status_3(self):
        for words in (("--threads", "2", "--streams", "2"), ("--rate", "10"), ("--call", "a.B/C")):
            done = harness.sluice(None, "bench", "--duration", "5s", *words)
            self.assertEqual((done.returncode, done.stdout), (3, b""), done.stderr)
            self.assertRegex(done.stderr, rb"^sluice: UNAVAILABLE: 127.0.0.1:1: [^\n]*refused[^\n]*\n$")

    def test_a_server_that_dies_is_counted_and_not_waited_for(self):
        server = harness.Daemon(flags=("--loops", "1"))
        self.addCleanup(server.process.kill)
        child = harness.start_sluice(server, "bench", "--duration", "1h", "--streams", "2", "--json", "--input", "hang=true")
        self.addCleanup(child.kill)
        harness.wait_for("two runs", lambda: server.log().count('msg="started"') >= 2)
        health = harness.sluice(server, "health")  # by then the loop has sent the runs' first events
        self.assertEqual(health.returncode, 0, health.stderr)
        server.crash()
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 1, err)
        report = json.loads(out)
        self.assertGreaterEqual(report["status"]["UNAVAILABLE"], 2)
        self.assertLess(report["errors"], 1000, "it does not try without a pause")
        self.assertTrue(any("went away" in remark for remark in report["remarks"]))

    def test_tls_is_spoken(self):
        with tempfile.TemporaryDirectory() as work:
            harness.make_certificate(work + "/tls")
            server = self.daemon(flags=("--tls-cert", work + "/tls.cert", "--tls-key", work + "/tls.key"))
            words = ("--threads", "2", "--streams", "4", "--runs", "20", "--input", "events=20 bytes=64")
            report = bench(server, *words, "--ca", work + "/tls.cert")
            self.assertEqual(report["messages"], 20 * 24)
            done = harness.sluice(server, "bench", *words, "--tls")
            self.assertEqual(done.returncode, 3)

    def test_a_terminal_sees_a_line_while_it_runs(self):
        server = self.daemon()
        terminal = harness.Terminal(server, "bench", "--duration", "1h", "--input", "events=10 bytes=64 rate=100", columns=120)
        terminal.read_until(rb"messages/s +\d+ calls ended")
        terminal.type(b"\x03")
        status, seen, is_same = terminal.end()
        self.assertEqual((status, is_same), (130, True))
        self.assertIn("Interrupted", seen)


class OfAnyMethod(harness.Case):
    def peer(self, *flags):
        peer = harness.Process("peer", [sys.executable, "-B", HERE + "/grpc_peer.py", *flags])
        self.addCleanup(peer.stop)
        return peer

    def call(self, peer, method, *words, expected=0):
        return bench(peer, "--call", method, "--streams", "4", "--runs", "20", *words, expected=expected)

    def test_every_kind_of_method_by_reflection(self):
        peer = self.peer()
        ask = json.dumps({"text": "hällo", "number": str(grpc_peer.BIG), "note": "n"})
        for name in ("peer.v1.Peer/Echo", "/peer.v1.Peer/Echo", "peer.v1.Peer.Echo"):
            report = self.call(peer, name, "--data", ask, "--header", "x-test: yes")
            self.assertEqual((report["method"], report["status"]), ("peer.v1.Peer/Echo", {"OK": 20}))
            self.assertEqual((report["messages"], report["gaps"], report["p50_gap_ms"]), (20, None, None))
        report = self.call(peer, "peer.v1.Peer/Count", "--data", '{"number": 30}', "--gzip")
        self.assertEqual((report["messages"], report["status"]), (600, {"OK": 20}))
        report = self.call(peer, "peer.v1.Peer/Gather", "--data", '{"text": "a"} {"text": "b"}', "--messages", "7")
        self.assertEqual((report["messages"], report["status"]), (20, {"OK": 20}), report["first_error"])
        report = self.call(peer, "peer.v1.Peer/Chat", "--data", '{"text": "a"}', "--messages", "25")
        self.assertEqual((report["messages"], report["status"]), (500, {"OK": 20}))
        report = self.call(peer, "peer.v1.Peer/Fail", expected=1)
        self.assertEqual((report["status"], report["reasons"]), ({"PERMISSION_DENIED": 20}, {"NOT_TODAY": 20}))

    def test_values_are_sent_in_turn_and_may_be_in_a_file(self):
        path = harness.write('{"number": 2}\n{"number": 5}\n', ".json")
        report = self.call(self.peer(), "peer.v1.Peer/Count", "--data", "@" + path)
        self.assertEqual(report["messages"], 10 * 2 + 10 * 5)

    def test_a_protoset_needs_no_reflection(self):
        peer = self.peer("--no-reflection")
        with tempfile.TemporaryDirectory() as work:
            grpc_peer.protoset(work + "/set")
            report = self.call(peer, "peer.v1.Peer/Count", "--data", '{"number": 3}', "--protoset", work + "/set")
            self.assertEqual((report["messages"], report["status"]), (60, {"OK": 20}))
        done = harness.sluice(peer, "bench", "--call", "peer.v1.Peer/Count")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"with --protoset FILE", done.stderr)

    def test_what_is_wrong_is_said_before_anything_is_sent(self):
        peer = self.peer()
        for words, status, fault in (
            (("--call", "nonsense"), 1, "NOT_FOUND: the server does not know nonsense"),
            (("--call", "peer.v1.Peer/Nope"), 1, "no method 'Nope'"),
            (("--call", "other.Svc/M"), 1, "nothing is known of it"),
            (("--call", "peer.v1.Peer/Echo", "--data", '{"txt": 1}'), 2, "no field 'txt'"),
            (("--call", "peer.v1.Peer/Echo", "--data", "{"), 2, "--data: value 1 is no JSON: line 1"),
            (("--call", "peer.v1.Peer/Echo", "--data", "{} {}]"), 2, "--data: value 3 is no JSON: line 1"),
            (("--call", "peer.v1.Peer/Echo", "--data", " "), 2, "--data: there is no value"),
            (("--call", "peer.v1.Peer/Echo", "--data", "@/no/such"), 2, "/no/such: cannot be read"),
            (("--call", "peer.v1.Peer/Echo", "--protoset", "/no/such"), 1, "/no/such: cannot be read"),
            (("--call", "peer.v1.Peer/Echo", "--protoset", __file__), 1, "test_bench.py: "),
        ):
            done = harness.sluice(peer, "bench", *words)
            self.assertEqual((done.returncode, done.stdout), (status, b""), words)
            self.assertIn(fault, done.stderr.decode(), words)

    def test_the_limit_of_streams_of_another_server_is_named(self):
        report = bench(
            self.peer("--streams", "2"), "--call", "peer.v1.Peer/Count", "--data", '{"number": 50}', "--streams", "6", "--runs", "30"
        )
        self.assertEqual((report["calls"], report["stream_limit"]), (30, 2))
        self.assertTrue(any("MAX_CONCURRENT_STREAMS" in remark for remark in report["remarks"]))


class OfDurability(harness.Case):
    def test_the_cost_of_a_store_is_measured_with_one_command(self):
        with tempfile.TemporaryDirectory() as work:
            words = ("--durability", "--short", "--store", work, "--json", work + "/figures.json", "--bin", harness.BIN)
            done = subprocess.run(
                [sys.executable, "-B", harness.ROOT + "/tests/bench/measure.py", *words],
                capture_output=True,
                timeout=300,
                check=False,
            )
            self.assertEqual(done.returncode, 0, done.stderr.decode() + done.stdout.decode())
            with open(work + "/figures.json", encoding="utf-8") as file:
                cases = json.load(file)["durability"]["cases"]
            self.assertEqual(os.listdir(work), ["figures.json"], "the stores are removed")
        for name, streams, events in (("1 stream", 1, 100_000), ("100 streams", 100, 1_000), ("lone event", 1, 100)):
            for mode, report in cases[name][0].items():
                self.assertEqual(report["messages"], streams * (events + 4), (name, mode))
                self.assertEqual(report["status"], {"OK": streams})
                if mode == "NONE":
                    self.assertEqual((report["store_appends"], report["store_event_bytes"]), (0, 0))
                else:
                    self.assertGreater(report["store_event_bytes"], streams * events * 100)
                    self.assertGreater(report["store_commits"], 0)
        self.assertEqual({mode: report["p50_us"] > 0 for mode, report in cases["lone event"][0].items()},
                         {"NONE": True, "ASYNC": True, "SYNC": True})  # fmt: skip


if __name__ == "__main__":
    harness.main()
