"""Who may call, from outside: bearer keys, client certificates, rights, tenants, and what of it shows (OP-2, CM-9)."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import tempfile

import harness
from wire import ATTACH, CANCEL_RUN as CANCEL, EXECUTE, GET_RUN as GET, HEALTH, LIST_RUNS as LIST, REFLECT, START_RUN as START
from wire import STREAMING, Wire, field, message, run_request

OK, NOT_FOUND, ALREADY_EXISTS, FORBIDDEN, EXHAUSTED, UNIMPLEMENTED, UNAUTHENTICATED = 0, 5, 6, 7, 8, 12, 16
ALICE, CI, BOB, OLD = (harness.plant("planted-%s-key-0123456789abcdef" % name) for name in ("alice", "ci", "bob", "old"))
FAILURES = "sluice_authentication_failures_total"
LOGS = ('msg="reloaded"', 'msg="not reloaded, the old configuration stays"')
RULES = """
access:
  - {tenants: [acme], agents: ["*"]}
  - {tenants: [beta], agents: [echo, nobody]}
"""


def line(key, rest):
    return "sha256:%s %s\n" % (hashlib.sha256(key.encode()).hexdigest(), rest)


KEYS = "# callers\n" + line(ALICE, "alice acme") + line(CI, "ci acme agents=ec*") + line(BOB, "bob beta")
KEYS += line(OLD, "old acme expires=2020-01-01T00:00:00Z")


def bearer(key):
    return ("authorization", "Bearer " + key)


class Case(harness.Case):
    def serve(self, keys=KEYS, more=RULES, **options):
        self.files = tempfile.mkdtemp(prefix="sluice-identity-")
        self.put_keys(keys)
        options.setdefault("flags", ("--log-level", "debug"))
        self.server = self.daemon(config="identity: {keys: %s/keys}\n%s" % (self.files, more), **options)
        self.server.kept += 2  # of the second connection

    def put_keys(self, text):
        with open(self.files + "/keys.new", "w", encoding="ascii") as file:
            file.write(text)
        os.rename(self.files + "/keys.new", self.files + "/keys")

    def reload(self, expected=True):
        before = len(self.server.log())
        self.server.process.send_signal(signal.SIGHUP)
        harness.wait_for("a reload's end", lambda: any(x in self.server.log()[before:] for x in LOGS))
        lines = self.server.log()[before:]
        self.assertIn(LOGS[0 if expected else 1], lines)
        return lines

    def wire(self):
        wire = Wire(self.server.address)
        self.addCleanup(wire.close)
        return wire

    def run_as(self, *headers, agent="echo", text="hi"):
        return self.wire().ask(EXECUTE, run_request(agent, text), *headers)

    def assert_refused(self, reply, status, reason):
        self.assertEqual(reply.status(), status, reply)
        self.assertEqual(reply.error_info(), (reason, "sluice.v1", {"run_started": "false"}), reply)

    def sluice(self, key, *words):
        path = harness.write(key + "\n", "")
        return harness.sluice(self.server, *words, "--key-file", path)


class Keys(Case):
    def test_a_key_lets_in_and_nothing_else_does(self):
        self.serve()
        before = self.server.metrics()
        self.assertEqual(self.run_as(bearer(ALICE)).status(), OK)
        self.assertEqual(self.run_as(("authorization", "bEaReR   %s " % ALICE)).status(), OK)
        answers = set()
        for headers in (
            (),
            (bearer("x" + ALICE),),
            (bearer(ALICE[:-1]),),
            (bearer(hashlib.sha256(ALICE.encode()).hexdigest()),),
            (bearer(OLD),),
            (("authorization", "Basic " + ALICE),),
            (("authorization", ALICE),),
            (("authorization", "Bearer"),),
            (("authorization", ""),),
            (bearer(ALICE), bearer(ALICE)),
            (bearer("k" * 4097),),
            (("authorization-bin", "QmVhcmVyIHg="),),
            (("x-authorization", "Bearer " + ALICE),),
        ):
            reply = self.run_as(*headers)
            self.assert_refused(reply, UNAUTHENTICATED, "UNAUTHENTICATED")
            answers.add((reply.text(), reply.get("grpc-status-details-bin")))
        self.assertEqual(len(answers), 1, "nobody is told what was wrong")
        huge = self.run_as(bearer("k" * 9000))
        self.assertEqual(huge.status(), EXHAUSTED, "ADM-1 comes first")
        self.assertEqual(
            harness.rises(before, self.server.metrics(), FAILURES),
            {'reason="missing"': 3, 'reason="unknown"': 3, 'reason="expired"': 1, 'reason="malformed"': 6},
        )
        self.assertNotIn("sluice_authentication_failures_total{", "".join(self.server.log()))
        for where in (self.server.log(), self.server.ops("/metrics")[1], self.server.ops("/debug/dump")[1]):
            self.assertNotIn("planted", where)
        self.assertIn("why=expired", self.server.log())
        self.assertIn('msg="owned" principal="alice" tenant="acme"', self.server.log())

    def test_nothing_is_started_before_the_caller_is_known(self):
        self.serve()
        wire = self.wire()
        stream = wire.start(STREAMING)  # no END_STREAM, no message
        self.assert_refused(wire.wait_over(stream), UNAUTHENTICATED, "UNAUTHENTICATED")
        self.assertNotIn('msg="started"', self.server.log())

    def test_health_is_open_and_reflection_is_not(self):
        self.serve()
        self.assertEqual(self.wire().ask(HEALTH).status(), OK)
        self.assertEqual(self.wire().ask(HEALTH, b"", bearer("wrong")).status(), OK)
        self.assertEqual(self.wire().ask(REFLECT, b"\x3a\x00").status(), UNAUTHENTICATED)
        self.assertEqual(self.wire().ask(REFLECT, b"\x3a\x00", bearer(BOB)).status(), OK)

    def test_what_is_open_is_said(self):
        self.serve(more="")
        with open(self.server.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
            file.write("identity: {keys: %s/keys, open: [reflection]}\n" % self.files)
        self.reload()
        self.assertEqual(self.wire().ask(HEALTH).status(), UNAUTHENTICATED)
        self.assertEqual(self.wire().ask(REFLECT, b"\x3a\x00").status(), OK)

    def test_paths_do_not_confuse(self):  # AT-17, NG-4
        self.serve()
        for path in ("grpc.health.v1.Health/Check", EXECUTE[1:], "/" + HEALTH, HEALTH + "/", "/grpc.health.v1.Health/../" + EXECUTE):
            reply = self.wire().ask(path, b"" if "health" in path else run_request("echo", "x"), scheme="grpc")
            self.assertEqual(reply.status(), UNIMPLEMENTED, path)
        self.assertNotIn('msg="started"', self.server.log())

    def test_nothing_configured_asks_nobody(self):
        self.server = self.daemon(flags=("--log-level", "debug"))
        for headers in ((), (bearer("anything"),), (("authorization", "x"),), (bearer("a"), bearer("b"))):
            self.assertEqual(self.run_as(*headers).status(), OK)
        self.assertNotIn("owned", self.server.log())
        self.assertNotIn("anything", self.server.log())


class Rights(Case):
    def test_callers_run_what_they_may_and_see_nothing_else(self):
        self.serve()
        self.assertEqual(self.run_as(bearer(BOB)).status(), OK)
        known = self.run_as(bearer(BOB), agent="demo")
        unknown = self.run_as(bearer(BOB), agent="no-such-agent")
        for reply in (known, unknown, self.run_as(bearer(CI), agent="load", text="events=1")):
            self.assert_refused(reply, FORBIDDEN, "FORBIDDEN")
        self.assertEqual(known.blocks, unknown.blocks, "whether there is such an agent does not show")
        self.assert_refused(self.run_as(bearer(BOB), agent="nobody"), NOT_FOUND, "AGENT_NOT_FOUND")
        self.assertEqual(self.run_as(bearer(BOB), agent="").error_info()[0], "INVALID_REQUEST")
        for key, agents in ((ALICE, ["demo", "echo", "load"]), (CI, ["echo"]), (BOB, ["echo"])):
            done = self.sluice(key, "agents")
            self.assertEqual([x.split()[0] for x in done.stdout.decode().splitlines()[1:]], agents)
        for key, token, pages in ((BOB, None, ["echo"]), (ALICE, "1", ["demo"])):  # what is hidden has no page
            done = self.sluice(key, "call", "sluice.v1.AgentRuntime/ListAgents", '{"pageSize": 1}', "--json")
            page = json.loads(done.stdout)
            self.assertEqual((page.get("nextPageToken"), [x["name"] for x in page["agents"]]), (token, pages))
        for key, n_seen in ((BOB, 1), (ALICE, 3)):  # a token tells of what is seen only
            replies = [
                self.sluice(key, "call", "sluice.v1.AgentRuntime/ListAgents", '{"pageToken": "%d"}' % x)
                for x in (n_seen, n_seen + 1, n_seen + 2, 2**32, 2**63, 2**64 - 1)
            ]
            self.assertEqual([x.returncode for x in replies], [0, 1, 1, 1, 1, 1])
            self.assertEqual(len({x.stderr for x in replies[1:]}), 1)
        stream = self.wire().ask(STREAMING, run_request("demo"), bearer(BOB))
        self.assert_refused(stream, FORBIDDEN, "FORBIDDEN")
        metrics = self.server.metrics()["sluice_refusals_total"]
        self.assertEqual(metrics['kind="run",reason="FORBIDDEN"'], 4)

    def test_request_ids_are_the_tenants(self):  # RT-3, C18
        self.serve()
        request = run_request("echo", "x") + field(5, "again")
        first = self.wire().ask(EXECUTE, request, bearer(ALICE))
        other = self.wire().ask(EXECUTE, request, bearer(BOB))
        again = self.wire().ask(EXECUTE, request, bearer(CI))  # the same tenant
        self.assertEqual([x.status() for x in (first, other, again)], [OK] * 3)
        self.assertEqual([x.get("sluice-attached") for x in (first, other, again)], [None, None, "1"])
        self.assertEqual(again.data, first.data, "the same run")
        self.assertNotEqual(other.data, first.data)
        changed = self.wire().ask(EXECUTE, run_request("echo", "y") + field(5, "again"), bearer(CI))
        self.assert_refused(changed, ALREADY_EXISTS, "REQUEST_ID_REUSED")

    def test_runs_are_the_tenants(self):
        """Attach, CancelRun, GetRun and ListRuns know nothing of another tenant's run, and say so in the same words as of
        none."""
        self.serve()
        wire = self.wire()
        reply = wire.ask(START, run_request("load", '{"hang": true}'), bearer(ALICE))
        run_id = reply.get("sluice-run-id")
        for path in (ATTACH, GET, CANCEL):
            theirs = wire.ask(path, field(1, run_id), bearer(BOB))
            unknown = wire.ask(path, field(1, "0" * 32), bearer(BOB))
            self.assert_refused(theirs, NOT_FOUND, "RUN_NOT_FOUND")
            self.assertEqual(theirs.blocks, unknown.blocks)
            self.assert_refused(wire.ask(path, field(1, run_id)), UNAUTHENTICATED, "UNAUTHENTICATED")
        self.assertEqual(wire.ask(LIST, b"", bearer(BOB)).messages(), [b""])
        self.assert_refused(wire.ask(LIST), UNAUTHENTICATED, "UNAUTHENTICATED")
        self.assertIn(run_id.encode(), wire.ask(LIST, b"", bearer(ALICE)).data)
        # ci may not run `load`: whose run it is decides, and nothing else.
        self.assertEqual(wire.ask(GET, field(1, run_id), bearer(CI)).status(), OK)
        self.assertEqual(wire.ask(CANCEL, field(1, run_id) + field(2, "by ci") + field(3, 1), bearer(CI)).status(), OK)
        line = self.server.wait_log('msg="cancel"', run_id, 'reason="by ci"')
        self.assertIn('principal="ci"', line)

    def test_starting_without_a_reader_needs_the_right_to(self):
        self.serve(more='access: [{agents: ["*"], methods: [Execute, ListAgents]}]\n')
        self.assert_refused(self.wire().ask(START, run_request("echo"), bearer(ALICE)), FORBIDDEN, "FORBIDDEN")
        self.assertEqual(self.run_as(bearer(ALICE)).status(), OK)

    def test_a_key_that_went_asks_for_nothing_more(self):
        self.serve()
        wire = self.wire()
        run_id = wire.ask(START, run_request("load", '{"hang": true}'), bearer(ALICE)).get("sluice-run-id")
        streams = [wire.start(path, bearer(ALICE)) for path in (ATTACH, GET, CANCEL, LIST)]  # headers only
        self.assertEqual(wire.ask(HEALTH).status(), OK)  # the headers were seen
        self.put_keys(line(BOB, "bob beta"))
        self.reload()
        for stream in streams:
            wire.data(stream, message(field(1, run_id)) if stream != streams[-1] else message(b""), end=True)
            self.assert_refused(wire.wait_over(stream), UNAUTHENTICATED, "UNAUTHENTICATED")
        self.put_keys(KEYS)
        self.reload()
        self.assertEqual(wire.ask(CANCEL, field(1, run_id) + field(3, 1), bearer(ALICE)).status(), OK)

    def test_a_tenant_has_its_share(self):
        self.serve(more="limits: {runs_per_tenant: 2}\n")
        wire = self.wire()
        held = [wire.call(STREAMING, run_request("load", '{"hang": true}'), bearer(ALICE)) for _ in range(2)]
        self.server.wait_log('msg="owned"')
        harness.wait_for("two runs", lambda: self.server.log().count('msg="started"') == 2)
        before = self.server.metrics()
        refused = self.run_as(bearer(CI))
        self.assert_refused(refused, EXHAUSTED, "TENANT_LIMIT")
        self.assertIn(int(refused.get("grpc-retry-pushback-ms")), range(800, 1201))
        self.assertEqual(self.run_as(bearer(BOB)).status(), OK, "another tenant")
        after = self.server.metrics()
        self.assertEqual(
            harness.rises(before, after, "sluice_refusals_total"), {'kind="run",reason="TENANT_LIMIT"': 1}
        )
        self.assertEqual(harness.rises(before, after, "sluice_limits_reached_total"), {'limit="runs_per_tenant"': 1})
        wire.reset(held[0])
        self.server.wait_log('msg="ended"', "CLIENT_RESET")
        self.assertEqual(harness.wait_for("a place", lambda: self.run_as(bearer(CI)).status() == OK), True)
        wire.reset(held[1])


class Reload(Case):
    def test_a_key_that_is_gone_starts_nothing_more_and_its_stream_ends(self):  # test_revoke.py has more
        self.serve()
        runner = harness.start_sluice(self.server, "run", "load", "hang=true", "--json", "--key-file", harness.write(ALICE, ""))
        self.server.wait_log('msg="owned"')
        self.put_keys(line(BOB, "bob beta"))
        self.reload()
        self.assert_refused(self.run_as(bearer(ALICE)), UNAUTHENTICATED, "UNAUTHENTICATED")
        self.assertEqual(self.run_as(bearer(BOB)).status(), OK)
        out, err = runner.communicate(timeout=60)
        self.assertEqual(runner.returncode, 1, (out, err))
        self.assertIn(b"UNAUTHENTICATED", out + err)

    def test_a_call_that_is_open_starts_nothing_with_a_key_that_is_gone(self):
        self.serve()
        wire = self.wire()
        streams = [wire.start(path, bearer(ALICE)) for path in (EXECUTE, STREAMING)]
        other = wire.start(EXECUTE, bearer(BOB))
        self.assertEqual(wire.ask(HEALTH).status(), OK)  # the headers were read
        self.put_keys(line(BOB, "bob beta"))
        self.reload()
        for stream in streams + [other]:
            wire.data(stream, message(run_request("echo", "hi")), end=True)
        for stream in streams:
            self.assert_refused(wire.wait_over(stream), UNAUTHENTICATED, "UNAUTHENTICATED")
        self.assertEqual(wire.wait_over(other).status(), OK)
        self.assertEqual(self.server.log().count('msg="started"'), 1)

    def test_no_call_is_lost_while_keys_are_read_anew(self):
        self.serve()
        self.server.kept += 20  # of four connections
        words = ["bench", "--streams", "4", "--connections", "4", "--duration", "2s", "--input", "events=2 bytes=1"]
        bench = harness.start_sluice(self.server, *words, "--key-file", harness.write(ALICE, ""))
        for _ in range(10):
            self.put_keys(KEYS)
            self.reload()
        out, err = bench.communicate(timeout=60)
        self.assertEqual((bench.returncode, err), (0, b""), out)

    def test_a_mistake_keeps_the_old_keys(self):
        self.serve()
        for text, problem in (
            (KEYS + "planted-in-the-file carol acme\n", "keys:6:1: expected sha256:"),
            (KEYS + line(ALICE, "carol acme"), "keys:6:1: the key of line 2 again"),
            ("", "there is no key in it"),
        ):
            self.put_keys(text)
            lines = self.reload(False)
            self.assertIn(problem, lines)
            self.assertNotIn("planted", lines)
            self.assertEqual(self.run_as(bearer(ALICE)).status(), OK)
        os.remove(self.files + "/keys")
        self.assertIn("No such file", self.reload(False))
        self.put_keys(KEYS)
        os.chmod(self.files + "/keys", 0o666)
        self.assertIn("everybody may write it", self.reload(False))
        with open(self.server.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
            file.write("limits: {runs: 50}\n")
        self.assertIn("identity: cannot be taken away while sluiced runs", self.reload(False))
        self.assert_refused(self.run_as(), UNAUTHENTICATED, "UNAUTHENTICATED")
        self.assertEqual(self.run_as(bearer(ALICE)).status(), OK)

    def test_rules_do_not_vanish_by_accident(self):
        self.serve()
        for more, problem in (
            ("", "access: cannot be taken away while sluiced runs"),
            ("access:\n", "access: must have a value; [] is nobody"),
            ("access:\n  - {agents: ['*'], tenants: }\n", "access[0].tenants: must have a value"),
        ):
            with open(self.server.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
                file.write("identity: {keys: %s/keys}\n%s" % (self.files, more))
            self.assertIn(problem, self.reload(False))
            self.assert_refused(self.run_as(bearer(BOB), agent="demo"), FORBIDDEN, "FORBIDDEN")
        with open(self.server.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
            file.write("identity: {keys: %s/keys}\naccess: []\n" % self.files)
        self.reload()
        self.assert_refused(self.run_as(bearer(ALICE)), FORBIDDEN, "FORBIDDEN")

    def test_identity_can_come_while_it_runs(self):
        self.server = self.daemon(config="limits: {runs: 50}\n")
        self.files = tempfile.mkdtemp(prefix="sluice-identity-")
        self.assertEqual(self.run_as().status(), OK)
        self.put_keys(KEYS)
        with open(self.server.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
            file.write("identity: {keys: %s/keys}\n" % self.files)
        self.reload()
        self.assertEqual(self.run_as().status(), UNAUTHENTICATED)
        self.assertEqual(self.run_as(bearer(ALICE)).status(), OK)

    def test_a_server_with_a_mistake_does_not_start(self):
        for text in ("oops\n", "# none\n"):
            path = harness.write(text, "")
            config = harness.write("identity: {keys: %s}\n" % path)
            for check in (["--check"], []):
                done = subprocess.run(
                    [harness.BIN + "/sluiced", "--config", config, "--listen", "127.0.0.1:0", *check],
                    capture_output=True,
                    timeout=60,
                    check=False,
                )
                self.assertEqual(done.returncode, 78, done.stderr)
                self.assertIn(path.encode(), done.stderr)
                self.assertNotIn(b"oops", done.stderr)


class Authority:
    """Certificates of one authority, in a folder of their own."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-ca-")
        self.openssl("req", "-x509", *self.KEY, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem")

    KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split()

    def openssl(self, *words):
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=self.folder, timeout=60)

    def make(self, name, names, subject="somebody"):
        """NAME.pem and NAME.key with these names (SAN); "": none."""
        self.openssl("req", *self.KEY[:-2], "-subj", "/CN=" + subject, "-keyout", name + ".key", "-out", name + ".csr")
        with open(self.folder + "/ext", "w", encoding="ascii") as file:
            file.write("subjectAltName=%s\n" % names if names else "basicConstraints=CA:FALSE\n")
        signed = "x509 -req -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext".split()
        self.openssl(*signed, "-in", name + ".csr", "-out", name + ".pem")

    def path(self, name):
        return self.folder + "/" + name


