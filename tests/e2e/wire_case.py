"""What the tests of the wire share: a daemon for a class, and what each test ends with."""

import os

import harness
from wire import CALM, HEADERS, HEALTH, RST, Wire

OK, INVALID_ARGUMENT, DEADLINE, EXHAUSTED, UNIMPLEMENTED, INTERNAL_STATUS = 0, 3, 4, 8, 12, 13
SERVING = b"\x08\x01"
LIMIT = 4 * 1024 * 1024
KIB = 1024


def resident(pid):
    with open("/proc/%d/statm" % pid, encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class WireCase(harness.Case):
    """One daemon for all tests of a class; every test ends with an answer on a fresh connection."""

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

    def tearDown(self):
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
