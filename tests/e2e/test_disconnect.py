"""How a client can be lost, and what that means for its runs (AL-7.1, AL-5.2, AL-5.20, 5.22, 5.23, 5.25, RL-C1 to C4, C15):
one connection carries runs of every policy, it is lost in one of many ways, and each run meets the fate that its policy
says. What goes on can be followed to its end without gap or repeat."""

import contextlib
import json
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import unittest

import harness
from run_case import CANCEL, CANCELLED, DEADLINE, DETACH, DETACH_FOR, LOST, OK, RESET, STATE_CANCELLED, TTL
from run_case import CODE_CANCELLED, CODE_DEADLINE, DONE, FAILED, RunCase, options
from wire import ATTACH, CALM, DATA, EXECUTE, GOAWAY, INITIAL_WINDOW, LIST_RUNS, STREAMING
from wire import Wire, field, fields_of, frame, run_request

N_EVENTS = 400
RUN = "events=%d rate=75 bytes=20" % N_EVENTS  # 5 seconds
LAST = N_EVENTS + 4
SEEN = 10  # events that each stream has had when it is lost
GOES_ON, LATE = "goes on", "late"  # fates besides the reasons of a cancel
TTL_MS = 2000

# name: (options, fate when the connection is lost, fate when the stream is reset)
POLICIES = {
    "none": (b"", LOST, RESET),
    "cancel": (options(CANCEL), LOST, RESET),
    "cancel, a reset is a loss": (options(CANCEL, cancel_on_reset=False), LOST, LOST),
    "detach": (options(DETACH), GOES_ON, GOES_ON),
    "detach, a reset cancels": (options(DETACH, cancel_on_reset=True), GOES_ON, RESET),
    "detach for a time": (options(DETACH_FOR, TTL_MS // 2), TTL, TTL),
    "detach for a time, a reset cancels": (options(DETACH_FOR, TTL_MS // 2, True), TTL, RESET),
    "detach for a time, somebody is there": (options(DETACH_FOR, TTL_MS // 2), GOES_ON, GOES_ON),
    "detach for a time, somebody comes": (options(DETACH_FOR, TTL_MS), GOES_ON, GOES_ON),
}
# A client in a process of its own; it tells what it has seen, and reads on.
CLIENT = """
import json, sys
from wire import STREAMING, Wire
address, bodies, n = json.loads(sys.argv[1])
wire = Wire(address)
wire.open_window(0, 1 << 24)
streams = [wire.call(STREAMING, bytes.fromhex(body)) for body in bodies]
wire.wait("events", lambda: all(len(wire.reply(s).messages()) >= n for s in streams))
print(json.dumps([(wire.reply(s).get("sluice-run-id"), wire.reply(s).data.hex()) for s in streams]), flush=True)
while wire.receive(60):
    pass
"""


class Follower(threading.Thread):
    """An observer that reads all the time, and so is never the one that is lost."""

    def __init__(self, case, run_id, after=0):
        super().__init__(daemon=True)
        self.after = after
        self.wire = Wire(case.server.address, settings=[(INITIAL_WINDOW, 1 << 24)], tls=case.tls)
        self.wire.open_window(0, 1 << 24)
        case.addCleanup(self.wire.socket.close)
        self.stream = self.wire.call(ATTACH, field(1, run_id) + (field(2, after) if after else b""))
        self.wire.wait("headers", lambda: self.wire.reply(self.stream).blocks)
        self.fault = None
        self.start()

    def run(self):
        try:
            self.wire.wait_over(self.stream, 60)
        except Exception as error:  # of whatever kind: the test fails with it
            self.fault = error

    def end(self):
        """What it has seen."""
        self.join(60)
        assert not self.is_alive() and self.fault is None, self.fault
        return self.wire.reply(self.stream)


class Run:
    """One of a lost client's."""

    def __init__(self, policy, run_id, data=b""):
        self.policy, self.run_id, self.data = policy, run_id, data
        self.followers = []

    def keep(self, reply):
        """What the client has of it: whole messages only."""
        self.data = b"".join(messages_in(reply.data))
        return len(messages_in(reply.data))


class Losses(RunCase):
    tls = None

    def wire(self, **more):
        return super().wire(**({"tls": self.tls} | more))

    def begin_all(self, fields=(), **wire_options):
        """A run of each policy on one connection."""
        wire = self.wire(**wire_options)
        wire.open_window(0, 1 << 24)
        streams = [wire.call(STREAMING, run_request("load", RUN) + more, *fields) for more, _, _ in POLICIES.values()]
        wire.wait("events", lambda: all(len(wire.reply(s).messages()) >= SEEN for s in streams))
        runs = [Run(name, wire.reply(s).get("sluice-run-id")) for name, s in zip(POLICIES, streams)]
        self.follow(runs)
        return wire, streams, runs

    def follow(self, runs):
        run = next(run for run in runs if run.policy.endswith("somebody is there"))
        run.followers.append(Follower(self, run.run_id))

    def keep_all(self, wire, streams, runs):
        for run, stream in zip(runs, streams):
            run.keep(wire.reply(stream))

    def check_fates(self, runs, is_reset=False, is_late=False):
        """The client is lost; each run does as it must."""
        come = next(run for run in runs if run.policy.endswith("somebody comes"))
        self.wait_detached(come.run_id)
        come.followers.append(Follower(self, come.run_id, len(messages_in(come.data))))
        for run in runs:
            with self.subTest(policy=run.policy):
                lost, reset = POLICIES[run.policy][1:]
                fate = reset if is_reset else LATE if is_late and lost == LOST else lost
                self.check_fate(run, fate)
        self.assertNotIn("order broken", self.server.log())

    def wait_detached(self, run_id):
        """It is there without its client."""
        harness.wait_for("a run without its client", lambda: (self.view(run_id) or {}).get("detached"))

    def check_fate(self, run, fate):
        status, state, code = (
            (OK, DONE, None)
            if fate == GOES_ON
            else (DEADLINE, FAILED, CODE_DEADLINE) if fate == LATE else (CANCELLED, STATE_CANCELLED, CODE_CANCELLED)
        )
        seen = messages_in(run.data)
        line = self.wait_ended(run.run_id)
        run.followers.append(Follower(self, run.run_id, len(seen)))
        whole = Follower(self, run.run_id).end()
        events = self.check_whole(whole)
        self.assertEqual((whole.status(), self.get(run.run_id)[0][3]), (status, state), line)
        for follower in run.followers:
            reply = follower.end()
            self.assertEqual(reply.status(), status)
            before = run.data if follower.after else b""
            self.assertEqual(before + reply.data, whole.data, "neither gap nor repeat, and the same bytes")
        if fate == GOES_ON:
            self.assertEqual(len(events), LAST)
            return
        error = events[-1][2]
        reason = fate if fate != LATE else 0
        self.assertEqual((error[2], error.get(6, 0)), (code, reason), line)
        self.assertEqual(error.get(3, 0), 1 if fate in (LOST, TTL) else 0, "retryable")
        self.assertLess(len(events), LAST)
        self.assertIn(10, error, "usage")

    def check_late_trailers(self, wire, streams, runs, status, reason):
        """AL-5.2: the stream ends, and says how far it had come."""
        for run, stream in zip(runs, streams):
            reply = wire.wait_over(stream)
            n = run.keep(reply)
            if reply.reset == CALM:
                continue  # inside a message there can be no trailers
            self.assertEqual(reply.status(), status, reply)
            name, _, info = reply.error_info()
            self.assertEqual((name, info), (reason, {"run_started": "true", "last_sequence": str(n)}))

    # ---- The connection ----

    def lose(self, how):
        self.start()
        wire, streams, runs = self.begin_all()
        self.keep_all(wire, streams, runs)
        how(wire)
        self.check_fates(runs)

    def test_closed(self):  # C2
        self.lose(lambda wire: wire.socket.close())

    def test_closed_for_writing_only(self):  # C2: the end of the file is no half-close of streams
        self.lose(lambda wire: wire.socket.shutdown(socket.SHUT_WR))

    def test_reset_by_tcp(self):
        def reset(wire):
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.socket.close()

        self.lose(reset)

    def test_goaway_then_closed(self):
        def leave(wire):
            wire.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
            wire.socket.close()

        self.lose(leave)

    def test_closed_over_tls_with_and_without_a_word(self):  # C2
        own = tempfile.mkdtemp() + "/own"
        harness.make_certificate(own)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])

        def say(wire):
            wire.socket.settimeout(1)
            with contextlib.suppress(OSError):  # it has more to say, and does not repeat ours
                wire.socket.unwrap()

        self.tls = context
        for how in (say, lambda wire: wire.socket.close()):
            with self.subTest(says=how is say):
                self.start(flags=("--tls-cert", own + ".cert", "--tls-key", own + ".key"))
                wire, streams, runs = self.begin_all(tls=context)
                self.keep_all(wire, streams, runs)
                how(wire)
                self.check_fates(runs)

    def test_goaway_alone_is_no_loss(self):
        self.start()
        wire, streams, runs = self.begin_all()
        wire.send(frame(GOAWAY, 0, 0, struct.pack(">II", 0, 0)))
        for stream in streams:
            reply = wire.wait_over(stream)
            self.assertEqual((reply.status(), len(self.check_whole(reply))), (OK, LAST))
        self.assertEqual([run.followers[0].end().status() for run in runs if run.followers], [OK])

    def test_broken_off_by_us_for_its_faults(self):
        self.lose(lambda wire: wire.send(frame(DATA, 0, 0, b"x")))

    # ---- A process ----

    def client(self):
        """A client of its own: (process, runs)"""
        bodies = [(run_request("load", RUN) + more).hex() for more, _, _ in POLICIES.values()]
        process = subprocess.Popen(
            [sys.executable, "-B", "-c", CLIENT, json.dumps([self.server.address, bodies, SEEN])],
            stdout=subprocess.PIPE,
            cwd=__file__.rpartition("/")[0] or ".",
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        self.addCleanup(process.stdout.close)
        told = json.loads(process.stdout.readline())
        runs = [Run(name, run_id, bytes.fromhex(data)) for name, (run_id, data) in zip(POLICIES, told)]
        for run in runs:
            run.data = b"".join(messages_in(run.data))
        self.follow(runs)
        return process, runs

    def test_killed(self):
        self.start()
        process, runs = self.client()
        process.kill()
        self.check_fates(runs)

    KEEPALIVE = ("--limit", "keepalive_time=1s", "--limit", "keepalive_timeout=300ms")

    def test_stopped_so_that_no_ping_is_answered(self):  # C3
        self.start(flags=self.KEEPALIVE)
        process, runs = self.client()
        process.send_signal(signal.SIGSTOP)
        self.check_fates(runs)
        self.assertEqual(self.server.metrics()["sluice_faults_total"].get('reason="ping_timeout"'), 1)

    def test_reads_on_and_answers_no_ping(self):  # C3
        self.start(flags=self.KEEPALIVE)
        wire, streams, runs = self.begin_all()
        wire.acks_pings = False
        wire.wait_closed()
        self.keep_all(wire, streams, runs)
        self.check_fates(runs)
        self.assertEqual(self.server.metrics()["sluice_faults_total"].get('reason="ping_timeout"'), 1)

    # ---- The stream ----

    def test_a_reset(self):  # C1: whatever the code
        for codes in ((8,), (0, 1, 2, 5, 7, 8, 11, 13, 4294967295)):
            with self.subTest(codes=codes):
                self.start()
                wire, streams, runs = self.begin_all()
                self.keep_all(wire, streams, runs)
                codes = codes * (len(runs) // len(codes))
                for stream, code in zip(streams, codes):
                    wire.reset(stream, code)
                self.check_fates(runs, is_reset=True)
                for run, code in zip(runs, codes):
                    if POLICIES[run.policy][2] == RESET:
                        self.assertIn("reset_code=%d " % code, self.wait_ended(run.run_id))

    def test_a_reset_that_a_proxy_makes_of_a_loss(self):  # AL-7.1: reset_is_disconnect
        config = "listen: [{address: '127.0.0.1:0', reset_is_disconnect: true}]"
        self.start(config=config, listen=None)
        wire, streams, runs = self.begin_all()
        self.keep_all(wire, streams, runs)
        for stream in streams:
            wire.reset(stream)
        self.check_fates(runs)

    def test_the_streams_own_deadline(self):  # C15
        self.start()
        wire, streams, runs = self.begin_all(fields=[("grpc-timeout", "1500m")])
        self.check_late_trailers(wire, streams, runs, DEADLINE, "DEADLINE_EXCEEDED")
        self.check_fates(runs, is_late=True)

    def test_a_reader_that_stalls(self):  # C4
        self.start(flags=("--limit", "stall=600ms"))
        wire, streams, runs = self.begin_all(settings=[(INITIAL_WINDOW, 1200)])
        self.check_late_trailers(wire, streams, runs, 8, "STALLED")
        self.check_fates(runs)

    # ---- A call with one answer ----

    def test_an_answer_that_nobody_waits_for(self):
        for how, fates in (("lost", (LOST, LOST, GOES_ON)), ("reset", (RESET, LOST, GOES_ON))):
            with self.subTest(how=how):
                self.start()
                wire = self.wire()
                policies = (options(CANCEL), options(CANCEL, cancel_on_reset=False), options(DETACH))
                asked = []
                for more in policies:
                    asked.append(wire.call(EXECUTE, run_request("load", RUN) + more))
                    runs = self.wait_listed(len(asked))
                if how == "lost":
                    wire.socket.close()
                for stream in asked if how == "reset" else ():
                    wire.reset(stream)
                for run_id, fate in zip(runs, fates):
                    self.check_fate(Run(how, run_id), fate)

    def wait_listed(self, n):
        """Ids of all runs, in the order of their beginning."""
        wire, ids = self.wire(), []
        while len(ids) < n:
            listed = fields_of(b"".join(wire.ask(LIST_RUNS).messages()))
            ids = [dict(fields_of(value))[1].decode() for number, value in listed if number == 1]
        order = self.server.log()
        return sorted(ids, key=lambda run_id: order.find(run_id))


def messages_in(data):
    """Whole messages, each with its prefix."""
    found = []
    while len(data) >= 5 and len(data) >= 5 + struct.unpack(">I", data[1:5])[0]:
        size = 5 + struct.unpack(">I", data[1:5])[0]
        found.append(data[:size])
        data = data[size:]
    return found


if __name__ == "__main__":
    unittest.main(verbosity=2)
