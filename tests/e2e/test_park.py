"""Runs that go on with the next server: parked at the end of a drain, or waiting for a decision when theirs was killed
(reliability 3.7, 4.2; AL-5.2, AL-6.7, RL-X1)."""

import json
import signal
import subprocess
import tempfile

import harness
from harness import sluice

STREAM = "name: %s\nprovider: load\nmodel: load\nmemory: None\ndurability: %s\n"
CLEANER = """\
name: cleaner
provider: script
model: script-1
approval: {self: true, timeout_secs: 60}
tools: [{type: Process, name: sweep, description: Sweeps., policy: ask, config: {command: [/bin/echo, swept]}}]
"""
WORKER = """\
name: worker
provider: script
model: script-1
tools: [{type: Process, name: sweep, description: Sweeps., config: {command: [/bin/sh, -c, "trap '' TERM; sleep 60"]}}]
"""
SCENARIO = """\
model: script-1
turns:
  - steps: [{text: "I shall sweep. "}, {tool_call: {name: sweep, arguments: {}}}, {finish: tool_calls}]
  - steps: [{text: "All is clean."}, {finish: stop}]
"""
DETACHED = ("--on-disconnect", "detach")


def types(lines):
    return [json.loads(line)["type"] for line in lines]


class Park(harness.Case):
    def setUp(self):
        self.path = tempfile.mkdtemp(prefix="sluice-store-") + "/runs.db"
        self.agents = {
            "slow.yaml": STREAM % ("slow", "ASYNC"),
            "sure.yaml": STREAM % ("sure", "SYNC"),
            "cleaner.yaml": CLEANER,
            "worker.yaml": WORKER,
        }
        self.config = "providers: [{name: script, kind: scripted, scenario: %s}]\n" % harness.write(SCENARIO)

    def serve(self, **options):
        flags = ["--store", self.path, "--limit", "drain_timeout=300ms"]
        server = harness.Daemon(agents=self.agents, config=self.config, flags=flags, **options)
        self.addCleanup(self.kill, server)
        return server

    @staticmethod
    def kill(server):
        server.process.kill()
        server.process.wait(20)

    def drain(self, server):
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(20), 0, server.log())

    def attach(self, server, run_id, after=0, expected=0):
        done = sluice(server, "attach", run_id, "--json", "--after", str(after), "--timeout", "60s")
        self.assertEqual(done.returncode, expected, done.stderr.decode() + server.log()[-3000:])
        return done.stdout.splitlines()

    def show(self, server, run_id):
        done = sluice(server, "runs", run_id, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    @staticmethod
    def start(server, agent, text):
        return sluice(server, "run", agent, text, "--detach").stdout.decode().strip()

    def check_whole(self, lines):
        harness.check_order(b"\n".join(lines) + b"\n")

    def test_a_stream_is_parked_and_taken_up(self):
        """Two clients come back by themselves, behind what each of them has (AL-5.2)."""
        for agent in ("slow", "sure"):
            server = self.serve()
            text = '{"events": 150, "rate": 100, "bytes": 50}'
            first = harness.start_sluice(server, "run", agent, text, "--json", *DETACHED)
            run_id = json.loads(first.stdout.readline())["run_id"]
            second = harness.start_sluice(server, "attach", run_id, "--json")
            second.stdout.readline()
            self.drain(server)
            server.wait_log(run_id, 'msg="parked"')
            server = self.serve(listen=server.address)
            server.wait_log(run_id, 'msg="taken up"')
            self.assertEqual(server.metrics()["sluice_store_runs_taken_up_total"][""], 1)
            self.assertEqual(server.metrics()["sluice_store_runs_recovered_total"][""], 0)
            self.assertEqual(self.show(server, run_id)["state"], "RUNNING")
            seen = []
            for child in (first, second):
                out, err = child.communicate()
                self.assertEqual(child.returncode, 0, err)
                self.assertIn(b"ABORTED: The server is going down: the run goes on with the next", err)
                seen.append((child.stdout.seen + out).splitlines())
            whole = self.attach(server, run_id)
            self.assertEqual(seen, [whole, whole], "the same bytes for all, before and after")
            self.check_whole(whole)
            starts = [event for event in map(json.loads, whole) if event["type"] == "iteration_start"]
            self.assertEqual([(event["iteration"], event["attempt"]) for event in starts], [(1, 1), (1, 2)])
            begin = starts[1]["sequence"]
            self.assertEqual(types(whole[begin:]).count("text_delta"), 150, "the whole answer once more")
            self.assertEqual(types(whole)[-1], "done")
            self.assertEqual(self.show(server, run_id)["state"], "DONE")
            server.stop()

    def test_a_decision_may_come_after_a_crash(self):
        server = self.serve()
        run_id = self.start(server, "cleaner", "clean up")
        asked = self.wait_for_approval(server, run_id)
        before = self.attach_until(server, run_id, "approval_requested")
        for _ in range(3):  # also of servers that did nothing but take it up
            self.kill(server)
            server = self.serve()
            server.wait_log(run_id, 'msg="taken up"')
            self.assertEqual(self.show(server, run_id)["state"], "WAITING_APPROVAL")
            listed = sluice(server, "runs", "--state", "waiting_approval").stdout.decode()
            self.assertIn(run_id, listed)
        done = sluice(server, "approve", run_id, asked["approval_id"])
        self.assertEqual(done.returncode, 0, done.stderr)
        whole = self.attach(server, run_id)
        self.assertEqual(whole[: len(before)], before)
        self.check_whole(whole)
        events = [json.loads(line) for line in whole]
        self.assertEqual([event["type"] for event in events].count("tool_call_complete"), 1)
        self.assertEqual(events[-1]["content"], "All is clean.")
        late = sluice(server, "approve", run_id, asked["approval_id"], "--deny")
        self.assertIn(b"decided", late.stderr)
        self.assertEqual(server.metrics()["sluice_store_runs_taken_up_total"][""], 1)
        server.stop()

    def wait_for_approval(self, server, run_id):
        harness.wait_for("the question", lambda: self.show(server, run_id)["state"] == "WAITING_APPROVAL")
        line = self.attach_until(server, run_id, "approval_requested")[-1]
        return json.loads(line)

    @staticmethod
    def attach_until(server, run_id, what):
        child = harness.start_sluice(server, "attach", run_id, "--json")
        lines = []
        while not lines or json.loads(lines[-1])["type"] != what:
            lines.append(child.stdout.readline().strip())
        child.kill()
        child.communicate()
        return lines

    def test_a_decision_may_come_after_a_drain(self):
        server = self.serve()
        run_id = self.start(server, "cleaner", "clean up")
        asked = self.wait_for_approval(server, run_id)
        self.drain(server)
        for _ in range(2):  # who takes it up may be killed, too
            server = self.serve()
            server.wait_log(run_id, 'msg="taken up"')
            self.kill(server)
        server = self.serve()
        done = sluice(server, "approve", run_id, asked["approval_id"], "--deny", "--comment", "no")
        self.assertEqual(done.returncode, 0, done.stderr)
        whole = self.attach(server, run_id)
        self.check_whole(whole)
        complete = next(event for event in map(json.loads, whole) if event["type"] == "tool_call_complete")
        self.assertEqual(complete["error_code"], "DENIED")
        self.drain(server)

    def test_an_approval_of_a_run_that_ends_with_its_reader_is_lost(self):
        server = self.serve()
        child = harness.start_sluice(server, "run", "cleaner", "clean up", "--json", "--on-disconnect", "cancel")
        run_id = json.loads(child.stdout.readline())["run_id"]
        self.wait_for_approval(server, run_id)
        self.kill(server)
        child.kill()
        child.communicate()
        server = self.serve()
        shown = self.show(server, run_id)
        self.assertEqual((shown["state"], shown["error"]["code"]), ("FAILED", "WORKER_LOST"))
        self.check_whole(self.attach(server, run_id, expected=1))
        server.stop()

    def test_a_tool_that_does_not_end_is_killed(self):
        server = self.serve()
        run_id = self.start(server, "worker", "work")
        harness.wait_for("the tool", lambda: harness.state_of(server.pid)[2])
        self.drain(server)
        server.wait_log(run_id, 'msg="parked"')
        server = self.serve()
        whole = self.attach(server, run_id)
        self.check_whole(whole)
        events = [json.loads(line) for line in whole]
        call = next(event for event in events if event["type"] == "tool_call_complete")
        self.assertEqual((call["success"], call["error_code"]), (False, "OUTCOME_UNKNOWN"))
        self.assertEqual(events[-1]["content"], "All is clean.")
        server.stop()

    def test_a_run_can_be_parked_again_and_again(self):
        server = self.serve()
        run_id = self.start(server, "sure", '{"events": 100, "rate": 50}')
        self.drain(server)
        for _ in range(2):
            server = self.serve()
            server.wait_log(run_id, 'msg="taken up"')
            self.drain(server)
        server = self.serve()
        whole = self.attach(server, run_id)
        self.check_whole(whole)
        attempts = [json.loads(line)["attempt"] for line in whole if json.loads(line)["type"] == "iteration_start"]
        self.assertEqual(attempts, [1, 2, 3, 4])

    def test_a_run_of_its_reader_is_not_parked(self):
        server = self.serve()
        child = harness.start_sluice(server, "run", "slow", '{"hang": true}', "--json")
        run_id = json.loads(child.stdout.readline())["run_id"]
        self.drain(server)
        out, _ = child.communicate()
        last = json.loads((child.stdout.seen + out).splitlines()[-1])
        self.assertEqual((last["type"], last["code"]), ("error", "DRAINING"))
        server = self.serve()
        self.assertEqual(self.show(server, run_id)["state"], "FAILED")
        self.assertEqual(server.metrics()["sluice_store_runs_taken_up_total"].get("", 0), 0)

    def test_without_its_agent_a_run_is_closed(self):
        server = self.serve()
        run_id = self.start(server, "slow", '{"hang": true}')
        self.drain(server)
        del self.agents["slow.yaml"]
        server = self.serve()
        error = self.show(server, run_id)["error"]
        self.assertEqual((error["code"], error["message"]), ("WORKER_LOST", "Its agent is not there any more: slow"))
        whole = self.attach(server, run_id, expected=1)
        self.check_whole(whole)

    def test_who_cannot_listen_parks_again(self):
        server = self.serve()
        run_id = self.start(server, "slow", '{"events": 50, "rate": 50}')
        self.drain(server)
        blocker = harness.Daemon()
        self.addCleanup(self.kill, blocker)
        command = [harness.BIN + "/sluiced", "--listen", blocker.address, "--agents", server.files + "/agents"]
        done = subprocess.run(command + ["--store", self.path], capture_output=True, timeout=30, check=False)
        self.assertEqual(done.returncode, 69, done.stderr)
        self.assertNotIn(b"Sanitizer", done.stderr)
        server = self.serve()
        whole = self.attach(server, run_id)
        self.check_whole(whole)
        self.assertEqual(types(whole)[-1], "done")


if __name__ == "__main__":
    harness.main()
