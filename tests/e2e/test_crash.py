"""sluiced is killed at random moments under load, started again, and asked for everything it had promised (RL-X1, RL-I1 to
RL-I3, RL-C19, RL-S5). Seed and length: SL_CRASH_SEED, SL_CRASH_SECONDS (20)."""

import json
import os
import random
import sqlite3
import subprocess
import tempfile
import time

import harness
import proof
from run_case import DETACH, events_of, options, processes_with
from test_sessions import Provider, session
from wire import ATTACH, GET_RUN, INITIAL_WINDOW, LIST_RUNS, START_RUN, STREAMING, Wire, field, fields_of, run_request

SEED = int(os.environ.get("SL_CRASH_SEED") or time.time())
SECONDS = float(os.environ.get("SL_CRASH_SECONDS") or 20)
MIN_ROUNDS = 3
MAX_ROUNDS = 100_000

OK, NOT_FOUND, ABORTED, DATA_LOSS = 0, 5, 10, 15
DONE, FAILED = 4, 5
EVENT_DONE, EVENT_ERROR = 16, 17
MARK = "4321.5"  # seconds that a tool sleeps: its process is known by it

WRITER = "name: {0}\nprovider: load\nmodel: load\nmemory: None\ndurability: {1}\n"
SPEAKER = "name: {0}\nmodel: openai:mock-1\nmax_context_messages: 1000\ndurability: {1}\n"
CALLER = (
    "name: caller\nprovider: script\nmodel: script-1\nmemory: None\ndurability: SYNC\n"
    'tools: [{type: Process, name: wait, description: Waits., config: {command: [/bin/sleep, "%s"]}}]\n' % MARK
)
SCENARIO = "model: script-1\nturns:\n  - steps: [{tool_call: {name: wait, arguments: {}}}, {finish: tool_calls}]\n"
MODES = {"none": "NONE", "async": "ASYNC", "sync": "SYNC"}
AGENTS = dict(
    [("w%s.yaml" % name, WRITER.format("w" + name, mode)) for name, mode in MODES.items()]
    + [("s%s.yaml" % name, SPEAKER.format("s" + name, mode)) for name, mode in MODES.items() if name != "none"]
    + [("caller.yaml", CALLER)]
)


class Reader:
    """One that follows a run: what it has when its server dies."""

    def __init__(self, wire, stream, after=0):
        self.wire, self.stream, self.after = wire, stream, after

    @property
    def reply(self):
        return self.wire.reply(self.stream)

    def events(self):
        """Each whole message, as it came."""
        return [framed(body) for body in self.reply.messages()]


class Run:
    def __init__(self, run_id, agent):
        self.run_id, self.agent = run_id, agent
        self.readers = []
        self.whole = None  # once it was read after the crash

    def is_sync(self):
        return self.agent in ("wsync", "ssync", "caller")


def framed(body):
    return b"\0" + len(body).to_bytes(4, "big") + body


