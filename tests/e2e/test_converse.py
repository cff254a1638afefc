"""Converse and DecideApproval from outside (AL-6.7, AL-6.8): approvals and who gives them, tools of the client, further input,
wrong messages, and a run that is left in every state."""

import hashlib
import json
import os
import tempfile
import unittest

import harness
from run_case import CANCEL, CANCELLED, DETACH, EVENT_DONE, EVENT_TOOL_COMPLETE, LOST, OK, RESET, RPC
from run_case import STATE_CANCELLED, RunCase, call, events_of, options, shell, turns
from wire import CONVERSE, DECIDE, HEALTH, STREAMING, WINDOW, field, fields_of, message, run_request

INVALID, NOT_FOUND, FORBIDDEN, PRECONDITION = 3, 5, 7, 9
APPROVED, DENIED, EXPIRED, DECISION_CANCELLED = 1, 2, 3, 4
TOOL_DENIED, TOOL_EXPIRED, TOOL_TIMEOUT, TOOL_CANCELLED, TOOL_CLIENT, UNKNOWN = 3, 4, 5, 6, 15, 17
EVENT_COMPLETE, EVENT_CALL, EVENT_ASK, EVENT_DECIDED, EVENT_BEAT = 15, 11, 23, 24, 25
START, INPUT, RESULT, APPROVAL, CANCEL_MESSAGE = 1, 2, 3, 4, 5
WAITING_APPROVAL = 3
ASKED = shell("write", "echo written", policy="ask")
SELF = {"self": True}
SAW = {"text": "saw {{last_tool_result}}"}
HANG = {"hang": True}


def matched(**turns):
    """What the model says when this is the user's last message."""
    return json.dumps({"turns": [{"match": words, "steps": steps} for words, steps in turns.items()]})


def client_tool(name, schema='{"type":"object"}'):
    return field(18, field(1, name) + field(2, "The client has it.") + field(3, schema))


def answer(ask, decision=APPROVED, comment="", digest=None):
    out = field(1, ask[1]) + field(2, ask[5] if digest is None else digest) + field(3, decision)
    return out + (field(4, comment) if comment else b"")


class Talk:
    """One Converse call, seen from its client."""

    def __init__(self, wire, start=None, *fields):
        self.wire = wire
        self.stream = wire.start(CONVERSE, *fields)
        if start is not None:
            self.say(START, start)

    def say(self, number, body, end=False):
        payload = message(field(number, body))
        while len(payload) > 16384:
            self.wire.data(self.stream, payload[:16384])
            payload = payload[16384:]
        self.wire.data(self.stream, payload, end)

    def reply(self):
        return self.wire.reply(self.stream)

    def events(self, number):
        return [event for _, n, event in events_of(self.reply()) if n == number]

    def wait(self, number, n=1):
        """The fields of the n-th event of this kind."""
        self.wire.wait("event %d" % number, lambda: len(self.events(number)) >= n or self.reply().is_over())
        return self.events(number)[n - 1]

    def run_id(self):
        self.wire.wait("headers", lambda: self.reply().blocks)
        return self.reply().get("sluice-run-id")

    def over(self):
        return self.wire.wait_over(self.stream)


class Case(RunCase):
    def talk(self, text="x", more=b"", agent="helper", fields=(), **wire):
        return Talk(self.wire(**wire), run_request(agent, text) + more, *fields)

    def decide(self, run_id, ask, *more, fields=(), **kinds):
        body = field(1, run_id) + field(2, answer(ask, *more, **kinds))
        return self.wire().ask(DECIDE, body, *fields)

    def ends(self, talk, code=OK, reason=None):
        """The stream's end is this, and the run's events are in order."""
        reply = talk.over()
        self.assertEqual(reply.status(), code, reply)
        if reason is not None:
            self.assertEqual(reply.error_info()[0], reason)
        return reply

    def is_done(self, talk, text):
        self.ends(talk)
        events = self.check_whole(talk.reply())
        self.assertEqual((events[-1][1], events[-1][2][1]), (EVENT_DONE, text.encode()))
        self.nothing_is_left()


