"""SIGHUP: the whole configuration changes, or nothing of it; what runs keeps what it has (reliability.md X5, X9)."""

import json
import os
import random
import signal
import socket
import ssl
import tempfile
import threading
import time
import unittest

import harness

ECHO = "name: %s\nmodel: echo:echo\n"
LOGS = ('msg="reloaded"', 'msg="not reloaded, the old configuration stays"')


def names(server):
    done = harness.sluice(server, "agents", "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["name"] for line in done.stdout.splitlines()]


class Case(harness.Case):
    def daemon(self, **options):
        server = super().daemon(**options)
        self.server = server
        return server

    def put(self, name, text):
        """Beside it, and renamed: never half of it."""
        path = self.server.files + "/" + name
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(path + ".new", path)

    def count(self, what):
        return self.server.log().count(what)

    def reload(self, expected=True):
        """Gives the lines that the reload logged."""
        before = len(self.server.log())
        self.server.process.send_signal(signal.SIGHUP)
        harness.wait_for("a reload's end", lambda: any(x in self.server.log()[before:] for x in LOGS))
        lines = self.server.log()[before:]
        self.assertIn(LOGS[0 if expected else 1], lines)
        return lines

    def health(self, name="sluice.config"):
        return harness.sluice(self.server, "health", name).stdout.strip()


class Whole(Case):
    def test_agents_come_go_and_change(self):
        self.daemon(agents={"a.yaml": ECHO % "a", "b.yaml": ECHO % "b"}, config="limits: {runs: 50}\n")
        self.put("agents/a.yaml", "name: a\nmodel: echo:other\n")
        self.put("agents/c.yaml", ECHO % "c")
        os.remove(self.server.files + "/agents/b.yaml")
        self.assertIn("added=1 removed=1 changed=1 limits=- ", self.reload())
        self.assertEqual(names(self.server), ["a", "c", "demo", "echo", "load"])
        self.assertEqual(harness.run_agent(self.server, "a", "x")[0]["model"], "other")
        self.assertIn("no agent 'b'", harness.sluice(self.server, "run", "b", "x").stderr.decode())

    def test_one_mistake_anywhere_keeps_everything(self):
        self.daemon(agents={"a.yaml": ECHO % "a"}, config="limits: {runs: 50}\n")
        agents, config = self.server.files + "/agents", self.server.files + "/sluiced.yaml"
        self.put("agents/new.yaml", ECHO % "new")  # would come with each of them
        self.assertEqual(self.health(), b"SERVING")
        for text, place in (
            ("limits: {runs: 50, rnus: 3}\n", "sluiced.yaml:1:20: limits.rnus: unknown key"),
            ("limits: {runs: 50\n", "sluiced.yaml:2:1: "),
            ("", "the configuration file is empty"),
            ("limits: {runs: 0}\n", "sluiced.yaml:1:16: limits.runs"),
            ("providers: [{name: x, kind: nothing}]\n", "sluiced.yaml:1:"),
            ("loops: 3\n", "sluiced.yaml:1:8: loops: cannot change while sluiced runs"),
            ("launcher: /bin/true\n", "sluiced.yaml:1:11: launcher: cannot change while sluiced runs"),
            ("log: {format: json}\n", "sluiced.yaml:1:6: log: cannot change while sluiced runs"),
            ("reflection: off\n", "sluiced.yaml:1:13: reflection: cannot change while sluiced runs"),
        ):
            self.put("sluiced.yaml", text)
            self.assertIn(place, self.reload(False))
            self.assertEqual(self.health(), b"NOT_SERVING")
        os.remove(config)
        self.assertIn("sluiced.yaml: No such file", self.reload(False))
        os.mkdir(config)
        self.reload(False)
        os.rmdir(config)
        os.mkfifo(config)
        self.reload(False)
        os.remove(config)
        self.put("sluiced.yaml", "limits: {runs: 50}\n")
        for text in ("name: bad\nmodle: x\n", "", "name: a\nmodel: echo:echo\n", "name: bad\nmodel: nobody:x\n"):
            self.put("agents/bad.yaml", text)
            self.assertIn("/agents/bad.yaml", self.reload(False))
        os.remove(agents + "/bad.yaml")
        os.symlink("/no/such/file", agents + "/bad.yaml")
        self.reload(False)
        os.remove(agents + "/bad.yaml")
        self.assertEqual(names(self.server), ["a", "demo", "echo", "load"], "nothing of it came")
        self.assertEqual(self.health(""), b"SERVING", "the server as a whole serves on")
        self.assertIn("added=1", self.reload())
        self.assertEqual(self.health(), b"SERVING")

    def test_a_key_that_is_gone_keeps_the_old_one(self):
        mock = self.mock("turns: [{steps: [{text: fine}]}]\n")
        key = harness.write("planted-secret-key-0123456789", "")
        text = "providers:\n  - {name: local, kind: openai_chat, base_url: 'http://%s/v1', api_key: 'file:%s'}\n"
        self.daemon(agents={"a.yaml": "name: a\nmodel: local:mock-1\n"}, config=text % (mock.address, key))
        self.server.kept += 4  # one more set of clients, until the old one is closed
        os.remove(key)
        self.assertIn("agent 'a' could not run any more", self.reload(False))
        self.assertEqual(harness.text_of(harness.run_agent(self.server, "a", "x")), "fine")
        with open(key, "w", encoding="ascii") as file:
            file.write(harness.plant("planted-secret-key-9876543210"))
        self.reload()
        self.assertEqual(harness.text_of(harness.run_agent(self.server, "a", "x")), "fine")
        self.assertNotIn("planted-secret", self.server.log())


class Limits(Case):
    def load(self, *words):
        child = harness.start_sluice(self.server, "run", "load", " ".join(words), "--json")
        child.stdout.readline()
        return child

    def finish(self, child):
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)

    def test_a_limit_of_the_process_counts_at_once(self):
        self.daemon(config="limits: {runs: 1}\n")
        first = self.load("hang=true")
        waiting = harness.start_sluice(self.server, "run", "load", "events=3", "--json")
        self.put("sluiced.yaml", "limits: {runs: 2}\n")
        self.assertIn(" limits=runs ", self.reload())
        waiting.communicate(timeout=20)
        self.assertEqual(waiting.returncode, 0, "whoever waited got the new slot")
        self.finish(first)

    def test_a_limit_of_connections_is_for_new_ones(self):
        self.daemon(config="limits: {input: 100, message_recv: 4MiB}\n")
        self.put("sluiced.yaml", "limits: {input: 100, message_recv: 1KiB}\n")
        self.assertIn(" limits=message_recv ", self.reload())
        done = harness.sluice(self.server, "run", "echo", "x" * 5000)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(b"RESOURCE_EXHAUSTED", done.stderr)

    def test_a_limit_of_runs_is_for_new_ones(self):
        self.daemon(config="limits: {heartbeat: 0ms, input: 1KiB}\n")
        self.put("sluiced.yaml", "limits: {heartbeat: 0ms, input: 4}\n")
        self.reload()
        self.assertIn(b"at most 4", harness.sluice(self.server, "run", "echo", "12345").stderr)
        self.assertEqual(harness.sluice(self.server, "run", "echo", "1234").returncode, 0)

    def test_the_log_level_counts_at_once(self):
        self.daemon(config="log: {level: info}\n")
        self.put("sluiced.yaml", "log: {level: error}\n")
        self.server.process.send_signal(signal.SIGHUP)
        harness.wait_for("the level", lambda: self.quiet_run())

    def quiet_run(self):
        before = len(self.server.log())
        harness.run_agent(self.server, "echo", "x")
        return "started" not in self.server.log()[before:]

    def test_the_drain_takes_the_new_times(self):
        # No Daemon: that one's own flags for the drain would win over the file.
        path = harness.write("limits: {drain_delay: 10m}\n")
        server = harness.Process("sluiced", [harness.BIN + "/sluiced", "--listen", "127.0.0.1:0", "--config", path])
        with open(path, "w", encoding="ascii") as file:
            file.write("limits: {drain_delay: 0ms}\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_log("reloaded", "limits=drain_delay ")
        server.stop()


class Tls(Case):
    def served(self):
        """What new connections see."""
        host, port = self.server.address.rsplit(":", 1)
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        with socket.create_connection((host, int(port)), timeout=10) as conn, context.wrap_socket(conn) as wrapped:
            return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(True)).strip()

    def copy(self, name, suffixes=(".cert", ".key")):
        for suffix in suffixes:
            with open(self.files + "/" + name + suffix, encoding="ascii") as file:
                text = file.read()
            with open(self.files + "/used" + suffix, "w", encoding="ascii") as file:
                file.write(text)

    def pem(self, name):
        with open(self.files + "/" + name + ".cert", encoding="ascii") as file:
            return file.read().strip()

    def test_certificates_change_together_with_their_keys_or_not(self):
        self.files = tempfile.mkdtemp()
        for name in ("a", "b"):
            harness.make_certificate(self.files + "/" + name)
        self.copy("a")
        self.daemon(flags=("--tls-cert", self.files + "/used.cert", "--tls-key", self.files + "/used.key"))
        tls = ("--tls", "--ca", self.files + "/a.cert")
        self.assertEqual(self.served(), self.pem("a"))
        running = harness.start_sluice(self.server, "run", "load", "events=100000 rate=200", "--json", *tls)
        running.stdout.readline()
        self.copy("b", (".cert",))  # half of it
        self.assertIn("key values mismatch", self.reload(False))
        self.assertEqual(self.served(), self.pem("a"))
        with open(self.files + "/used.cert", "r+", encoding="ascii") as file:
            file.truncate(100)
        self.reload(False)
        self.assertEqual(self.served(), self.pem("a"))
        self.copy("b")
        self.reload()
        self.assertEqual(self.served(), self.pem("b"))
        self.assertTrue(running.stdout.readline(), "the connection that was there goes on")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)
        self.assertEqual(running.returncode, 130)


    def copy_authority(self, name):
        with open(self.files + "/" + name + ".cert", encoding="ascii") as file:
            text = file.read()
        with open(self.files + "/authority.cert", "w", encoding="ascii") as file:
            file.write(text)

    def as_client(self, name):
        own = self.files + "/" + name
        return "--ca", self.files + "/used.cert", "--cert", own + ".cert", "--key", own + ".key"

    def is_let_in(self, name):
        done = harness.sluice(self.server, "health", *self.as_client(name))
        self.assertIn(done.returncode, (0, 3), done.stderr)
        if done.returncode == 3:
            self.assertIn(b"alert unknown ca", done.stderr)
        return done.returncode == 0

    def test_the_authority_of_clients_changes_by_itself(self):  # CM-9
        self.files = tempfile.mkdtemp()
        for name in ("own", "old", "new"):
            harness.make_certificate(self.files + "/" + name)
        self.copy("own")
        self.copy_authority("old")
        words = ("cert", "used.cert"), ("key", "used.key"), ("client-ca", "authority.cert")
        self.daemon(flags=[word for flag, name in words for word in ("--tls-" + flag, self.files + "/" + name)])
        self.assertEqual((self.is_let_in("old"), self.is_let_in("new")), (True, False))
        words = ("run", "load", "events=100000 rate=200", "--json", *self.as_client("old"))
        running = harness.start_sluice(self.server, *words)
        running.stdout.readline()
        with open(self.files + "/authority.cert", "w", encoding="ascii") as file:
            file.write("no certificate\n")
        self.assertIn("authority", self.reload(False))
        self.assertEqual((self.is_let_in("old"), self.is_let_in("new")), (True, False))
        self.copy_authority("new")
        self.reload()
        self.assertEqual((self.is_let_in("old"), self.is_let_in("new")), (False, True))
        self.assertTrue(running.stdout.readline(), "whoever was let in stays")
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=20)
        self.assertEqual(running.returncode, 130)


