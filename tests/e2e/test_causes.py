"""Why a stream ends, in every state of its run: reset, lost connection and deadline, with many streams on one connection
and two event loops, so that runs and their readers are on different loops, too (AL-5.20, 5.22, 5.23, 5.25, AL-7, AL-8)."""

import contextlib
import json
import socket
import time
import unittest

import harness
from wire import STREAMING, Wire, field, run_request
from wire_case import DEADLINE, INVALID_ARGUMENT, KIB, OK, resident

INITIAL_WINDOW = 4
N = 6  # streams; with that many on one connection the second loop has some of their runs
BOUND = 5.0  # seconds, for all of them, with tools that have to be killed on a busy machine
TIMEOUT = ("grpc-timeout", "2500m")
CANCEL, DETACH, DETACH_FOR = 1, 2, 3

RESET = ("code=CANCELLED", "cancel_reason=CLIENT_RESET reset_code=8")
LOST = ("code=CANCELLED", "cancel_reason=CLIENT_DISCONNECTED")
LATE = ("code=DEADLINE_EXCEEDED", "status=DEADLINE_EXCEEDED")


def turns(*turns):
    return json.dumps({"turns": [{"steps": steps} for steps in turns]})


def program(name, *command):
    return {"type": "Process", "name": name, "description": "A program.", "config": {"command": list(command)}}


def call(name):
    return [{"tool_call": {"name": name, "arguments": {}}}]


SLEEP = program("sleep", "/bin/sleep", "60")
STUBBORN = program("stubborn", "/bin/sh", "-c", "trap '' TERM; echo started; while :; do sleep 1; done")
LONG = {"text": "{{input}}" * 60, "pace": {"unit": "chars", "size": 1000}}


def options(policy=0, ttl=0, cancel_on_reset=None, run_timeout=0, heartbeat=None):
    out = field(2, run_timeout) if run_timeout else b""
    out += field(3, policy) if policy else b""
    out += field(4, ttl) if ttl else b""
    out += field(5, int(cancel_on_reset)) if cancel_on_reset is not None else b""
    out += field(8, heartbeat) if heartbeat is not None else b""
    return field(6, out)


def sequence_of(event):
    """0 for a heartbeat, which has none."""
    if event[0] != 0x08:
        return 0
    value = shift = 0
    for byte in event[1:]:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            break
    return value


class Case(harness.Case):
    def start(self, flags=(), agents=None, env=None):
        self.server = self.daemon(agents=agents, env=env, flags=("--loops", "2", *flags))
        self.server.kept = 4 + 2 * N  # what model clients keep of their connections, on each of two loops

    def wire(self, **more):
        wire = Wire(self.server.address, **more)
        self.addCleanup(wire.close)
        return wire

    def ended(self, n=1):
        """The lines that say how runs ended, when there are so many."""

        def lines():
            return [line for line in self.server.log().splitlines() if 'msg="ended"' in line]

        harness.wait_for("the end of %d runs:\n%s" % (n, self.server.log()[-3000:]), lambda: len(lines()) >= n)
        self.assertEqual(len(lines()), n)
        self.assertNotIn("order broken", self.server.log())
        return lines()