class Approvals(Case):
    def ask(self, approval=None):
        """A run that waits for an approval: (talk, the event)."""
        self.start(turns([call("write")], [SAW]), [ASKED], approval=approval or SELF)
        talk = self.talk()
        return talk, talk.wait(EVENT_ASK)

    def test_an_approved_call_runs(self):
        talk, ask = self.ask()
        self.assertEqual((ask[3], ask[4]), (b"write", b"{}"))
        self.assertEqual(ask[5], hashlib.sha256(b"{}").digest(), "of the canonical arguments")
        self.assertEqual(self.get(talk.run_id())[0][3], WAITING_APPROVAL)
        self.assertEqual(self.view(talk.run_id())["state"], "approval")
        self.assertEqual(harness.state_of(self.server.pid)[2], [], "nothing runs before")
        talk.say(APPROVAL, answer(ask, comment="go on"))
        decided = talk.wait(EVENT_DECIDED)
        self.assertEqual((decided[1], decided[3], decided.get(5)), (ask[1], APPROVED, b"go on"))
        self.ends(talk)
        self.assertIn(b"written", self.check_whole(talk.reply())[-1][2][1])
        self.nothing_is_left()
        self.assertIn("decision=APPROVED", self.server.log())

    def test_a_denied_call_fails_and_the_run_goes_on(self):
        talk, ask = self.ask()
        talk.say(APPROVAL, answer(ask, DENIED, "not now"), end=True)
        complete = talk.wait(EVENT_TOOL_COMPLETE)
        self.assertEqual((complete.get(3, 0), complete[6], complete.get(10, 0)), (0, TOOL_DENIED, 0))
        self.ends(talk)
        self.assertIn(b"write: denied: not now", self.check_whole(talk.reply())[-1][2][1], "the model is told")

    def test_nobody_decides_in_time(self):
        talk, ask = self.ask({"self": True, "timeout_secs": 1})
        decided = talk.wait(EVENT_DECIDED)
        self.assertEqual((decided[3], decided.get(4)), (EXPIRED, None))
        self.assertEqual(talk.wait(EVENT_TOOL_COMPLETE)[6], TOOL_EXPIRED)
        self.ends(talk)
        self.check_whole(talk.reply())
        reply = self.decide(talk.run_id(), ask)
        self.assertEqual((reply.status(), reply.error_info()[0]), (PRECONDITION, "APPROVAL_DECIDED"))
        self.assertEqual(reply.error_info()[2]["decision"], "EXPIRED")

    def test_where_nobody_could_answer_ask_is_deny(self):
        for approval in ({}, {"approvers": ["alice"]}):
            with self.subTest(approval=approval):
                self.start(turns([call("write")], [SAW]), [ASKED], approval=approval)
                talk = self.talk()
                self.assertEqual(talk.wait(EVENT_TOOL_COMPLETE)[6], TOOL_DENIED)
                self.ends(talk)
                self.assertEqual(talk.events(EVENT_ASK), [])

    def test_an_answer_from_another_connection_counts_once(self):
        talk, ask = self.ask()
        run_id = talk.run_id()
        for body, code, reason in (
            (field(1, "0" * 32) + field(2, answer(ask)), NOT_FOUND, "RUN_NOT_FOUND"),
            (field(1, run_id) + field(2, answer({1: "x" * 32, 5: ask[5]})), NOT_FOUND, "APPROVAL_NOT_FOUND"),
            (field(1, run_id) + field(2, answer(ask, digest=b"\0" * 32)), INVALID, "INVALID_REQUEST"),
            (field(1, run_id) + field(2, answer(ask, digest=ask[5][:31])), INVALID, "INVALID_REQUEST"),
            (field(1, run_id) + field(2, answer(ask, EXPIRED)), INVALID, "INVALID_REQUEST"),
            (field(1, run_id) + field(2, answer(ask, 77)), INVALID, "INVALID_REQUEST"),
            (field(1, run_id) + field(2, answer(ask, comment="c" * 4097)), INVALID, "INVALID_REQUEST"),
            (field(1, run_id), INVALID, "INVALID_REQUEST"),
            (field(2, answer(ask)), INVALID, "INVALID_REQUEST"),
        ):
            reply = self.wire().ask(DECIDE, body)
            self.assertEqual((reply.status(), reply.error_info()[0]), (code, reason), body)
        self.assertEqual(talk.events(EVENT_DECIDED), [])
        reply = self.decide(run_id, ask, DENIED, "no")
        self.assertEqual((reply.status(), fields_of(reply.messages()[0])), (OK, [(1, DENIED)]))
        self.ends(talk)
        again = self.decide(run_id, ask)  # also when the run has ended
        self.assertEqual((again.status(), again.error_info()[0]), (PRECONDITION, "APPROVAL_DECIDED"))
        self.assertEqual((again.error_info()[2]["decision"], again.error_info()[2]["comment"]), ("DENIED", "no"))

    def test_of_two_answers_at_once_one_counts(self):
        self.start(turns([call("write")], [SAW]), [ASKED], approval=SELF)
        for _ in range(8):
            talk = self.talk()
            ask = talk.wait(EVENT_ASK)
            wires = [self.wire() for _ in range(4)]
            bodies = [field(1, talk.run_id()) + field(2, answer(ask, APPROVED + n % 2)) for n in range(4)]
            asked = [wire.call(DECIDE, body) for wire, body in zip(wires, bodies)]
            replies = [wire.wait_over(one) for wire, one in zip(wires, asked)]
            self.assertEqual(sorted(reply.status() for reply in replies), [OK] + [PRECONDITION] * 3)
            first = next(reply for reply in replies if reply.status() == OK)
            decided = talk.wait(EVENT_DECIDED)[3]
            self.assertEqual(fields_of(first.messages()[0]), [(1, decided)])
            names = {reply.error_info()[2]["decision"] for reply in replies if reply.status() != OK}
            self.assertEqual(names, {{APPROVED: "APPROVED", DENIED: "DENIED"}[decided]})
            self.ends(talk)
            self.assertEqual(len(talk.events(EVENT_DECIDED)), 1)
            for wire in wires:
                wire.close()
            talk.wire.close()

    def test_a_call_that_waits_holds_no_other(self):
        tools = [ASKED, shell("free", "echo free")]
        self.start(turns([call("write"), call("free")], [SAW]), tools, ("--limit", "tools=1"), approval=SELF, parallel_tools=1)
        talk = self.talk()
        ask = talk.wait(EVENT_ASK)
        self.assertIn(b"free", talk.wait(EVENT_TOOL_COMPLETE)[7], "the other one is done")
        talk.say(APPROVAL, answer(ask))
        self.ends(talk)

    def test_only_so_many_wait_at_once(self):
        self.start(turns([call("write")] * 3, [SAW]), [ASKED], ("--limit", "approvals=2"), approval=SELF)
        talk = self.talk()
        talk.wait(EVENT_ASK, 2)
        self.assertEqual(self.server.dump()["limits_reached"]["approvals"], 1)
        talk.say(APPROVAL, answer(talk.events(EVENT_ASK)[0]))
        talk.wait(EVENT_ASK, 3)
        for ask in talk.events(EVENT_ASK)[1:]:
            talk.say(APPROVAL, answer(ask))
        self.ends(talk)

    def test_the_heartbeat_says_what_it_waits_for(self):
        self.start(turns([call("write")], [SAW]), [ASKED], approval=SELF, heartbeat_ms=1000)
        talk = self.talk()
        ask = talk.wait(EVENT_ASK)
        self.assertEqual(talk.wait(EVENT_BEAT)[1], 5)
        talk.say(APPROVAL, answer(ask))
        self.ends(talk)

    def test_wrong_arguments_are_refused_before_anybody_is_asked(self):
        self.start(turns([call("write", {"no": 1})], [SAW]), [ASKED], approval=SELF)
        talk = self.talk()
        self.assertEqual(talk.wait(EVENT_TOOL_COMPLETE)[6], 1)
        self.ends(talk)
        self.assertEqual(talk.events(EVENT_ASK), [])