class Certificates(Case):
    def serve_tls(self, auth="request", keys=True):
        self.ca = Authority()
        self.ca.make("server", "DNS:localhost,IP:127.0.0.1")
        config = "listen: [{address: '127.0.0.1:0', tls: {cert: %s, key: %s, client_ca: %s, client_auth: %s}}]\n" % (
            self.ca.path("server.pem"),
            self.ca.path("server.key"),
            self.ca.path("ca.pem"),
            auth,
        )
        config += "identity:\n  certificates:\n"
        for rule in (
            "{san: 'uri:spiffe://x.org/billing', principal: billing, tenant: acme}",
            "{san: 'uri:spiffe://x.org/*', tenant: beta}",
            "{san: 'dns:*.Jobs.x.org', tenant: jobs}",
            "{san: 'email:*@x.org', tenant: people}",
        ):
            config += "    - %s\n" % rule
        if keys:
            config += "  keys: %s\n" % harness.write(KEYS, "")
        config += "access: [{tenants: [acme, jobs, people], agents: ['*']}, {tenants: [beta], agents: [demo]}]\n"
        config += "limits: {drain_delay: 0s}\n"
        self.server = self.daemon(config=config, listen=None)

    def call(self, name=None, *words, agent="echo"):
        flags = ["--ca", self.ca.path("ca.pem"), "--server-name", "localhost", *words]
        if name:
            flags += ["--cert", self.ca.path(name + ".pem"), "--key", self.ca.path(name + ".key")]
        done = harness.sluice(self.server, "run", agent, "hi", *flags)
        return done.returncode, done.stderr.decode()

    def test_names_of_certificates_are_principals(self):
        self.serve_tls()
        for name, names, owner in (
            ("uri", "URI:spiffe://x.org/billing", 'principal="billing" tenant="acme"'),
            ("dns", "DNS:A.jobs.x.org,DNS:other.org", 'principal="a.jobs.x.org" tenant="jobs"'),
            ("email", "email:me@x.org", 'principal="me@x.org" tenant="people"'),
            ("both", "DNS:b.org,URI:spiffe://x.org/billing", 'principal="billing" tenant="acme"'),
        ):
            self.ca.make(name, names)
            self.assertEqual(self.call(name), (0, ""), name)
            self.server.wait_log('msg="owned" ' + owner)
        self.ca.make("beta", "URI:spiffe://x.org/other")
        self.assertIn("PERMISSION_DENIED", self.call("beta")[1])
        for name, names in (
            ("none", ""),
            ("two", "URI:spiffe://x.org/billing,URI:spiffe://x.org/b"),
            ("stranger", "URI:spiffe://y.org/billing,DNS:a.jobs.x.org"),
            ("suffix", "DNS:a.jobs.x.org.evil.com"),
            ("star", "DNS:*.jobs.x.org"),
            ("address", "IP:127.0.0.1"),
        ):
            self.ca.make(name, names, subject="a.jobs.x.org")
            self.assertIn("UNAUTHENTICATED", self.call(name)[1], name)
        self.assertIn("UNAUTHENTICATED", self.call()[1], "no certificate")
        self.assertEqual(self.call(None, "--key-file", harness.write(ALICE, ""))[0], 0, "a key instead")
        wrong = self.call("uri", "--key-file", harness.write("a-wrong-key-0123", ""))
        self.assertIn("UNAUTHENTICATED", wrong[1], "a wrong key is not made good by a certificate")

    def test_a_certificate_of_somebody_else_is_nothing(self):
        self.serve_tls(auth="require", keys=False)
        other = Authority()
        other.make("uri", "URI:spiffe://x.org/billing")
        flags = ["--ca", self.ca.path("ca.pem"), "--server-name", "localhost"]
        done = harness.sluice(
            self.server, "run", "echo", "x", *flags, "--cert", other.path("uri.pem"), "--key", other.path("uri.key")
        )
        self.assertEqual(done.returncode, 3, done.stderr)
        self.assertNotIn("owned", self.server.log())

    def test_rules_for_certificates_need_a_listener_that_asks(self):
        config = harness.write("identity: {certificates: [{san: 'dns:a', tenant: a}]}\n")
        done = subprocess.run(
            [harness.BIN + "/sluiced", "--check", "--config", config], capture_output=True, timeout=60, check=False
        )
        self.assertEqual(done.returncode, 78)
        self.assertIn(b"no listener asks for client certificates", done.stderr)


