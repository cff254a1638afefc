"""What a store costs: ./run bench --durability.

The same runs with durability NONE, ASYNC and SYNC, in turns, each against a sluiced of its own with an empty store. The
agents are of the provider `load`, which makes its text from nothing: what is measured is runs, streams and the store."""

import http.client
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from client import MESSAGE_BYTES, bench, median
from servers import Server, pinned

MODES = ("NONE", "ASYNC", "SYNC")
AGENT = "name: {}\nprovider: load\nmodel: load\nmemory: None\nheartbeat_ms: 0\ndurability: {}\n"
LONE_RATE = 100  # events a second: each one is alone


class StoreServer(Server):
    """sluiced on core 0 with an empty store in `folder`, and an agent for each durability."""

    def __init__(self, bin_dir, folder):
        self.ops = os.path.join(folder, "ops")
        config = {"daemon": "{}\n", "agent": "---\n".join(AGENT.format(mode.lower(), mode) for mode in MODES)}
        flags = ["--store", os.path.join(folder, "runs.db"), "--ops-listen", "unix:" + self.ops]
        super().__init__(bin_dir, config, profile=True, flags=flags)

    def metrics(self):
        """Those without labels."""
        connection = http.client.HTTPConnection("ops", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(self.ops)
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def measure(bin_dir, parent, mode, text, streams):
    """A report of `sluice bench`, with what the store did meanwhile."""
    with tempfile.TemporaryDirectory(dir=parent) as folder, StoreServer(bin_dir, folder) as server:
        report = bench(server, mode.lower(), text, streams, streams)
        metrics = server.metrics()
        for name in ("commits", "appends", "event_bytes", "commit_seconds"):
            report["store_" + name] = metrics[f"sluice_store_{name}_total"]
    is_recorded = report["store_event_bytes"] >= report["messages"] * MESSAGE_BYTES * 0.9
    if is_recorded != (mode != "NONE") or report["gaps"] + report["duplicates"] > 0:
        sys.exit(f"{mode} is not what was measured: {report}")
    return report


def bulk(bin_dir, parent, mode, streams, total):
    return measure(bin_dir, parent, mode, f"events={total // streams} bytes={MESSAGE_BYTES} rate=0", streams)


def lone(bin_dir, parent, mode, events):
    """One run with few events: from the making of each to its arrival."""
    text = f"events={events} bytes={MESSAGE_BYTES} rate={LONE_RATE} stamp=true"
    report = measure(bin_dir, parent, mode, text, 1)
    return dict(report, p50_us=report["p50_lag_ms"] * 1e3, p99_us=report["p99_lag_ms"] * 1e3)


def in_process(bin_dir, parent, mode, total):
    """run_append.c: runs, the store, and a reader that only takes; no HTTP/2. None: it is not built."""
    program = os.path.join(bin_dir, "run_append")
    if not os.path.exists(program):
        return None
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        command = [program, folder, mode.lower(), "16", str(total // 16), str(MESSAGE_BYTES)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False,
                              preexec_fn=pinned(None))
    if done.returncode != 0:
        sys.exit(f"run_append failed: {done.stderr}")
    words = dict(word.split("=") for word in done.stdout.split())
    return {name: float(value) for name, value in words.items() if name != "mode"}


def sync_us(parent):
    """Median of what the disk takes for 4 KiB written over: what a commit needs at least, as long as nobody else writes."""
    with tempfile.NamedTemporaryFile(dir=parent) as file:
        file.write(bytes(1 << 20))
        file.flush()
        os.fsync(file.fileno())
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        taken = []
        for _ in range(200):
            begin = time.monotonic_ns()
            os.write(file.fileno(), bytes(4096))
            os.fdatasync(file.fileno())
            taken.append(time.monotonic_ns() - begin)
        return statistics.median(taken) / 1e3


def cases(bin_dir, parent, is_short):
    """{name: what measures it, given a durability}"""
    total = 100_000 if is_short else 2_000_000
    return {
        "1 stream": lambda mode: bulk(bin_dir, parent, mode, 1, total),
        "100 streams": lambda mode: bulk(bin_dir, parent, mode, 100, total),
        "in process": lambda mode: in_process(bin_dir, parent, mode, total),
        "lone event": lambda mode: lone(bin_dir, parent, mode, 100 if is_short else 1_000),
    }


def rate(name, case):
    return case["events_per_s"] if name == "in process" else case["messages_per_s"]


def cost(name, case):
    return case["cpu_per_M"] if name == "in process" else case["cpu_us_per_message"]


def print_bulk(name, rounds):
    none_rate = [rate(name, each["NONE"]) for each in rounds]
    none_cost = [cost(name, each["NONE"]) for each in rounds]
    for mode in MODES:
        rates = [rate(name, each[mode]) for each in rounds]
        costs = [cost(name, each[mode]) for each in rounds]
        commits = median(rounds, mode, "commits" if name == "in process" else "store_commits")
        print(f"{name:<14}{mode:<7}{statistics.median(rates):>13,.0f}"
              f"{statistics.median(a / b for a, b in zip(rates, none_rate)):>7.2f}"
              f"{statistics.median(costs):>12.3f}{statistics.median(a / b for a, b in zip(costs, none_cost)):>7.2f}{commits:>9.0f}")


def print_lone(rounds):
    print(f"\nlone event, {LONE_RATE} a second: from its making to its arrival, us; what the store adds: medians of the rounds")
    for mode in MODES:
        added = statistics.median(each[mode]["p50_us"] - each["NONE"]["p50_us"] for each in rounds)
        print(f"{mode:<7}p50 {median(rounds, mode, 'p50_us'):>7.0f}  p99 {median(rounds, mode, 'p99_us'):>7.0f}  "
              f"added at p50 {added:>6.0f}")


def compare(bin_dir, parent, is_short, n_rounds):
    """Rounds of all cases, in each one NONE, ASYNC and SYNC one after the other."""
    results, syncs = {}, []
    print(f"medians of {n_rounds} interleaved rounds; x: to NONE, median of the rounds")
    print(f"{'case':<14}{'':<7}{'events a s':>13}{'x':>7}{'CPU us each':>12}{'x':>7}{'commits':>9}")
    for name, case in cases(bin_dir, parent, is_short).items():
        rounds = []
        for _ in range(n_rounds):
            syncs.append(sync_us(parent))
            rounds.append({mode: case(mode) for mode in MODES})
        results[name] = rounds
        if rounds[0]["NONE"] is None:
            print(f"{name:<14}left out: run_append is not built")
        elif name != "lone event":
            print_bulk(name, rounds)
    print_lone(results["lone event"])
    print(f"\nfdatasync of 4 KiB written over, on this disk: {statistics.median(syncs):.0f} us")
    return {"cases": results, "fdatasync_us": syncs}