class Commands(Case):
    def begin(self, *flags):
        self.start(turns([call("write")], [SAW]), [ASKED], approval=SELF)
        child = harness.start_sluice(self.server, "run", "helper", "x", *flags)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stderr.close)
        self.addCleanup(child.kill)
        return child

    def test_sluice_run_says_how_to_approve_and_sluice_approve_does(self):
        for flags, said, shown in (
            ((), b"approved\n", b"saw"),
            (("--deny", "--comment", "not now"), b"denied\n", b"write: denied: not now"),
        ):
            with self.subTest(flags=flags):
                child = self.begin()
                line = next(line for line in child.stdout if b"sluice approve" in line)
                words = line.decode().rsplit("sluice approve ", 1)[1].split()
                done = harness.sluice(self.server, "approve", *words, *flags)
                self.assertEqual((done.returncode, done.stdout), (0, b"write {}\n" + said), done.stderr)
                self.assertIn(shown, child.stdout.read())
                self.assertEqual(child.wait(20), 0)
                again = harness.sluice(self.server, "approve", *words)
                self.assertEqual(again.returncode, 1)
                self.assertIn(b"FAILED_PRECONDITION: the approval is decided already", again.stderr)

    def test_sluice_run_approves_all(self):
        child = self.begin("--approve", "all", "--json")
        self.assertIn(b'"decision":"APPROVED"', child.stdout.read())
        self.assertEqual(child.wait(20), 0)

    def test_what_sluice_approve_refuses(self):
        self.start()
        done = harness.sluice(self.server, "approve", "x", "y", "--digest", "12")
        self.assertEqual((done.returncode, b"--digest" in done.stderr), (2, True))
        self.assertIn(b"NOT_FOUND", harness.sluice(self.server, "approve", "0" * 32, "y", "--digest", "0" * 64).stderr)
        self.assertIn(b"NOT_FOUND", harness.sluice(self.server, "approve", "0" * 32, "y").stderr)