class States(Case):
    """One method for each state of AL-7.4; each ends its streams in three ways."""

    def each_cause(self, scenario, is_there, tools=(), flags=(), env=None, words="x", n=N, causes=3, **wire_options):
        """`is_there(wire, streams)`: the state is reached. `n`: how many streams."""
        for cause in (RESET, LOST, LATE)[:causes]:
            with self.subTest(cause=cause[1]):
                self.one_cause(cause, scenario, is_there, tools, flags, env, words, n, wire_options)

    def one_cause(self, cause, scenario, is_there, tools, flags, env, words, n, wire_options):
        self.model = None
        if scenario is not None:
            self.model = self.mock(scenario, ["--quiet"])
            env = self.model.env()
        agent = {"name": "helper", "model": "openai:mock-1", "tools": list(tools)}
        self.start(flags, {"helper.yaml": json.dumps(agent)}, env)
        wire = self.wire(**wire_options)
        more = [TIMEOUT] if cause is LATE else []
        begin = time.monotonic()
        streams = [wire.call(STREAMING, run_request("helper", words), *more) for _ in range(n)]
        if cause is not LATE:  # else the state has to be there when its time comes, which it is for long
            is_there(wire, streams)
            begin = time.monotonic()
        if cause is RESET:
            for stream in streams:
                wire.reset(stream)
        elif cause is LOST:
            wire.close()
        lines = self.ended(n)
        self.assertLess(time.monotonic() - begin, BOUND + (2.5 if cause is LATE else 0))
        for line in lines:
            self.assertTrue(all(words in line for words in cause), line)
        if cause is LATE and not wire_options:
            self.assertEqual([wire.wait_over(stream).status() for stream in streams], [DEADLINE] * n)
        self.assertEqual({i for i in (0, 1) if " loop=%d " % i in self.server.log()}, {0, 1})
        self.assertEqual(harness.state_of(self.server.pid)[2], [], "the end is a promise of rest")
        if self.model is not None:
            harness.wait_for("the model's side is closed", lambda: self.model.stats()["active"] == 0, seconds=3)

    @staticmethod
    def have_events(n):
        def is_there(wire, streams):
            wire.wait("%d events" % n, lambda: all(len(wire.reply(s).messages()) >= n for s in streams))

        return is_there

    def children(self, n):
        def is_there(wire, streams):
            harness.wait_for("processes", lambda: len(harness.state_of(self.server.pid)[2]) == n)

        return is_there

    def silent_server(self):
        listener = socket.socket()
        self.addCleanup(listener.close)
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        url = "http://127.0.0.1:%d/v1" % listener.getsockname()[1]
        return listener, {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "k" * 20}

    def test_connecting(self):
        listener, env = self.silent_server()
        for _ in range(4):  # fills the queue: further SYNs are dropped
            filler = socket.socket()
            filler.setblocking(False)
            self.addCleanup(filler.close)
            with contextlib.suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        self.each_cause(None, self.have_events(2), env=env)

    def test_waiting_for_the_first_byte(self):
        self.each_cause(
            turns([{"hang": True}]),
            lambda wire, streams: harness.wait_for("requests", lambda: self.model.stats()["active"] == N),
        )

    def test_in_the_middle_of_an_answer(self):
        self.each_cause(turns([{"text": "a"}, {"hang": True}]), self.have_events(3))

    def test_paused_by_a_reader_that_does_not_read(self):
        def is_there(wire, streams):
            before = [-1, -2]
            for _ in range(100):  # until nothing moves any more
                if len(set(before[-3:])) == 1:
                    break
                time.sleep(0.2)
                before.append(self.model.stats()["bytes_accepted"])
            self.assertEqual(self.model.stats()["active"], N, "the models are held back")

        self.each_cause(turns([LONG] * 40), is_there, words="x" * 4000, settings=[(INITIAL_WINDOW, 0)])

    def test_in_the_pause_before_a_retry(self):
        self.each_cause(
            turns([{"error": {"status": 429, "retry_after": 30}}]),
            lambda wire, streams: harness.wait_for("refusals", lambda: self.model.stats()["completed"] == 4),
            n=4,  # the retry budget of a provider allows five
            causes=2,  # a pause that would be over after the deadline is not begun
        )

    def test_in_the_queue_for_a_tool(self):
        def is_there(wire, streams):
            self.have_events(4)(wire, streams)
            self.children(1)(wire, streams)

        self.each_cause(turns(call("sleep")), is_there, [SLEEP], ("--limit", "tools=1"))

    def test_while_tools_run(self):
        self.each_cause(turns(call("sleep")), lambda wire, streams: self.children(N)(wire, streams), [SLEEP])

    def test_while_tools_run_that_ignore_it(self):
        def is_there(wire, streams):
            wire.wait("output", lambda: all(b"started" in wire.reply(s).data for s in streams))

        self.each_cause(turns(call("stubborn")), is_there, [STUBBORN])

    def wait_waiting(self, n):
        harness.wait_for("%d waiting" % n, lambda: self.server.dump()["totals"]["runs_waiting"] == n)

    def test_waiting_for_a_run_slot(self):
        self.start(("--limit", "runs=1"))
        first = self.wire()
        running = first.call(STREAMING, run_request("load", "hang=true"))
        first.wait("events", lambda: first.reply(running).data)
        waiting = self.wire()
        waiting.reset(waiting.call(STREAMING, run_request("load", "hang=true")))
        reply = waiting.ask(STREAMING, run_request("load", "hang=true"), ("grpc-timeout", "300m"))
        self.assertEqual((reply.status(), reply.data), (DEADLINE, b""))
        waiting.call(STREAMING, run_request("load", "hang=true"))
        self.wait_waiting(1)  # each on a loop of its own, they could overtake each other
        waiting.close()
        self.wait_waiting(0)
        last = self.wire()
        stream = last.call(STREAMING, run_request("load", "events=1"))
        self.wait_waiting(1)
        first.reset(running)
        self.assertEqual(last.wait_over(stream).status(), OK)
        self.ended(2)
        self.assertEqual(self.server.log().count('msg="started"'), 2, "those who left never had a run")

    def test_after_the_terminal_event(self):
        self.start()
        wire = self.wire(settings=[(INITIAL_WINDOW, 0)])
        streams = [wire.call(STREAMING, run_request("echo", "x")) for _ in range(N)]
        self.ended(N)  # nobody has read it
        for stream in streams[: N // 2]:
            wire.reset(stream)
        wire.close()
        for line in self.ended(N):
            self.assertIn("status=OK code= cancel_reason= reset_code=0", line)


class Policies(Case):
    """AL-7.1: what a stream's end means for its run, whichever loop that is on."""

    def end(self, how, text, more, *fields):
        """Ends N streams of `load`; gives the lines of their runs."""
        self.start()
        wire = self.wire()
        streams = [wire.call(STREAMING, run_request("load", text) + more, *fields) for _ in range(N)]
        wire.wait("events", lambda: all(len(wire.reply(s).messages()) >= 3 for s in streams))
        if how == "reset":
            for stream in streams:
                wire.reset(stream)
        elif how == "lost":
            wire.close()
        else:
            self.assertEqual([wire.wait_over(stream).status() for stream in streams], [DEADLINE] * N)
        lines = self.ended(N)
        self.assertEqual({n for n in (0, 1) if " loop=%d " % n in self.server.log()}, {0, 1})
        return lines

    def assert_all(self, lines, *words):
        for line in lines:
            self.assertTrue(all(word in line for word in words), line)

    def test_a_detached_run_goes_on_to_its_end(self):
        more = options(DETACH)
        for how, fields in (("lost", []), ("reset", []), ("late", [("grpc-timeout", "400m")])):
            with self.subTest(how=how):
                self.assert_all(self.end(how, "events=60 rate=60", more, *fields), "status=OK", "events=64")

    def test_a_detached_run_has_its_own_deadline(self):
        lines = self.end("late", "hang=true", options(DETACH, run_timeout=1500), ("grpc-timeout", "400m"))
        self.assert_all(lines, *LATE)
        for line in lines:
            self.assertGreaterEqual(int(line.split("duration_ms=")[1].split()[0]), 1500)

    def test_a_run_that_is_detached_for_a_time_ends_then(self):
        for how, fields in (("lost", []), ("reset", []), ("late", [("grpc-timeout", "400m")])):
            with self.subTest(how=how):
                lines = self.end(how, "hang=true", options(DETACH_FOR, ttl=1000), *fields)
                self.assert_all(lines, "code=CANCELLED", "cancel_reason=DETACH_TTL")
                for line in lines:
                    self.assertGreaterEqual(int(line.split("duration_ms=")[1].split()[0]), 1000)

    def test_a_reset_may_be_a_cancel_or_a_loss(self):
        self.assert_all(self.end("reset", "hang=true", options(DETACH, cancel_on_reset=True)), *RESET)
        self.assert_all(self.end("reset", "hang=true", options(CANCEL, cancel_on_reset=False)), *LOST)


class NotYet(Case):
    """AL-5.3: what comes later is refused plainly."""

    def test_options_that_are_not_built(self):
        self.start()
        wire = self.wire()
        for name, more in {
            "session_id": field(4, "s"),
            "context.state_json": field(3, field(2, field(1, "k") + field(2, "1"))),
            "options.client_tools": field(6, field(18, field(1, "t"))),
            "options.budget.max_cost_micros": field(6, field(17, field(3, 1))),
        }.items():
            reply = wire.ask(STREAMING, run_request("echo", "x") + more)
            self.assertEqual((reply.status(), reply.data), (INVALID_ARGUMENT, b""), name)
            self.assertIn(name, reply.text())
        self.assertNotIn('msg="started"', self.server.log())


class Flow(Case):
    """AL-8"""

    def test_a_tiny_window_loses_nothing_and_costs_little(self):
        self.start()
        count, size = 2000, 1000
        wire = self.wire(settings=[(INITIAL_WINDOW, 500)])
        wire.open_window(0, 1 << 30)
        before = resident(self.server.pid)
        text = "events=%d bytes=%d seed=1" % (count, size)
        streams = [wire.call(STREAMING, run_request("load", text)) for _ in range(N)]
        wire.wait("headers of all", lambda: all(wire.reply(s).blocks for s in streams))
        wire.drain_input(0.5)
        self.assertLess(resident(self.server.pid) - before, N * 2 * KIB * KIB)
        step, given = 1777, {stream: 500 for stream in streams}
        while not all(wire.reply(s).is_over() for s in streams):
            for stream in streams:
                if not wire.reply(stream).is_over() and len(wire.reply(stream).data) == given[stream]:
                    wire.open_window(stream, step)
                    given[stream] += step
                    step = min(step * 2, 200000)
            wire.receive(5)
        for stream in streams:
            reply = wire.reply(stream)
            self.assertEqual(reply.status(), OK)
            self.assertEqual([sequence_of(event) for event in reply.messages()], list(range(1, count + 5)))
        for line in self.ended(N):
            high = int(line.split("high_bytes=")[1].split()[0])
            self.assertGreater(int(line.split("pauses=")[1].split()[0]), 0, line)
            self.assertLess(high, 256 * KIB + 2 * size + 64 * KIB, line)
            self.assertLessEqual(int(line.split("high_events=")[1].split()[0]), 1024 + 2, line)

    def test_heartbeats_are_skipped_while_events_wait_and_come_in_silence(self):
        self.start()
        wire = self.wire(settings=[(INITIAL_WINDOW, 0)])
        more = options(heartbeat=1000)
        streams = [wire.call(STREAMING, run_request("load", "hang=true") + more) for _ in range(N)]
        wire.drain_input(2.5)  # two of them would have come
        for stream in streams:
            wire.open_window(stream, 65535)
        wire.wait("a heartbeat", lambda: all(len(wire.reply(s).messages()) >= 4 for s in streams))
        for stream in streams:
            self.assertEqual([sequence_of(e) for e in wire.reply(stream).messages()[:4]], [1, 2, 3, 0])
            wire.reset(stream)
        self.ended(N)


if __name__ == "__main__":
    unittest.main(verbosity=2)