class Crash(harness.Case):
    def setUp(self):
        print("SL_CRASH_SEED=%d SL_CRASH_SECONDS=%g" % (SEED, SECONDS), flush=True)
        self.random = random.Random(SEED)
        self.folder = tempfile.mkdtemp(prefix="sluice-crash-")
        self.path = self.folder + "/runs.db"
        self.config = "providers: [{name: script, kind: scripted, scenario: %s}]\n" % harness.write(SCENARIO)
        self.provider = Provider()
        self.addCleanup(self.provider.server_close)
        self.addCleanup(self.provider.shutdown)
        self.server, self.asker, self.wires = None, None, []
        self.addCleanup(self.end)
        self.addCleanup(self.close_wires)
        self.said = {"sasync": [], "ssync": []}  # what a session's runs were told, and had answered
        self.n_checked = {"runs": 0, "readers": 0, "lost": 0, "cut": 0}

    def end(self):
        if self.server is not None and self.server.process.poll() is None:
            self.server.process.kill()
            self.server.process.wait()

    def serve(self):
        flags = ["--store", self.path, "--loops", "2", "--limit", "runs=200"]
        self.server = harness.Daemon(agents=AGENTS, config=self.config, env=self.provider.env(), flags=flags)

    def wire(self, window=1 << 20):
        wire = Wire(self.server.address, settings=[(INITIAL_WINDOW, window)])
        wire.open_window(0, 1 << 30)
        self.wires.append(wire)
        return wire

    def close_wires(self):
        """What they have read is compared byte by byte with the whole run, which is proven: not once more for each."""
        while self.wires:
            wire = self.wires.pop()
            wire.event_streams = []
            wire.close()

    # ---- Load ----

    def order(self):
        """What a writer is told: a burst, or a pace; an end that comes before the kill, or does not."""
        rate = self.random.choice((0, 50, 500, 5000))
        events = self.random.choice((0, 1, 20, 400)) if self.random.random() < 0.4 else 1_000_000
        events = min(events, 3000) if rate == 0 else events
        return "events=%d rate=%d bytes=%d" % (events, rate, self.random.choice((1, 50, 400)))

    def start(self, wire, agent, text, more=b""):
        reply = wire.ask(START_RUN, run_request(agent, text) + more)
        self.assertEqual(reply.status(), OK, reply)
        return Run(reply.get("sluice-run-id"), agent)

    def start_all(self, number):
        """Runs of all kinds; each has a reader from its beginning, some of them the one that started it."""
        control, fast, slow = self.wire(), self.wire(), self.wire(window=4096)
        runs = []
        for i in range(self.random.randint(6, 14)):
            agent = "w" + self.random.choice(("none", "async", "async", "sync", "sync"))
            if i % 3 == 0:
                stream = fast.call(STREAMING, run_request(agent, self.order()) + options(DETACH))
                fast.wait("headers", lambda s=stream: fast.reply(s).get("sluice-run-id"))
                run = Run(fast.reply(stream).get("sluice-run-id"), agent)
                run.readers.append(Reader(fast, stream))
            else:
                run = self.start(control, agent, self.order())
                stream = fast.call(ATTACH, field(1, run.run_id))
                run.readers.append(Reader(fast, stream))
            runs.append(run)
        for agent in self.said:
            runs += self.speak(control, fast, agent, number)
        if self.random.random() < 0.5:
            run = self.start(control, "caller", "go")
            run.readers.append(Reader(fast, fast.call(ATTACH, field(1, run.run_id))))
            runs.append(run)
        for run in self.random.sample(runs, len(runs) // 2):
            run.readers.append(Reader(slow, slow.call(ATTACH, field(1, run.run_id))))
        return runs, (fast, slow)

    def speak(self, control, wire, agent, number):
        """A session's turn that ends, and one that is under way when the server dies."""
        done = wire.call(STREAMING, run_request(agent, "say %d" % number) + session("s"))
        wire.wait_over(done)
        self.assertEqual(wire.reply(done).status(), OK, wire.reply(done))
        self.said[agent].append("say %d" % number)
        said = Run(wire.reply(done).get("sluice-run-id"), agent)
        said.readers.append(Reader(wire, done))
        hangs = self.start(control, agent, "hang %d" % number, session("s"))
        hangs.readers.append(Reader(wire, wire.call(ATTACH, field(1, hangs.run_id))))
        return [said, hangs]

    def follow_and_kill(self, runs, wires):
        """Reads, comes in between as a further reader, and kills the server in the middle of it."""
        moment = time.monotonic() + self.random.uniform(0, 0.8)
        while time.monotonic() < moment:
            for wire in wires:
                wire.receive(0.002)
            run = self.random.choice(runs)
            n_seen = len(run.readers[0].reply.messages()) if len(run.readers) < 4 else 0
            if n_seen > 0:
                after = self.random.randint(0, n_seen)
                stream = wires[0].call(ATTACH, field(1, run.run_id) + (field(2, after) if after else b""))
                run.readers.append(Reader(wires[0], stream, after))
        self.crash()

    def crash(self):
        """Whoever is connected has read what was still on its way when this is over."""
        self.server.crash()
        for wire in self.wires:
            wire.wait_closed()
        self.close_wires()
        proof.forget_streams()

    def crash_in_recovery(self):
        """A start that is killed as well, somewhere on its way."""
        with open(self.folder + "/log", "ab") as log:
            process = subprocess.Popen(
                [harness.BIN + "/sluiced", "--listen", "127.0.0.1:0", "--store", self.path], stdout=log, stderr=log
            )
        with self.assertRaises(subprocess.TimeoutExpired):
            process.wait(self.random.uniform(0, 0.3))
        process.kill()
        process.wait(20)

    # ---- Proof ----

    def get(self, run_id):
        reply = self.asker.ask(GET_RUN, field(1, run_id))
        if reply.status() == NOT_FOUND:
            return None
        self.assertEqual(reply.status(), OK, reply)
        return dict(fields_of(dict(fields_of(reply.messages()[0]))[1]))

    def attach(self, run_id, after=0):
        return self.asker.ask(ATTACH, field(1, run_id) + (field(2, after) if after else b""))

    def check_all(self, runs):
        self.asker = self.wire(window=1 << 26)
        for run in runs:
            with self.subTest(seed=SEED, run=run.run_id, agent=run.agent):
                self.check_run(run)
        self.check_list(runs)
        metrics = self.server.metrics()
        self.assertEqual(metrics["sluice_store_runs_open"][""], 0, "nothing runs on without an owner")
        harness.wait_for("the end of tools", lambda: not processes_with(MARK))

    def check_run(self, run):
        shown = self.get(run.run_id)
        if run.agent == "wnone":
            self.assertIsNone(shown)
            self.assertEqual(self.attach(run.run_id).status(), NOT_FOUND)
            return
        self.assertIsNotNone(shown, "it was begun, and that was told")
        self.assertIn(shown[3], (DONE, FAILED))
        reply = self.attach(run.run_id)
        self.assertEqual(reply.status(), OK if shown[3] == DONE else ABORTED, reply)
        events = events_of(reply)
        self.assertEqual([sequence for sequence, _, _ in events], list(range(1, len(events) + 1)))
        self.assertEqual([n for _, n, _ in events if n in (EVENT_DONE, EVENT_ERROR)], [events[-1][1]])
        self.assertEqual((shown[7], events[-1][1] == EVENT_DONE), (len(events), shown[3] == DONE))
        run.whole = [framed(body) for body in reply.messages()]
        proof.check_stream(b"".join(run.whole), run.run_id)
        self.n_checked["runs"] += 1
        self.n_checked["cut"] += shown[3] == FAILED
        for reader in run.readers:
            self.check_reader(run, reader, shown[3] == DONE)

    def check_reader(self, run, reader, is_done):
        """What it saw is there, or it is told that it is lost; and it goes on where it was."""
        seen = reader.events()
        last = reader.after + len(seen)
        rest = self.attach(run.run_id, last)
        self.n_checked["readers"] += 1
        if rest.status() == DATA_LOSS:
            self.assertFalse(run.is_sync() or is_done, "nothing of it may be lost")
            self.n_checked["lost"] += 1
            self.assertEqual(rest.error_info()[0], "DATA_LOSS")
            recovered = int(rest.text().split("events behind ")[1].split()[0])
            self.assertLess(recovered, last)
            n_same = max(recovered - reader.after, 0)
            if seen:
                proof.check_stream(b"".join(seen), None, reader.after, may_be_cut=True)
            self.assertEqual(seen[:n_same], run.whole[reader.after : recovered][: len(seen)])
            again = self.attach(run.run_id, recovered)
            self.assertEqual([framed(body) for body in again.messages()], run.whole[recovered:])
            self.join(run, reader, n_same, again)
            return
        self.assertEqual(rest.status(), OK if is_done else ABORTED, rest)
        self.assertEqual(seen, run.whole[reader.after : last], "the same bytes")
        self.assertEqual([framed(body) for body in rest.messages()], run.whole[last:])
        self.join(run, reader, len(seen), rest)

    def join(self, run, reader, n_seen, rest):
        """`sluice check-events` says so, too: of the reader's parts together, and of them beside the whole."""
        parts = [b"".join(reader.events()[:n_seen]), b"".join(framed(body) for body in rest.messages())]
        begin = min(reader.after, len(run.whole) - 1)
        if self.random.random() < 0.2 and (parts[0] or parts[1]):
            names = [self.keep(part) for part in parts if part]
            self.check_events("--join", "--after", str(begin), *names)
            self.check_events("--after", "0", "--after", str(begin), self.keep(b"".join(run.whole)), self.keep(b"".join(parts)))

    def keep(self, data):
        """A file with these bytes."""
        with tempfile.NamedTemporaryFile(dir=self.folder, delete=False) as file:
            file.write(data)
        return file.name

    def check_events(self, *words):
        done = subprocess.run([harness.BIN + "/sluice", "check-events", *words], capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        for name in words:
            if name.startswith(self.folder):
                os.unlink(name)

    def check_list(self, runs):
        """No run of the list is still running (RL-X1: "running" rows for ever)."""
        listed, token = {}, b""
        for _ in range(1000):
            reply = self.asker.ask(LIST_RUNS, (field(1, 100) + (field(2, token) if token else b"")))
            self.assertEqual(reply.status(), OK, reply)
            answer = fields_of(reply.messages()[0])
            for run in (dict(fields_of(value)) for number, value in answer if number == 1):
                listed[run[1].decode()] = run[3]
            token = dict(answer).get(2, b"")
            if not token:
                break
        self.assertEqual({state for state in listed.values() if state not in (DONE, FAILED)}, set())
        self.assertEqual({run.run_id for run in runs if run.agent != "wnone"} - set(listed), set())

    def check_sessions(self):
        """A session has every turn that was answered, in order, each with its answer; of those that were cut there may be
        what they were told."""
        for agent, said in self.said.items():
            reply = self.wire().ask(STREAMING, run_request(agent, "last") + session("s"))
            self.assertEqual(reply.status(), OK, reply)
            asked = self.provider.asked()
            self.assertEqual(asked.pop(), ("user", "last"))
            answered = []
            for (role, text), (next_role, answer) in zip(asked, [*asked[1:], ("", "")]):
                if role == "user" and text.startswith("say"):
                    self.assertEqual((next_role, answer), ("assistant", "re: " + text))
                    answered.append(text)
                self.assertIn(role, ("user", "assistant"))
            self.assertEqual(answered, said)

    def check_database(self):
        with sqlite3.connect("file:%s?mode=ro" % self.path, uri=True) as db:
            self.assertEqual(db.execute("PRAGMA integrity_check").fetchall(), [("ok",)])
            self.assertEqual(db.execute("SELECT COUNT(*) FROM runs WHERE ended_ms = 0").fetchone(), (0,))
        db.close()

    def test_what_was_promised_is_kept_over_every_crash(self):
        end = time.monotonic() + SECONDS
        every, n_rounds = [], 0
        for n_rounds in range(1, MAX_ROUNDS + 1):
            self.serve()
            runs, wires = self.start_all(n_rounds)
            self.follow_and_kill(runs, wires)
            for _ in range(self.random.choice((0, 0, 0, 1, 3))):
                self.crash_in_recovery()
            self.serve()
            self.check_all(runs)
            every = self.random.sample(every, min(len(every), 20)) + runs
            self.crash()
            if n_rounds >= MIN_ROUNDS and time.monotonic() > end:
                break
        self.serve()
        self.asker = self.wire(window=1 << 26)
        for run in every:
            if run.whole is not None:
                self.assertEqual([framed(body) for body in self.attach(run.run_id).messages()], run.whole, "ended once")
        self.check_sessions()
        self.close_wires()
        self.server.stop()
        self.check_database()
        print(json.dumps(dict(self.n_checked, rounds=n_rounds)), flush=True)


if __name__ == "__main__":
    harness.main()