class UnderLoad(Case):
    def run_for(self, end, flags):
        while time.monotonic() < end and not self.failed:
            done = harness.sluice(self.server, "run", "load", "events=100 bytes=50 rate=400", "--json", *flags)
            self.n_runs += 1
            if done.returncode != 0:
                self.failed.append(done.stderr)

    def mutate(self, random_of, step):
        """One more state of the files, mostly a broken one."""
        good = "limits: {runs: %d}\nproviders:\n  - {name: p%d, kind: openai_chat, base_url: 'http://127.0.0.1:9/v1'}\n"
        text = good % (100 + step % 7, step % 3)
        kind = random_of.randrange(6)
        if kind == 0:
            text = text[: random_of.randrange(len(text))]  # half of it
        elif kind == 1:
            at = random_of.randrange(len(text))
            text = text[:at] + random_of.choice("{}[]:,'\"\0\t&*x7") + text[at + 1 :]
        with open(self.server.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
            file.write(text)
        agent = ECHO % ("a%d" % (step % 5)) + "instructions: %d\n" % step
        if kind == 2:
            agent = agent[: random_of.randrange(len(agent))]
        elif kind == 3:
            agent += "tools: [no_such_tool]\n"
        with open(self.server.files + "/agents/a.yaml", "w", encoding="utf-8") as file:
            file.write(agent)

    def test_many_reloads_of_mutated_files_fail_no_run_and_leave_nothing(self):
        # X5
        self.failed, self.n_runs = [], 0
        self.daemon(agents={"a.yaml": ECHO % "a0"}, config="limits: {runs: 100}\n", flags=("--loops", "2"))
        end = time.monotonic() + 6
        threads = [threading.Thread(target=self.run_for, args=(end, ())) for _ in range(4)]
        for thread in threads:
            thread.start()
        random_of, step = random.Random(20261127), 0
        while time.monotonic() < end and not self.failed:
            self.mutate(random_of, step)
            self.server.process.send_signal(signal.SIGHUP)
            step += 1
            time.sleep(0.02)  # the pace of the signals, waited for by nobody
        for thread in threads:
            thread.join()
        self.assertEqual(self.failed, [])
        self.assertGreater(self.n_runs, 4)
        done, refused = (self.count(line) for line in LOGS)
        self.assertGreater(done, 5, self.server.log()[-3000:])
        self.assertGreater(refused, 5)
        self.put("sluiced.yaml", "limits: {runs: 99}\n")
        self.put("agents/a.yaml", ECHO % "last")
        self.reload()
        self.assertEqual(names(self.server), ["demo", "echo", "last", "load"])
        self.assertEqual(self.health(), b"SERVING")
        self.server.check_baseline()
        print("%d runs, %d signals, %d reloads, %d refused" % (self.n_runs, step, done, refused))


class Signals(Case):
    def test_a_storm_of_signals_loses_nothing(self):
        # X9
        self.daemon(config="limits: {runs: 100}\n")
        child = harness.start_sluice(self.server, "run", "load", "events=400 bytes=20 rate=200", "--json")
        reader = threading.Thread(target=child.communicate)
        reader.start()
        kinds = (signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGUSR1, signal.SIGUSR2)
        n = 0
        while reader.is_alive():
            self.server.process.send_signal(kinds[n % len(kinds)])
            n += 1
            time.sleep(0.01)  # the pace of the signals
        reader.join()
        self.assertEqual(child.returncode, 0)
        self.assertGreater(self.count(LOGS[0]), 2)

    def test_sigint_is_a_sigterm_and_the_second_one_does_not_wait(self):
        self.daemon(drain_delay="60s")
        self.server.process.send_signal(signal.SIGINT)
        self.server.wait_log("draining")
        self.server.process.send_signal(signal.SIGHUP)  # of no use any more
        self.server.process.send_signal(signal.SIGTERM)
        self.assertEqual(self.server.process.wait(20), 0, self.server.log())
        self.assertNotIn("reloaded", self.server.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