class Left(Case):
    """A run that waits for an approval, or for its client, and is ended or left."""

    def waiting(self, policy=CANCEL):
        self.start(turns([call("write")], [SAW]), [ASKED], approval=SELF)
        talk = self.talk(more=options(policy))
        return talk, talk.wait(EVENT_ASK)

    def check_decided(self, talk, run_id, reason, observer=None):
        wire, stream = observer or self.attach(run_id)
        events, _ = self.check_cancelled(run_id, reason, [(wire, stream)])
        kinds = [(n, e.get(3 if n == EVENT_DECIDED else 6)) for _, n, e in events]
        at = kinds.index((EVENT_DECIDED, DECISION_CANCELLED))
        self.assertEqual(kinds[at + 1], (EVENT_TOOL_COMPLETE, TOOL_CANCELLED))

    def test_the_cancel_message(self):
        talk, _ = self.waiting()
        talk.say(CANCEL_MESSAGE, field(1, "enough"))
        self.ends(talk, CANCELLED, "CANCELLED")
        self.check_decided(talk, talk.run_id(), RPC)
        self.assertIn('reason="enough"', self.server.log())

    def test_cancel_run(self):
        talk, ask = self.waiting()
        self.assertEqual(self.cancel(talk.run_id()), STATE_CANCELLED)
        self.check_decided(talk, talk.run_id(), RPC)
        reply = self.decide(talk.run_id(), ask)
        self.assertEqual((reply.status(), reply.error_info()[2]["decision"]), (PRECONDITION, "CANCELLED"))

    def test_a_reset(self):
        talk, _ = self.waiting()
        run_id = talk.run_id()
        talk.wire.reset(talk.stream)
        self.wait_ended(run_id)
        self.check_decided(talk, run_id, RESET)

    def test_a_lost_connection(self):
        talk, _ = self.waiting()
        run_id = talk.run_id()
        talk.wire.close()
        self.wait_ended(run_id)
        self.check_decided(talk, run_id, LOST)

    def test_a_deadline(self):
        self.start(turns([call("write")], [SAW]), [ASKED], approval=SELF, run_timeout_secs=1)
        talk = self.talk()
        talk.wait(EVENT_ASK)
        self.ends(talk, 4, "DEADLINE_EXCEEDED")
        self.assertEqual(talk.events(EVENT_DECIDED)[0][3], DECISION_CANCELLED)
        self.check_whole(talk.reply())

    def test_a_drain(self):
        talk, _ = self.waiting()
        run_id = talk.run_id()
        self.server.process.terminate()
        reply = talk.over()
        self.assertEqual((reply.status(), reply.error_info()[0]), (10, "DRAINING"))
        self.wait_ended(run_id)
        self.server.process.wait(10)

    def test_a_detached_run_waits_on_and_is_decided_from_elsewhere(self):
        talk, ask = self.waiting(DETACH)
        run_id = talk.run_id()
        talk.wire.reset(talk.stream)
        self.assertEqual(self.decide(run_id, ask).status(), OK)
        wire, stream = self.attach(run_id)
        reply = wire.wait_over(stream)
        self.assertEqual(reply.status(), OK)
        self.assertIn(b"written", self.check_whole(reply)[-1][2][1])

    def test_a_reset_before_the_start_and_while_it_waits_for_a_slot(self):
        self.start(flags=("--limit", "runs=1"))
        talk = Talk(self.wire())
        talk.wire.reset(talk.stream)
        wire, stream, first = self.begin('{"hang": true}', "load")
        waiting = self.talk("never", agent="echo")
        harness.wait_for("a call that waits", lambda: self.server.dump()["totals"]["runs_waiting"] == 1)
        waiting.wire.reset(waiting.stream)
        harness.wait_for("nobody waits", lambda: self.server.dump()["totals"]["runs_waiting"] == 0)
        self.cancel(first)
        wire.wait_over(stream)

    def test_a_reset_in_the_middle_of_an_answer(self):
        self.start(turns([{"text": "a"}, HANG]))
        talk = self.talk()
        talk.wait(10)
        run_id = talk.run_id()
        talk.wire.reset(talk.stream)
        self.assertIn("cancel_reason=CLIENT_RESET", self.wait_ended(run_id))
        self.nothing_is_left()

    def test_a_client_that_leaves_its_call(self):
        """AL-6.8: of a detached run nobody knows what became of it; of others it is cancelled."""
        self.start(turns([call("mine"), call("mine")], [SAW]), parallel_tools=1)
        for policy, codes in ((DETACH, [UNKNOWN, 2]), (CANCEL, [TOOL_CANCELLED] * 2)):
            with self.subTest(policy=policy):
                more = field(6, field(3, policy) + client_tool("mine"))
                talk = self.talk(more=more)
                talk.wait(EVENT_COMPLETE)
                run_id = talk.run_id()
                harness.wait_for("a call", lambda: (self.view(run_id) or {}).get("state") == "tools")
                talk.wire.reset(talk.stream)
                self.wait_ended(run_id)
                wire, stream = self.attach(run_id)
                events = self.check_whole(wire.wait_over(stream))
                self.assertEqual([e[6] for _, n, e in events if n == EVENT_TOOL_COMPLETE], codes)
                self.nothing_is_left()


