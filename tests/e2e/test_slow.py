"""Streams that are not read, and do not hold their runs back (AL-8, slow_consumer), by frames of our own."""

import json
import sqlite3
import tempfile

import harness
from harness import sluice
from run_case import CANCEL, OK
from wire import ATTACH, CALM, EXECUTE, INITIAL_WINDOW, START_RUN, STREAMING, Wire, field, fields_of, run_request

INVALID_ARGUMENT, EXHAUSTED, PRECONDITION, DATA_LOSS = 3, 8, 9, 15
PAUSE, SPILL, DISCONNECT = 1, 2, 3
NONE = 1
# Of the built-in model that writes as it is told; recorded, unlike the built-in agent `load`.
MODEL = "provider: load\nmodel: load\nmemory: None\n"
AGENTS = {
    "slow.yaml": "name: slow\ndurability: ASYNC\n" + MODEL,
    "sure.yaml": "name: sure\ndurability: SYNC\n" + MODEL,
    "spiller.yaml": "name: spiller\nslow_consumer: SPILL\n" + MODEL,
}
LONG = '{"events": 10000, "bytes": 100}'  # 1.2 MB
PACED = '{"events": 10000, "bytes": 100, "rate": 4000}'
N_EVENTS = 10004


def asking(slow_consumer, durability=0):
    """RunDone has no copy of the text: it would be most of what is kept of a run."""
    return field(6, (field(6, durability) if durability else b"") + field(7, slow_consumer) + field(14, 1))


