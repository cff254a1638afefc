"""What the end-to-end tests share: the real binaries, started and ended in order, and looked at from outside.

Every daemon is checked at its end: exit status 0, no sanitizer report, descriptors, threads and children back at what
they were after its start, nothing left in its dump (I6), and no planted secret in what it wrote (I8). Every stream of
events that the CLI prints, or that comes on a connection of wire.py, goes through `sluice check-events` (proof.py)."""

import contextlib
import fcntl
import http.client
import json
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import time
import unittest
import urllib.request

import proof
from proof import check_order, plant  # noqa: F401  for the tests

BIN = os.environ["SLUICE_BIN"]
ROOT = os.environ["SLUICE_ROOT"]


def wait_for(what, condition, seconds=20):
    """Waits for a condition, with a bound."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError("not within %d s: %s" % (seconds, what))
        time.sleep(0.01)


def state_of(pid):
    """(descriptors, threads, children) of a process."""
    tasks = os.listdir("/proc/%d/task" % pid)
    children = []
    for task in tasks:
        with contextlib.suppress(FileNotFoundError):
            with open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as file:
                children += file.read().split()
    return len(os.listdir("/proc/%d/fd" % pid)), len(tasks), children


class OpsConnection(http.client.HTTPConnection):
    """HTTP/1.1 to "unix:PATH" or "HOST:PORT"."""

    def __init__(self, address):
        super().__init__("ops", timeout=20)
        self.address = address

    def connect(self):
        self.sock = open_socket(self.address)


def open_socket(address):
    if address.startswith("unix:"):
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(20)
        opened.connect(address[len("unix:") :])
        return opened
    host, _, port = address.rpartition(":")
    return socket.create_connection((host, int(port)), 20)


def parse_metrics(text):
    """{name: {labels as they are written: value}}"""
    samples = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            name, _, labels = name.partition("{")
            samples.setdefault(name, {})[labels.rstrip("}")] = float(value)
    return samples


def rises(before, after, name):
    """{labels: by how much}, of what has changed."""
    old = before.get(name, {})
    return {k: v - old.get(k, 0) for k, v in after.get(name, {}).items() if v != old.get(k, 0)}


class Process:
    """A server in the background that writes its address to a file."""

    def __init__(self, name, command, env=None):
        self.dir = tempfile.mkdtemp(prefix="sluice-")
        self.log_path = self.dir + "/log"
        self.port_file = self.dir + "/address"
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command + ["--port-file", self.port_file],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=dict(os.environ, **(env or {})),
            )
        try:
            wait_for(name + " listens", self._is_ready)
        except AssertionError as error:
            self.process.kill()
            raise AssertionError("%s: %s" % (error, self.log())) from None
        with open(self.port_file, encoding="utf-8") as file:
            self.address = file.read().strip()
        self.pid = self.process.pid

    def _is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError("exit status %d" % self.process.returncode)
        return os.path.exists(self.port_file)

    def log(self):
        with open(self.log_path, encoding="utf-8", errors="replace") as file:
            return file.read()

    def wait_log(self, *words, seconds=20):
        """The first line with all these words."""
        return wait_for(
            "a log line with %s in:\n%s" % (words, self.log()[-2000:]),
            lambda: next((x for x in self.log().splitlines() if all(w in x for w in words)), None),
            seconds,
        )

    def stop(self, expected=0):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError("does not end: " + self.log()[-3000:]) from None
        log = self.log()
        assert "Sanitizer" not in log and "runtime error" not in log, log[-6000:]
        assert status == expected, "exit status %d: %s" % (status, log[-3000:])


class Daemon(Process):
    """sluiced on a free port; agents: {file name: text}."""

    kept = 4  # descriptors that a model client keeps open for the next run
    kept_threads = 4  # libuv's pool, which is begun by its first use and stays
    unchecked = None  # why this one's operations port cannot be asked at the end

    def __init__(self, agents=None, config="", flags=(), env=None, drain_delay="0", ops=None, listen="127.0.0.1:0"):
        self.files = tempfile.mkdtemp(prefix="sluice-files-")
        os.mkdir(self.files + "/agents")
        for name, text in (agents or {}).items():
            with open(self.files + "/agents/" + name, "w", encoding="utf-8") as file:
                file.write(text)
        command = [BIN + "/sluiced", "--agents", self.files + "/agents"]
        command += ["--listen", listen] if listen else []  # else the configuration has it
        command += ["--limit", "drain_delay=" + drain_delay, "--limit", "drain_timeout=2s"]
        self.ops_address = ops or "unix:" + self.files + "/ops"
        command += ["--ops-listen", self.ops_address]
        if config:
            with open(self.files + "/sluiced.yaml", "w", encoding="utf-8") as file:
                file.write(config)
            command += ["--config", self.files + "/sluiced.yaml"]
        super().__init__("sluiced", command + list(flags), env)
        if ops is not None:
            line = self.wait_log("listening for operations")
            self.ops_address = re.search(r"address=(\S+)", line).group(1)
        self.baseline = state_of(self.pid)
        self.files_written = proof.written_files(self.pid)

    def ops(self, path, method="GET"):
        """(status, body) of the operations port."""
        connection = OpsConnection(self.ops_address)
        connection.request(method, path, headers={"Connection": "close"})
        reply = connection.getresponse()
        body = reply.read().decode()
        connection.close()
        return reply.status, body

    def metrics(self):
        status, body = self.ops("/metrics")
        assert status == 200, body
        return parse_metrics(body)

    def dump(self):
        status, body = self.ops("/debug/dump")
        assert status == 200, body
        return json.loads(body)

    def is_empty(self):
        """I6: the accounts of runs are back at zero, but for what is kept of those that have ended."""
        dump = self.dump()
        totals = dump["totals"]
        is_left = any(totals[name] for name in ("runs_running", "runs_waiting", "children", "send_queue_bytes"))
        is_left |= max(totals["log_bytes"], totals["runs_memory_bytes"]) > totals["kept_bytes"]
        metrics = self.metrics()
        for name in ("runs_open", "queued_bytes", "queued_requests"):
            is_left |= metrics.get("sluice_store_" + name, {}).get("", 0) > 0
        return not is_left and not any(loop.get("runs") or loop.get("children") for loop in dump["loops"])

    def is_at_baseline(self):
        descriptors, threads, children = state_of(self.pid)
        most = (self.baseline[0] + self.kept, self.baseline[1] + self.kept_threads)
        return descriptors <= most[0] and threads <= most[1] and children == self.baseline[2]

    def check_baseline(self):
        """Nothing of a run or call is left, but what is kept for the next one."""
        try:
            wait_for("a process as it was", self.is_at_baseline)
        except AssertionError as error:
            now = (self.baseline, state_of(self.pid))
            raise AssertionError("%s: descriptors, threads, children were %s, are %s" % (error, *now)) from None
        if self.unchecked is None:
            wait_for("no runs, no children and empty queues in the dump", self.is_empty)

    def search_secrets(self):
        """I8, while the server is there."""
        self.files_written |= proof.written_files(self.pid)
        proof.search_process(self.pid)
        if self.unchecked is None:
            for path in ("/metrics", "/debug/dump"):
                proof.search(path, self.ops(path)[1].encode())

    def search_files(self):
        """I8, of what the server leaves behind."""
        proof.search_files(self.files_written | {self.log_path})

    def stop(self, expected=0):
        try:
            if self.process.poll() is None:
                self.check_baseline()
                self.search_secrets()
        except AssertionError:
            self.process.kill()
            self.process.wait()
            raise
        super().stop(expected)
        self.search_files()

    def crash(self):
        """SIGKILL. What it had sent is no longer binding for those runs that are not SYNC."""
        self.files_written |= proof.written_files(self.pid)
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        log = self.log()
        assert "Sanitizer" not in log and "runtime error" not in log, log[-6000:]
        assert "order broken" not in log, log[-6000:]
        self.search_files()
        proof.forget_streams()


class MockModel(Process):
    """sluice mock-model with a scenario."""

    def __init__(self, scenario, flags=()):
        self.scenario = tempfile.mkstemp(suffix=".yaml")[1]
        with open(self.scenario, "w", encoding="utf-8") as file:
            file.write(scenario)
        super().__init__(
            "mock-model", [BIN + "/sluice", "mock-model", self.scenario, "--listen", "127.0.0.1:0", *flags]
        )

    def env(self):
        return {"OPENAI_BASE_URL": "http://%s/v1" % self.address, "OPENAI_API_KEY": plant("planted-secret-key-0123456789")}

    def stats(self):
        with urllib.request.urlopen("http://%s/stats" % self.address, timeout=10) as reply:
            return json.load(reply)


def sluice(daemon, *words, **options):
    """Runs the CLI to its end. Events that it prints are proven to be in order."""
    env = dict(os.environ, SLUICE_ADDR=daemon.address if daemon else "127.0.0.1:1")
    done = subprocess.run(
        [BIN + "/sluice", *words],
        env=env,
        capture_output=True,
        timeout=options.get("timeout", 60),
        input=options.get("input"),
        check=False,
    )
    proof.search("what `sluice %s` prints" % words[0], done.stdout + done.stderr)
    if prints_events(words):
        check_events(done.stdout, done.returncode, words)
    return done


def write(text, suffix=".yaml"):
    path = tempfile.mkstemp(suffix=suffix)[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


def make_certificate(path):
    """A certificate of its own for localhost: PATH.cert and PATH.key."""
    words = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost"
    words += " -addext subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        ["openssl", *words.split(), "-keyout", path + ".key", "-out", path + ".cert"], check=True, capture_output=True
    )


class Recorder:
    """A pipe's end that keeps what is read line by line."""

    def __init__(self, file):
        self.file = file
        self.seen = b""

    def readline(self):
        line = self.file.readline()
        self.seen += line
        return line

    def __getattr__(self, name):
        return getattr(self.file, name)


