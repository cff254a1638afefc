"""The store and its disk: what is removed in time (retention), a disk that is full (RL-S1), a lock that somebody else has (RL-S3)."""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import tempfile
import threading

import harness
from harness import sluice

AGENTS = {
    "sure.yaml": "name: sure\nprovider: load\nmodel: load\nmemory: None\ndurability: SYNC\n",
    "none.yaml": "name: none\nprovider: load\nmodel: load\nmemory: None\ndurability: NONE\n",
}
EVERY = '{"events": 1000000, "rate": 2000, "bytes": 1000}'


class Disk(harness.Case):
    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="sluice-store-")

    def serve(self, *flags, sqlite="", **options):
        text = "store: {sqlite: {path: %s/runs.db%s}}\n" % (self.folder, sqlite)
        server = harness.Daemon(agents=AGENTS, config=text, flags=flags, **options)
        self.addCleanup(self.end, server)
        return server

    @staticmethod
    def end(server):
        if server.process.poll() is None:
            server.stop()

    def start(self, server, agent="sure", text='{"events": 1}'):
        done = sluice(server, "run", agent, text, "--detach")
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.decode().strip()

    def run_whole(self, server, text):
        done = sluice(server, "run", "sure", text, "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout.splitlines()[0])["run_id"]

    @staticmethod
    def is_known(server, run_id):
        return b"NOT_FOUND" not in sluice(server, "runs", run_id).stderr

    def last_event(self, server, run_id):
        done = sluice(server, "attach", run_id, "--json", "--timeout", "20s")
        return json.loads(done.stdout.splitlines()[-1])

    def check_file(self):
        """The database is whole, and nothing is left in it of runs that are gone."""
        with contextlib.closing(sqlite3.connect(self.folder + "/runs.db")) as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            for table in ("heads", "events", "contexts", "resumes"):
                sql = "SELECT count(*) FROM %s WHERE run NOT IN (SELECT number FROM runs)" % table
                self.assertEqual(db.execute(sql).fetchone(), (0,), table)

    # ---- Retention

    def test_runs_go_when_they_are_old_enough(self):
        server = self.serve("--limit", "window_keep=0", sqlite=", keep: 2s")
        open_id = self.start(server, text='{"hang": true}')
        ids = [self.run_whole(server, '{"events": 10}') for _ in range(3)]
        self.assertTrue(self.is_known(server, ids[-1]))
        harness.wait_for("their removal", lambda: not any(self.is_known(server, run_id) for run_id in ids))
        metrics = server.metrics()
        self.assertEqual(metrics["sluice_store_runs_removed_total"][""], 3)
        self.assertTrue(self.is_known(server, open_id), "it goes on")
        self.assertGreater(metrics["sluice_store_kept_bytes"][""], 0)
        self.assertEqual(sluice(server, "cancel", open_id).returncode, 0)
        self.end(server)
        self.check_file()

    def test_the_oldest_go_when_there_are_too_many_bytes(self):
        server = self.serve("--limit", "window_keep=0", sqlite=", keep: 0, keep_bytes: 100KiB")
        ids = [self.run_whole(server, '{"events": 30, "bytes": 1000}') for _ in range(8)]  # of 60 KiB with their conversations
        kept = lambda: server.metrics()["sluice_store_kept_bytes"][""]  # pylint: disable=unnecessary-lambda-assignment
        harness.wait_for("room", lambda: 0 < kept() <= 100 * 1024)
        self.assertTrue(self.is_known(server, ids[-1]))
        self.assertFalse(self.is_known(server, ids[0]))
        self.end(server)
        self.check_file()
        server = self.serve("--limit", "window_keep=0", sqlite=", keep: 0, keep_bytes: 100KiB")
        self.assertLessEqual(kept(), 100 * 1024)
        self.assertGreater(kept(), 0)

    # ---- A full disk

    def mount(self, size):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + size, "none", self.folder], capture_output=True, check=False)
        if done.returncode != 0:
            self.skipTest("no file system can be mounted here: " + done.stderr.decode().strip())
        self.addCleanup(subprocess.run, ["umount", "-l", self.folder], check=True)

    def fill(self, leave):
        """A file takes all but so many bytes."""
        room = os.statvfs(self.folder)
        with open(self.folder + "/ballast", "wb") as file:
            file.write(b"x" * (room.f_bavail * room.f_bsize - leave))

    def start_and_fill(self, *flags):
        """The server, the reader of a run whose disk is full by now."""
        self.mount("16m")
        self.fill(leave=4 * 1024 * 1024)
        server = self.serve(*flags)
        with open(self.folder + ".seen", "wb") as file:  # a reader that does not hold the run back
            child = harness.start_sluice(server, "run", "sure", EVERY, "--json", "--on-disconnect", "detach", stdout=file)
        harness.wait_for("a commit that fails", lambda: server.metrics()["sluice_store_failing"][""] == 1)
        return server, child

    def seen(self, child):
        """What the reader has got, proven to be in order, and the run's id."""
        _, err = child.communicate(timeout=60)
        with open(self.folder + ".seen", "rb") as file:
            out = file.read()
        harness.check_events(out, child.returncode, ("run",))
        lines = out.split(b"\n")[:-1]
        return lines, json.loads(lines[0])["run_id"], err

    def test_a_run_on_a_full_disk_ends_and_is_closed_when_there_is_room(self):
        server, child = self.start_and_fill("--limit", "store_retry=3s")
        lines, run_id, err = self.seen(child)
        lines = [json.loads(line) for line in lines]
        self.assertEqual(child.returncode, 1, err)
        self.assertEqual((lines[-1]["type"], lines[-1]["code"], lines[-1]["sequence"]), ("error", "STORE_UNAVAILABLE", 0))
        self.assertEqual([line["sequence"] for line in lines[:-1]], list(range(1, len(lines))), "SYNC: all of it is stored")
        refused = sluice(server, "run", "sure", '{"events": 1}')
        self.assertIn(b"RESOURCE_EXHAUSTED", refused.stderr, "below 5 % nobody begins")
        self.assertEqual(sluice(server, "run", "none", '{"events": 1}').returncode, 0, "what is not recorded goes on")
        os.unlink(self.folder + "/ballast")
        harness.wait_for("its durable end", lambda: server.metrics()["sluice_store_runs_open"][""] == 0)
        harness.wait_for("room", lambda: sluice(server, "run", "sure", '{"events": 1}').returncode == 0)
        self.end(server)
        server = self.serve()
        whole = sluice(server, "attach", run_id, "--json")
        stored = [json.loads(line) for line in whole.stdout.splitlines()]
        n_seen = len(lines) - 1
        self.assertGreaterEqual(len(stored), n_seen)
        self.assertEqual(stored[:n_seen], lines[:-1])
        self.assertEqual([event["sequence"] for event in stored], list(range(1, len(stored) + 1)))
        self.assertEqual((stored[-1]["type"], stored[-1]["code"]), ("error", "STORE_UNAVAILABLE"), "the same code")
        self.assertEqual([event["type"] for event in stored].count("error"), 1)
        shown = json.loads(sluice(server, "runs", run_id, "--context", "--json").stdout)
        self.assertEqual((shown["state"], shown["error"]["code"]), ("FAILED", "STORE_UNAVAILABLE"))
        self.assertEqual([message["role"] for message in shown["context"]["messages"]], ["USER", "ASSISTANT"])
        self.end(server)
        self.check_file()

    def test_a_crash_on_a_full_disk_loses_nothing_that_was_seen(self):
        server, child = self.start_and_fill()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(20)
        child.kill()
        seen, run_id, _ = self.seen(child)
        os.unlink(self.folder + "/ballast")
        server = self.serve()
        whole = sluice(server, "attach", run_id, "--json").stdout.splitlines()
        self.assertEqual(whole[: len(seen)], seen)
        self.assertEqual(json.loads(whole[-1])["code"], "WORKER_LOST")
        self.end(server)
        self.check_file()

    # ---- A lock

    def test_a_lock_of_another_process_stops_nobody_else(self):
        server = self.serve()
        before = self.run_whole(server, '{"events": 1}')
        with contextlib.closing(sqlite3.connect(self.folder + "/runs.db", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            refused = []
            thread = threading.Thread(target=lambda: refused.append(sluice(server, "run", "sure", '{"events": 1}')))
            thread.start()
            n = 0
            while thread.is_alive():  # the loop does not stand still meanwhile, and readers read
                self.assertEqual(sluice(server, "run", "none", '{"events": 1}').returncode, 0)
                self.assertTrue(self.is_known(server, before))
                n += 1
            thread.join()
            self.assertGreater(n, 3)
            self.assertIn(b"UNAVAILABLE", refused[0].stderr)
            db.execute("ROLLBACK")
        harness.wait_for("the store", lambda: sluice(server, "run", "sure", '{"events": 1}').returncode == 0)
        self.assertEqual(server.metrics()["sluice_store_failing"][""], 0)

    def test_a_run_waits_for_a_lock_that_goes(self):
        server = self.serve()
        run_id = self.start(server, text='{"events": 5000, "rate": 2000}')
        with contextlib.closing(sqlite3.connect(self.folder + "/runs.db", isolation_level=None)) as db:
            db.execute("BEGIN IMMEDIATE")
            harness.wait_for("a commit that fails", lambda: server.metrics()["sluice_store_failing"][""] == 1)
            db.execute("ROLLBACK")
        self.assertEqual(self.last_event(server, run_id)["type"], "done")


if __name__ == "__main__":
    harness.main()
