"""The store as an operator meets it: how it is opened, what is refused, what is moved aside (RL-S4, RL-S8, RL-G18)."""

import os
import signal
import sqlite3
import subprocess
import tempfile

import harness


def sluiced(*words, env=None):
    return subprocess.run(
        [harness.BIN + "/sluiced", "--listen", "127.0.0.1:0", *words],
        capture_output=True,
        timeout=60,
        check=False,
        env=dict(os.environ, **(env or {})),
    )


def make_store(path):
    """A store that was closed in order."""
    daemon = harness.Daemon(flags=["--store", path])
    daemon.stop()


class Store(harness.Case):
    def setUp(self):
        self.files = tempfile.mkdtemp(prefix="sluice-store-")
        self.path = self.files + "/runs.db"

    def refuse(self, *words, status=78, flags=("--store",)):
        """sluiced does not start, and says so in one line."""
        done = sluiced(*flags, self.path)
        err = done.stderr.decode().splitlines()
        lines = [line for line in err if line.startswith("sluiced: ")]
        self.assertEqual((done.returncode, len(lines)), (status, 1), err)
        for word in (self.path, *words):
            self.assertIn(word, lines[0])

    def test_it_is_opened_at_the_start_and_closed_at_the_end(self):
        config = "store: {sqlite: {path: %s, synchronous: normal, keep: 1h, keep_bytes: 1GiB}}\n" % self.path
        server = self.daemon(config=config)
        self.assertIn("synchronous=normal", server.wait_log("store opened"))
        names = set(os.listdir(self.files))
        self.assertEqual(names, {"runs.db", "runs.db-wal", "runs.db-shm", "runs.db.lock"})
        for name in names:
            self.assertEqual(os.stat(self.files + "/" + name).st_mode & 0o77, 0, name)
        self.assertEqual(server.metrics()["sluice_store_failing"][""], 0)
        harness.run_agent(server, "echo", "hello")
        server.stop()
        self.assertEqual(set(os.listdir(self.files)), {"runs.db", "runs.db.lock"})
        shown = harness.sluice(None, "config", "show", "--config", server.files + "/sluiced.yaml").stdout.decode()
        self.assertRegex(shown, r"\nstore +\{.*\"synchronous\": ?\"normal\".*sluiced\.yaml:1\n")

    def test_a_check_does_not_touch_it(self):
        self.assertEqual(sluiced("--store", self.path, "--check").returncode, 0)
        self.assertEqual(harness.sluice(None, "config", "check", "--store", self.path).returncode, 0)
        self.assertEqual(os.listdir(self.files), [])

    def test_mistakes_of_its_section_are_named(self):
        for text, place in (
            ("store: {}\n", "store: 'sqlite' is missing"),
            ("store: {sqlite: {}}\n", "path is missing"),
            ("store: {sqlite: {path: x, synchronous: off}}\n", "store.sqlite.synchronous"),
            ("store: {sqlite: {path: x, kept: 1}}\n", "store.sqlite.kept: unknown key"),
            ("store: {postgres: {}}\n", "store.postgres: unknown key"),
        ):
            done = sluiced("--check", "--config", harness.write(text))
            self.assertEqual(done.returncode, 78, text)
            self.assertIn(place.replace("'", ""), done.stderr.decode().replace("'", ""), text)
        self.assertEqual(sluiced("--check", "--quarantine").returncode, 78, "there is nothing to move")

    def test_the_flag_and_the_environment_win_over_the_file(self):
        config = harness.write("store: {sqlite: {path: %s/no, keep: 1h}}\n" % self.files)
        shown = harness.sluice(None, "config", "show", "--config", config, "--store", self.path).stdout.decode()
        self.assertRegex(shown, r"\nstore .*/runs\.db.* --store\n")
        done = sluiced("--check", env={"SLUICE_STORE": self.files + "/no/runs.db"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.path = self.files + "/no/runs.db"
        self.refuse("No such file", status=69)

    def test_two_on_one_file_are_refused(self):
        self.daemon(flags=["--store", self.path])
        self.refuse("another sluiced has this store open")

    def test_a_newer_schema_is_refused(self):
        make_store(self.path)
        with sqlite3.connect(self.path) as db:
            db.execute("UPDATE store SET schema = 1000, min_reader = 1000")
        db.close()
        before = os.stat(self.path).st_size
        self.refuse("a newer sluiced made this store")
        self.refuse("a newer sluiced made this store", flags=("--quarantine", "--store"))
        self.assertEqual(os.stat(self.path).st_size, before)

    def test_a_damaged_file_is_refused_and_moved_aside_when_asked(self):
        make_store(self.path)
        with open(self.path, "r+b") as file:
            file.seek(0)
            file.write(b"no database at all, but long enough")
        self.refuse()
        server = self.daemon(flags=["--store", self.path, "--quarantine"])
        aside = [name for name in os.listdir(self.files) if name.startswith("runs.db.damaged-")]
        self.assertEqual(len(aside), 1, os.listdir(self.files))
        self.assertIn(aside[0], server.wait_log("moved aside"))
        with open(self.files + "/" + aside[0], "rb") as file:
            self.assertEqual(file.read(11), b"no database")

    def test_a_text_file_is_no_store(self):
        with open(self.path, "w", encoding="ascii") as file:
            file.write("my notes\n")
        self.refuse("this is no database")
        with open(self.path, encoding="ascii") as file:
            self.assertEqual(file.read(), "my notes\n")

    def test_a_reload_cannot_change_it(self):
        text = "store: {sqlite: {path: %s}}\nlimits: {runs: %d}\n"
        server = self.daemon(config=text % (self.path, 50))
        for changed, is_taken in ((text % (self.path, 60), True), (text % (self.path + "2", 60), False), ("{}\n", False)):
            with open(server.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
                file.write(changed)
            n_before = server.log().count("reloaded")
            server.process.send_signal(signal.SIGHUP)
            harness.wait_for("the reload", lambda n=n_before: server.log().count("reloaded") > n)
            last = [line for line in server.log().splitlines() if "reloaded" in line][-1]
            self.assertEqual('msg="reloaded"' in last, is_taken, last)
        self.assertIn("store: cannot change while sluiced runs", server.log())


if __name__ == "__main__":
    harness.main()
