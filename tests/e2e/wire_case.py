"""What the tests of the wire share: a daemon for a class, and what each test ends with."""

import os
import re
import threading
import time

import harness
from wire import CALM, HEADERS, HEALTH, RST, Wire

OK, INVALID_ARGUMENT, DEADLINE, EXHAUSTED, UNIMPLEMENTED, INTERNAL_STATUS = 0, 3, 4, 8, 12, 13
SERVING = b"\x08\x01"
LIMIT = 4 * 1024 * 1024
KIB = 1024


def resident(pid):
    with open("/proc/%d/statm" % pid, encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Honest(threading.Thread):
    """Another connection that asks all the time while something goes on, and how long it waited for its answers."""

    PATIENCE = 2  # seconds: generous for a sanitized daemon on a busy machine, and far from none

    def __init__(self, address, **options):
        super().__init__(daemon=True)
        self.other = Wire(address, **options)
        self.has_ended = threading.Event()
        self.n_answers, self.slowest, self.fault = 0, 0, None
        self.ask()
        self.start()

    def ask(self):
        begin = time.monotonic()
        reply = self.other.ask(HEALTH)
        assert (reply.status(), reply.messages()) == (OK, [SERVING]), reply
        self.slowest = max(self.slowest, time.monotonic() - begin)
        self.n_answers += 1

    def run(self):
        try:
            while not self.has_ended.wait(0.002):
                self.ask()
        except Exception as error:  # of whatever kind: the test fails with it
            self.fault = error

    def end(self):
        """It was served all the time."""
        self.has_ended.set()
        self.join(30)
        assert not self.is_alive() and self.fault is None, self.fault
        self.ask()
        self.other.close()
        assert self.n_answers >= 2 and self.slowest < self.PATIENCE, (self.n_answers, self.slowest)


class WireCase(harness.Case):
    """One daemon for all tests of a class; every test ends with an answer on a fresh connection. While a test of an
    attack (test_at…) runs, an honest client is served on a connection of its own."""

    FLAGS = ()

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Daemon(flags=cls.FLAGS)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def setUp(self):
        self.faults = []  # of connections that were seen to end; None: of a reason that the test does not know
        self.before = self.server.metrics()
        self.honest = None
        if re.match("test_at[0-9]", self._testMethodName):  # section 3: others keep their latency
            self.honest = Honest(self.server.address)

    def tearDown(self):
        if self.honest:
            self.honest.end()
        self.assert_usable(self.wire())
        if self.faults:  # the right outcome for another reason is no success
            counted = self.counted("sluice_faults_total")
            named = [reason for reason in self.faults if reason is not None]
            for reason in set(named):
                self.assertEqual(counted.get('reason="%s"' % reason), named.count(reason), counted)
            self.assertEqual(sum(counted.values()), len(self.faults), counted)

    def counted(self, name):
        """How far a metric has risen in this test."""
        return harness.rises(self.before, self.server.metrics(), name)

    def wait_runs_ended(self):
        """Every run that was ever started here is over, and nothing of it is left."""
        harness.wait_for(
            "the end of every run",
            lambda: self.server.log().count('msg="started"') == self.server.log().count('msg="ended"'),
        )
        self.server.check_baseline()

    def wire(self, **options):
        wire = Wire(self.server.address, **options)
        self.addCleanup(wire.close)
        return wire

    def assert_usable(self, wire):
        reply = wire.ask(HEALTH)
        self.assertEqual((reply.status(), reply.messages()), (OK, [SERVING]), reply)

    def assert_trailers_only(self, reply, status, http="200"):
        """RS-2: one HEADERS with END_STREAM, :status first, and no DATA."""
        frames = [kind for kind in reply.frames if kind != RST]
        self.assertEqual((frames, reply.is_ended), ([HEADERS], True), reply)
        names = [name for name, _ in reply.blocks[0][0]]
        self.assertEqual((names[0], reply.get(":status")), (":status", http), reply)
        self.assertEqual((names.count("grpc-status"), reply.status()), (1, status), reply)
        self.assertLessEqual(names.count("grpc-message"), 1)
        self.assertIn("content-type", names)
        self.assertEqual(len(names), len(set(names)), reply)

    def assert_refused(self, status, path=HEALTH, *more, http="200", text=None, body=b"", **fixed):
        """The call is refused, and the connection stays usable."""
        wire = self.wire()
        reply = wire.ask(path, body, *more, **fixed)
        self.assert_trailers_only(reply, status, http)
        if text is not None:
            self.assertIn(text, reply.text())
        self.assert_usable(wire)
        return reply

    def assert_reset(self, code, wire, stream):
        reply = wire.wait_over(stream)
        self.assertEqual((reply.frames, reply.reset), ([RST], code), reply)
        self.assert_usable(wire)

    def assert_over(self, wire, code=CALM, text=None):
        """GOAWAY with this code, then the end of the connection. What was sent into it may have torn GOAWAY off."""
        wire.wait_closed()
        for _, seen, debug in wire.goaways:
            self.assertEqual(seen, code, wire.goaways)
            if text is not None:
                self.assertEqual(debug, text)
        self.assertTrue(wire.goaways, "no GOAWAY")
        self.faults.append("ping_flood" if text == "too_many_pings" else text)
