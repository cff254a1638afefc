"""Every refusal before a run exists (AL-5.3), from outside and by its real cause: status, reason, that nothing was started, and when
to come again. Missing rights and credentials are test_identity.py's, the drain is test_service.py's. And what RunStarted says."""

import base64
import time

import harness
from wire import ATTACH, CANCEL_RUN, DECIDE, EXECUTE, GET_RUN, START_RUN, STREAMING, Wire, field, fields_of, run_request

INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE = 3, 5, 6, 8, 9, 10, 11
AGENTS = {
    "keyless.yaml": "name: keyless\nmodel: openai:gpt-4o\n",
    "talk.yaml": "name: talk\nmodel: echo:x\nmax_iterations: 3\nrun_timeout_secs: 60\n",
}
HANG = run_request("load", '{"hang": true}')


def retry_info_ms(reply):
    """Of google.rpc.RetryInfo in the details; None: there is none."""
    value = reply.get("grpc-status-details-bin")
    for number, detail in fields_of(base64.b64decode(value + "=" * (-len(value) % 4))) if value else ():
        any_of = dict(fields_of(detail)) if number == 3 else {}
        if any_of.get(1) == b"type.googleapis.com/google.rpc.RetryInfo":
            delay = dict(fields_of(dict(fields_of(any_of[2]))[1]))
            return delay.get(1, 0) * 1000 + delay.get(2, 0) // 1000000
    return None


