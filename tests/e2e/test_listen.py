"""What stands before HTTP/2: sockets, TLS, and limits on connections (CM-9, CM-12, AT-14, AT-18, AT-19)."""

import os
import re
import resource
import socket
import ssl
import subprocess
import tempfile

import harness
from wire import HEALTH, REFLECT, STREAMING, Wire, run_request
from wire_case import EXHAUSTED, OK, UNIMPLEMENTED, Honest

LIMITS, REFUSALS = "sluice_limits_reached_total", "sluice_refusals_total"
TLS_FAILURES = "sluice_tls_handshake_failures_total"


class Case(harness.Case):
    def start(self, **options):
        self.server = self.daemon(**options)
        self.before = self.server.metrics()
        return self.server

    def counted(self, name):
        return harness.rises(self.before, self.server.metrics(), name)

    def wire(self, address=None, **options):
        wire = Wire(address or self.server.address, **options)
        self.addCleanup(wire.close)
        return wire

    def socket(self, address=None):
        opened = harness.open_socket(address or self.server.address)
        self.addCleanup(opened.close)
        return opened

    def is_served(self, address=None):
        again = Wire(address or self.server.address, is_opened=False)
        try:
            return again.try_open() and again.ask(HEALTH).status() == OK
        finally:
            again.close()


def has_ended(opened):
    """The server closed it without a word."""
    opened.settimeout(10)
    try:
        return opened.recv(1) == b""
    except ConnectionResetError:
        return True


