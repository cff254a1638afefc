"""Runs that wait, for a decision or for their session, where some are recorded and others are not."""

import json
import tempfile
import unittest

import harness
from run_case import RunCase, call, shell, turns

ASKED = shell("write", "echo written", policy="ask")


class Waiting(RunCase):
    def serve(self):
        """Two agents, of which one is recorded."""
        path = tempfile.mkdtemp(prefix="sluice-store-") + "/runs.db"
        self.model = self.mock(turns([call("write")], [{"text": "over"}]), ["--quiet"])
        shared = {"model": "openai:mock-1", "tools": [ASKED], "approval": {"self": True}}
        agents = {
            "%s.yaml" % name: json.dumps(dict(shared, name=name, durability=durability))
            for name, durability in (("kept", "ASYNC"), ("lost", "NONE"))
        }
        self.server = self.daemon(agents=agents, env=self.model.env(), flags=("--loops", "2", "--store", path))
        self.server.kept = 12

    def begin_run(self, agent, *flags):
        """A run that waits for its approval."""
        done = harness.sluice(self.server, "run", agent, "x", "--detach", *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode().strip()

    def listed(self, *flags):
        done = harness.sluice(self.server, "runs", "--json", *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [json.loads(line)["run_id"] for line in done.stdout.splitlines()]

    def shows(self, run_ids, *flags):
        harness.wait_for("%r with %r" % (run_ids, flags), lambda: self.listed(*flags) == run_ids)

    def approve(self, run_id):
        done = harness.sluice(self.server, "attach", run_id, "--json", "--timeout", "1s")
        asked = next(e for e in map(json.loads, done.stdout.splitlines()) if e["type"] == "approval_requested")
        self.assertEqual(harness.sluice(self.server, "approve", run_id, asked["approval_id"]).returncode, 0)

    def test_those_that_wait_for_a_decision_are_listed_from_both(self):
        self.serve()
        run_ids = [self.begin_run(agent) for agent in ("lost", "kept", "kept", "lost")][::-1]  # the newest first
        self.shows(run_ids, "--state", "waiting_approval")
        self.assertEqual(self.listed("--state", "waiting_approval", "--agent", "kept"), run_ids[1:3])
        self.assertEqual(self.listed("--state", "running"), [])
        for run_id in run_ids[1:3]:
            self.approve(run_id)
        self.shows(run_ids[1:3], "--state", "done")
        self.assertEqual(self.listed("--state", "waiting_approval"), [run_ids[0], run_ids[3]])
        for run_id in (run_ids[0], run_ids[3]):
            harness.sluice(self.server, "cancel", run_id)
        self.shows([run_ids[0], run_ids[3]], "--state", "cancelled")

    def test_a_run_that_was_queued_is_recorded_when_it_begins(self):
        self.serve()
        first = self.begin_run("kept", "--session", "s")
        second = harness.start_sluice(
            self.server, "run", "kept", "x", "--session", "s", "--session-policy", "enqueue", "--approve", "all", "--json"
        )
        harness.wait_for("one that waits", lambda: len(self.listed("--state", "queued")) == 1)
        waiting = self.listed("--state", "queued")
        shown = json.loads(harness.sluice(self.server, "runs", waiting[0], "--json").stdout)
        self.assertEqual((shown["state"], shown["last_sequence"]), ("QUEUED", 0))
        self.assertEqual(self.listed(), waiting + [first])
        harness.sluice(self.server, "cancel", first)
        out, err = second.communicate(timeout=30)
        self.assertEqual(second.returncode, 0, err)
        self.assertEqual(json.loads(out.splitlines()[0])["run_id"], waiting[0])
        self.assertEqual(self.listed("--state", "queued"), [])
        self.assertEqual(self.listed(), waiting + [first])
        self.server.stop()
        self.server = self.daemon(flags=("--store", self.path_of_store()))
        self.assertEqual(self.listed(), waiting + [first])
        shown = json.loads(harness.sluice(self.server, "runs", waiting[0], "--json").stdout)
        self.assertEqual(shown["state"], "DONE")

    def path_of_store(self):
        words = self.server.process.args
        return words[words.index("--store") + 1]


if __name__ == "__main__":
    unittest.main(verbosity=2)
