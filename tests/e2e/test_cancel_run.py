"""CancelRun from elsewhere, in every state of a run (AL-7.2, AL-7.4, AL-5.21): its answer, the one terminal event, what its
readers see, and that nothing is left but a conversation that could go on."""

import json
import os
import threading
import unittest

import harness
from run_case import CANCELLED, DONE, EVENT_DONE, EVENT_ERROR, EVENT_TOOL_COMPLETE, OK, RESET, RPC, RUNNING, STATE_CANCELLED
from run_case import ASSISTANT, TOOL, USER, RunCase, call, events_of, processes_with, program, shell, turns
from wire import CANCEL_RUN, EXECUTE, GET_RUN, INITIAL_WINDOW, LIST_RUNS, START_RUN, STREAMING, field, fields_of, run_request

TOOL_CANCELLED = 6
EVENT_DECIDED, DECISION_CANCELLED = 24, 4
SLEEP = program("sleep", "/bin/sleep", "60")
POLITE = shell("polite", "trap 'echo bye; exit 0' TERM; echo started; while :; do sleep 0.05; done")
STUBBORN = shell("stubborn", "trap '' TERM; echo started; while :; do sleep 1; done")
SAYS = {"text": "a"}
HANG = {"hang": True}


class States(RunCase):
    """One method for each state."""

    def cancelled(self, is_there, conversation, text="x", reads=True, **wire_options):
        """Brings a run into a state, for an answer at once and for one at the end, and cancels it.
        `is_there(wire, stream, run_id)`; `conversation`: [(role, number of calls, or is_error)] behind the input."""
        for wait in (False, True):
            with self.subTest(wait=wait):
                wire, stream, run_id = self.begin(text, **wire_options)
                observer, attached = self.attach(run_id)
                is_there(wire, stream, run_id)
                self.assertIsNotNone(self.view(run_id))
                state = self.cancel(run_id, wait)
                if wait:  # only when everything is dead, and the log has it
                    self.assertEqual(harness.state_of(self.server.pid)[2], [])
                    self.assertTrue(self.has_ended(run_id))
                self.assertIn(state, (STATE_CANCELLED,) if wait else (RUNNING, STATE_CANCELLED))
                if not reads:
                    self.assertEqual(wire.reply(stream).data, b"")
                    self.wait_ended(run_id)  # whoever does not read holds nothing back
                    wire.open_window(stream, 1 << 24)
                    wire.open_window(0, 1 << 24)
                events, seen = self.check_cancelled(run_id, RPC, [(wire, stream), (observer, attached)])
                self.assertEqual([s[:2] for s in seen][:1], [(USER, text.encode())])
                self.assertEqual([(role, n) for role, _, n in seen[1:]], conversation)
                self.assertEqual(self.cancel(run_id, wait), STATE_CANCELLED, "again")
                self.assertIn("cancel_reason=CANCEL_RPC", self.wait_ended(run_id))
                self.after(events, seen)

    def after(self, events, seen):
        """What else is to be seen of the state."""

    def results(self, events):
        """(error code, attempts) of each tool call, as they ended."""
        return [(e.get(6, 0), e.get(10, 0)) for _, n, e in events if n == EVENT_TOOL_COMPLETE]

    # ---- The model ----

    def test_connecting(self):
        _, address = self.silent_server(accepts=False)
        self.start(env={"OPENAI_BASE_URL": "http://%s/v1" % address, "OPENAI_API_KEY": "k" * 20})
        self.cancelled(lambda wire, stream, run_id: self.wait_events(wire, stream, 2), [])

    def test_waiting_for_the_first_byte(self):
        listener, address = self.silent_server(accepts=True)
        self.start(env={"OPENAI_BASE_URL": "http://%s/v1" % address, "OPENAI_API_KEY": "k" * 20})
        opened = []
        self.after = lambda events, seen: self.wait_hung_up(opened.pop())
        self.cancelled(lambda wire, stream, run_id: opened.append(self.accept(listener, b"POST")), [])

    def test_in_the_middle_of_an_answer(self):
        self.start(turns([SAYS, HANG]))
        self.after = lambda events, seen: self.assertEqual(seen[1][1], b"a", "what came is kept")
        self.cancelled(lambda wire, stream, run_id: self.wait_events(wire, stream, 3), [(ASSISTANT, 0)])
        self.assertEqual(self.model.stats()["aborted"], 2)

    def test_in_the_middle_of_an_answer_with_a_call(self):
        """Half an answer asks for nothing."""
        self.start(turns([SAYS, call("sleep"), HANG]), [SLEEP])
        self.after = lambda events, seen: self.assertEqual(self.results(events), [])
        self.cancelled(lambda wire, stream, run_id: self.wait_events(wire, stream, 3), [(ASSISTANT, 0)])
        self.assertEqual(self.model.stats()["aborted"], 2)

    def test_paused_by_a_reader_that_does_not_read(self):  # AL-8
        long = {"text": "{{input}}" * 60, "pace": {"unit": "chars", "size": 1000}}
        self.start(turns([long] * 40))  # about 10 MB

        def is_paused(wire, stream, run_id):
            harness.wait_for("a pause", lambda: (self.view(run_id) or {}).get("paused"))
            self.assertEqual(self.model.stats()["active"], 1, "the model is held back")

        self.cancelled(is_paused, [(ASSISTANT, 0)], "x" * 4000, False, settings=[(INITIAL_WINDOW, 0)])
        self.assertEqual(self.model.stats()["aborted"], 2)

    def test_in_the_pause_before_a_retry(self):  # CN-4
        self.start(turns([{"error": {"status": 429, "retry_after": 30}}]))
        n_before = []

        def is_refused(wire, stream, run_id):
            n_before.append(len(n_before) + 1)
            harness.wait_for("a refusal", lambda: self.model.stats()["completed"] == len(n_before))

        self.cancelled(is_refused, [])
        self.assertEqual(self.model.stats()["requests"], 2, "no retry")

    # ---- Tools ----

    def test_a_call_in_the_queue_of_its_run(self):
        self.start(turns([SAYS, call("polite"), call("sleep")]), [POLITE, SLEEP], parallel_tools=1)

        def check(events, seen):
            self.assertEqual(self.results(events), [(TOOL_CANCELLED, 0), (TOOL_CANCELLED, 1)])
            self.assertEqual(seen[1][1], b"a")
            self.assertIn(b"started", seen[2][1], "what it wrote is kept")
            self.assertIn(b"not executed: run ended", seen[3][1])

        self.after = check
        self.cancelled(
            lambda wire, stream, run_id: self.wait_text(wire, stream, b"started"),
            [(ASSISTANT, 2), (TOOL, 1), (TOOL, 1)],
        )

    def wait_approval(self, run_id):
        harness.wait_for("a wait for a decision", lambda: (self.view(run_id) or {}).get("state") == "approval")

    def start_asking(self):
        self.start(turns([call("asked")]), [shell("asked", "echo x", policy="ask")], approval={"self": True})

    def test_waiting_for_an_approval(self):  # AL-6.7: decided first, then completed
        self.start_asking()

        def check(events, seen):
            ends = [(n, e.get(3)) for _, n, e in events if n in (EVENT_DECIDED, EVENT_TOOL_COMPLETE)]
            self.assertEqual(ends, [(EVENT_DECIDED, DECISION_CANCELLED), (EVENT_TOOL_COMPLETE, None)])
            self.assertEqual(self.results(events), [(TOOL_CANCELLED, 0)])

        self.after = check
        self.cancelled(lambda wire, stream, run_id: self.wait_approval(run_id), [(ASSISTANT, 1), (TOOL, 1)])

    def test_a_reset_while_it_waits_for_an_approval(self):
        self.start_asking()
        wire, stream, run_id = self.begin()
        observer, attached = self.attach(run_id)
        self.wait_approval(run_id)
        wire.reset(stream)
        events, _ = self.check_cancelled(run_id, RESET, [(observer, attached)])
        self.assertEqual(self.results(events), [(TOOL_CANCELLED, 0)])

    def test_a_call_after_one_that_is_done(self):
        """What a tool has given is not lost with the cancel."""
        self.start(turns([call("quick"), call("sleep")]), [shell("quick", "echo kept"), SLEEP], parallel_tools=1)

        def is_at_the_second(wire, stream, run_id):
            wire.wait("a result", lambda: EVENT_TOOL_COMPLETE in [n for _, n, _ in events_of(wire.reply(stream))])
            self.wait_child()

        self.after = lambda events, seen: self.assertIn(b"kept", seen[2][1])
        self.cancelled(is_at_the_second, [(ASSISTANT, 2), (TOOL, 0), (TOOL, 1)])

    def test_a_call_in_the_queue_of_the_daemon(self):
        self.start(turns([call("sleep")]), [SLEEP], ("--limit", "tools=1"))
        wire, stream, first = self.begin()
        self.wait_child()
        other, waiting, second = self.begin()
        self.wait_events(other, waiting, 4)
        self.assertEqual(self.cancel(second), STATE_CANCELLED)
        events, _ = self.check_cancelled(second, RPC, [(other, waiting)], is_quiet=False)
        self.assertEqual(self.results(events), [(TOOL_CANCELLED, 0)])
        self.assertFalse(self.has_ended(first), "the other one goes on")
        self.assertEqual(self.cancel(first), STATE_CANCELLED)
        self.check_cancelled(first, RPC, [(wire, stream)])

    def test_a_program_that_heeds_the_signal(self):
        self.start(turns([call("polite")]), [POLITE])
        self.after = lambda events, seen: self.assertIn(b"bye", seen[2][1], "it was asked before it was killed")
        self.cancelled(lambda wire, stream, run_id: self.wait_text(wire, stream, b"started"), [(ASSISTANT, 1), (TOOL, 1)])

    def test_a_program_that_ignores_the_signal(self):
        self.start(turns([call("stubborn")]), [STUBBORN])
        self.after = lambda events, seen: self.assertEqual(self.results(events), [(TOOL_CANCELLED, 1)])
        self.cancelled(lambda wire, stream, run_id: self.wait_text(wire, stream, b"started"), [(ASSISTANT, 1), (TOOL, 1)])

    def test_a_program_whose_grandchild_has_left_it(self):  # T5
        mark = "60.%d%05d" % (os.getpid(), id(self) % 100000)  # seconds, and a name
        script = "(setsid /bin/sh -c 'trap \"\" TERM; sleep %s & sleep %s & wait' &); sleep 60" % (mark, mark)
        self.start(turns([call("leaves")]), [shell("leaves", script)])

        def have_left(wire, stream, run_id):
            harness.wait_for("grandchildren", lambda: len(self.sleepers(mark)) == 2)

        self.after = lambda events, seen: self.assertEqual(processes_with(mark), [])
        self.cancelled(have_left, [(ASSISTANT, 1), (TOOL, 1)])

    @staticmethod
    def sleepers(mark):
        return [pid for pid in processes_with(mark) if comm_of(pid) == "sleep"]

    def test_a_program_between_its_attempts(self):
        again = program("again", "/bin/sleep", "60", timeout_secs=1, idempotent=True)
        self.start(turns([call("again")]), [again])

        def is_between(wire, stream, run_id):
            self.wait_child(1)
            self.wait_child(0)

        self.cancelled(is_between, [(ASSISTANT, 1), (TOOL, 1)])

    def test_a_request_of_a_tool_that_is_out(self):
        listener, host = self.silent_server(accepts=True)
        config = "tools: {http_request: {allow_hosts: ['%s'], allow_http: true, allow_private: true}}\n" % host
        self.start(turns([call("http_request", {"url": "http://%s/" % host})]), ["http_request"], config=config)
        opened = []
        self.after = lambda events, seen: self.wait_hung_up(opened.pop())
        self.cancelled(
            lambda wire, stream, run_id: opened.append(self.accept(listener, b"GET")), [(ASSISTANT, 1), (TOOL, 1)]
        )

    def test_the_conversation_of_a_cancelled_run_can_go_on(self):
        """As it is, as the context of another request."""
        asks = {"match": "begin", "steps": [SAYS, call("quick"), call("polite")]}
        ends = {"match": "go on", "steps": [{"text": "heard: {{last_tool_result}}"}]}
        tools = [shell("quick", "echo kept"), POLITE]
        self.start(json.dumps({"turns": [asks, ends]}), tools, parallel_tools=2)
        wire, stream, run_id = self.begin("begin")
        self.wait_text(wire, stream, b"started")
        self.assertEqual(self.cancel(run_id), STATE_CANCELLED)
        reply = self.wire().ask(GET_RUN, field(1, run_id) + field(2, 1))
        context = dict(fields_of(reply.messages()[0]))[2]
        reply = self.wire().ask(EXECUTE, run_request("helper", "go on") + field(3, context))
        self.assertEqual(reply.status(), OK, reply)
        done = dict(fields_of(dict(fields_of(reply.messages()[0]))[2]))
        self.assertTrue(done[1].startswith(b"heard: "), done)
        again = dict(fields_of(reply.messages()[0]))[1].decode()
        seen = self.check_conversation(self.get(again)[1])
        self.assertEqual([role for role, _, _ in seen], [USER, ASSISTANT, TOOL, TOOL, USER, ASSISTANT])
        self.assertIn(b"CANCELLED", seen[3][1])

    # ---- Before and after ----

    def test_calls_that_wait_for_a_slot_have_no_run_to_cancel(self):
        self.start(flags=("--limit", "runs=1"))
        wire, stream, first = self.begin('{"hang": true}', "load")
        for path in (START_RUN, EXECUTE, STREAMING):
            waiting = self.wire()
            asked = waiting.call(path, run_request("echo", "never"))
            harness.wait_for("a call that waits", lambda: self.server.dump()["totals"]["runs_waiting"] == 1)
            self.assertIsNone(waiting.reply(asked).get("sluice-run-id"))
            waiting.reset(asked)
            harness.wait_for("nobody waits", lambda: self.server.dump()["totals"]["runs_waiting"] == 0)
        last = self.wire()
        asked = last.call(EXECUTE, run_request("echo", "now"))
        harness.wait_for("a call that waits", lambda: self.server.dump()["totals"]["runs_waiting"] == 1)
        self.assertEqual(self.cancel(first), STATE_CANCELLED)
        self.assertEqual(last.wait_over(asked).status(), OK, "the slot of the cancelled run is free")
        self.check_cancelled(first, RPC, [(wire, stream)])
        listed = fields_of(self.wire().ask(LIST_RUNS).messages()[0])
        agents = [dict(fields_of(value))[2] for number, value in listed if number == 1]
        self.assertEqual(agents, [b"echo", b"load"], "two runs, and no others")

    def test_after_the_terminal_event(self):
        """Nobody has read it yet: it stays the last one."""
        self.start()
        wire, stream, run_id = self.begin("hello", "echo", settings=[(INITIAL_WINDOW, 0)])
        self.wait_ended(run_id)
        for wait in (False, True):
            self.assertEqual(self.cancel(run_id, wait), DONE)
        wire.open_window(stream, 65535)
        reply = wire.wait_over(stream)
        self.assertEqual((reply.status(), self.check_whole(reply)[-1][1]), (OK, EVENT_DONE))
        self.assertEqual(self.get(run_id)[0][3], DONE)
        self.assertIn("status=OK", self.wait_ended(run_id))