class ClientTools(Case):
    def begin_call(self, tool="mine", flags=(), schema='{"type":"object"}', arguments=None):
        self.start(turns([call(tool, arguments)], [SAW]), flags=flags)
        talk = self.talk(more=field(6, client_tool(tool, schema)))
        return talk, talk.wait(EVENT_CALL)

    def test_the_client_s_result_goes_to_the_model(self):
        for given, seen, told in (('{"a": 1}', '{"a": 1}', '{"a": 1}'), ("just words", '"just words"', '"just words"')):
            with self.subTest(given=given):
                talk, start = self.begin_call()
                talk.say(RESULT, field(1, start[2]) + field(2, given))  # perhaps before its iteration is complete
                complete = talk.wait(EVENT_TOOL_COMPLETE)
                self.assertEqual((complete[3], complete[7], complete[10]), (1, seen.encode(), 1))
                talk.say(RESULT, field(1, start[2]) + field(2, "another"))  # the first one counts
                self.is_done(talk, "saw " + told)

    def test_its_error_is_told(self):
        talk, start = self.begin_call()
        talk.say(RESULT, field(1, start[2]) + field(3, "the disk is full"))
        complete = talk.wait(EVENT_TOOL_COMPLETE)
        self.assertEqual((complete.get(3, 0), complete[5], complete[6]), (0, b"the disk is full", TOOL_CLIENT))
        self.ends(talk)
        self.assertIn(b"the disk is full", self.check_whole(talk.reply())[-1][2][1])

    def test_a_large_result_loses_its_middle(self):
        talk, start = self.begin_call()
        talk.say(RESULT, field(1, start[2]) + field(2, "é" * 60000))
        complete = talk.wait(EVENT_TOOL_COMPLETE)
        self.assertEqual((complete[8], complete[9]), (1, 120000))
        self.ends(talk)
        seen = self.check_conversation(self.get(talk.run_id())[1])
        self.assertIn("54464 bytes omitted", seen[2][1].decode())

    def test_it_must_come_in_time(self):
        talk, _ = self.begin_call(flags=("--limit", "client_tool=300ms"))
        self.assertEqual(talk.wait(EVENT_TOOL_COMPLETE)[6], TOOL_TIMEOUT)
        self.ends(talk)
        self.assertEqual(self.server.dump()["limits_reached"]["client_tool"], 1)

    def test_its_arguments_are_checked(self):
        schema = '{"type":"object","required":["path"],"properties":{"path":{"type":"string"}}}'
        talk, _ = self.begin_call(schema=schema)
        self.assertEqual(talk.wait(EVENT_TOOL_COMPLETE)[6], 1)
        self.ends(talk)

    def test_results_for_calls_that_are_not_its_own_end_the_stream(self):
        self.start(turns([call("slow")], [SAW]), [shell("slow", "sleep 60")])
        for tool_id in ("tool_1", "tool_9", "x", ""):
            with self.subTest(tool_id=tool_id):
                talk = self.talk(more=field(6, client_tool("mine")))
                talk.wait(EVENT_COMPLETE)
                talk.say(RESULT, field(1, tool_id) + field(2, "1"))
                reply = self.ends(talk, INVALID, "INVALID_REQUEST")
                self.assertEqual(int(reply.error_info()[2]["last_sequence"]), events_of(reply)[-1][0])  # AL-5.2
                self.assertIn("cancel_reason=CLIENT_DISCONNECTED", self.wait_ended(talk.run_id()))

    def test_what_is_no_tool_is_refused(self):
        self.start(turns([SAW]), flags=("--limit", "client_tools=2", "--limit", "client_tools_size=300"))
        for more in (
            client_tool("mine") * 2,
            client_tool("two words"),
            client_tool("x" * 65),
            client_tool(""),
            client_tool("mine", "[]"),
            client_tool("mine", "{"),
            client_tool("mine", '{"type":"strange"}'),
            client_tool("a") + client_tool("b") + client_tool("c"),
            client_tool("mine", '{"type":"object","description":"%s"}' % ("x" * 300)),
        ):
            talk = self.talk(more=field(6, more))
            reply = self.ends(talk, INVALID, "INVALID_REQUEST")
            self.assertIn("client_tools", reply.text())
            talk.wire.close()
        for limit in ("client_tools", "client_tools_size"):
            self.assertEqual(self.server.dump()["limits_reached"][limit], 1)

    def test_the_agent_s_tools_keep_their_names(self):
        self.start(turns([SAW]), ["current_time"])
        reply = self.ends(self.talk(more=field(6, client_tool("current_time"))), INVALID)
        self.assertIn("another tool 'current_time'", reply.text())

    def test_elsewhere_there_are_none(self):
        self.start()
        reply = self.wire().ask(STREAMING, run_request("echo", "x") + field(6, client_tool("mine")))
        self.assertEqual((reply.status(), reply.error_info()[0]), (INVALID, "INVALID_REQUEST"))
        self.assertIn("only with Converse", reply.text())


