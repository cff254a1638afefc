"""Sessions: what the model is told of the runs before (AL-6.6), and one run at a time, over real HTTP."""

import http.server
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading

import harness
from run_case import CODE_CANCELLED, DETACH, OK, RunCase, events_of
from wire import CANCEL_RUN, EXECUTE, GET_RUN, LIST_RUNS, START_RUN, STREAMING, field, fields_of, run_request

sys.path.insert(0, harness.ROOT + "/tests")
import pages  # pylint: disable=wrong-import-position

ABORTED, EXHAUSTED, INVALID, DEADLINE = 10, 8, 3, 4
REJECT, ENQUEUE, INTERRUPT = 1, 2, 3
SESSION_INTERRUPTED = 5
EVENT_ERROR = 17


class Provider(http.server.ThreadingHTTPServer):
    """Says what it was asked last; "hang": one word, and no more until it is released; "tool": calls one first."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.bodies = []
        self.released = threading.Event()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def env(self):
        return {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://127.0.0.1:%d/v1" % self.server_address[1]}

    def asked(self, index=-1):
        """[(role, content)] of a request."""
        return [(m["role"], m.get("content")) for m in self.bodies[index]["messages"]]


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass

    def say(self, delta, finish=None):
        chunk = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}
        self.wfile.write(b"data: %s\n\n" % json.dumps(chunk).encode())

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.bodies.append(body)
        last = body["messages"][-1]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        if last["role"] == "user" and last["content"].startswith("tool"):
            call = {"index": 0, "id": "c1", "type": "function", "function": {"name": "current_time", "arguments": "{}"}}
            self.say({"tool_calls": [call]}, "tool_calls")
        elif "hang" in last["content"]:
            self.say({"content": "wait"})
            self.server.released.wait(30)
            return
        else:
            self.say({"content": "re: " + last["content"][:20]}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")


def session(name, policy=0, mode=0, detach=False):
    options = (field(3, DETACH) if detach else b"") + (field(15, policy) if policy else b"")
    options += field(16, mode) if mode else b""
    return field(4, name) + (field(6, options) if options else b"")


class Sessions(RunCase):
    def setUp(self):
        super().setUp()
        self.provider = Provider()
        self.addCleanup(self.provider.server_close)
        self.addCleanup(self.provider.shutdown)
        self.addCleanup(self.provider.released.set)
        self.start(env=self.provider.env(), tools=["current_time"], config=self.config())

    @staticmethod
    def config():
        return "limits: {session_queue: 1}\n"

    def say(self, text, more, method=STREAMING):
        reply = self.wire().ask(method, run_request("helper", text) + more)
        self.assertEqual(reply.status(), OK, reply)
        return reply

    def hang(self, more):
        wire, stream, run_id = self.begin("hang", more=more)
        self.wait_text(wire, stream, b"wait")
        return wire, stream, run_id

    def wait_queued(self, n):
        harness.wait_for("%d that wait" % n, lambda: self.server.metrics()["sluice_runs_queued"][""] == n)

    def test_the_second_turn_knows_the_first(self):
        reply = self.say("one", session("s"))
        self.assertEqual(events_of(reply)[0][2][6], b"s")  # RunStarted.session_id
        self.say("two", session("s"), EXECUTE)  # the other way of running is the same
        self.assertEqual(
            self.provider.asked(), [("user", "one"), ("assistant", "re: one"), ("user", "two")]
        )
        self.say("three", session("other"))
        self.assertEqual(self.provider.asked(), [("user", "three")])
        self.say("four", b"")
        self.assertEqual(self.provider.asked(), [("user", "four")])
        runs = [dict(fields_of(v)) for _, v in fields_of(self.wire().ask(LIST_RUNS, field(4, "s")).messages()[0])]
        self.assertEqual([run[4] for run in runs], [b"s", b"s"])

    def test_a_tool_phase_goes_back_whole(self):
        self.say("tool", session("s"))
        self.say("and", session("s"))
        self.assertEqual([role for role, _ in self.provider.asked()], ["user", "assistant", "tool", "assistant", "user"])

    def test_a_context_follows_or_replaces(self):
        context = field(3, field(1, field(1, 2) + field(2, "given")))
        self.say("one", session("s"))
        self.say("two", session("s") + context)
        self.assertEqual([text for _, text in self.provider.asked()], ["one", "re: one", "given", "two"])
        self.say("three", session("s", mode=2) + context)
        self.assertEqual([text for _, text in self.provider.asked()], ["given", "three"])
        self.say("four", session("s"))
        self.assertEqual([text for _, text in self.provider.asked()], ["given", "three", "re: three", "four"])

    def test_a_cancel_in_the_middle_leaves_a_conversation(self):
        wire, stream, run_id = self.hang(session("s"))
        wire.reset(stream, 8)
        self.wait_ended(run_id)
        self.say("and", session("s", ENQUEUE))
        self.assertEqual(self.provider.asked(), [("user", "hang"), ("assistant", "wait"), ("user", "and")])

    def test_a_busy_session_refuses_queues_or_is_taken(self):
        _, _, first = self.hang(session("s", detach=True))
        refused = self.wire().ask(STREAMING, run_request("helper", "x") + session("s"))
        self.assertEqual((refused.status(), refused.data), (ABORTED, b""))
        queued_wire = self.wire()
        queued = queued_wire.call(EXECUTE, run_request("helper", "queued") + session("s", ENQUEUE))
        self.wait_queued(1)
        listed = fields_of(self.wire().ask(LIST_RUNS, field(4, "s") + field(5, 1)).messages()[0])
        self.assertEqual([dict(fields_of(v))[3] for _, v in listed], [1])  # RUN_STATE_QUEUED
        waiting = dict(fields_of(listed[0][1]))[1].decode()
        got = dict(fields_of(dict(fields_of(self.wire().ask(GET_RUN, field(1, waiting)).messages()[0]))[1]))
        self.assertEqual((got[1].decode(), got[3]), (waiting, 1))
        full = self.wire().ask(START_RUN, run_request("helper", "x") + session("s", ENQUEUE))
        self.assertEqual((full.status(), full.data), (EXHAUSTED, b""))
        queued_wire.reset(queued, 8)
        self.wait_queued(0)
        taken = self.say("now", session("s", INTERRUPT))
        self.assertEqual(events_of(taken)[-1][1], 16)
        _, observer = self.attach(first)
        ending = events_of(_.wait_over(observer))[-1]
        self.assertEqual((ending[1], ending[2][2], ending[2][6]), (EVENT_ERROR, CODE_CANCELLED, SESSION_INTERRUPTED))
        self.assertEqual(self.provider.asked(), [("user", "hang"), ("assistant", "wait"), ("user", "now")])

    def test_a_run_that_waits_is_cancelled_by_name(self):
        _, _, first = self.hang(session("s", detach=True))
        for method in (EXECUTE, START_RUN):
            wire = self.wire()
            call = wire.call(method, run_request("helper", "x") + session("s", ENQUEUE))
            self.wait_queued(1)
            listed = fields_of(self.wire().ask(LIST_RUNS, field(4, "s") + field(5, 1)).messages()[0])
            waiting = dict(fields_of(listed[0][1]))[1].decode()
            reply = self.wire().ask(CANCEL_RUN, field(1, waiting))
            self.assertEqual((reply.status(), dict(fields_of(reply.messages()[0]))[1]), (0, 6))  # RUN_STATE_CANCELLED
            reply = wire.wait_over(call)
            self.assertEqual((reply.status(), reply.data, reply.error_info()[0]), (1, b"", "CANCELLED"))
        self.cancel(first)

    def test_a_deadline_ends_the_wait(self):
        wire, stream, run_id = self.hang(session("s"))
        late = self.wire().ask(
            STREAMING, run_request("helper", "x") + session("s", ENQUEUE), ("grpc-timeout", "200m")
        )
        self.assertEqual((late.status(), late.data), (DEADLINE, b""))
        wire.reset(stream, 8)
        self.wait_ended(run_id)

    def test_an_agent_without_memory_refuses(self):
        reply = self.wire().ask(STREAMING, run_request("echo", "x") + session("s"))
        self.assertEqual((reply.status(), reply.data), (INVALID, b""))
        self.assertIn("keeps no sessions", reply.text())

    def test_a_drain_empties_the_queue(self):
        self.hang(session("s"))
        wire = self.wire()
        queued = wire.call(STREAMING, run_request("helper", "queued") + session("s", ENQUEUE))
        self.wait_queued(1)
        self.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(wire.wait_over(queued).status(), 14)
        self.provider.released.set()
        self.assertEqual(self.server.process.wait(30), 0)

    # ---- The command line ----

    def test_the_command_goes_on_with_a_session(self):
        for text in ("one", "two"):
            done = harness.sluice(self.server, "run", "helper", text, "--session", "s")
            self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([text for _, text in self.provider.asked()], ["one", "re: one", "two"])
        shown = harness.sluice(self.server, "runs", "--session", "s")
        self.assertEqual(shown.stdout.count(b"helper"), 2)
        self.hang(session("s"))
        done = harness.sluice(self.server, "run", "helper", "x", "--session", "s")
        self.assertIn(b"ABORTED", done.stderr)
        done = harness.sluice(self.server, "run", "helper", "x", "--session", "s", "--session-policy", "interrupt")
        self.assertEqual(done.returncode, 0, done.stderr)
        for words, text in (
            (("--session-policy", "enqueue"), b"only with --session"),
            (("--session", "s", "--session-policy", "push"), b"'push' is not reject"),
        ):
            done = harness.sluice(self.server, "run", "helper", "x", *words)
            self.assertEqual(done.returncode, 2)
            self.assertIn(text, done.stderr)

    def test_the_commands_of_the_page_give_what_it_shows(self):
        found = pages.blocks("docs/sessions.md", *pages.COMMANDS)
        script = "set -e\n" + "".join(block.text + "echo '@@@@'\n" for block in found)
        with tempfile.TemporaryDirectory() as home:
            env = {"PATH": harness.BIN + ":/usr/bin:/bin", "HOME": home, "SLUICE_ADDR": self.server.address}
            done = subprocess.run(["/bin/sh"], input=script.encode(), env=env, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        outputs = done.stdout.decode().split("@@@@\n")
        self.assertEqual(len(outputs), len(found) + 1)
        for block, output in zip(found, outputs):
            self.assertIsNone(pages.shows(output, block.output), block.name())


if __name__ == "__main__":
    os.chdir(harness.ROOT)
    harness.main()