def comm_of(pid):
    try:
        with open("/proc/%d/comm" % pid, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""


class Races(RunCase):
    def test_two_at_once_and_a_reset_end_it_once(self):
        for tools in ([], [POLITE]):
            with self.subTest(tools=len(tools)):
                self.start(turns([call("polite")] if tools else [SAYS, HANG]), tools)
                wire, stream, run_id = self.begin()
                observer, attached = self.attach(run_id)
                self.wait_events(wire, stream, 3)
                if tools:
                    self.wait_text(wire, stream, b"started")
                askers = [self.wire() for _ in range(6)]
                asked = [asker.call(CANCEL_RUN, field(1, run_id) + field(3, 1)) for asker in askers]
                wire.reset(stream)
                states = {self.state_in(asker.wait_over(one)) for asker, one in zip(askers, asked)}
                self.assertEqual(states, {STATE_CANCELLED})
                error = events_of(observer.wait_over(attached))[-1][2]
                self.assertIn(error[6], (RESET, RPC))
                self.check_cancelled(run_id, error[6], [(observer, attached)])
                self.assertEqual(self.server.log().count('msg="ended"'), 1)

    def test_a_cancel_and_the_end_agree_on_who_was_first(self):  # AL-7.2
        self.start()
        asker = self.wire()
        states = []
        for n in range(80):
            wire, stream, run_id = self.begin("events=%d rate=1000" % (n % 8 + 1), "load")
            if n >= 70:  # it has ended, for sure
                wire.wait_over(stream)
            elif n >= 10:
                self.wait_events(wire, stream, 1 + n % 8)
            state = self.state_in(asker.ask(CANCEL_RUN, field(1, run_id) + field(3, 1)))
            reply = wire.wait_over(stream)
            _, number, _ = self.check_whole(reply)[-1]
            expected = {DONE: (OK, EVENT_DONE), STATE_CANCELLED: (CANCELLED, EVENT_ERROR)}[state]
            self.assertEqual((reply.status(), number), expected)
            self.assertEqual(self.get(run_id)[0][3], state)
            wire.close()
            states.append(state)
        self.assertEqual(set(states), {DONE, STATE_CANCELLED}, "both have won")

    def test_cancels_while_runs_begin_and_end_on_many_connections(self):
        self.start(flags=("--limit", "runs=8"))
        faults = []

        def work():
            try:
                wire = self.wire()
                for n in range(12):
                    reply = wire.ask(START_RUN, run_request("load", "events=3 rate=1000"))
                    run_id = reply.get("sluice-run-id")
                    for _ in range(2):
                        state = self.state_in(wire.ask(CANCEL_RUN, field(1, run_id) + field(3, n % 2)))
                    if n % 2:
                        assert state in (DONE, STATE_CANCELLED), state
            except Exception as error:  # of whatever kind: the test fails with it
                faults.append(error)

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        self.assertEqual(faults, [])
        harness.wait_for("an empty dump", self.server.is_empty)
        self.assertEqual(self.server.log().count('msg="ended"'), 72)


if __name__ == "__main__":
    unittest.main(verbosity=2)
