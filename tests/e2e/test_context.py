"""The conversation of recorded runs, from memory, from the store and after a crash (AL-5.27, AL-6.6, RL-S4)."""

import json
import signal
import sqlite3
import tempfile

import harness
from harness import sluice
from test_sessions import Provider

SCENARIO = """\
model: script-1
turns:
  - match: wait
    steps: [{text: Two calls.}, {tool_call: {name: note, arguments: {}}}, {tool_call: {name: sleep, arguments: {}}}]
  - match: note
    steps: [{text: One call.}, {tool_call: {name: note, arguments: {}}}]
  - match: note
    steps: [{text: It is noted.}]
  - match: half
    steps: [{text: Half an}, {hang: true}]
  - match: broken
    steps: [{text: Bro}, {cut: true}]
  - steps: [{text: Done.}]
"""
AGENT = """\
name: helper
provider: script
model: script-1
durability: SYNC
tools:
  - {type: Process, name: note, description: Notes it., config: {command: [/bin/echo, "noted"]}}
  - {type: Process, name: sleep, description: Waits., config: {command: [/bin/sleep, "60"]}}
"""
CONFIG = "providers: [{name: script, kind: scripted, scenario: %s}]\n"


class Context(harness.Case):
    def setUp(self):
        self.path = tempfile.mkdtemp(prefix="sluice-store-") + "/runs.db"

    def serve(self, *flags, **options):
        options.setdefault("agents", {"helper.yaml": AGENT})
        options.setdefault("config", CONFIG % harness.write(SCENARIO))
        server = harness.Daemon(flags=["--store", self.path, *flags], **options)
        self.addCleanup(self.end, server)
        return server

    @staticmethod
    def end(server):
        if server.process.poll() is None:
            server.stop()

    @staticmethod
    def crash(server):
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(20)

    def start(self, server, text, *flags):
        done = sluice(server, "run", "helper", text, "--detach", *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode().strip()

    def events(self, server, run_id):
        """What readers can see of it now: with SYNC that is stored."""
        child = harness.start_sluice(server, "attach", run_id, "--json")
        try:
            while True:
                yield json.loads(child.stdout.readline())
        finally:
            child.kill()
            child.communicate()

    def wait_event(self, server, run_id, kind):
        for event in self.events(server, run_id):
            if event["type"] == kind:
                return

    def show(self, server, run_id):
        done = sluice(server, "runs", run_id, "--context", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def messages(self, server, run_id):
        return self.show(server, run_id)["context"]["messages"]

    def texts(self, server, run_id):
        return [(message["role"], message.get("content", "")) for message in self.messages(server, run_id)]

    def test_after_any_ending_it_is_the_same_after_a_restart(self):
        server = self.serve()
        ids = [self.start(server, text) for text in ("note", "else", "broken")]
        for run_id in ids:
            harness.wait_for("its end", lambda i=run_id: self.show(server, i)["state"] in ("DONE", "FAILED"))
        half = self.start(server, "half")
        self.wait_event(server, half, "text_delta")
        self.assertEqual(sluice(server, "cancel", half).returncode, 0)
        ids.append(half)
        shown = [self.show(server, run_id) for run_id in ids]
        self.assertEqual([run["state"] for run in shown], ["DONE", "DONE", "FAILED", "CANCELLED"])
        roles = [message["role"] for message in shown[0]["context"]["messages"]]
        self.assertEqual(roles, ["USER", "ASSISTANT", "TOOL", "ASSISTANT"])
        self.assertEqual(shown[2]["context"]["messages"][-1]["content"], "Bro")
        self.assertEqual(shown[3]["context"]["messages"][-1]["content"], "Half an")
        self.end(server)
        server = self.serve()
        self.assertEqual([self.show(server, run_id)["context"] for run_id in ids], [run["context"] for run in shown])
        page = sluice(server, "runs", ids[0], "--context").stdout.decode()
        self.assertIn("It is noted.", page)

    def test_a_crash_in_a_text_leaves_it_to_the_run_and_to_its_session(self):
        server = self.serve()
        run_id = self.start(server, "half", "--session", "s")
        self.wait_event(server, run_id, "text_delta")
        self.crash(server)
        server = self.serve()
        said = [("USER", "half"), ("ASSISTANT", "Half an")]
        shown = self.show(server, run_id)
        self.assertEqual((shown["state"], shown["error"]["code"]), ("FAILED", "WORKER_LOST"))
        self.assertEqual(self.texts(server, run_id), said)
        self.assertTrue(shown["usage"]["estimated"])
        self.assertGreater(int(shown["usage"]["input_tokens"]), 0)
        again = self.start(server, "else", "--session", "s")
        harness.wait_for("its end", lambda: self.show(server, again)["state"] == "DONE")
        self.assertEqual(self.texts(server, again), said + [("USER", "else"), ("ASSISTANT", "Done.")])

    def test_a_crash_in_a_tool_phase_leaves_no_call_without_result(self):
        server = self.serve()
        run_id = self.start(server, "wait", "--session", "s")
        self.wait_event(server, run_id, "tool_call_complete")  # of the quick one
        self.crash(server)
        server = self.serve()
        messages = self.messages(server, run_id)
        self.assertEqual([message["role"] for message in messages], ["USER", "ASSISTANT", "TOOL", "TOOL"])
        calls = messages[1]["tool_calls"]
        self.assertEqual([call["name"] for call in calls], ["note", "sleep"])
        self.assertEqual([message["tool_call_id"] for message in messages[2:]], [call["id"] for call in calls])
        self.assertIn("noted", messages[2]["content"])
        self.assertEqual(json.loads(messages[3]["content"])["error"]["code"], "OUTCOME_UNKNOWN")
        self.assertEqual([message.get("is_error", False) for message in messages[2:]], [False, True])
        again = self.start(server, "else", "--session", "s")
        harness.wait_for("its end", lambda: self.show(server, again)["state"] == "DONE")
        self.assertEqual(self.messages(server, again)[:4], messages)

    def test_the_model_is_asked_with_what_the_crash_left(self):
        provider = Provider()
        self.addCleanup(provider.server_close)
        self.addCleanup(provider.shutdown)
        self.addCleanup(provider.released.set)
        options = {"agents": {"helper.yaml": "name: helper\nmodel: openai:mock-1\ndurability: SYNC\n"}, "config": ""}
        server = self.serve(env=provider.env(), **options)
        run_id = self.start(server, "hang", "--session", "s")
        self.wait_event(server, run_id, "text_delta")
        self.crash(server)
        server = self.serve(env=provider.env(), **options)
        self.start(server, "and", "--session", "s")
        harness.wait_for("the question", lambda: len(provider.bodies) == 2)
        self.assertEqual(provider.asked(), [("user", "hang"), ("assistant", "wait"), ("user", "and")])

    def test_one_that_is_too_large_is_told_as_absent(self):
        server = self.serve("--limit", "run_context=1KiB")
        done = sluice(server, "run", "helper", "x" * 2000, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        run_id = json.loads(done.stdout.splitlines()[0])["run_id"]
        self.assertEqual(len(self.messages(server, run_id)), 2, "memory has it")
        self.end(server)
        server = self.serve()
        shown = self.show(server, run_id)
        self.assertNotIn("context", shown)
        self.assertIn("limits.run_context", shown["context_absent"])
        done = sluice(server, "runs", run_id, "--context")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"limits.run_context", done.stderr)

    def test_one_that_is_damaged_is_the_loss_of_its_run_only(self):
        server = self.serve()
        ids = [self.start(server, "else") for _ in range(2)]
        for run_id in ids:
            harness.wait_for("its end", lambda i=run_id: self.show(server, i)["state"] == "DONE")
        self.end(server)
        with sqlite3.connect(self.path) as db:
            sql = "UPDATE contexts SET bytes = x'00' WHERE run = (SELECT number FROM runs WHERE run_id = ?)"
            self.assertEqual(db.execute(sql, (ids[0],)).rowcount, 1)
        db.close()
        server = self.serve()
        done = sluice(server, "runs", ids[0], "--context")
        self.assertIn(b"DATA_LOSS", done.stderr)
        self.assertNotEqual(done.returncode, 0)
        self.assertEqual(sluice(server, "runs", ids[0]).returncode, 0)
        self.assertEqual(self.texts(server, ids[1]), [("USER", "else"), ("ASSISTANT", "Done.")])


if __name__ == "__main__":
    harness.main()