class Input(Case):
    def test_it_is_there_in_the_next_iteration(self):
        self.start(matched(x=[call("mine")], two=[{"text": "over"}]))
        talk = self.talk(more=field(6, client_tool("mine")))
        start = talk.wait(EVENT_CALL)
        for words in ("one", "two"):
            talk.say(INPUT, field(1, words))
        talk.say(RESULT, field(1, start[2]) + field(2, "1"), end=True)
        self.is_done(talk, "over")
        _, messages = self.get(talk.run_id())
        seen = self.check_conversation(messages)
        self.assertEqual([words for role, words, _ in seen if role == 2], [b"x", b"one", b"two"])
        self.assertEqual([role for role, _, _ in seen], [2, 3, 4, 2, 2, 3])

    def test_after_the_last_iteration_it_is_refused(self):
        """The run's events are all there, and the status says what became of the input."""
        self.start(turns([{"text": "a"}, {"delay_ms": 700}, {"text": "b"}]))
        talk = self.talk()
        talk.wait(10)
        talk.say(INPUT, field(1, "more"))
        self.ends(talk, PRECONDITION, "INPUT_REFUSED")
        self.assertEqual(self.check_whole(talk.reply())[-1][1], EVENT_DONE)

    def test_wrong_input_ends_the_stream(self):
        self.start(turns([{"text": "a"}, HANG]), flags=("--limit", "input=10"))
        for words in ("", "x" * 11):
            talk = self.talk()
            talk.wait(10)
            talk.say(INPUT, field(1, words))
            self.ends(talk, INVALID, "INVALID_REQUEST")
            self.wait_ended(talk.run_id())

    def test_who_says_more_than_there_is_room_for_is_held_back(self):
        """FC-1: by the window of HTTP/2, and memory does not grow; another call of the connection goes on."""
        self.start(turns([call("mine")], [{"text": "over"}]), flags=("--limit", "user_inputs=2"))
        talk = self.talk(more=field(6, client_tool("mine")))
        talk.wait(EVENT_COMPLETE)
        piece = message(field(INPUT, field(1, "y" * 60000)))
        n_sent, room = 0, 262144 - 200  # the window of a stream, and the start
        while n_sent < 400 and room >= len(piece):
            for at in range(0, len(piece), 16384):
                talk.wire.data(talk.stream, piece[at : at + 16384])
            n_sent += 1
            self.server.dump()  # the server has had its turn
            talk.wire.drain_input(0.05)
            updates = [frame for frame in talk.wire.frames if frame[0] == WINDOW and frame[2] == talk.stream]
            room = 262144 - 200 - n_sent * len(piece) + sum(int.from_bytes(update[3], "big") for update in updates)
        self.assertIn(n_sent, range(4, 10), "two are taken, one waits for room, and the window is closed behind it")
        self.assertEqual(self.wire().ask(HEALTH).status(), OK)
        self.assertEqual(self.server.dump()["limits_reached"]["user_inputs"], 1)
        self.assertEqual(self.cancel(talk.run_id()), STATE_CANCELLED)
        self.ends(talk, CANCELLED)

    def test_what_waited_for_room_comes_in_the_iteration_after(self):
        over = {"text": "over"}
        self.start(matched(x=[call("mine")], two=[call("mine")], four=[over]), flags=("--limit", "user_inputs=2"))
        talk = self.talk(more=field(6, client_tool("mine")))
        start = talk.wait(EVENT_CALL)
        for words in ("one", "two"):
            talk.say(INPUT, field(1, words))
        talk.say(RESULT, field(1, start[2]) + field(2, "1"))
        start = talk.wait(EVENT_CALL, 2)
        for words in ("three", "four"):
            talk.say(INPUT, field(1, words))
        talk.say(RESULT, field(1, start[2]) + field(2, "1"))
        self.is_done(talk, "over")
        seen = self.check_conversation(self.get(talk.run_id())[1])
        self.assertEqual([words for role, words, _ in seen if role == 2], [b"x", b"one", b"two", b"three", b"four"])


