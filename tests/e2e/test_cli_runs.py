"""`sluice attach`, `cancel`, `runs`, and `run --detach`: runs that go on without their client, against a real daemon."""

import contextlib
import json
import os
import signal
import socket
import tempfile
import threading

import harness


class Link:
    """A way to the server that can be cut, and be there again."""

    def __init__(self, server):
        self.server = server
        self.path = tempfile.mkdtemp() + "/socket"
        self.address = "unix:" + self.path
        self.pairs = []
        self.n_accepted = 0
        self.open()

    def open(self):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        self.listener.listen()
        self.thread = threading.Thread(target=self.accept, args=(self.listener,))
        self.thread.start()

    def accept(self, listener):
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                far = harness.open_socket(self.server.address)
                self.pairs.append((near, far))
                self.n_accepted += 1
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self.pump, args=(source, target), daemon=True).start()

    @staticmethod
    def pump(source, target):
        with contextlib.suppress(OSError):
            source.settimeout(None)
            while data := source.recv(65536):
                target.sendall(data)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self):
        """Every connection is lost, and none is made until open()."""
        os.unlink(self.path)
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()
        for pair in self.pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
        self.pairs = []

    def close(self):
        if os.path.exists(self.path):
            self.cut()


class Runs(harness.Case):
    def setUp(self):
        self.server = self.daemon()

    def sluice(self, *words, expected=0):
        done = harness.sluice(self.server, *words)
        self.assertEqual(done.returncode, expected, done.stderr.decode())
        return done.stdout.decode()

    def start(self, text, *words):
        return self.sluice("run", "--detach", "load", text, *words).strip()

    def show(self, run_id, *words):
        return json.loads(self.sluice("runs", run_id, "--json", *words))

    def hang(self):
        """A run that goes on until it is cancelled, here at the latest."""
        run_id = self.start("hang=true")
        self.addCleanup(harness.sluice, self.server, "cancel", run_id, "--wait")
        return run_id

    def link(self):
        link = Link(self.server)
        self.addCleanup(link.close)
        return link

    def follow(self, link, *words):
        return harness.start_sluice(self.server, *words, "--addr", link.address, "--json")

    # ---- Following

    def test_attach_shows_what_run_shows_and_ends_as_the_run(self):
        run_id = self.start("events=20 bytes=10")
        lines = self.sluice("attach", run_id, "--json").splitlines()
        self.assertEqual([json.loads(line)["sequence"] for line in lines], list(range(1, 25)))
        self.assertEqual(self.sluice("attach", run_id, "--json", "--after", "20").splitlines(), lines[20:])
        self.assertEqual(self.sluice("attach", run_id, "--after", "24"), "")
        text = self.sluice("attach", run_id)
        self.assertIn("run " + run_id, text)
        self.assertIn("✓ done: 1 iteration", text)
        failed = self.start("events=5 fail_after=3")
        self.assertIn("✗ ", self.sluice("attach", failed, expected=1))
        self.assertIn("OUT_OF_RANGE", harness.sluice(self.server, "attach", run_id, "--after", "99").stderr.decode())
        self.assertIn("NOT_FOUND", harness.sluice(self.server, "attach", "of-nobody").stderr.decode())
        self.assertEqual(harness.sluice(None, "attach", run_id).returncode, 3)

    def test_ctrl_c_ends_the_following_and_not_the_run(self):
        run_id = self.hang()
        child = harness.start_sluice(self.server, "attach", run_id, "--json")
        sequences = [json.loads(child.stdout.readline())["sequence"] for _ in range(3)]
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
        self.assertEqual((child.returncode, sequences), (130, [1, 2, 3]))
        self.assertEqual(err.decode(), "sluice: the run goes on: sluice attach %s --after 3 follows it again\n" % run_id)
        self.assertEqual(self.show(run_id)["state"], "RUNNING")

    def check_lost(self, child, link, n_before):
        """The connection is lost; everything comes once, and in order (harness.Child proves that)."""
        for _ in range(n_before):
            child.stdout.readline()
        link.cut()
        link.open()
        out, err = child.communicate(timeout=60)
        self.assertEqual(child.returncode, 0, err)
        self.assertRegex(err.decode(), r"^sluice: UNAVAILABLE: .*; attaching behind event \d+ in 250 ms, try 1 of 8\n")
        return [json.loads(line) for line in (child.stdout.seen + out).splitlines()]

    def test_a_lost_connection_costs_no_event(self):
        run_id = self.start("events=100 bytes=10 rate=25")
        link = self.link()
        events = self.check_lost(self.follow(link, "attach", run_id), link, 5)
        self.assertEqual([e["sequence"] for e in events], list(range(1, 105)))
        self.assertGreaterEqual(link.n_accepted, 2)
        whole = self.sluice("attach", run_id, "--json").splitlines()
        self.assertEqual(events, [json.loads(line) for line in whole])

    def test_run_attaches_again_when_its_run_goes_on(self):
        for how in ("detach", "detach-for:30s"):
            link = self.link()
            child = self.follow(link, "run", "load", "events=100 bytes=10 rate=25", "--on-disconnect", how)
            events = self.check_lost(child, link, 5)
            self.assertEqual([e["sequence"] for e in events], list(range(1, 105)))

    def test_run_does_not_attach_again_when_its_run_ended_with_the_connection(self):
        link = self.link()
        child = self.follow(link, "run", "load", "hang=true")
        run_id = json.loads(child.stdout.readline())["run_id"]
        link.cut()
        _, err = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 3)
        self.assertNotIn(b"attaching", err)
        self.server.wait_log(run_id, "CLIENT_DISCONNECTED")

    def test_a_server_that_stays_away_is_given_up_at_the_deadline(self):
        run_id = self.hang()
        link = self.link()
        child = self.follow(link, "attach", run_id, "--timeout", "1s")
        child.stdout.readline()
        link.cut()
        _, err = child.communicate(timeout=60)
        self.assertIn(child.returncode, (1, 3), err)
        self.assertIn(b"try 1 of 8", err)
        self.assertNotIn(b"try 3 of 8", err)  # its pause would end behind the deadline

    def test_ctrl_c_of_run_cancels_also_when_its_stream_is_another_one(self):
        link = self.link()
        child = self.follow(link, "run", "load", "hang=true", "--on-disconnect", "detach")
        run_id = json.loads(child.stdout.readline())["run_id"]
        n_before = link.n_accepted
        link.cut()
        link.open()
        self.server.wait_log(run_id, "attached")
        self.assertGreater(link.n_accepted, n_before)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130, err)
        self.assertTrue(err.endswith(b"sluice: cancelled\n"), err)
        self.assertEqual(self.show(run_id)["error"]["cancel_reason"], "CANCEL_RPC")

    def test_ctrl_c_of_run_cancels_a_run_that_would_go_on(self):
        child = harness.start_sluice(self.server, "run", "load", "hang=true", "--json", "--on-disconnect", "detach")
        run_id = json.loads(child.stdout.readline())["run_id"]
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
        self.assertEqual((child.returncode, err), (130, b"sluice: cancelled\n"))
        self.server.wait_log(run_id, "CLIENT_RESET")

    def test_ctrl_c_of_run_tells_when_the_server_cannot_be_asked_to_cancel(self):
        link = self.link()
        child = self.follow(link, "run", "load", "hang=true", "--on-disconnect", "detach-for:1s")
        run_id = json.loads(child.stdout.readline())["run_id"]
        link.cut()
        self.assertIn(b"attaching", child.stderr.readline())
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130)
        self.assertIn(b"run %s may go on: it was not cancelled: UNAVAILABLE" % run_id.encode(), err)
        self.server.wait_log(run_id, "DETACH_TTL")

    # ---- Starting, ending, looking

    def test_detach_prints_the_id_and_repeats_nothing(self):
        run_id = self.start("events=3", "--request-id", "once", "--metadata", "team=blue")
        again = json.loads(self.sluice("run", "--detach", "load", "events=3", "--request-id", "once", "--metadata", "team=blue", "--json"))
        self.assertEqual(again, {"run_id": run_id})
        done = harness.sluice(self.server, "run", "--detach", "nobody")
        self.assertEqual((done.returncode, done.stdout), (1, b""))
        self.assertIn(b"sluice: NOT_FOUND: ", done.stderr)
        self.assertEqual(harness.sluice(None, "run", "--detach", "echo").returncode, 3)
        self.sluice("attach", run_id)
        self.assertEqual(self.show(run_id)["metadata"], {"team": "blue"})

    def test_cancel_prints_the_state(self):
        run_id = self.hang()
        self.assertEqual(self.sluice("cancel", run_id, "--wait", "--reason", "had enough"), "cancelled\n")
        self.server.wait_log(run_id, "had enough")
        self.assertEqual(self.sluice("cancel", run_id), "cancelled\n")
        self.assertEqual(json.loads(self.sluice("cancel", run_id, "--json")), {"state": "CANCELLED"})
        self.assertIn("NOT_FOUND", harness.sluice(self.server, "cancel", "of-nobody").stderr.decode())
        self.sluice("attach", run_id, expected=130)

    def test_cancel_waits_for_a_tool_that_has_to_be_killed(self):
        mock = self.mock(json.dumps({"turns": [{"steps": [{"tool_call": {"name": "stubborn", "arguments": {}}}]}]}), ["--quiet"])
        command = ["/bin/sh", "-c", "trap '' TERM; echo started; while :; do sleep 1; done"]
        tool = {"type": "Process", "name": "stubborn", "description": "A program.", "config": {"command": command}}
        agent = {"name": "helper", "model": "openai:mock-1", "tools": [tool]}
        self.server = self.daemon(agents={"helper.yaml": json.dumps(agent)}, env=mock.env())
        child = harness.start_sluice(self.server, "run", "helper", "x", "--json")
        while json.loads(child.stdout.readline())["type"] != "tool_progress":
            pass
        run_id = json.loads(child.stdout.seen.splitlines()[0])["run_id"]
        self.assertEqual(self.sluice("cancel", run_id), "running\n")
        self.assertEqual(self.sluice("cancel", run_id, "--wait"), "cancelled\n")
        child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130)

    def test_runs_are_listed_newest_first_over_all_pages(self):
        ids = [self.start("events=1") for _ in range(7)]
        for run_id in ids:
            self.sluice("attach", run_id)
        hanging = self.hang()
        listed = [json.loads(line) for line in self.sluice("runs", "--json").splitlines()]
        self.assertEqual([run["run_id"] for run in listed], [hanging, *reversed(ids)])
        table = self.sluice("runs").splitlines()
        self.assertEqual(table[0].split(), ["RUN", "AGENT", "STATE", "STARTED", "DURATION", "EVENTS"])
        self.assertEqual([line.split()[0] for line in table[1:]], [hanging, *reversed(ids)])
        self.assertRegex(table[2], r"^%s load +done +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ +\d+\.\d s 5$" % ids[-1])
        self.assertEqual(len(self.sluice("runs", "--limit", "3", "--json").splitlines()), 3)
        self.assertEqual([line.split()[0] for line in self.sluice("runs", "--state", "running").splitlines()], ["RUN", hanging])
        self.assertEqual(len(self.sluice("runs", "--state", "done", "--agent", "load", "--json").splitlines()), 7)
        self.assertEqual(self.sluice("runs", "--agent", "echo", "--json"), "")

    def test_large_runs_are_listed_over_several_pages(self):
        for _ in range(10):
            done = harness.sluice(self.server, "run", "echo", "-", input=b"x" * 250_000)
            self.assertEqual(done.returncode, 0, done.stderr)
        page = json.loads(self.sluice("call", "sluice.v1.AgentRuntime/ListRuns", "--json"))
        self.assertTrue(0 < len(page["runs"]) < 10 and page["nextPageToken"])
        listed = [json.loads(line) for line in self.sluice("runs", "--json").splitlines()]
        self.assertEqual([len(run["done"]["content"]) for run in listed], [250_000] * 10)
        self.assertEqual(len({run["run_id"] for run in listed}), 10)
        self.assertEqual(len(self.sluice("runs", "--limit", "5").splitlines()), 1 + 5)

    def test_one_run_is_shown_with_its_conversation(self):
        run_id = self.sluice("run", "--detach", "echo", "hello", "--metadata", "a=b").strip()
        self.sluice("attach", run_id)
        run = self.show(run_id)
        self.assertEqual((run["state"], run["agent"], run["metadata"]), ("DONE", "echo", {"a": "b"}))
        self.assertIn("hello", run["done"]["content"])
        self.assertNotIn("context", run)
        messages = self.show(run_id, "--context")["context"]["messages"]
        self.assertEqual([message["role"] for message in messages][:1], ["USER"])
        text = self.sluice("runs", run_id, "--context")
        for part in ("run       " + run_id, "state     done", "metadata  a = b", "── user ──\nhello\n"):
            self.assertIn(part, text)
        self.assertEqual(self.sluice("runs", run_id).count("── user"), 0)

    # ---- check-events of several streams

    def write(self, *lines):
        path = tempfile.mkstemp()[1]
        self.addCleanup(os.unlink, path)
        with open(path, "w", encoding="utf-8") as file:
            file.writelines(line + "\n" for line in lines)
        return path

    def check(self, *words):
        done = harness.sluice(None, "check-events", *words)
        return done.returncode, done.stdout.decode() + done.stderr.decode()

    def test_several_streams_of_a_run_say_the_same(self):
        run_id = self.sluice("run", "--detach", "demo", "x").strip()
        lines = self.sluice("attach", run_id, "--json").splitlines()
        tail = self.sluice("attach", run_id, "--json", "--after", "9").splitlines()
        n = len(lines)
        whole, resumed = self.write(*lines), self.write(*tail)
        status, said = self.check(whole, resumed, "--after", "0", "--after", "9")
        self.assertEqual((status, said.splitlines()[2]), (0, "%d events seen again, with the same bytes" % (n - 9)), said)
        self.assertEqual(said.splitlines()[1], "%s: %d events, in order" % (resumed, n - 9))
        self.assertEqual(self.check(resumed, "--after", "9"), (0, "%d events, in order\n" % (n - 9)))
        # A tail that claims another place, other bytes, a gap at the join, and a repeat.
        self.assertRegex(self.check(whole, resumed)[1], "event 10 follows event 0")
        self.assertRegex(self.check(resumed, "--after", "8")[1], "event 10 follows event 8")
        other = self.write(*tail[:3], json.dumps(dict(json.loads(tail[3]), timestamp_ms=1)), *tail[4:])
        self.assertEqual(self.check(other, "--after", "9")[0], 0)
        self.assertEqual(
            self.check(whole, other, "--after", "0", "--after", "9")[1].splitlines()[1],
            "sluice: %s: line 4: event 13 has other bytes than in %s" % (other, whole),
        )
        head = self.write(*lines[:9])
        self.assertEqual(self.check(head, resumed, "--join")[0], 0)
        self.assertEqual(self.check(head, head, "--may-be-cut")[0], 0)
        self.assertRegex(self.check(head, head)[1], "no terminal event after event 9")
        self.assertRegex(self.check(self.write(*lines[:8]), resumed, "--join")[1], "event 10 follows event 8")
        self.assertRegex(self.check(self.write(*lines[:10]), resumed, "--join")[1], "event 10 follows event 10")
        self.assertRegex(self.check(head, "--join")[1], "no terminal event after event 9")

    def test_a_parked_run_is_in_order_for_all_who_saw_a_part_of_it(self):
        lines = [json.loads(line) for line in self.sluice("run", "demo", "x", "--json").splitlines()]
        kinds = [line["type"] for line in lines]
        started, completed = kinds.index("iteration_start"), kinds.index("iteration_complete")

        def numbered(*events):
            return [json.dumps(dict(event, sequence=i + 1)) for i, event in enumerate(events)]

        def parked(stop_reason, attempt):
            """Put aside behind its first two deltas, and taken up: the iteration begins anew."""
            cut = dict(lines[completed], stop_reason=stop_reason)
            again = dict(lines[started], attempt=attempt)
            return numbered(*lines[: started + 3], cut, again, *lines[started + 1 :])

        whole = parked("INTERRUPTED", 2)
        park = started + 4  # events before it is taken up
        files = self.write(*whole), self.write(*whole[:park]), self.write(*whole[park:]), self.write(*whole[2:])
        self.assertEqual(self.check(files[0]), (0, "%d events, in order\n" % len(whole)))
        self.assertEqual(self.check("--join", files[1], files[2])[0], 0, "a reader that came back")
        for begin in range(len(whole)):
            tail = self.write(*whole[begin:])
            self.assertEqual(self.check("--after", "0", "--after", str(begin), files[0], tail)[0], 0, begin)
        readers = self.check("--may-be-cut", *files, "--after", "0", "--after", "0", "--after", str(park), "--after", "2")
        self.assertEqual((readers[0], readers[1].splitlines()[-1]),
                         (0, "%d events seen again, with the same bytes" % (2 * len(whole) - 2)), readers)  # fmt: skip
        self.assertRegex(self.check(files[1])[1], "no terminal event after event %d" % park)
        self.assertRegex(self.check("--join", files[1], files[3])[1], "event 3 follows event %d" % park)
        for stop_reason, attempt in (("INTERRUPTED", 1), ("INTERRUPTED", 3), ("MAX_TOKENS", 2), ("END_TURN", 2)):
            wrong = self.check(self.write(*parked(stop_reason, attempt)))
            self.assertRegex(wrong[1], "event %d: IterationStart in state CLOSING" % (park + 1), (stop_reason, attempt))
        # A run that was taken up may not have other bytes than those that were sent before.
        other = self.write(*whole[: started + 1], json.dumps(dict(json.loads(whole[started + 1]), timestamp_ms=1)), *whole[started + 2 :])
        self.assertRegex(self.check("--may-be-cut", files[1], other)[1], "event %d has other bytes than in" % (started + 2))

    def test_streams_as_they_stand_on_the_wire_are_compared_as_bytes(self):
        event = bytes([8, 1, 0xA2, 1, 0])  # sequence 1, an empty RunStarted
        frames = [b"\0\0\0\0" + bytes([len(text)]) + text for text in (event, event + bytes([16, 7]))]
        paths = []
        for frame in frames:
            paths.append(tempfile.mkstemp()[1])
            self.addCleanup(os.unlink, paths[-1])
            with open(paths[-1], "wb") as file:
                file.write(frame)
        self.assertEqual(self.check(paths[0], paths[0], "--may-be-cut")[0], 0)
        self.assertRegex(self.check(*paths, "--may-be-cut")[1], "message 1: event 1 has other bytes than in")
        json_file = self.write('{"type": "run_started", "sequence": 1}')
        self.assertRegex(self.check(paths[0], json_file, "--may-be-cut")[1], "JSON and messages")


if __name__ == "__main__":
    harness.main()
