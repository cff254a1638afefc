"""Runs outlive their server: a crash, a restart, and what is told afterwards (RL-X1, RL-C19, RL-I3, AL-5.27)."""

import json
import os
import tempfile

import harness
import proof
from harness import sluice
from test_sessions import Provider

# Of the built-in model that writes as it is told; recorded, unlike the built-in agent `load`.
AGENTS = {
    "slow.yaml": "name: slow\nprovider: load\nmodel: load\nmemory: None\ndurability: ASYNC\n",
    "sure.yaml": "name: sure\nprovider: load\nmodel: load\nmemory: None\ndurability: SYNC\n",
    "none.yaml": "name: none\nprovider: load\nmodel: load\nmemory: None\ndurability: NONE\n",
}
TOOL_AGENT = """\
name: caller
provider: script
model: script-1
memory: None
tools: [{type: Process, name: wait, description: Waits., config: {command: [/bin/sleep, "60"]}}]
"""


def sequences(lines):
    return [json.loads(line)["sequence"] for line in lines]


class Recovery(harness.Case):
    def setUp(self):
        self.path = tempfile.mkdtemp(prefix="sluice-store-") + "/runs.db"

    def serve(self, *flags, **options):
        server = harness.Daemon(agents=AGENTS, flags=["--store", self.path, *flags], **options)
        self.addCleanup(self.end, server)
        return server

    @staticmethod
    def end(server):
        if server.process.poll() is None:
            server.stop()

    @staticmethod
    def crash(server):
        server.crash()

    def attach(self, server, run_id, after=0, expected=0):
        done = sluice(server, "attach", run_id, "--json", "--after", str(after), "--timeout", "30s")
        self.assertEqual(done.returncode, expected, done.stderr.decode() + server.log()[-2000:])
        return done.stdout.splitlines(), done.stderr.decode()

    def show(self, server, run_id):
        done = sluice(server, "runs", run_id, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def start_and_crash(self, agent, n_seen):
        """The run's id and the lines that its reader saw; what came last may be half a line."""
        server = self.serve()
        child = harness.start_sluice(
            server, "run", agent, '{"events": 1000000, "rate": 2000, "bytes": 50}', "--json",
            "--on-disconnect", "detach",
        )  # fmt: skip
        lines = [child.stdout.readline() for _ in range(n_seen)]
        self.crash(server)
        child.kill()
        rest, _ = child.communicate()
        proof.forget_streams()  # an ASYNC run may have other events there: what a test has to say itself
        seen = (b"".join(lines) + rest).split(b"\n")[:-1]
        return json.loads(seen[0])["run_id"], seen

    def test_a_sync_run_has_lost_nothing(self):
        run_id, seen = self.start_and_crash("sure", 300)
        server = self.serve()
        self.assertIn(run_id, server.wait_log("its owner was lost"))
        whole, _ = self.attach(server, run_id, expected=1)
        self.assertGreaterEqual(len(whole), len(seen))
        self.assertEqual(whole[: len(seen)], seen, "the same bytes, from the first event on")
        self.assertEqual(sequences(whole), list(range(1, len(whole) + 1)))
        last = json.loads(whole[-1])
        self.assertEqual((last["type"], last["code"], last["retryable"]), ("error", "WORKER_LOST", True))
        self.assertTrue(last["usage"]["estimated"])
        self.assertEqual(json.loads(whole[-2])["stop_reason"], "INTERRUPTED")
        rest, err = self.attach(server, run_id, after=len(seen), expected=1)
        self.assertEqual(seen + rest, whole, "no gap, and nothing twice")
        self.assertIn("ABORTED: The server that owned the run was lost", err)
        shown = self.show(server, run_id)
        self.assertEqual((shown["state"], shown["error"]["code"]), ("FAILED", "WORKER_LOST"))
        self.assertEqual(server.metrics()["sluice_store_runs_recovered_total"][""], 1)
        self.end(server)
        again, _ = self.attach(self.serve(), run_id, expected=1)
        self.assertEqual(again, whole, "it is ended once")

    def test_an_async_run_never_has_other_bytes(self):
        run_id, seen = self.start_and_crash("slow", 300)
        server = self.serve()
        whole, _ = self.attach(server, run_id, expected=1)
        n_same = len(os.path.commonprefix([seen, whole]))
        n_recorded = next(i for i, line in enumerate(whole) if json.loads(line).get("stop_reason") == "INTERRUPTED")
        self.assertEqual(n_same, min(len(seen), n_recorded))
        if len(seen) > n_recorded:  # it saw what was lost
            _, err = self.attach(server, run_id, after=len(seen), expected=1)
            self.assertIn("DATA_LOSS: events behind %d were lost" % n_recorded, err)
        rest, _ = self.attach(server, run_id, after=n_recorded, expected=1)
        self.assertEqual(whole[n_recorded:], rest)

    def test_many_runs_are_ended_before_the_server_listens(self):
        server = self.serve()
        ids = []
        for agent in ("slow", "sure", "none") * 10:
            done = sluice(server, "run", agent, '{"hang": true}', "--detach")
            ids.append((agent, done.stdout.decode().strip()))
        self.crash(server)
        server = self.serve()
        for agent, run_id in ids:
            if agent == "none":
                done = sluice(server, "runs", run_id)
                self.assertIn(b"NOT_FOUND", done.stderr)
            else:
                self.assertEqual(self.show(server, run_id)["state"], "FAILED")
        self.assertEqual(server.metrics()["sluice_store_runs_recovered_total"][""], 20)
        self.assertEqual(server.metrics()["sluice_store_runs_open"][""], 0)

    def test_a_run_is_the_same_from_memory_and_from_the_store(self):
        server = self.serve("--limit", "window_keep=0")
        done = sluice(server, "run", "slow", '{"events": 5000, "bytes": 100}', "--json", "--request-id", "once")
        lines = done.stdout.splitlines()
        run_id = json.loads(lines[0])["run_id"]
        self.assertEqual(self.attach(server, run_id)[0], lines)
        self.assertEqual(self.attach(server, run_id, after=4990)[0], lines[4990:])
        _, err = self.attach(server, run_id, after=6000, expected=1)
        self.assertIn("the run's last event is %d" % len(lines), err)
        self.end(server)
        server = self.serve()
        self.assertEqual(self.attach(server, run_id)[0], lines)
        repeated = sluice(server, "run", "slow", '{"events": 5000, "bytes": 100}', "--json", "--request-id", "once")
        self.assertEqual(repeated.stdout.splitlines(), lines, "no second run")
        other = sluice(server, "run", "slow", '{"events": 1}', "--json", "--request-id", "once")
        self.assertIn(b"another request with this request_id started run", other.stderr)
        cancelled = sluice(server, "cancel", run_id)
        self.assertEqual(cancelled.returncode, 0, cancelled.stderr)
        self.assertIn(b"done", cancelled.stdout.lower())
        shown = self.show(server, run_id)
        self.assertEqual((shown["state"], shown["last_sequence"]), ("DONE", len(lines)))

    def test_the_list_goes_over_the_restart(self):
        server = self.serve()
        ids = [sluice(server, "run", "sure", '{"events": 1}', "--detach").stdout.decode().strip() for _ in range(7)]
        for run_id in ids:
            self.attach(server, run_id)
        self.end(server)
        server = self.serve()
        ids += [sluice(server, "run", agent, '{"events": 1}', "--detach").stdout.decode().strip() for agent in ("sure", "none") * 3]
        for run_id in ids[7:]:
            self.attach(server, run_id)
        for size in (1, 3, 5, 100):
            seen, token = [], ""
            for _ in range(50):
                request = json.dumps({"pageSize": size, "pageToken": token})
                done = sluice(server, "call", "sluice.v1.AgentRuntime/ListRuns", request)
                self.assertEqual(done.returncode, 0, done.stderr)
                page = json.loads(done.stdout)
                seen += [run["runId"] for run in page.get("runs", [])]
                token = page.get("nextPageToken", "")
                if not token:
                    break
            self.assertEqual(seen, ids[::-1], "page size %d" % size)

    def test_a_slow_reader_of_a_long_run_misses_nothing(self):
        server = self.serve("--limit", "window=64KiB")
        text = '{"events": 20000, "rate": 10000, "bytes": 200}'
        run_id = sluice(server, "run", "slow", text, "--detach").stdout.decode().strip()
        child = harness.start_sluice(server, "attach", run_id, "--json")
        child.stdout.readline()
        harness.wait_for("its end", lambda: self.show(server, run_id)["state"] == "DONE", 60)
        out, err = child.communicate()
        lines = (child.stdout.seen + out).splitlines()
        self.assertEqual(child.returncode, 0, err)
        self.assertEqual(sequences(lines), list(range(1, 20005)))

    def test_a_call_that_was_under_way_has_an_unknown_outcome(self):
        scenario = harness.write(
            "model: script-1\nturns:\n  - steps: [{tool_call: {name: wait, arguments: {}}}, {finish: tool_calls}]\n"
        )
        config = "providers: [{name: script, kind: scripted, scenario: %s}]\n" % scenario
        agents = {"caller.yaml": TOOL_AGENT}
        server = harness.Daemon(agents=agents, config=config, flags=["--store", self.path])
        run_id = sluice(server, "run", "caller", "go", "--detach").stdout.decode().strip()
        harness.wait_for("the tool", lambda: harness.state_of(server.pid)[2])
        self.crash(server)
        server = self.serve()
        lines, _ = self.attach(server, run_id, expected=1)
        events = [json.loads(line) for line in lines]
        call = next(event for event in events if event["type"] == "tool_call_complete")
        self.assertEqual((call["success"], call["error_code"]), (False, "OUTCOME_UNKNOWN"))
        self.assertEqual([event["type"] for event in events[-2:]], ["tool_call_complete", "error"])

    def test_a_session_goes_on_where_it_was(self):
        provider = Provider()
        self.addCleanup(provider.server_close)
        self.addCleanup(provider.shutdown)
        agents = {"helper.yaml": "name: helper\nmodel: openai:mock-1\n"}
        for text in ("one", "two"):
            server = harness.Daemon(agents=agents, env=provider.env(), flags=["--store", self.path])
            self.addCleanup(self.end, server)
            done = sluice(server, "run", "helper", text, "--session", "s")
            self.assertEqual(done.returncode, 0, done.stderr.decode() + server.log()[-2000:])
            self.crash(server)
        self.assertEqual(provider.asked(), [("user", "one"), ("assistant", "re: one"), ("user", "two")])
        server = self.serve()
        listed = sluice(server, "runs", "--session", "s").stdout.decode()
        self.assertEqual(listed.count(" helper "), 2, listed)


if __name__ == "__main__":
    harness.main()