class Wrong(Case):
    def test_the_first_message_is_the_start_and_no_other_is(self):
        self.start(turns([{"text": "a"}, HANG]))
        for number, body in ((INPUT, field(1, "x")), (CANCEL_MESSAGE, b""), (9, b"")):
            talk = Talk(self.wire())
            talk.say(number, body)
            reply = self.ends(talk, INVALID, "INVALID_REQUEST")
            self.assertEqual(reply.error_info()[2]["run_started"], "false")
        talk = Talk(self.wire())
        talk.wire.data(talk.stream, b"", True)
        self.ends(talk, INVALID, "INVALID_REQUEST")
        for number, body in ((START, run_request("helper", "again")), (9, b"")):
            for policy, goes_on in ((CANCEL, False), (DETACH, True)):
                with self.subTest(number=number, policy=policy):
                    talk = self.talk(more=options(policy))
                    talk.wait(10)
                    talk.say(number, body)
                    reply = self.ends(talk, INVALID, "INVALID_REQUEST")
                    self.assertEqual(reply.error_info()[2]["run_started"], "true")
                    if goes_on:  # AL-7.1: to the run it is a lost connection
                        self.assertFalse(self.has_ended(talk.run_id()))
                        self.cancel(talk.run_id())
                    self.assertIn("RPC" if goes_on else "CLIENT_DISCONNECTED", self.wait_ended(talk.run_id()))

    def test_a_start_that_is_refused(self):
        self.start()
        self.ends(self.talk(agent="nobody"), NOT_FOUND, "AGENT_NOT_FOUND")
        self.ends(self.talk(agent=""), INVALID, "INVALID_REQUEST")

    def test_the_end_of_input_is_nothing_else(self):
        self.start(turns([{"text": "a"}, {"delay_ms": 300}, {"text": "b"}]))
        talk = Talk(self.wire())
        talk.say(START, run_request("helper", "x"), end=True)
        self.is_done(talk, "ab")

    def test_a_bad_answer_to_an_approval_ends_the_stream(self):
        self.start(turns([call("write")], [SAW]), [ASKED], approval=SELF)
        for kinds, code, reason in (
            ({"digest": b"x" * 32}, INVALID, "INVALID_REQUEST"),
            ({"decision": 4}, INVALID, "INVALID_REQUEST"),
            ({"comment": "c" * 4097}, INVALID, "INVALID_REQUEST"),
        ):
            talk = self.talk()
            ask = talk.wait(EVENT_ASK)
            talk.say(APPROVAL, answer(ask, **kinds))
            self.ends(talk, code, reason)
            self.wait_ended(talk.run_id())
        talk = self.talk()
        ask = talk.wait(EVENT_ASK)
        talk.say(APPROVAL, answer({1: "0" * 32, 5: ask[5]}))
        self.ends(talk, NOT_FOUND, "APPROVAL_NOT_FOUND")

    def test_a_repeated_start_follows_and_may_decide_and_cancel_only(self):
        self.start(turns([call("write")], [call("write")], [SAW]), [ASKED], approval=SELF)
        talk = self.talk(more=field(5, "once"))
        ask = talk.wait(EVENT_ASK)
        second = self.talk(more=field(5, "once"))
        self.assertEqual(second.wait(EVENT_ASK), ask)
        self.assertEqual(second.reply().get("sluice-attached"), "1")
        second.say(APPROVAL, answer(ask))
        ask = talk.wait(EVENT_ASK, 2)
        third = self.talk(more=field(5, "once"))
        third.wait(EVENT_ASK, 2)
        third.say(INPUT, field(1, "x"))
        self.ends(third, PRECONDITION, "NOT_THE_STARTER")
        self.assertFalse(self.has_ended(talk.run_id()), "its end means nothing")
        second.say(CANCEL_MESSAGE, b"")
        self.ends(talk, CANCELLED)
        self.ends(second, CANCELLED)