def may_open(n):
    """So many sockets, or what the hard limit of descriptors leaves beside those of everything else."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < n + 200:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(n + 200, hard), hard))
    return min(n, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 200)


class Connections(Case):
    def test_cm12_all_listeners_have_one_limit(self):
        self.start(flags=("--listen", "127.0.0.1:0", "--limit", "connections=4"))
        addresses = re.findall(r"address=(\S+).*msg=\"?listening\"?$", self.server.log(), re.MULTILINE)
        self.assertEqual(len(addresses), 2)
        wires = [self.wire(address) for address in addresses * 2]
        for address in addresses:
            late = self.wire(address, is_opened=False)
            late.wait_closed()
        self.assertEqual(self.counted(LIMITS), {'limit="connections"': 2})
        for wire in wires:
            self.assertEqual(wire.ask(HEALTH).status(), OK)
        wires[0].close()
        harness.wait_for("room for another", lambda: self.is_served(addresses[1]))

    def test_ng2_running_calls_count_over_all_connections(self):
        self.start(flags=("--limit", "running_calls=4"))
        wires = [self.wire(), self.wire()]
        streams = [(wire, wire.call(STREAMING, run_request("load", "hang=true"))) for wire in wires * 2]
        for wire, stream in streams:
            wire.wait("headers", lambda wire=wire, stream=stream: wire.reply(stream).blocks)
        late = self.wire()
        reply = late.ask(STREAMING, run_request("echo", "x"))
        self.assertEqual((reply.status(), reply.error_info()[0]), (EXHAUSTED, "SERVER_FULL"), reply)
        self.assertEqual(reply.get("grpc-retry-pushback-ms"), "1000")
        self.assertEqual(self.counted(LIMITS), {'limit="running_calls"': 1})
        self.assertEqual(self.counted(REFUSALS), {'kind="request",reason="server_full"': 1})
        self.assertEqual(late.ask(HEALTH).status(), OK)
        wires[0].reset(streams[0][1])
        harness.wait_for("a place", lambda: late.ask(STREAMING, run_request("echo", "x")).status() == OK)

    def test_at18_idle_connections_are_bounded_and_given_up(self):
        n = may_open(5000)
        limit = n // 2
        self.start(flags=("--limit", "preface=5s", "--limit", "connections_per_address=%d" % limit))
        honest = Honest(self.server.address)
        idle = []
        for _ in range(n):
            idle.append(self.socket())
            if len(idle) % 500 == 0:
                self.assertLessEqual(self.server.metrics()["sluice_connections"][""], limit)
        refused, given_up = 'limit="connections_per_address"', 'limit="preface"'
        harness.wait_for("the end of all", lambda: sum(self.counted(LIMITS).values()) == n, 60)
        for opened in idle:
            self.assertTrue(has_ended(opened))
        honest.end()
        counted = self.counted(LIMITS)
        self.assertEqual(set(counted), {refused, given_up})
        self.assertGreaterEqual(counted[given_up], limit - 1)  # more, if the first were given up before the last came
        self.assertEqual(self.counted("sluice_faults_total"), {'reason="preface_timeout"': counted[given_up]})
        self.assertTrue(self.is_served())

    def test_at18_without_descriptors_whoever_is_there_is_served(self):
        self.start(flags=("--limit", "preface=60s"))  # none of those who wait is given up meanwhile
        honest = Honest(self.server.address)
        n_open = len(os.listdir("/proc/%d/fd" % self.server.pid))
        before = resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, (n_open + 8, before[1]))
        waiting = [self.socket() for _ in range(64)]  # most of them in the backlog
        harness.wait_for(
            "all descriptors in use", lambda: len(os.listdir("/proc/%d/fd" % self.server.pid)) >= n_open + 8
        )
        n_answers = honest.n_answers
        harness.wait_for("answers meanwhile", lambda: honest.n_answers > n_answers + 50)
        resource.prlimit(self.server.pid, resource.RLIMIT_NOFILE, before)
        harness.wait_for("the others", lambda: len(os.listdir("/proc/%d/fd" % self.server.pid)) >= n_open + 32)
        self.assertTrue(self.is_served())
        honest.end()
        pauses = self.counted("sluice_accept_pauses_total")
        self.assertEqual(set(pauses), {'reason="descriptors"'})
        for opened in waiting:
            opened.close()

    def test_sv7_reflection_can_be_switched_off(self):
        for word, status in (("on", OK), ("off", UNIMPLEMENTED)):
            self.start(config="reflection: %s\n" % word)
            self.assertEqual(self.wire().ask(REFLECT, b"\x3a\x01*").status(), status)
            self.assertEqual(self.wire().ask(HEALTH).status(), OK)


class Tls(Case):
    """AT-19: whoever does not speak modern TLS for HTTP/2 is not let in, and others do not notice."""

    def setUp(self):
        self.files = tempfile.mkdtemp()
        harness.make_certificate(self.files + "/own")
        own = self.files + "/own"
        self.start(flags=("--tls-cert", own + ".cert", "--tls-key", own + ".key", "--limit", "handshake=600ms"))
        self.honest = Honest(self.server.address, tls=self.context())

    def tearDown(self):
        self.honest.end()

    @staticmethod
    def context(protocols=("h2",)):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def refusal(self, context):
        with self.assertRaises(ssl.SSLError) as caught:
            context.wrap_socket(self.socket())
        return str(caught.exception)

    def test_at19_without_alpn_h2_nobody_gets_in(self):
        self.assertIn("no application protocol", self.refusal(self.context(("http/1.1",))).lower().replace("_", " "))
        self.refusal(self.context(()))
        harness.wait_for("the count", lambda: self.counted(TLS_FAILURES) == {"": 2})

    def test_at19_old_ciphers_are_refused(self):
        for words in ("AES128-GCM-SHA256", "ECDHE-ECDSA-AES128-SHA256", "DHE-RSA-AES128-GCM-SHA256"):
            context = self.context()
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(words)
            self.refusal(context)
        harness.wait_for("the count", lambda: self.counted(TLS_FAILURES) == {"": 3})

    def test_at19_http1_on_a_tls_port_is_closed(self):
        opened = self.socket()
        opened.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        while opened.recv(100):
            pass
        harness.wait_for("the count", lambda: self.counted(TLS_FAILURES) == {"": 1})

    def test_at19_nobody_may_renegotiate(self):
        words = ["openssl", "s_client", "-connect", self.server.address, "-alpn", "h2", "-tls1_2"]
        done = subprocess.run(words, input=b"R\n", capture_output=True, timeout=20, check=False)
        said = done.stdout + done.stderr
        self.assertIn(b"RENEGOTIATING", said)
        self.assertIn(b"no renegotiation", said)
        self.assertEqual(self.counted(REFUSALS).get('kind="tls",reason="renegotiation"'), 1)

    def test_at14_a_handshake_has_an_end(self):
        for start in (b"", b"\x16\x03\x01\x02\x00\x01"):
            opened = self.socket()
            opened.sendall(start)
            self.assertTrue(has_ended(opened))
        self.assertEqual(self.counted(TLS_FAILURES), {"": 2})
        self.assertEqual(self.counted(LIMITS), {'limit="handshake"': 2})


if __name__ == "__main__":
    harness.main()