class Refusals(harness.Case):
    def wire(self):
        wire = Wire(self.server.address)
        self.addCleanup(wire.close)
        return wire

    def refused(self, path, body, status, reason):
        """The reply, which is one block of headers and ends the stream (Trailers-Only)."""
        reply = self.wire().ask(path, body)
        self.assertEqual((reply.status(), reply.error_info()), (status, (reason, "sluice.v1", {"run_started": "false"})), reply)
        self.assertEqual([is_last for _, is_last in reply.blocks], [True], "%s: not Trailers-Only" % reason)
        self.assertEqual(reply.data, b"")
        self.assertIsNone(reply.get("sluice-run-id"), reason)
        return reply

    def hold(self, wire, body, log):
        stream = wire.call(STREAMING, body)
        wire.wait("the run's first event", lambda: wire.reply(stream).data)
        self.server.wait_log(log)
        return stream

    def test_what_can_be_said_at_once(self):
        self.server = self.daemon(agents=AGENTS)
        for path in (EXECUTE, STREAMING, START_RUN):
            self.refused(path, run_request("nobody", "x"), NOT_FOUND, "AGENT_NOT_FOUND")
            self.refused(path, run_request("keyless", "x"), FAILED_PRECONDITION, "AGENT_DISABLED")
            self.refused(path, run_request("", "x"), INVALID_ARGUMENT, "INVALID_REQUEST")
            options = field(6, field(1, 0))  # max_iterations
            self.refused(path, run_request("talk", "x") + options, INVALID_ARGUMENT, "INVALID_REQUEST")
        unknown = field(1, "0" * 32)
        answer = field(2, field(1, "a") + field(2, b"d" * 32) + field(3, 1))
        for path, body in (ATTACH, unknown), (GET_RUN, unknown), (CANCEL_RUN, unknown), (DECIDE, unknown + answer):
            self.refused(path, body, NOT_FOUND, "RUN_NOT_FOUND")
        self.assertNotIn('msg="started"', self.server.log())

    def test_what_a_run_that_is_there_stands_in_the_way_of(self):
        self.server = self.daemon(agents=AGENTS)
        wire = self.wire()
        reply = wire.ask(STREAMING, run_request("talk", "one") + field(5, "order-1"))
        run_id = reply.get("sluice-run-id")
        self.refused(STREAMING, run_request("talk", "two") + field(5, "order-1"), ALREADY_EXISTS, "REQUEST_ID_REUSED")
        again = self.wire().ask(STREAMING, run_request("talk", "one") + field(5, "order-1"))
        self.assertEqual((again.data, again.get("sluice-run-id"), again.get("sluice-attached")), (reply.data, run_id, "1"))
        beyond = self.wire().ask(ATTACH, field(1, run_id) + field(2, 1000))
        self.assertEqual((beyond.status(), beyond.data), (OUT_OF_RANGE, b""))
        reason, _, metadata = beyond.error_info()
        self.assertEqual((reason, metadata["run_started"], metadata["last_sequence"]), ("BEYOND_LOG", "true", "5"))

    def test_a_busy_session_refuses(self):
        slow = "turns:\n  - steps: [{text: wait}, {hang: true}]\n"
        mock = self.mock(slow)
        self.server = self.daemon(agents={"helper.yaml": harness.HELPER}, env=mock.env())
        wire = self.wire()
        stream = self.hold(wire, run_request("helper", "x") + field(4, "s"), 'msg="started"')
        self.refused(STREAMING, run_request("helper", "y") + field(4, "s"), ABORTED, "SESSION_BUSY")
        wire.reset(stream)
        self.server.wait_log("CLIENT_RESET")

    def test_a_full_server_says_when_to_come_again(self):
        self.server = self.daemon(
            agents=AGENTS,
            flags=("--limit", "runs=1", "--limit", "run_queue=0", "--limit", "run_wait=20s"),
        )
        wire = self.wire()
        stream = self.hold(wire, HANG, 'msg="started"')
        delays = []
        for path in (EXECUTE, STREAMING, START_RUN) * 2:
            reply = self.refused(path, run_request("talk", "x"), EXHAUSTED, "SERVER_FULL")
            delays.append(int(reply.get("grpc-retry-pushback-ms")))
            self.assertEqual(retry_info_ms(reply), delays[-1], "RetryInfo says the same")
        self.assertTrue(all(16000 <= delay <= 24000 for delay in delays), delays)  # run_wait, and a fifth more or less
        self.assertGreater(len(set(delays)), 1, "they are spread")
        wire.reset(stream)
        self.server.wait_log("CLIENT_RESET")

    def test_who_gets_no_slot_in_time_is_told_when_to_come_again(self):
        self.server = self.daemon(agents=AGENTS, flags=("--limit", "runs=1", "--limit", "run_wait=100ms"))
        wire = self.wire()
        stream = self.hold(wire, HANG, 'msg="started"')
        reply = self.refused(STREAMING, run_request("talk", "x"), EXHAUSTED, "SERVER_FULL")
        self.assertIn(int(reply.get("grpc-retry-pushback-ms")), range(80, 121))
        wire.reset(stream)
        self.server.wait_log("CLIENT_RESET")


class Started(harness.Case):
    def test_run_started_says_what_the_run_has(self):  # AL-2.2
        server = self.daemon(agents=AGENTS)
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        before_ms = int(time.time() * 1000)
        options = field(6, field(1, 2) + field(2, 30000) + field(3, 2))  # max_iterations, run_timeout_ms, DETACH
        reply = wire.ask(STREAMING, run_request("talk", "hello") + field(4, "s-1") + options)
        after_ms = int(time.time() * 1000)
        event = dict(fields_of(reply.messages()[0]))
        numbers = [number for number, value in event.items() if isinstance(value, bytes)]
        started = dict(fields_of(event[numbers[0]]))
        self.assertEqual(event[1], 1, "RunStarted is sequence 1")
        self.assertEqual(started[1].decode(), reply.get("sluice-run-id"))
        self.assertEqual((started[2], started[4], started[5], started[6]), (b"talk", b"x", b"echo", b"s-1"))
        self.assertRegex(started[3].decode(), "^[0-9a-f]{16}$")
        self.assertEqual((started[7], started[9]), (2, 2), "what the request has narrowed")
        self.assertTrue(before_ms + 29000 <= started[8] <= after_ms + 31000, started[8])  # clocks are read in turns


if __name__ == "__main__":
    harness.main()
