"""What a service manager is told, and where an installation finds its parts (reliability.md X8)."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import tempfile
import threading
import unittest

import harness


class Manager:
    """A socket as systemd has it."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(path)
        self.socket.settimeout(20)
        self.name = path.replace("\0", "@")

    def next(self, what=None):
        """The next message; signs of life only when they are waited for."""
        while True:
            message = self.socket.recv(4096).decode()
            if what is not None and what in message:
                return message
            if what is None and message != "WATCHDOG=1":
                return message

    def close(self):
        self.socket.close()


WALL = 0x40000000
PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207


def hold_thread(case, pid):
    """A loop's thread stands still, as a debugger does it; gives its id."""

    def name_of(thread):
        with open("/proc/%d/task/%d/comm" % (pid, thread), encoding="ascii") as file:
            return file.read().strip()

    threads = [int(name) for name in os.listdir("/proc/%d/task" % pid)]
    thread = next(thread for thread in threads if name_of(thread) == "loop-0")
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
    if libc.ptrace(PTRACE_SEIZE, thread, None, None) != 0:
        case.fail("threads cannot be held here: errno %d" % ctypes.get_errno())
    case.assertEqual(libc.ptrace(PTRACE_INTERRUPT, thread, None, None), 0)
    os.waitpid(thread, WALL)
    return thread


class Case(harness.Case):
    def manager(self, path):
        manager = Manager(path)
        self.addCleanup(manager.close)
        return manager


class Notify(Case):
    def test_ready_reload_and_stop_are_told_in_order(self):
        for path in (tempfile.mkdtemp() + "/notify", "\0sluice-test-%d" % os.getpid()):
            manager = self.manager(path)
            server = harness.Daemon(config="limits: {runs: 5}\n", env={"NOTIFY_SOCKET": manager.name})
            self.assertEqual(manager.next(), "READY=1\nSTATUS=serving")
            self.assertEqual(harness.sluice(server, "health").stdout, b"SERVING\n")
            server.process.send_signal(signal.SIGHUP)
            self.assertRegex(manager.next(), r"^RELOADING=1\nMONOTONIC_USEC=[0-9]{6,}$")
            self.assertEqual(manager.next(), "READY=1\nSTATUS=serving")
            with open(server.files + "/sluiced.yaml", "w", encoding="ascii") as file:
                file.write("limits: {rnus: 5}\n")
            server.process.send_signal(signal.SIGHUP)
            self.assertIn("RELOADING=1", manager.next())
            self.assertIn("the last reload failed", manager.next())
            server.stop()
            self.assertEqual(manager.next(), "STOPPING=1\nSTATUS=draining")

    def test_tools_are_not_told_where_the_manager_is(self):
        manager = self.manager(tempfile.mkdtemp() + "/notify")
        mock = self.mock("turns:\n  - steps: [{tool_call: {name: env, arguments: {}}}]\n  - steps: [{text: over}]\n")
        agent = "name: a\nmodel: openai:mock-1\ntools:\n  - type: Process\n    name: env\n    description: d\n"
        agent += "    config: {command: [/usr/bin/env]}\n    parameters: {type: object}\n"
        server = self.daemon(agents={"a.yaml": agent}, env=dict(mock.env(), NOTIFY_SOCKET=manager.name))
        events = harness.run_agent(server, "a", "x")
        self.assertIn("PATH=", str(events))
        self.assertNotIn("NOTIFY_SOCKET", str(events))

    def test_a_socket_that_is_of_no_use_stops_nothing(self):
        for path in ("relative", "vsock:2:1", "/no/such/socket", "/" + "x" * 200):
            server = self.daemon(env={"NOTIFY_SOCKET": path})
            server.wait_log("NOTIFY_SOCKET" if len(path) != 15 else "was not told")
            self.assertEqual(harness.sluice(server, "health").stdout, b"SERVING\n")


