"""A run's whole life, seen by others than the stream that started it: Attach, StartRun, CancelRun, GetRun, ListRuns, and
requests that come again."""

import json
import os
import subprocess
import sys
import tempfile
import time
import unittest

import harness
from wire import ATTACH, CANCEL_RUN, EXECUTE, GET_RUN, LIST_RUNS, START_RUN, STREAMING
from wire import INITIAL_WINDOW, REFUSED, RST, Wire, field, fields_of, run_request

sys.path.insert(0, harness.ROOT + "/tests")
import pages  # pylint: disable=wrong-import-position

OK, CANCELLED, INVALID, NOT_FOUND, ALREADY_EXISTS, OUT_OF_RANGE = 0, 1, 3, 5, 6, 11
RUNNING, DONE, FAILED, STATE_CANCELLED = 2, 4, 5, 6
DETACH, DETACH_FOR, CANCEL = 2, 3, 1
HANG = '{"hang": true}'
CANCEL_RPC = 2


def options(policy, ttl_ms=0):
    return field(6, field(3, policy) + (field(4, ttl_ms) if ttl_ms else b""))


def events_of(reply):
    """[(sequence, number of the event, its fields)]"""
    events = []
    for body in reply.messages():
        fields = fields_of(body)
        number, content = next((n, v) for n, v in fields if n >= 10)
        events.append((dict(fields).get(1, 0), number, dict(fields_of(content))))
    return events


def sequences(reply):
    return [sequence for sequence, _, _ in events_of(reply)]


def run_of(message):
    """Of a message Run: its fields by number, the last of each."""
    return dict(fields_of(message))