class Slow(harness.Case):
    def serve(self, *flags, store=True, agents=AGENTS):
        self.path = tempfile.mkdtemp(prefix="sluice-store-") + "/runs.db"
        flags = (["--store", self.path] if store else []) + ["--limit", "window=64KiB", *flags]
        self.server = self.daemon(agents=agents, flags=flags)
        return self.server

    def wire(self, window=0):
        wire = Wire(self.server.address, [(INITIAL_WINDOW, window)])
        self.addCleanup(wire.close)
        return wire

    def start(self, wire, agent, text, more):
        """Of a stream whose window is shut: (stream, id of the run)."""
        stream = wire.call(STREAMING, run_request(agent, text) + more)
        reply = wire.reply(stream)
        wire.wait("the headers", lambda: reply.get("sluice-run-id") is not None or reply.is_over())
        self.assertIsNotNone(reply.get("sluice-run-id"), reply)
        return stream, reply.get("sluice-run-id")

    def state(self, run_id):
        done = sluice(self.server, "runs", run_id, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["state"]

    def wait_done(self, run_id):
        harness.wait_for("the end of the run", lambda: self.state(run_id) == "DONE", 60)

    def attach(self, run_id, after=0):
        wire = self.wire(1 << 30)
        wire.open_window(0, 1 << 30)
        return wire.wait_over(wire.call(ATTACH, field(1, run_id) + field(2, after)), 60)

    @staticmethod
    def open(wire, stream):
        wire.open_window(0, 1 << 30)
        wire.open_window(stream, 1 << 30)

    def counted(self, name):
        return {key: value for key, value in self.server.metrics().get(name, {}).items() if value}

    def sequences(self, reply):
        return [dict(fields_of(body))[1] for body in reply.messages()]


class Spill(Slow):
    def test_a_run_ends_while_nobody_reads_and_the_stream_has_all_of_it(self):
        self.serve()
        for n, agent in enumerate(("slow", "sure", "slow", "sure"), 1):  # on this loop, and on another one
            wire = self.wire()
            stream, run_id = self.start(wire, agent, LONG, asking(SPILL))
            self.wait_done(run_id)
            totals = self.server.dump()["totals"]
            self.assertLess(totals["log_bytes"], n * 300 * 1024, "at most its mark is kept of a run")
            self.assertEqual(wire.reply(stream).data, b"")
            self.open(wire, stream)
            reply = wire.wait_over(stream, 60)
            self.assertEqual(reply.status(), OK, reply)
            self.assertEqual(self.sequences(reply), list(range(1, N_EVENTS + 1)))
            self.assertEqual(reply.data, self.attach(run_id).data, "the same bytes")
        self.assertGreaterEqual(self.counted("sluice_slow_consumers_total")['action="spill"'], 4)
        self.assertNotIn('limit="buffer"', self.counted("sluice_limits_reached_total"))
        self.assertRegex(self.server.log(), r"agent=sure .* pauses=0 paused_ms=0 spills=[1-9]\d* ")

    def test_a_stream_that_is_read_in_parts_goes_to_the_store_and_back(self):
        self.serve()
        wire = self.wire()
        streams = [self.start(wire, agent, PACED, asking(SPILL)) for agent in ("slow", "sure", "slow")]
        wire.open_window(0, 1 << 30)
        for _ in range(8):
            for stream, _ in streams:
                wire.open_window(stream, 150000)
            wire.drain_input(0.3)  # paces the reader; nothing depends on how long it is
        for stream, run_id in streams:
            wire.open_window(stream, 1 << 30)
            reply = wire.wait_over(stream, 60)
            self.assertEqual((reply.status(), self.sequences(reply)), (OK, list(range(1, N_EVENTS + 1))))
            self.assertEqual(reply.data, self.attach(run_id).data)

    def test_pause_is_the_default_and_holds_the_run_back(self):
        self.serve()
        wire = self.wire()
        stream, run_id = self.start(wire, "slow", LONG, b"")
        harness.wait_for("the mark", lambda: any(self.counted("sluice_limits_reached_total")))
        self.assertEqual(self.state(run_id), "RUNNING")
        self.open(wire, stream)
        self.assertEqual(wire.wait_over(stream, 60).status(), OK)
        self.assertNotIn("sluice_slow_consumers_total", {k for k in self.server.metrics() if self.counted(k)})

    def test_a_reader_that_goes_still_cancels_its_run(self):
        self.serve()
        wire = self.wire()
        stream, run_id = self.start(wire, "slow", '{"events": 1000000, "rate": 4000}', asking(SPILL))
        wire.reset(stream)
        harness.wait_for("the cancel", lambda: self.state(run_id) == "CANCELLED")

    def test_calls_that_want_only_the_end(self):
        self.serve()
        wire = self.wire(1 << 30)
        wire.open_window(0, 1 << 30)
        for slow_consumer in (PAUSE, SPILL, DISCONNECT):
            reply = wire.ask(EXECUTE, run_request("slow", LONG) + asking(slow_consumer))
            self.assertEqual(reply.status(), OK, reply)
            reply = wire.ask(START_RUN, run_request("sure", LONG) + asking(slow_consumer))
            self.assertEqual(reply.status(), OK, reply)
            self.wait_done(reply.get("sluice-run-id"))
        self.assertNotIn('action="disconnect"', self.counted("sluice_slow_consumers_total"))

    def test_a_damaged_store_is_told_and_nothing_is_left_out(self):
        self.serve()
        wire = self.wire()
        stream, run_id = self.start(wire, "slow", LONG, asking(SPILL))
        self.wait_done(run_id)
        with sqlite3.connect(self.path) as db:
            db.execute(
                "UPDATE events SET crc = crc + 1 WHERE last_sequence ="
                " (SELECT max(last_sequence) FROM events WHERE last_sequence < 6000)"
            )
        self.open(wire, stream)
        reply = wire.wait_over(stream, 60)
        self.assertEqual((reply.status(), reply.error_info()[0]), (DATA_LOSS, "DATA_LOSS"), reply)
        sequences = self.sequences(reply)
        self.assertEqual(sequences, list(range(1, len(sequences) + 1)))
        self.assertEqual(reply.error_info()[2]["last_sequence"], str(len(sequences)))
        self.assertLess(len(sequences), 6000)


class Disconnect(Slow):
    def test_a_stream_that_stays_behind_is_ended_and_attach_has_the_rest(self):
        self.serve()
        for n, agent in enumerate(("slow", "sure", "slow", "sure")):
            wire = self.wire()
            more = field(6, field(3, CANCEL) + field(7, DISCONNECT))
            stream, run_id = self.start(wire, agent, PACED, more)
            reply = wire.wait_over(stream)  # trailers pass a window that is shut
            self.assertEqual(reply.status(), EXHAUSTED, reply)
            reason, _, info = reply.error_info()
            self.assertEqual((reason, info["last_sequence"], info["run_started"]), ("STALLED", "0", "true"))
            self.assertEqual(self.counted("sluice_slow_consumers_total")['action="disconnect"'], n + 1)
            rest = self.attach(run_id)
            self.assertEqual((rest.status(), self.sequences(rest)), (OK, list(range(1, N_EVENTS + 1))))
        self.assertEqual(self.counted("sluice_limits_reached_total")['limit="slow_consumer"'], 4)
        self.assertEqual(self.counted("sluice_stream_ends_total")['reason="slow"'], 4)

    def test_inside_a_message_it_is_reset(self):
        self.serve("--limit", "slow_consumer=100ms")
        for agent in ("slow", "sure", "slow"):
            wire = self.wire(1000)
            stream, run_id = self.start(wire, agent, PACED, asking(DISCONNECT))
            reply = wire.wait_over(stream)
            self.assertEqual((reply.reset, len(reply.data)), (CALM, 1000), reply)
            n_whole = len(reply.messages())
            rest = self.attach(run_id, n_whole)
            self.assertEqual((rest.status(), self.sequences(rest)), (OK, list(range(n_whole + 1, N_EVENTS + 1))))

    def test_after_the_end_of_the_run_it_is_the_same(self):
        self.serve("--limit", "slow_consumer=500ms", "--limit", "window_keep=0")
        wire = self.wire()
        stream, run_id = self.start(wire, "slow", LONG, asking(DISCONNECT))
        self.wait_done(run_id)
        self.assertEqual(wire.wait_over(stream).status(), EXHAUSTED)
        self.assertEqual(self.sequences(self.attach(run_id)), list(range(1, N_EVENTS + 1)))

    def test_who_reads_is_not_cut(self):
        self.serve("--limit", "slow_consumer=5s")
        wire = self.wire(1 << 30)
        wire.open_window(0, 1 << 30)
        stream, run_id = self.start(wire, "slow", PACED, asking(DISCONNECT))
        reply = wire.wait_over(stream, 60)
        self.assertEqual((reply.status(), reply.data), (OK, self.attach(run_id).data))


class Refused(Slow):
    """AL-5.3"""

    def check(self, wire, agent, more, status, reason):
        for path in (STREAMING, EXECUTE, START_RUN):
            reply = wire.ask(path, run_request(agent, LONG) + more)
            self.assertEqual((reply.status(), reply.error_info()[0]), (status, reason), (path, reply))

    def test_without_a_record(self):
        self.serve()
        wire = self.wire(1 << 30)
        for slow_consumer in (SPILL, DISCONNECT):
            self.check(wire, "slow", asking(slow_consumer, NONE), INVALID_ARGUMENT, "INVALID_REQUEST")
            self.check(wire, "load", asking(slow_consumer), INVALID_ARGUMENT, "INVALID_REQUEST")
        self.check(wire, "spiller", field(6, field(6, NONE)), INVALID_ARGUMENT, "INVALID_REQUEST")

    def test_without_a_store(self):
        self.serve(store=False, agents={"spiller.yaml": AGENTS["spiller.yaml"], "a.yaml": "name: plain\n" + MODEL})
        wire = self.wire(1 << 30)
        wire.open_window(0, 1 << 30)
        for slow_consumer in (SPILL, DISCONNECT):
            self.check(wire, "plain", asking(slow_consumer), INVALID_ARGUMENT, "INVALID_REQUEST")
        self.check(wire, "spiller", b"", PRECONDITION, "AGENT_DISABLED")
        reply = wire.ask(STREAMING, run_request("spiller", '{"events": 1}') + asking(PAUSE))
        self.assertEqual(reply.status(), OK, reply)


if __name__ == "__main__":
    harness.main()