class Watchdog(Case):
    def test_signs_of_life_come_while_all_loops_turn(self):
        manager = self.manager(tempfile.mkdtemp() + "/notify")
        server = harness.Daemon(env={"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "4000000"}, flags=("--loops", "2"))
        for _ in range(4):
            manager.next("WATCHDOG=1")
        server.stop()

    def test_no_sign_is_given_for_another_process(self):
        manager = self.manager(tempfile.mkdtemp() + "/notify")
        env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "80000", "WATCHDOG_PID": "1"}
        server = harness.Daemon(env=env)
        server.stop()
        messages = [manager.next("") for _ in range(2)]
        self.assertEqual([x.split("=")[0] for x in messages], ["READY", "STOPPING"])

    def test_a_process_that_was_stopped_is_not_hung(self):
        # X10: the time in which nothing of it ran counts for nobody.
        server = self.daemon(flags=("--limit", "watchdog=200ms"))
        for _ in range(3):
            server.process.send_signal(signal.SIGSTOP)
            threading.Event().wait(0.6)  # three times the limit
            server.process.send_signal(signal.SIGCONT)
            self.assertEqual(harness.sluice(server, "health").stdout, b"SERVING\n")
        self.assertNotIn("hung", server.log())

    def test_a_loop_that_hangs_ends_the_process_and_says_which(self):
        # X8, I7
        manager = self.manager(tempfile.mkdtemp() + "/notify")
        env = {"NOTIFY_SOCKET": manager.name, "WATCHDOG_USEC": "1000000"}
        server = harness.Daemon(env=env, flags=("--loops", "2"))
        manager.next("WATCHDOG=1")
        self.addCleanup(server.process.kill)
        thread = hold_thread(self, server.pid)
        # Its tracer must see it end.
        harness.wait_for("the end", lambda: os.waitpid(thread, WALL | os.WNOHANG)[0] == thread, 30)
        self.assertEqual(server.process.wait(30), -signal.SIGABRT, server.log())
        manager.socket.settimeout(0)
        n = 0
        with contextlib.suppress(BlockingIOError):
            while manager.next("WATCHDOG=1"):
                n += 1
        self.assertLessEqual(n, 2, "what was on its way when the thread was held")
        self.assertRegex(server.log(), r'msg="does not answer" part=loop loop=[01] ')
        self.assertRegex(server.log(), r'msg="hung" part=loop loop=[01] ')


class Install(harness.Case):
    def test_an_installation_finds_its_launcher_and_runs_a_tool(self):
        prefix = tempfile.mkdtemp()
        build = os.path.dirname(harness.BIN)
        subprocess.run(["cmake", "--install", build, "--prefix", prefix], check=True, capture_output=True)
        with open(prefix + "/lib/systemd/system/sluiced.service", encoding="ascii") as file:
            unit = file.read()
        self.assertIn("\nExecStart=%s/bin/sluiced --config /etc/sluice/sluiced.yaml\n" % prefix, unit)
        path = prefix + "/lib/systemd/system/sluiced.service"
        done = subprocess.run(["systemd-analyze", "verify", path], capture_output=True, check=False)
        self.assertEqual((done.returncode, done.stderr.decode()), (0, ""))
        for path in (
            "bin/sluiced",
            "bin/sluice",
            "libexec/sluice/sluice-exec",
            "share/doc/sluice/README.md",
            "share/sluice/proto/sluice/v1/runtime.proto",
        ):
            self.assertTrue(os.path.exists(prefix + "/" + path), path)
        self.assertFalse(os.path.exists(prefix + "/bin/test_loop"))
        found = subprocess.run(["find", prefix, "-name", "*.a"], check=True, capture_output=True)
        self.assertEqual(found.stdout, b"")
        mock = self.mock("turns:\n  - steps: [{tool_call: {name: say, arguments: {}}}]\n  - steps: [{text: over}]\n")
        agent = "name: a\nmodel: openai:mock-1\ntools:\n  - type: Process\n    name: say\n    description: d\n"
        agent += "    config: {command: [/bin/echo, launched]}\n    parameters: {type: object}\n"
        ours, harness.BIN = harness.BIN, prefix + "/bin"
        try:
            server = self.daemon(agents={"a.yaml": agent}, env=mock.env())
            self.assertIn("launched", str(harness.run_agent(server, "a", "x")))
        finally:
            harness.BIN = ours


if __name__ == "__main__":
    unittest.main(verbosity=2)
