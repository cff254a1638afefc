"""The processes that are measured: sluiced, and the model's mock in front of it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time


CORES = sorted(os.sched_getaffinity(0))  # before anything is pinned: a child inherits what its parent has left


def pinned(core):
    """For preexec_fn: the child keeps to one core, if there are several. None: it has all of them."""
    def pin():
        os.sched_setaffinity(0, CORES if core is None else {CORES[core % len(CORES)]})
    return pin


def size_kib(bin_dir, name):
    """Size of the program without symbols."""
    with tempfile.NamedTemporaryFile() as file:
        subprocess.run(["strip", "-o", file.name, os.path.join(bin_dir, name)], check=True)
        return os.stat(file.name).st_size // 1024


def certificate(work):
    """Makes a certificate of its own; the options that give it to sluiced."""
    paths = [os.path.join(work, name) for name in ("cert.pem", "key.pem")]
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-days", "2", "-subj", "/CN=localhost", "-out", paths[0], "-keyout", paths[1]],
                   check=True, capture_output=True)
    return ["--tls-cert", paths[0], "--tls-key", paths[1]]


def relay_config(address):
    """An agent that passes on what the provider at `address` says."""
    return {
        "daemon": f"providers:\n  - {{name: mock, kind: openai_chat, base_url: 'http://{address}/v1'}}\n",
        "agent": "name: relay\nmodel: mock:mock-1\n",
    }


class Process:
    """A program that writes its address to a file; ended at the end of the block."""

    def __init__(self, bin_dir):
        self.bin_dir = bin_dir
        self.work = tempfile.mkdtemp()
        self.process = None
        self.address = None

    def tool(self, name):
        return os.path.join(self.bin_dir, name)

    def start(self, command, core, patience_s=10):
        port_file = os.path.join(self.work, "address")
        with open(os.path.join(self.work, "log"), "wb") as log:
            self.process = subprocess.Popen([*command, "--port-file", port_file], stdout=log, stderr=log,
                                            preexec_fn=pinned(core))
        end = time.monotonic() + patience_s
        while not (os.path.exists(port_file) and os.path.getsize(port_file) > 0):
            if self.process.poll() is not None or time.monotonic() > end:
                with open(os.path.join(self.work, "log"), encoding="utf-8", errors="replace") as log:
                    sys.exit(f"{command[0]} did not start:\n{log.read()}")
            time.sleep(0.001)
        with open(port_file, encoding="utf-8") as file:
            self.address = file.readline().strip()

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def cpu_seconds(self):
        """User and system time of all threads."""
        total = 0
        tasks = f"/proc/{self.process.pid}/task"
        for task in os.listdir(tasks):
            with open(f"{tasks}/{task}/schedstat", encoding="ascii") as file:
                total += int(file.read().split()[0])
        return total / 1e9

    def status(self, name):
        """A field of /proc/PID/status, in KiB."""
        with open(f"/proc/{self.process.pid}/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(name + ":"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process is not None:
            self.stop()
        shutil.rmtree(self.work, ignore_errors=True)


class Server(Process):
    """sluiced, with one loop on core 0; without `config` with the limits of --profile load."""

    def __init__(self, bin_dir, config=None, wrapper=(), profile=None, tls=False, loops=1, flags=()):
        super().__init__(bin_dir)
        command = [*wrapper, self.tool("sluiced"), "--listen", "127.0.0.1:0", "--loops", str(loops),
                   "--limit", "drain_delay=0"]
        if tls:
            command += certificate(self.work)
        if config is None or profile:
            command += ["--profile", "load"]
        if config is not None:
            path = os.path.join(self.work, "sluiced.yaml")
            with open(path, "w", encoding="utf-8") as file:
                file.write(config["daemon"])
            agents = os.path.join(self.work, "agents")
            os.mkdir(agents)
            with open(os.path.join(agents, "relay.yaml"), "w", encoding="utf-8") as file:
                file.write(config["agent"])
            command += ["--config", path, "--agents", agents]
        command += flags
        self.start(command, 0 if loops == 1 else None, 60 if wrapper else 10)


class BareServer(Process):
    """tests/bench/bare_server.c on core 0, driven by the same client as sluiced."""

    def __init__(self, bin_dir, pack):
        super().__init__(bin_dir)
        self.start([self.tool("bare_server"), "--pack", pack], 0)


class MockModel(Process):
    """sluice mock-model with 1,000 tokens of text as fast as they are taken, one SSE chunk each."""

    SCENARIO = "turns:\n  - steps:\n      - text: \"{}\"\n        pace: {{unit: words, size: 1}}\n"

    def __init__(self, bin_dir):
        super().__init__(bin_dir)
        path = os.path.join(self.work, "scenario.yaml")
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.SCENARIO.format("token " * 999 + "end."))
        self.start([self.tool("sluice"), "mock-model", path, "--listen", "127.0.0.1:0", "--quiet"], 1)

    def config(self):
        return relay_config(self.address)