class Life(harness.Case):
    FLAGS = ("--loops", "2", "--limit", "runs=100")

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Daemon(flags=cls.FLAGS)
        cls.addClassCleanup(cls.server.stop)

    def setUp(self):
        self.started = []
        self.addCleanup(self.end_all)

    def end_all(self):
        wire = self.wire()
        for run_id in self.started:
            wire.ask(CANCEL_RUN, field(1, run_id) + field(3, 1))
        harness.wait_for("the end of all runs", lambda: self.server.dump()["totals"]["runs_running"] == 0)

    def wire(self, **more):
        wire = Wire(self.server.address, **more)
        self.addCleanup(wire.close)
        return wire

    def start(self, text=HANG, agent="load", more=b""):
        """A run without a reader: its id."""
        reply = self.wire().ask(START_RUN, run_request(agent, text) + more)
        self.assertEqual(reply.status(), OK, reply)
        run_id = reply.get("sluice-run-id")
        self.assertEqual(reply.messages(), [field(1, run_id)])
        self.started.append(run_id)
        return run_id

    def attach(self, run_id, after=0, wire=None):
        wire = wire or self.wire()
        return wire, wire.call(ATTACH, field(1, run_id) + (field(2, after) if after else b""))

    def wait_events(self, wire, stream, n):
        wire.wait("%d events" % n, lambda: len(wire.reply(stream).messages()) >= n)
        return wire.reply(stream)

    def cancel(self, run_id, more=b""):
        reply = self.wire().ask(CANCEL_RUN, field(1, run_id) + more)
        self.assertEqual(reply.status(), OK, reply)
        return dict(fields_of(reply.messages()[0]))[1]

    def get(self, run_id, more=b""):
        reply = self.wire().ask(GET_RUN, field(1, run_id) + more)
        self.assertEqual(reply.status(), OK, reply)
        return dict(fields_of(reply.messages()[0]))

    def wait_ended(self, run_id):
        return self.server.wait_log(run_id, 'msg="ended"')

    def assert_refused(self, reply, status, reason, **info):
        self.assertEqual(reply.status(), status, reply)
        self.assertEqual(reply.error_info(), (reason, "sluice.v1", dict({"run_started": "false"}, **info)), reply)

    # ---- Attach ----

    def test_observers_get_the_same_bytes_while_it_runs_and_after_its_end(self):  # AL-8, AL-7.1
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", "events=300 rate=300") + options(DETACH))
        first = self.wait_events(wire, stream, 50)
        run_id = first.get("sluice-run-id")
        observers = [self.attach(run_id) for _ in range(4)]  # on both loops
        wire.wait_over(stream)
        late = [self.attach(run_id) for _ in range(4)]
        for other, attached in observers + late:
            reply = other.wait_over(attached)
            self.assertEqual((reply.status(), reply.get("sluice-run-id")), (OK, run_id), reply)
            self.assertIsNone(reply.get("sluice-attached"), "it asked for that")
            self.assertEqual(reply.data, first.data)
        self.assertEqual(sequences(first), list(range(1, 305)))
        harness.check_order(bytes(first.data))

    def test_a_reader_goes_on_where_it_was(self):
        run_id = self.start("events=20")
        whole = self.wire()
        _, stream = self.attach(run_id, 0, whole)
        everything = whole.wait_over(stream).messages()
        self.assertEqual(len(everything), 24)
        for after in (1, 7, 23):
            other, stream = self.attach(run_id, after)
            self.assertEqual(other.wait_over(stream).messages(), everything[after:])
        other, stream = self.attach(run_id, 24)  # it has everything: the status is all that is left
        reply = other.wait_over(stream)
        self.assertEqual((reply.status(), reply.messages()), (OK, []))

    def test_an_observers_end_has_the_status_of_the_run(self):
        run_id = self.start("events=5 fail_after=2 code=PROVIDER_TIMEOUT")
        self.wait_ended(run_id)
        wire, stream = self.attach(run_id)
        reply = wire.wait_over(stream)
        self.assertEqual(reply.status(), 10, reply)
        reason, _, metadata = reply.error_info()
        last_sequence = str(len(reply.messages()))  # AL-5.2: so far it came, as the first reader is told
        self.assertEqual((reason, metadata), ("PROVIDER_TIMEOUT", {"run_started": "true", "last_sequence": last_sequence}))

    def test_beyond_the_log_is_refused_and_names_the_last_event(self):
        run_id = self.start("events=3")
        self.wait_ended(run_id)
        wire, stream = self.attach(run_id, 8)
        self.assert_refused(
            wire.wait_over(stream), OUT_OF_RANGE, "BEYOND_LOG", run_started="true", last_sequence="7", floor="1"
        )

    def test_below_the_window_is_refused_and_names_the_floor(self):  # never a silent gap
        server = self.daemon(flags=("--limit", "window=8KiB"))
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        run_id = wire.ask(START_RUN, run_request("load", "events=1000")).get("sluice-run-id")
        server.wait_log(run_id, 'msg="ended"')
        reply = wire.ask(ATTACH, field(1, run_id))
        reason, _, info = reply.error_info()
        self.assertEqual((reply.status(), reason, info["run_started"]), (OUT_OF_RANGE, "BELOW_RETENTION", "true"))
        floor = int(info["floor"])
        self.assertGreater(floor, 100)
        self.assertIn(str(floor), reply.text())
        rest = wire.ask(ATTACH, field(1, run_id) + field(2, floor - 1))
        self.assertEqual((rest.status(), sequences(rest)), (OK, list(range(floor, 1005))))
        self.assertEqual(wire.ask(ATTACH, field(1, run_id) + field(2, floor - 2)).status(), OUT_OF_RANGE)

    def test_an_unknown_run_is_not_found(self):
        wire = self.wire()
        for run_id in ("0" * 32, "x", "y" * 5000):
            for path in (ATTACH, GET_RUN, CANCEL_RUN):
                reply = wire.ask(path, field(1, run_id))
                self.assert_refused(reply, NOT_FOUND, "RUN_NOT_FOUND")
        for path in (ATTACH, GET_RUN, CANCEL_RUN):
            self.assert_refused(wire.ask(path), INVALID, "INVALID_REQUEST")

    def test_an_observer_that_goes_means_nothing_to_the_run(self):  # AL-7.1
        run_id = self.start()
        wires = [self.attach(run_id) for _ in range(3)]
        for wire, stream in wires:
            self.wait_events(wire, stream, 3)
        wires[0][0].reset(wires[0][1])
        wires[1][0].socket.close()
        late = self.wire()
        expired = late.call(ATTACH, field(1, run_id), ("grpc-timeout", "50m"))
        reply = late.wait_over(expired)
        self.assertEqual((reply.status(), reply.error_info()[2]), (4, {"run_started": "true", "last_sequence": "3"}))
        self.assertEqual(run_of(self.get(run_id)[1])[3], RUNNING)
        self.assertEqual(self.cancel(run_id, field(3, 1)), STATE_CANCELLED)
        reply = wires[2][0].wait_over(wires[2][1])
        self.assertEqual(reply.status(), CANCELLED, "the one that stayed sees the end")

    def test_observers_have_a_quota_of_their_own(self):  # ADM-9
        server = self.daemon(flags=("--limit", "runs_per_connection=1", "--limit", "observers_per_connection=2"))
        wire, other = Wire(server.address), Wire(server.address)
        self.addCleanup(wire.close)
        self.addCleanup(other.close)
        run_id = other.ask(START_RUN, run_request("load", HANG)).get("sluice-run-id")

        def refused(path, body):
            stream = wire.call(path, body)
            reply = wire.reply(stream)
            wire.wait("an answer", lambda: reply.messages() or reply.is_over())
            return (reply.frames, reply.reset) == ([RST], REFUSED)

        followed = field(1, run_id)
        first = self.attach(run_id, 0, wire)[1]
        self.wait_events(wire, first, 3)
        self.assertEqual((refused(ATTACH, followed), refused(ATTACH, followed)), (False, True))
        self.assertEqual(server.dump()["limits_reached"], {"observers_per_connection": 1})
        self.assertEqual(wire.ask(GET_RUN, followed).status(), OK)
        self.assertEqual(wire.ask(EXECUTE, run_request("echo")).status(), OK)
        self.wait_events(other, self.attach(run_id, 0, other)[1], 3)  # another connection
        self.assertFalse(refused(STREAMING, run_request("load", HANG)))
        self.assertTrue(refused(EXECUTE, run_request("echo")), "no second run")
        wire.reset(first)
        # NG-2: the place is free when the task has returned, which may be after the next HEADERS.
        harness.wait_for("a place", lambda: not refused(ATTACH, followed))
        self.assertEqual(other.ask(CANCEL_RUN, followed + field(3, 1)).status(), OK)

    def test_an_observer_that_does_not_read_holds_nothing_back(self):  # AL-8
        run_id = self.start("events=3000 bytes=1000 rate=3000")
        readers = [self.attach(run_id, 0, self.wire(settings=[(INITIAL_WINDOW, 100)])) for _ in range(4)]  # on both loops
        for slow, stream in readers:
            slow.wait("a first part", lambda x=slow.reply(stream): len(x.data) >= 90)
        self.assertIn("pauses=0", self.wait_ended(run_id))
        for slow, stream in readers:  # 3 MB, of which 1 MiB is kept
            slow.open_window(stream, 1 << 24)
            slow.open_window(0, 1 << 24)
            reply = slow.wait_over(stream)
            self.assertEqual((reply.status(), reply.error_info()[0]), (OUT_OF_RANGE, "BELOW_RETENTION"), reply)
            seen, info = sequences(reply), reply.error_info()[2]
            self.assertEqual(seen, list(range(1, len(seen) + 1)), "no gap")
            self.assertEqual((info["run_started"], info["last_sequence"]), ("true", str(len(seen))))
            self.assertGreater(int(info["floor"]), len(seen) + 1)

    # ---- Detached runs ----

    def test_a_detached_run_outlives_its_connection_and_the_rest_is_read_without_gap(self):  # C2
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", "events=200 rate=200") + options(DETACH))
        head = self.wait_events(wire, stream, 20)
        run_id, n = head.get("sluice-run-id"), len(head.messages())
        wire.socket.close()
        other, rest = self.attach(run_id, n)
        reply = other.wait_over(rest)
        self.assertEqual((reply.status(), sequences(reply)), (OK, list(range(n + 1, 205))))

    def test_without_anybody_for_its_time_a_run_is_cancelled(self):  # AL-7.1 DETACH_FOR
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", HANG) + options(DETACH_FOR, 1000))
        run_id = self.wait_events(wire, stream, 3).get("sluice-run-id")
        observer, attached = self.attach(run_id)
        self.wait_events(observer, attached, 3)
        wire.socket.close()
        alone = self.start(more=options(DETACH_FOR, 1000))  # it is left after the other one
        self.assertIn("cancel_reason=DETACH_TTL", self.wait_ended(alone))
        self.assertEqual(run_of(self.get(run_id)[1])[3], RUNNING, "somebody is attached")
        observer.socket.close()
        self.assertIn("cancel_reason=DETACH_TTL", self.wait_ended(run_id))
        last, end = self.attach(run_id)
        self.assertEqual(last.wait_over(end).status(), CANCELLED)

    def test_a_run_without_reader_is_followed(self):
        run_id = self.start("hello", agent="echo")
        wire, stream = self.attach(run_id)
        reply = wire.wait_over(stream)
        harness.check_order(bytes(reply.data))
        _, number, started = events_of(reply)[0]
        self.assertEqual((number, started[1].decode(), started[9]), (20, run_id, DETACH))
        self.assertEqual(reply.status(), OK)

    def test_a_run_without_reader_cannot_be_cancelled_by_its_loss(self):
        reply = self.wire().ask(START_RUN, run_request("echo") + options(CANCEL))
        self.assert_refused(reply, INVALID, "INVALID_REQUEST")
        self.assertIn("StartRun has no stream whose loss could cancel the run", reply.text())
        reply = self.wire().ask(START_RUN, run_request("echo") + field(6, field(4, 2000)))
        self.assert_refused(reply, INVALID, "INVALID_REQUEST")
        self.assert_refused(self.wire().ask(START_RUN, run_request("nobody")), NOT_FOUND, "AGENT_NOT_FOUND")

    def test_a_run_without_reader_has_a_time_to_be_alone(self):
        run_id = self.start(more=options(DETACH_FOR, 1000))
        self.assertIn("cancel_reason=DETACH_TTL", self.wait_ended(run_id))

    def test_the_calls_deadline_does_not_bound_the_run(self):
        reply = self.wire().ask(START_RUN, run_request("load", "events=100 rate=100"), ("grpc-timeout", "300m"))
        run_id = reply.get("sluice-run-id")
        self.assertEqual(reply.status(), OK)
        self.assertIn("status=OK", self.wait_ended(run_id))

    def test_a_caller_that_goes_while_it_waits_for_a_slot_has_no_run(self):
        server = self.daemon(flags=("--limit", "runs=1"))
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        first = wire.ask(START_RUN, run_request("load", HANG)).get("sluice-run-id")
        stream = wire.call(START_RUN, run_request("echo"))
        harness.wait_for("a run that waits", lambda: server.dump()["totals"]["runs_waiting"] == 1)
        wire.reset(stream)
        harness.wait_for("nobody waits", lambda: server.dump()["totals"]["runs_waiting"] == 0)
        wire.ask(CANCEL_RUN, field(1, first) + field(3, 1))
        self.assertEqual(wire.ask(EXECUTE, run_request("echo")).status(), OK)
        self.assertEqual(server.log().count('msg="started"'), 2)

    # ---- CancelRun ----

    def test_a_run_is_cancelled_from_another_connection(self):  # AL-7.2
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", HANG))
        run_id = self.wait_events(wire, stream, 3).get("sluice-run-id")
        observer, attached = self.attach(run_id)
        self.wait_events(observer, attached, 3)
        reason = "enough \n" + "x" * 1000
        self.assertEqual(self.cancel(run_id, field(2, reason) + field(3, 1)), STATE_CANCELLED)
        for other, follower in ((wire, stream), (observer, attached)):
            reply = other.wait_over(follower)
            self.assertEqual((reply.status(), reply.error_info()[0]), (CANCELLED, "CANCELLED"))
            number, error = events_of(reply)[-1][1:]
            self.assertEqual((number, error[6]), (17, CANCEL_RPC))
        self.assertEqual(self.cancel(run_id), STATE_CANCELLED, "again")
        line = self.server.wait_log('msg="cancel"', run_id)
        self.assertIn('reason="enough \\x0Axxx', line)
        self.assertLess(len(line), 600)
        self.assertIn("cancel_reason=CANCEL_RPC", self.wait_ended(run_id))

    def test_a_cancel_of_what_has_ended_changes_nothing(self):
        for text, state in (("events=1", DONE), ("events=1 fail_after=0", FAILED)):
            run_id = self.start(text)
            self.wait_ended(run_id)
            for more in (b"", field(3, 1)):
                self.assertEqual(self.cancel(run_id, more), state)
            self.assertEqual(run_of(self.get(run_id)[1])[3], state)

    def test_a_cancel_is_done_also_when_its_caller_goes(self):
        run_id = self.start()
        wire = self.wire()
        stream = wire.call(CANCEL_RUN, field(1, run_id) + field(3, 1))
        self.server.wait_log('msg="cancel"', run_id)
        wire.reset(stream)
        self.assertIn("cancel_reason=CANCEL_RPC", self.wait_ended(run_id))

    # ---- GetRun ----

    def test_a_run_is_shown_while_it_runs_and_after(self):
        metadata = b"".join(field(7, field(1, key) + field(2, value)) for key, value in (("team", "blue"), ("empty", "")))
        run_id = self.start(HANG, more=metadata)
        wire, stream = self.attach(run_id)
        self.wait_events(wire, stream, 3)
        reply = self.get(run_id)
        self.assertNotIn(2, reply, "no context was asked for")
        run = run_of(reply[1])
        self.assertEqual((run[1].decode(), run[2], run[3], run[7]), (run_id, b"load", RUNNING, 3))
        self.assertAlmostEqual(run[5] / 1000, time.time(), delta=60)
        self.assertEqual([6 in run, 8 in run, 9 in run, 12 in run], [False] * 4)
        pairs = [dict(fields_of(v)) for n, v in fields_of(reply[1]) if n == 11]
        self.assertEqual({p[1]: p.get(2, b"") for p in pairs}, {b"team": b"blue", b"empty": b""})
        self.cancel(run_id, field(3, 1))
        run = run_of(self.get(run_id)[1])
        last = events_of(wire.wait_over(stream))[-1]
        self.assertEqual((run[3], run[7]), (STATE_CANCELLED, last[0]))
        self.assertGreaterEqual(run[6], run[5])
        self.assertEqual(dict(fields_of(run[9])), last[2], "the last event")

    def test_a_run_that_has_ended_shows_its_result_and_usage(self):
        reply = self.wire().ask(EXECUTE, run_request("echo", "hello"))
        answer = dict(fields_of(reply.messages()[0]))
        run = run_of(self.get(answer[1].decode())[1])
        self.assertEqual((run[3], run[8]), (DONE, answer[2]))
        usage = dict(fields_of(run[10]))
        self.assertEqual(usage, dict(fields_of(dict(fields_of(answer[2]))[7])))
        self.assertGreater(usage[6], 0)

    def test_a_run_shows_its_conversation(self):
        text = [{"tool_call": {"name": "current_time", "arguments": {"timezone": "UTC"}}}]
        mock = self.mock(json.dumps({"turns": [{"steps": text}, {"steps": [{"text": "It is late."}]}]}))
        server = self.daemon(agents={"helper.yaml": harness.HELPER}, env=mock.env())
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        run_id = dict(fields_of(wire.ask(EXECUTE, run_request("helper", "How late?")).messages()[0]))[1]
        reply = dict(fields_of(wire.ask(GET_RUN, field(1, run_id) + field(2, 1)).messages()[0]))
        messages = [dict(fields_of(v)) for n, v in fields_of(reply[2]) if n == 1]
        system = [m for m in messages if m[1] == 1]
        self.assertLessEqual(len(system), 1)
        user, asks, result, answer = messages[len(system) :]
        self.assertEqual((user[1], user[2]), (2, b"How late?"))
        call = dict(fields_of(asks[3]))
        self.assertEqual((asks[1], call[2], json.loads(call[3])), (3, b"current_time", {"timezone": "UTC"}))
        self.assertEqual((result[1], result[4], result[5]), (4, call[1], b"current_time"))
        self.assertIn(b"UTC", result[2])
        self.assertEqual((answer[1], answer[2]), (3, b"It is late."))

    # ---- ListRuns ----

    def test_runs_are_listed_newest_first_in_pages(self):
        server = self.daemon(flags=("--loops", "2"))
        wire = Wire(server.address)
        self.addCleanup(wire.close)

        def page(body=b""):
            reply = wire.ask(LIST_RUNS, body)
            self.assertEqual(reply.status(), OK, reply)
            fields = fields_of(reply.messages()[0])
            return [run_of(v) for n, v in fields if n == 1], dict(fields).get(2, b"").decode()

        self.assertEqual(page(), ([], ""))
        ids = []
        for n in range(7):
            agent, text = ("echo", "x") if n % 2 else ("load", "events=1")
            other = Wire(server.address)  # on both loops
            ids.append(dict(fields_of(other.ask(EXECUTE, run_request(agent, text)).messages()[0]))[1])
            other.close()
            time.sleep(0.002)  # no synchronisation: they begin in different milliseconds
        hanging = wire.ask(START_RUN, run_request("load", HANG)).get("sluice-run-id").encode()
        ids.append(hanging)
        newest = ids[::-1]
        self.assertEqual([r[1] for r in page()[0]], newest)
        seen, token, n_pages = [], "", 0
        while n_pages == 0 or token:
            runs, token = page(field(1, 3) + (field(2, token) if token else b""))
            self.assertLessEqual(len(runs), 3)
            seen += [r[1] for r in runs]
            n_pages += 1
        self.assertEqual((seen, n_pages), (newest, 3))
        self.assertEqual([r[1] for r in page(field(3, "echo"))[0]], newest[2::2])
        self.assertEqual([r[1] for r in page(field(5, RUNNING))[0]], [hanging])
        self.assertEqual([r[1] for r in page(field(5, DONE) + field(3, "load"))[0]], newest[1::2])
        for nothing in (field(4, "some session"), field(5, 1), field(5, 3), field(5, FAILED), field(3, "nobody")):
            self.assertEqual(page(nothing), ([], ""))
        self.assertEqual(len(page(field(1, 5000))[0]), 8)
        for wrong in (field(5, 7), field(2, "no token")):
            self.assert_refused(wire.ask(LIST_RUNS, wrong), INVALID, "INVALID_REQUEST")
        wire.ask(CANCEL_RUN, field(1, hanging) + field(3, 1))
        self.assertEqual([r[1] for r in page(field(5, STATE_CANCELLED))[0]], [hanging])

    # ---- The page ----

    def test_the_commands_of_the_page_give_what_it_shows(self):
        found = pages.blocks("docs/runs.md", *pages.COMMANDS)
        script = "set -e\n" + "".join(block.text + "echo '@@@@'\n" for block in found)
        with tempfile.TemporaryDirectory() as home:
            env = {"PATH": harness.BIN + ":/usr/bin:/bin", "HOME": home, "SLUICE_ADDR": self.server.address}
            done = subprocess.run(["/bin/sh"], input=script.encode(), env=env, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        outputs = done.stdout.decode().split("@@@@\n")
        self.assertEqual(len(outputs), len(found) + 1)
        for block, output in zip(found, outputs):
            self.assertIsNone(pages.shows(output, block.output or []), block.name())
        self.assertGreater(sum(block.output is not None for block in found), 3)

    # ---- A request that comes again ----

    def test_the_same_request_follows_the_run_that_it_started(self):  # RT-3, C17
        wire = self.wire()
        request = run_request("load", "events=100 rate=100") + field(5, "stream again") + options(DETACH)
        first = wire.call(STREAMING, request)
        self.wait_events(wire, first, 10)
        others = []
        for _ in range(4):
            other = self.wire()
            others.append((other, other.call(STREAMING, request)))
        run_id = wire.reply(first).get("sluice-run-id")
        id_only = self.wire().ask(START_RUN, request)
        self.assertEqual((id_only.get("sluice-attached"), id_only.messages()), ("1", [field(1, run_id)]))
        gone = self.wire()
        self.wait_events(gone, gone.call(STREAMING, request), 1)
        gone.socket.close()  # an observer like any other
        result = self.wire().ask(EXECUTE, request)
        whole = wire.wait_over(first)
        self.assertIsNone(whole.get("sluice-attached"))
        for other, stream in others:
            reply = other.wait_over(stream)
            self.assertEqual((reply.status(), reply.get("sluice-attached")), (OK, "1"))
            self.assertEqual(reply.data, whole.data)
        self.assertEqual((result.status(), result.get("sluice-attached")), (OK, "1"))
        answer = dict(fields_of(result.messages()[0]))
        self.assertEqual(answer[1].decode(), run_id)
        self.assertEqual(dict(fields_of(answer[2])), events_of(whole)[-1][2])
        again = self.wire().ask(EXECUTE, request)
        self.assertEqual(again.data, result.data)

    def test_a_result_is_there_again_also_when_the_beginning_is_gone(self):
        server = self.daemon(flags=("--limit", "window=4KiB"))
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        request = run_request("load", "events=1000") + field(5, "end")
        first, again = wire.ask(EXECUTE, request), wire.ask(EXECUTE, request)
        self.assertEqual((first.status(), again.status(), again.get("sluice-attached")), (OK, OK, "1"))
        self.assertEqual(first.data, again.data)
        stream = wire.ask(STREAMING, request)  # which would need all of it
        self.assertEqual((stream.status(), stream.error_info()[0]), (OUT_OF_RANGE, "BELOW_RETENTION"))
        request = run_request("load", "events=100000") + field(5, "start")
        first = wire.ask(START_RUN, request)
        server.wait_log(first.get("sluice-run-id"), 'msg="ended"')
        again = wire.ask(START_RUN, request)
        self.assertEqual((again.status(), again.get("sluice-attached")), (OK, "1"), again)
        self.assertEqual(again.data, first.data)

    def test_another_request_with_a_known_id_is_refused(self):
        self.assertEqual(self.wire().ask(EXECUTE, run_request("echo", "a") + field(5, "mine")).status(), OK)
        for path in (EXECUTE, STREAMING, START_RUN):
            reply = self.wire().ask(path, run_request("echo", "b") + field(5, "mine"))
            self.assert_refused(reply, ALREADY_EXISTS, "REQUEST_ID_REUSED")


if __name__ == "__main__":
    os.chdir(harness.ROOT)
    unittest.main(verbosity=2)