KEYS = {"alice": "acme", "bea": "acme", "carl": "acme", "zoe": "other"}


def bearer(name):
    return ("authorization", "Bearer " + harness.plant("planted-%s-key-0123456789abcdef" % name))


class Approvers(Case):
    def serve(self, approval):
        files = tempfile.mkdtemp(prefix="sluice-converse-")
        with open(files + "/keys", "w", encoding="ascii") as file:
            for name, tenant in KEYS.items():
                digest = hashlib.sha256(("planted-%s-key-0123456789abcdef" % name).encode()).hexdigest()
                file.write("sha256:%s %s %s\n" % (digest, name, tenant))
        os.chmod(files + "/keys", 0o600)
        config = 'identity: {keys: %s/keys}\naccess:\n  - {tenants: ["*"], agents: ["*"]}\n' % files
        self.start(turns([call("write")], [SAW]), [ASKED], config=config, approval=approval)
        talk = self.talk(fields=(bearer("alice"),))
        return talk, talk.wait(EVENT_ASK)

    def test_who_may(self):
        talk, ask = self.serve({"approvers": ["bea", "alice"]})
        run_id = talk.run_id()
        for name, code, reason in (
            ("zoe", NOT_FOUND, "RUN_NOT_FOUND"),
            ("carl", FORBIDDEN, "FORBIDDEN"),
            ("alice", FORBIDDEN, "FORBIDDEN"),  # she started it
        ):
            reply = self.decide(run_id, ask, fields=(bearer(name),))
            self.assertEqual((reply.status(), reply.error_info()[0]), (code, reason), name)
        reply = self.wire().ask(DECIDE, field(1, run_id) + field(2, answer(ask)))
        self.assertEqual(reply.status(), 16)
        self.assertEqual(self.decide(run_id, ask, fields=(bearer("bea"),)).status(), OK)
        self.assertEqual(talk.wait(EVENT_DECIDED)[4], b"bea")
        self.ends(talk)
        again = self.decide(run_id, ask, DENIED, fields=(bearer("bea"),))
        self.assertEqual(again.error_info()[2]["decided_by"], "bea")

    def test_who_started_it_may_not_on_the_stream_either(self):
        talk, ask = self.serve({"approvers": ["*"]})
        talk.say(APPROVAL, answer(ask))
        self.ends(talk, FORBIDDEN, "FORBIDDEN")
        self.assertIn("CLIENT_DISCONNECTED", self.wait_ended(talk.run_id()))

    def test_everybody_but_who_started_it(self):
        talk, ask = self.serve({"approvers": ["*"]})
        self.assertEqual(self.decide(talk.run_id(), ask, fields=(bearer("carl"),)).status(), OK)
        self.ends(talk)

    def test_the_starter_with_self(self):
        talk, ask = self.serve(SELF)
        self.assertEqual(self.decide(talk.run_id(), ask, fields=(bearer("bea"),)).status(), FORBIDDEN)
        talk.say(APPROVAL, answer(ask))
        self.assertEqual(talk.wait(EVENT_DECIDED)[4], b"alice")
        self.ends(talk)


if __name__ == "__main__":
    unittest.main(verbosity=2)