class Child(subprocess.Popen):
    """The CLI in the background. Events that it printed are proven to be in order when communicate() has the rest."""

    def __init__(self, words, **options):
        super().__init__([BIN + "/sluice", *words], **options)
        self.has_events = prints_events(words) and self.stdout is not None
        self.words = words
        if self.has_events:
            self.stdout = Recorder(self.stdout)

    def communicate(self, *args, **options):
        recorder = self.stdout
        out, err = super().communicate(*args, **options)
        if self.has_events and out is not None:
            check_events(recorder.seen + out, self.returncode, self.words)
        return out, err


def start_sluice(daemon, *words, stdout=subprocess.PIPE):
    env = dict(os.environ, SLUICE_ADDR=daemon.address)
    # Unbuffered: what readline() did not take must be there for communicate().
    return Child(words, env=env, bufsize=0, stdout=stdout, stderr=subprocess.PIPE)


class Terminal:
    """The CLI, or another program, on a terminal of its own."""

    def __init__(self, daemon, *words, columns=80, env=None, program=BIN + "/sluice"):
        ours, theirs = pty.openpty()
        self.fd = ours
        self.resize(columns)
        self.before = termios.tcgetattr(ours)
        self.seen = b""
        self.process = subprocess.Popen(
            [program, *words],
            env={k: v for k, v in os.environ.items() if k != "NO_COLOR"}
            | {"TERM": "xterm", "SLUICE_ADDR": daemon.address if daemon else "127.0.0.1:1"}
            | (env or {}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(theirs)

    def resize(self, columns):
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def type(self, text):
        os.write(self.fd, text)

    def read(self):
        """More of what is shown; b"" at the end."""
        try:
            block = os.read(self.fd, 65536)
        except OSError:  # nobody has the other end
            return b""
        self.seen += block
        return block

    def read_until(self, what):
        """Until a pattern matches what is shown."""
        while re.search(what, self.seen) is None:
            if not self.read():
                raise AssertionError("%r never came: %r" % (what, self.seen[-2000:]))

    def end(self):
        """Exit status, everything that was shown, and whether the terminal is as it was."""
        while self.read():
            pass
        status = self.process.wait(30)
        is_same = termios.tcgetattr(self.fd) == self.before
        os.close(self.fd)
        proof.search("what is on a terminal", self.seen)
        return status, self.seen.decode(), is_same


def prints_events(words):
    return words[0] in ("run", "attach") and "--json" in words and "--detach" not in words


def check_events(lines, status, words):
    """A run that was not cut has its terminal event; a client that was killed may leave half a line."""
    lines = lines[: lines.rfind(b"\n") + 1]
    if not lines:
        return
    events = [json.loads(line) for line in lines.splitlines()]
    run_id = words[1] if words[0] == "attach" else events[0].get("run_id")
    after = int(words[words.index("--after") + 1]) if "--after" in words else 0
    proof.check_stream(lines, run_id, after, status != 0 and events[-1]["type"] not in ("done", "error"))


def run_agent(daemon, agent, text="", expected=0, flags=()):
    """Events of a run, proven to be in order."""
    done = sluice(daemon, "run", agent, text, "--json", "--timeout", "30s", *flags)
    assert done.returncode == expected, "exit status %d: %s\n%s" % (
        done.returncode,
        done.stderr.decode(),
        daemon.log()[-2000:],
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


def text_of(events):
    return "".join(event["delta"] for event in events if event["type"] == "text_delta")


class Case(unittest.TestCase):
    """Ends every process that a test started."""

    def daemon(self, **options):
        daemon = Daemon(**options)
        self.addCleanup(daemon.stop)
        return daemon

    def mock(self, scenario, flags=()):
        mock = MockModel(scenario, flags)
        self.addCleanup(mock.stop)
        return mock


def main():
    unittest.main(verbosity=2, argv=sys.argv)


HELPER = "name: helper\nmodel: openai:mock-1\ninstructions: You help.\ntools: [current_time]\n"
ANSI = re.compile(rb"\x1b")
