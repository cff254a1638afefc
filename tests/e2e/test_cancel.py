"""A cancel in every state that a run can be in: it is over within the bounds, and nothing of it is left."""

import contextlib
import json
import signal
import socket
import subprocess
import time
import unittest

import harness

BOUND = 3.0  # seconds, with a tool that has to be killed
QUICK = 1.0  # without one; 200 ms are promised, and a busy machine with sanitizers is slower


def turns(*turns):
    return json.dumps({"turns": [{"steps": steps} for steps in turns]})


def program(name, *command, **more):
    config = {"command": list(command)}
    return dict({"type": "Process", "name": name, "description": "A program.", "config": config}, **more)


def call(name, arguments=None):
    return [{"tool_call": {"name": name, "arguments": arguments or {}}}]


SLEEP = program("sleep", "/bin/sleep", "60")
IGNORES = "trap '' TERM; setsid sleep 60 & echo started; while :; do sleep 1; done"
STUBBORN = program("stubborn", "/bin/sh", "-c", IGNORES)
AGAIN = program("again", "/bin/sleep", "60", timeout_secs=1, idempotent=True)


class Cancel(harness.Case):
    def start(self, scenario=None, tools=(), flags=(), config="", env=None):
        self.model = None
        if scenario is not None:
            self.model = self.mock(scenario, ["--quiet"])
            env = self.model.env()
        agent = {"name": "helper", "model": "openai:mock-1", "tools": list(tools)}
        self.server = self.daemon(agents={"helper.yaml": json.dumps(agent)}, env=env, flags=flags, config=config)

        self.server.kept = 12  # of models and of http_request: two and a connection on each of two loops

    def begin(self, words="x"):
        """A run whose first event is there: (client, run id)."""
        child = harness.start_sluice(self.server, "run", "helper", words, "--json")
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stderr.close)
        self.addCleanup(child.kill)
        return child, json.loads(child.stdout.readline())["run_id"]

    def ends(self, child, run_id, bound, how=signal.SIGINT, reason="CLIENT_RESET"):
        """Sends the signal to the client; the run is over in time, in order, and leaves nothing."""
        child.send_signal(how)
        begin = time.monotonic()
        line = self.server.wait_log(run_id, "ended", seconds=10)
        took = time.monotonic() - begin
        child.communicate(timeout=20)
        self.assertIn("code=CANCELLED", line)
        self.assertIn("cancel_reason=" + reason, line)
        self.assertLess(took, bound, line)
        self.assertNotIn("order broken", self.server.log())

    def nothing_is_left(self):
        self.assertEqual(harness.state_of(self.server.pid)[2], [], "the end is a promise of rest")
        if self.model is not None:
            harness.wait_for("the model's side is closed", lambda: self.model.stats()["active"] == 0, seconds=3)

    def wait_child(self, is_there=True):
        harness.wait_for("a tool's process", lambda: bool(harness.state_of(self.server.pid)[2]) == is_there)

    def silent_server(self, accepts):
        """A port that answers nothing; without `accepts` not even the connection."""
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(16 if accepts else 0)
        for _ in range(0 if accepts else 4):  # fills the queue: further SYNs are dropped
            filler = socket.socket()
            filler.setblocking(False)
            self.addCleanup(filler.close)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        return listener, {
            "OPENAI_BASE_URL": "http://127.0.0.1:%d/v1" % listener.getsockname()[1],
            "OPENAI_API_KEY": "k" * 20,
        }

    # ---- The model ----

    def test_while_connecting(self):
        listener, env = self.silent_server(accepts=False)
        self.start(env=env)
        child, run_id = self.begin()
        child.stdout.readline()  # iteration_start: the request is on its way
        self.ends(child, run_id, QUICK)
        self.nothing_is_left()
        listener.close()

    def test_while_waiting_for_the_first_byte(self):
        listener, env = self.silent_server(accepts=True)
        self.start(env=env)
        child, run_id = self.begin()
        conn, _ = listener.accept()
        with conn:
            conn.settimeout(5)
            self.assertIn(b"POST", conn.recv(65536))
            self.ends(child, run_id, QUICK)
            with contextlib.suppress(ConnectionResetError):
                while conn.recv(65536):
                    pass
        self.nothing_is_left()

    def test_in_the_middle_of_an_answer(self):
        self.start(turns([{"text": "a"}, {"hang": True}]))
        child, run_id = self.begin()
        while b"text_delta" not in child.stdout.readline():
            pass
        self.ends(child, run_id, QUICK)
        self.nothing_is_left()
        self.assertEqual(self.model.stats()["aborted"], 1)

    def test_in_the_line_before_a_busy_provider(self):
        self.start(turns([{"text": "a"}, {"hang": True}]), flags=("--limit", "model_concurrent=1"))
        first, first_id = self.begin()
        while b"text_delta" not in first.stdout.readline():
            pass
        second, second_id = self.begin()
        second.stdout.readline()  # iteration_start
        self.ends(second, second_id, QUICK)
        self.assertEqual(self.model.stats()["requests"], 1)
        third, third_id = self.begin()
        self.ends(first, first_id, QUICK)
        while b"text_delta" not in third.stdout.readline():
            pass
        self.ends(third, third_id, QUICK)
        self.nothing_is_left()

    def test_in_the_pause_before_a_retry(self):  # CN-4
        self.start(turns([{"error": {"status": 429, "retry_after": 30}}]))
        child, run_id = self.begin()
        harness.wait_for("the refusal", lambda: self.model.stats()["completed"] == 1)
        self.ends(child, run_id, QUICK)
        self.nothing_is_left()
        self.assertEqual(self.model.stats()["requests"], 1)

    def test_while_nobody_reads(self):  # CN-4, FC-4
        text = {"text": "{{input}}" * 60, "pace": {"unit": "chars", "size": 1000}}
        self.start(turns([text] * 40))  # about 10 MB
        child, run_id = self.begin("x" * 4000)
        child.send_signal(signal.SIGSTOP)
        last = -1
        for _ in range(100):  # until nothing moves any more
            now = self.model.stats()["bytes_accepted"]
            if now == last:
                break
            last = now
            time.sleep(0.3)
        self.assertEqual(self.model.stats()["active"], 1, "the model is held back")
        self.ends(child, run_id, QUICK, signal.SIGKILL, "CLIENT_DISCONNECTED")
        self.nothing_is_left()

    # ---- Tools ----

    def test_while_a_tool_runs(self):
        self.start(turns(call("sleep")), [SLEEP])
        child, run_id = self.begin()
        self.wait_child()
        self.ends(child, run_id, BOUND)
        self.nothing_is_left()

    def test_while_a_tool_runs_that_ignores_it(self):
        self.start(turns(call("stubborn")), [STUBBORN])
        child, run_id = self.begin()
        while b"started" not in child.stdout.readline():
            pass
        self.ends(child, run_id, BOUND)
        self.nothing_is_left()

    def test_while_a_tool_pauses_before_its_next_attempt(self):
        self.start(turns(call("again")), [AGAIN])
        child, run_id = self.begin()
        self.wait_child()
        self.wait_child(False)
        self.ends(child, run_id, QUICK)
        self.nothing_is_left()

    def test_while_a_tool_waits_for_a_slot(self):
        self.start(turns(call("sleep")), [SLEEP], flags=("--limit", "tools=1"))
        first, first_id = self.begin()
        self.wait_child()
        second, second_id = self.begin()
        while b"iteration_complete" not in second.stdout.readline():
            pass
        self.ends(second, second_id, QUICK)
        self.assertNotIn("run=%s msg=\"ended\"" % first_id, self.server.log(), "the other one goes on")
        self.ends(first, first_id, BOUND)
        self.nothing_is_left()

    def test_while_an_http_request_is_out(self):
        listener, _ = self.silent_server(accepts=True)
        host = "127.0.0.1:%d" % listener.getsockname()[1]
        config = "tools: {http_request: {allow_hosts: ['%s'], allow_http: true, allow_private: true}}\n" % host
        self.start(turns(call("http_request", {"url": "http://%s/" % host})), ["http_request"], config=config)
        child, run_id = self.begin()
        conn, _ = listener.accept()
        with conn:
            self.ends(child, run_id, QUICK)
            conn.settimeout(5)
            with contextlib.suppress(ConnectionResetError):
                while conn.recv(65536):
                    pass
        self.nothing_is_left()

    # ---- No run yet ----

    def test_while_waiting_for_a_run_slot(self):
        self.start(turns([{"text": "a"}, {"hang": True}]), flags=("--limit", "runs=1"))
        first, first_id = self.begin()
        second = harness.start_sluice(self.server, "run", "helper", "x", "--json")
        self.addCleanup(second.kill)
        with self.assertRaises(subprocess.TimeoutExpired):
            second.communicate(timeout=0.5)
        second.send_signal(signal.SIGINT)
        out, _ = second.communicate(timeout=5)
        self.assertEqual((out, second.returncode), (b"", 130), "no run, no event")
        self.assertEqual(self.server.log().count('msg="started"'), 1)
        self.ends(first, first_id, QUICK)
        self.nothing_is_left()


if __name__ == "__main__":
    unittest.main(verbosity=2)
