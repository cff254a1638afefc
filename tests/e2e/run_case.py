"""What the tests of a run's fate share: agents with tools, a run that others follow, and what is proven of its end."""

import contextlib
import json
import os
import socket

import harness
from wire import ATTACH, CANCEL_RUN, GET_RUN, INITIAL_WINDOW, STREAMING, Wire, field, fields_of, run_request

OK, CANCELLED, DEADLINE = 0, 1, 4
RUNNING, DONE, FAILED, STATE_CANCELLED = 2, 4, 5, 6
EVENT_TOOL_COMPLETE, EVENT_DONE, EVENT_ERROR = 12, 16, 17
CODE_CANCELLED, CODE_DEADLINE = 18, 19
RESET, RPC, LOST, TTL = 1, 2, 3, 4  # who cancelled
CANCEL, DETACH, DETACH_FOR = 1, 2, 3
USER, ASSISTANT, TOOL = 2, 3, 4


def turns(*turns):
    return json.dumps({"turns": [{"steps": steps} for steps in turns]})


def program(name, *command, **more):
    config = {"command": list(command)}
    return dict({"type": "Process", "name": name, "description": "A program.", "config": config}, **more)


def shell(name, script, **more):
    return program(name, "/bin/sh", "-c", script, **more)


def call(name, arguments=None):
    return {"tool_call": {"name": name, "arguments": arguments or {}}}


def options(policy=0, ttl_ms=0, cancel_on_reset=None):
    out = field(3, policy) if policy else b""
    out += field(4, ttl_ms) if ttl_ms else b""
    out += field(5, int(cancel_on_reset)) if cancel_on_reset is not None else b""
    return field(6, out)


def events_of(reply):
    """[(sequence, number of the event, its fields)]"""
    events = []
    for body in reply.messages():
        fields = fields_of(body)
        number, content = next((n, v) for n, v in fields if n >= 10)
        events.append((dict(fields).get(1, 0), number, dict(fields_of(content))))
    return events


