"""Streams that are open when their caller loses what they began with (reliability.md 8.2): they end within a second or two, runs
go on as after a lost connection (AL-7.1)."""

import time

import harness
from test_identity import ALICE, BOB, CI, FORBIDDEN, NOT_FOUND, OK, OLD, UNAUTHENTICATED, Case, bearer, line
from wire import ATTACH, CANCEL_RUN, CONVERSE, EXECUTE, GET_RUN, HEALTH, START_RUN, STREAMING, WATCH
from wire import field, fields_of, run_request

HANG = '{"hang": true}'
CANCEL, DETACH, DETACH_FOR = 1, 2, 3
RUNNING, CANCELLED = 2, 6
STATE = 3  # of Run
NO_AGENT, NO_TENANT = "this caller may not run this agent", "this run is another tenant's"
OTHER = "name: other\nprovider: load\nmodel: load\nmemory: None\nmax_iterations: 2\n"
RULES = "access: [{agents: %s}]\n"


def options(policy, ttl_ms=0):
    return field(6, field(3, policy) + (field(4, ttl_ms) if ttl_ms else b""))


class Revoke(Case):
    def serve(self, keys=None, more=RULES % "['*']", **more_options):
        self.keys = [line(ALICE, "alice acme"), line(CI, "ci acme"), line(BOB, "bob beta")]
        super().serve("".join(self.keys) if keys is None else keys, more, flags=("--loops", "2"), **more_options)
        self.server.kept += 10  # of more connections
        self.started = []
        self.alice, self.bob = self.wire(), self.wire()

    def begin(self, wire, key, path=STREAMING, agent="load", more=b""):
        """A call whose run has begun: its stream and the run's id."""
        before = self.server.log()
        request = run_request(agent, HANG) + more
        stream = wire.call(path, field(1, request) if path == CONVERSE else request, bearer(key))
        if path == EXECUTE:  # says nothing before its end
            harness.wait_for("a run", lambda: self.server.log()[len(before) :].count('msg="owned"') == 1)
            new = self.server.log()[len(before) :]
            run_id = next(x for x in new.splitlines() if 'msg="owned"' in x).split("run=")[1].split()[0]
        else:
            wire.wait("the first event", lambda: wire.reply(stream).messages())
            run_id = wire.reply(stream).get("sluice-run-id")
        self.started.append(run_id)
        return stream, run_id

    def attach(self, wire, key, run_id):
        stream = wire.call(ATTACH, field(1, run_id), bearer(key))
        wire.wait("the first event", lambda: wire.reply(stream).messages())
        return stream

    def configure(self, more):
        with open(self.server.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
            file.write("identity: {keys: %s/keys}\n%s" % (self.files, more))
        self.reload()

    def rekey(self, *lines):
        self.put_keys("".join(lines))
        self.reload()

    def state(self, key, run_id):
        reply = self.wire().ask(GET_RUN, field(1, run_id), bearer(key))
        self.assertEqual(reply.status(), OK, reply)
        return dict(fields_of(dict(fields_of(reply.messages()[0]))[1]))[STATE]

    def wait_state(self, key, run_id, state):
        harness.wait_for("the state of a run", lambda: self.state(key, run_id) == state)

    def assert_revoked(self, wire, stream, status, reason, text=None):
        reply = wire.wait_over(stream)
        n_events = len(reply.messages())
        self.assertEqual((reply.status(), reply.reset), (status, None), reply)
        info = {"run_started": "true", "last_sequence": str(n_events)}
        self.assertEqual(reply.error_info(), (reason, "sluice.v1", info), reply)
        if text is not None:
            self.assertEqual(reply.text(), text)

    def assert_open(self, *streams):
        """Nothing ends them: a later look at the same table has passed by."""
        until = time.monotonic() + 2.5  # two looks of each loop
        while time.monotonic() < until:
            for wire, _ in streams:
                wire.receive(0.1)
        for wire, stream in streams:
            self.assertFalse(wire.reply(stream).is_over(), wire.reply(stream))

    def end_all(self, key=ALICE):
        wire = self.wire()
        for run_id in self.started:
            self.assertIn(wire.ask(CANCEL_RUN, field(1, run_id) + field(3, 1), bearer(key)).status(), (OK, NOT_FOUND))

    def test_streams_of_a_principal_that_is_gone_end_and_runs_go_as_they_were_told(self):
        self.serve()
        alice, bob = self.alice, self.bob
        cancel, cancel_id = self.begin(alice, ALICE)
        detach, detach_id = self.begin(alice, ALICE, more=options(DETACH))
        short, short_id = self.begin(alice, ALICE, more=options(DETACH_FOR, 1000))
        unary, unary_id = self.begin(alice, ALICE, EXECUTE)
        of_ci = bob.ask(START_RUN, run_request("load", HANG), bearer(CI)).get("sluice-run-id")
        self.started.append(of_ci)
        follower = self.attach(alice, ALICE, of_ci)
        health = alice.call(WATCH, b"", bearer(ALICE))
        others = [(bob, self.begin(bob, BOB)[0]), (bob, self.attach(bob, CI, of_ci)), (alice, health)]
        self.rekey(*self.keys[1:])
        for stream in (cancel, detach, short, follower):
            self.assert_revoked(alice, stream, UNAUTHENTICATED, "UNAUTHENTICATED")
        reply = alice.wait_over(unary)
        self.assertEqual(reply.error_info()[:2] + (reply.messages(),), ("UNAUTHENTICATED", "sluice.v1", []))
        new = alice.ask(EXECUTE, run_request("echo"), bearer(ALICE))
        self.assertEqual(alice.reply(cancel).text(), new.text(), "as a new call is told")
        self.wait_state(CI, cancel_id, CANCELLED)
        self.wait_state(CI, unary_id, CANCELLED)
        self.wait_state(CI, short_id, CANCELLED)
        self.assertEqual([self.state(CI, x) for x in (detach_id, of_ci)], [RUNNING] * 2)
        log = self.server.log()
        self.assertEqual(log.count('msg="stream revoked" why=principal'), 5)
        self.assertIn('principal="alice"', next(x for x in log.splitlines() if cancel_id in x and "revoked" in x))
        ended = {x: next(y for y in log.splitlines() if x in y and 'msg="ended"' in y) for x in (cancel_id, short_id)}
        self.assertIn("CLIENT_DISCONNECTED", ended[cancel_id])
        self.assertIn("DETACH_TTL", ended[short_id])
        self.assert_open(*others)
        self.rekey(*self.keys)
        self.end_all()
        bob.reset(others[0][1])

    def test_a_right_to_one_agent_ends_streams_of_that_agent_only(self):
        self.serve(agents={"other.yaml": OTHER})
        alice, bob = self.alice, self.bob
        lost = [self.begin(wire, key) for wire, key in ((alice, ALICE), (bob, BOB))]
        kept, kept_id = self.begin(alice, ALICE, agent="other")
        detached, detached_id = self.begin(alice, ALICE, more=options(DETACH))
        follower = self.attach(alice, ALICE, detached_id)
        self.configure(RULES % "[other]")
        self.assert_revoked(alice, lost[0][0], FORBIDDEN, "FORBIDDEN", NO_AGENT)
        self.assert_revoked(bob, lost[1][0], FORBIDDEN, "FORBIDDEN", NO_AGENT)
        self.assert_revoked(alice, detached, FORBIDDEN, "FORBIDDEN", NO_AGENT)
        new = alice.ask(EXECUTE, run_request("load", HANG), bearer(ALICE))
        self.assertEqual((new.status(), new.text(), new.error_info()[0]), (FORBIDDEN, NO_AGENT, "FORBIDDEN"))
        self.wait_state(ALICE, lost[0][1], CANCELLED)
        self.wait_state(BOB, lost[1][1], CANCELLED)
        self.assertEqual([self.state(ALICE, x) for x in (kept_id, detached_id)], [RUNNING] * 2)
        # Whose run it is decides who may follow it, and nothing else.
        self.assert_open((alice, kept), (alice, follower))
        self.configure(RULES % "[other], methods: [Execute, CancelRun]")  # the right is that of the method
        self.assert_revoked(alice, kept, FORBIDDEN, "FORBIDDEN", NO_AGENT)
        self.assertEqual(self.server.log().count('msg="stream revoked" why=agent'), 4)
        self.end_all()

    def test_a_key_that_is_replaced_ends_nothing(self):
        self.serve()
        alice = self.alice
        stream, run_id = self.begin(alice, ALICE)
        follower = self.attach(alice, ALICE, run_id)
        self.rekey(line(ALICE, "alice acme"), line(OLD, "alice acme"), *self.keys[1:])
        self.rekey(line(OLD, "alice acme"), *self.keys[1:])
        self.assertEqual(alice.ask(EXECUTE, run_request("echo"), bearer(ALICE)).status(), UNAUTHENTICATED)
        self.assert_open((alice, stream), (alice, follower))
        self.assertEqual(self.state(CI, run_id), RUNNING)
        self.rekey(line(OLD, "alice acme agents=echo"), *self.keys[1:])  # the new one may less
        self.assert_revoked(alice, stream, FORBIDDEN, "FORBIDDEN", NO_AGENT)
        self.wait_state(CI, run_id, CANCELLED)

    def test_a_conversation_of_a_principal_that_is_gone_ends(self):
        self.serve()
        stream, run_id = self.begin(self.alice, ALICE, path=CONVERSE)
        self.rekey(*self.keys[1:])
        self.assert_revoked(self.alice, stream, UNAUTHENTICATED, "UNAUTHENTICATED")
        self.wait_state(CI, run_id, CANCELLED)

    def test_a_principal_of_another_tenant_has_none_of_the_streams_of_the_old_one(self):
        self.serve()
        alice = self.alice
        stream, run_id = self.begin(alice, ALICE, more=options(DETACH))
        follower = self.attach(alice, ALICE, run_id)
        self.rekey(line(ALICE, "alice beta"), *self.keys[1:])
        self.assert_revoked(alice, stream, FORBIDDEN, "FORBIDDEN", NO_TENANT)
        self.assert_revoked(alice, follower, FORBIDDEN, "FORBIDDEN", NO_TENANT)
        self.assertEqual(alice.ask(GET_RUN, field(1, run_id), bearer(ALICE)).status(), NOT_FOUND)
        self.assertEqual(self.state(CI, run_id), RUNNING)
        self.assertEqual(self.server.log().count('msg="stream revoked" why=tenant'), 2)
        self.end_all(CI)

    def test_a_key_that_expires_ends_its_streams(self):
        self.serve()
        stream, run_id = self.begin(self.alice, ALICE)
        other, _ = self.begin(self.bob, CI)
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6))
        self.rekey(line(ALICE, "alice acme expires=" + moment), *self.keys[1:])
        later, later_id = self.begin(self.alice, ALICE)
        for ended in (stream, later):
            self.assert_revoked(self.alice, ended, UNAUTHENTICATED, "UNAUTHENTICATED")
        for ended in (run_id, later_id):
            self.wait_state(CI, ended, CANCELLED)
        self.assert_open((self.bob, other))
        self.end_all(CI)

    def test_a_call_that_waits_for_a_slot_starts_nothing_more(self):
        self.serve(more=RULES % "['*']" + "limits: {runs: 1, run_wait: 60s}\n")
        held, _ = self.begin(self.bob, BOB)
        waiting = self.alice.call(STREAMING, run_request("load", HANG), bearer(ALICE))
        harness.wait_for("a waiting run", lambda: self.server.dump()["totals"]["runs_waiting"] == 1)
        self.rekey(*self.keys[1:])
        reply = self.alice.wait_over(waiting)
        info = {"run_started": "false", "last_sequence": "0"}
        self.assertEqual(reply.error_info(), ("UNAUTHENTICATED", "sluice.v1", info), reply)
        self.assertEqual(self.server.dump()["totals"]["runs_waiting"], 0)
        self.bob.reset(held)
        harness.wait_for("a free slot", lambda: self.run_as(bearer(CI)).status() == OK)
        self.assertNotIn('principal="alice" tenant', self.server.log())

    def test_streams_of_nobody_end_when_somebody_is_asked_for(self):
        self.server = self.daemon(config="limits: {runs: 50}\n", flags=("--loops", "2"))
        self.server.kept += 4
        wire = self.wire()
        stream = wire.call(STREAMING, run_request("load", HANG))
        wire.wait("the first event", lambda: wire.reply(stream).messages())
        self.files = self.server.files
        self.put_keys(line(ALICE, "alice acme"))
        self.configure("")
        self.assert_revoked(wire, stream, UNAUTHENTICATED, "UNAUTHENTICATED")
        self.server.wait_log('msg="ended"', "CLIENT_DISCONNECTED")
        self.assertEqual(wire.ask(HEALTH).status(), OK)


if __name__ == "__main__":
    harness.main()