class Client(Case):
    def test_sluice_sends_the_key_of_a_file(self):
        self.serve()
        path = harness.write(ALICE + "\r\n", "")
        self.assertEqual(self.sluice(ALICE, "run", "echo", "hi").returncode, 0)
        self.assertEqual(self.sluice(BOB, "call", "sluice.v1.AgentRuntime/ListAgents").returncode, 0)
        bench = self.sluice(ALICE, "bench", "--runs", "3", "--input", "events=1 bytes=1", "--json")
        self.assertEqual(bench.returncode, 0, bench.stderr)
        env = dict(os.environ, SLUICE_ADDR=self.server.address, SLUICE_KEY_FILE=path)
        done = subprocess.run([harness.BIN + "/sluice", "agents"], env=env, capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_sluice_refuses_what_is_no_key_and_plaintext(self):
        for text in ("", "\n", "two words", "a\nb", "k" * 4097, "k" * 4096 + "\r\nmore", "caf\u00e9"):
            done = harness.sluice(None, "agents", "--key-file", harness.write(text, ""))
            self.assertEqual((done.returncode, done.stderr.count(b"not one line with a key")), (2, 1), text)
        self.assertEqual(harness.sluice(None, "agents", "--key-file", "/no/such/file").returncode, 2)
        path = harness.write(ALICE, "")
        done = harness.sluice(None, "agents", "--addr", "192.0.2.1:50051", "--key-file", path)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"would cross the network in plaintext", done.stderr)
        self.assertNotIn(b"planted", done.stderr)
        done = harness.sluice(None, "agents", "--addr", "192.0.2.1:50051", "--skip-verify", "--key-file", path)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"with --skip-verify anybody could be 192.0.2.1:50051", done.stderr)
        self.assertNotIn(b"planted", done.stderr)

    def test_sluice_makes_lines_of_keys(self):
        folder = tempfile.mkdtemp()
        done = harness.sluice(None, "keys", "new", "alice", "acme", "--out", folder + "/key", "--agents", "echo,x-*")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(os.stat(folder + "/key").st_mode & 0o777, 0o600)
        with open(folder + "/key", encoding="ascii") as file:
            key = file.read().strip()
        self.assertEqual(len(key), 50)
        self.assertEqual(done.stdout.decode(), line(key, "alice acme agents=echo,x-*"))
        hashed = harness.sluice(None, "keys", "hash", "alice", "acme", "--expires", "2030-01-01", input=key.encode())
        self.assertEqual(hashed.stdout.decode(), line(key, "alice acme expires=2030-01-01"))
        self.serve(keys=done.stdout.decode(), more="")
        self.assertEqual(self.run_as(bearer(key)).status(), OK)
        for words, text in (
            (("keys", "new", "alice", "acme", "--out", folder + "/key"), b""),  # never over another one
            (("keys", "new", "a b", "acme", "--out", folder + "/other"), b""),
            (("keys", "new", "alice", "acme"), b""),
            (("keys", "hash", "alice", "acme"), b"short"),
            (("keys", "hash", "alice", "acme"), b"k" * 4096 + b"\r\nmore"),
            (("keys", "hash", "alice", "acme"), b"with a space in the middle"),
            (("keys", "hash", "alice", "acme", "--expires", "soon"), b"a-key-that-is-long-enough"),
            (("keys", "hash", "alice"), b"a-key-that-is-long-enough"),
            (("keys", "list", "alice", "acme"), b""),
        ):
            done = harness.sluice(None, *words, input=text)
            self.assertIn(done.returncode, (1, 2), words)
            self.assertEqual(done.stdout, b"")
            self.assertNotIn(text or b"none", done.stderr)
        self.assertFalse(os.path.exists(folder + "/other"))

    def test_a_key_that_could_not_be_handed_over_is_not_left_behind(self):
        path = tempfile.mkdtemp() + "/key"
        words = [harness.BIN + "/sluice", "keys", "new", "alice", "acme", "--out", path]

        def tiny():  # a disk that is full after 10 bytes
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))

        with open("/dev/full", "wb") as full:
            for preexec, out, why in (
                (tiny, subprocess.PIPE, b"key: cannot be written (File too large)"),
                (None, full, b"standard output: cannot be written (No space left on device)"),
            ):
                done = subprocess.run(
                    words, stdout=out, stderr=subprocess.PIPE, preexec_fn=preexec, timeout=60, check=False
                )
                self.assertEqual(done.returncode, 1, done.stderr)
                self.assertIn(why, done.stderr)
                self.assertFalse(os.path.exists(path))

    def test_config_show_has_who_may_call(self):
        config = harness.write("identity: {keys: /etc/sluice/keys}\naccess: [{agents: [echo]}]\nlimits: {keys: 7}\n")
        done = harness.sluice(None, "config", "show", "--json", "--config", config)
        shown = json.loads(done.stdout)
        self.assertEqual(shown["file"], {"identity": {"keys": "/etc/sluice/keys"}, "access": [{"agents": ["echo"]}]})
        self.assertEqual(shown["limits"]["keys"]["value"], 7)

    def test_run_takes_metadata_and_credentials(self):
        secret = harness.plant("planted-credential-0123456789")
        agent = """name: helper
model: openai:mock-1
tools:
  - name: look
    type: Process
    description: looks
    forward: [token, other]
    config: {command: [/bin/sh, -c, 'eval cat "<&$SLUICE_CREDENTIALS_FD" | wc -c']}
"""
        mock = self.mock("turns: [{steps: [{tool_call: {name: look, arguments: {}}}]}, {steps: [{text: done}]}]\n")
        env = dict(mock.env(), PLANTED=secret)
        self.server = self.daemon(agents={"a.yaml": agent}, env=mock.env(), flags=("--log-level", "debug"))
        path = harness.write(secret + "x\n", "")
        words = ["run", "helper", "go", "--json", "--metadata", "team=blue", "--metadata", "empty="]
        words += ["--credential", "token=env:PLANTED", "--credential", "other=file:" + path]
        done = subprocess.run(
            [harness.BIN + "/sluice", *words, "--addr", self.server.address],
            env=dict(os.environ, **env),
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        (result,) = (x["result_json"] for x in map(json.loads, done.stdout.splitlines()) if x["type"] == "tool_call_complete")
        given = json.dumps({"token": secret, "other": secret + "x"}, separators=(",", ":"))
        self.assertEqual(json.loads(result)["stdout"], "%d\n" % len(given))
        self.assertNotIn("planted", self.server.log())
        for flag, word in (("--credential", "token=" + secret), ("--metadata", "x"), ("--credential", "t=env:NOT_SET")):
            bad = harness.sluice(None, "run", "helper", flag, word)
            self.assertEqual(bad.returncode, 2, bad.stderr)
            self.assertNotIn(secret.encode(), bad.stderr)


if __name__ == "__main__":
    harness.main()