def processes_with(mark):
    """Ids of the processes, whoever's children, that have this word in their command line."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            with open("/proc/%s/cmdline" % name, "rb") as file:
                if mark.encode() in file.read():
                    found.append(int(name))
    return found


class RunCase(harness.Case):
    """One daemon with two loops for each test: readers are on the run's loop, and on the other one."""

    model = None

    def start(self, scenario=None, tools=(), flags=(), config="", env=None, listen="127.0.0.1:0", **agent):
        if scenario is not None:
            self.model = self.mock(scenario, ["--quiet"])
            env = self.model.env()
        definition = dict({"name": "helper", "model": "openai:mock-1", "tools": list(tools)}, **agent)
        self.server = self.daemon(
            agents={"helper.yaml": json.dumps(definition)},
            env=env,
            flags=("--loops", "2", *flags),
            config=config,
            listen=listen,
        )
        self.server.kept = 12  # of models and of http_request: two and a connection on each of two loops

    def wire(self, **more):
        wire = Wire(self.server.address, **more)
        self.addCleanup(wire.close)
        return wire

    def begin(self, text="x", agent="helper", more=b"", fields=(), **wire_options):
        """A run in the foreground of a connection of its own: (wire, stream, run id)."""
        wire = self.wire(**wire_options)
        stream = wire.call(STREAMING, run_request(agent, text) + more, *fields)
        wire.wait("headers", lambda: wire.reply(stream).blocks)
        return wire, stream, wire.reply(stream).get("sluice-run-id")

    def attach(self, run_id, after=0):
        """One that reads all there is: (wire, stream)."""
        wire = self.wire(settings=[(INITIAL_WINDOW, 1 << 24)])
        wire.open_window(0, 1 << 24)
        return wire, wire.call(ATTACH, field(1, run_id) + (field(2, after) if after else b""))

    @staticmethod
    def wait_events(wire, stream, n):
        wire.wait("%d events" % n, lambda: len(wire.reply(stream).messages()) >= n)

    @staticmethod
    def wait_text(wire, stream, text):
        wire.wait("%r" % text, lambda: text in wire.reply(stream).data)

    def state_in(self, reply):
        self.assertEqual(reply.status(), OK, reply)
        return dict(fields_of(reply.messages()[0]))[1]

    def cancel(self, run_id, wait=True):
        """From a connection of its own: the state in the answer."""
        more = field(2, "a test") + (field(3, 1) if wait else b"")
        return self.state_in(self.wire().ask(CANCEL_RUN, field(1, run_id) + more))

    def get(self, run_id):
        """(fields of the run, messages of its conversation)"""
        wire = self.wire(settings=[(INITIAL_WINDOW, 1 << 24)])
        wire.open_window(0, 1 << 24)
        reply = wire.ask(GET_RUN, field(1, run_id) + field(2, 1))
        self.assertEqual(reply.status(), OK, reply)
        answer = dict(fields_of(reply.messages()[0]))
        return dict(fields_of(answer[1])), [fields_of(v) for n, v in fields_of(answer[2]) if n == 1]

    def has_ended(self, run_id):
        return any(run_id in line and 'msg="ended"' in line for line in self.server.log().splitlines())

    def wait_ended(self, run_id):
        return self.server.wait_log(run_id, 'msg="ended"')

    def view(self, run_id):
        """Of a run that is there, in the dump."""
        runs = [run for loop in self.server.dump()["loops"] for run in loop.get("runs", [])]
        return next((run for run in runs if run["id"] == run_id), None)

    def wait_child(self, n=1):
        harness.wait_for("processes of tools", lambda: len(harness.state_of(self.server.pid)[2]) == n)

    # ---- What is proven of an end ----

    def check_whole(self, reply):
        """Every event, once and in order, and one terminal event, the last one (I1, I2)."""
        events = events_of(reply)
        self.assertEqual([sequence for sequence, _, _ in events], list(range(1, len(events) + 1)))
        self.assertEqual([n for _, n, _ in events if n in (EVENT_DONE, EVENT_ERROR)], [events[-1][1]])
        harness.check_order(bytes(reply.data))
        return events

    def check_conversation(self, messages):
        """AL-6.6: each call has its result, in order, and each result its call. [(role, content, calls)]"""
        seen, at = [], 0
        while at < len(messages):
            message = dict(messages[at])
            calls = [dict(fields_of(value)) for number, value in messages[at] if number == 3]
            self.assertNotEqual(message[1], TOOL, "a result without a call")
            self.assertTrue(message.get(2) or calls, "an empty message")
            seen.append((message[1], message.get(2, b""), len(calls)))
            results = [dict(m) for m in messages[at + 1 : at + 1 + len(calls)]]
            self.assertEqual([(r[1], r[4], r[5]) for r in results], [(TOOL, c[1], c[2]) for c in calls])
            seen += [(TOOL, result[2], result.get(6, 0)) for result in results]
            at += 1 + len(calls)
        return seen

    def check_cancelled(self, run_id, reason, readers, is_quiet=True):
        """The run is over in all places in the same way. Gives its events and its conversation."""
        events = []
        for wire, stream in readers:
            reply = wire.wait_over(stream)
            self.assertEqual((reply.status(), reply.error_info()[0]), (CANCELLED, "CANCELLED"), reply)
            events = self.check_whole(reply)
        error = events[-1][2]
        self.assertEqual((events[-1][1], error[2], error.get(6)), (EVENT_ERROR, CODE_CANCELLED, reason))
        self.assertIn(10, error, "usage")
        self.assertEqual(len({bytes(w.reply(s).data) for w, s in readers}), 1, "all see the same")
        run, messages = self.get(run_id)
        self.assertEqual((run[3], run[7]), (STATE_CANCELLED, events[-1][0]))
        self.assertEqual(dict(fields_of(run[9])), error)
        if is_quiet:
            self.nothing_is_left()
        return events, self.check_conversation(messages)

    def nothing_is_left(self):
        self.assertEqual(harness.state_of(self.server.pid)[2], [], "the end is a promise of rest")
        if self.model is not None:
            harness.wait_for("the model's side is closed", lambda: self.model.stats()["active"] == 0)
        harness.wait_for("an empty dump", self.server.is_empty)
        self.assertNotIn("order broken", self.server.log())

    # ---- Servers that do not answer ----

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
        return listener, "127.0.0.1:%d" % listener.getsockname()[1]

    def accept(self, listener, word):
        """The connection on which something was asked."""
        listener.settimeout(20)
        opened, _ = listener.accept()
        self.addCleanup(opened.close)
        opened.settimeout(20)
        self.assertIn(word, opened.recv(65536))
        return opened

    @staticmethod
    def wait_hung_up(opened):
        """The other side is gone; recv() fails when it is not in time."""
        with contextlib.suppress(ConnectionResetError):
            while opened.recv(65536):
                pass
