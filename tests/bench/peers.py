"""The library beside grpc-go and gRPC C++: ./run bench --peers.

The same service (peers/peers.proto) by three servers, each alone on core 0 with all its threads, in turns, driven by
`sluice bench` from core 1. What the servers may is the same: 1,100 streams on a connection, messages of 4 MiB, no TLS."""

import json
import os
import re
import resource
import signal
import statistics
import subprocess
import sys
import time

from raw_client import RawClient
from servers import Process, pinned

KINDS = {"sluice": "sluice-rpc", "go": "grpc-go", "grpc": "gRPC C++"}
ECHO, COUNT = "peers.v1.Peers/Echo", "peers.v1.Peers/Count"
GIVES, FILLED_BY = MORE_IS_BETTER = ("a CPU second gives", "a core is filled by")
HELLO = '{"data": "aGVsbG8gd29ybGQ="}'
WARMUP_S = 1
PEERS = "build/bench/peers"  # where peers/build.sh puts them
N_IDLE = 1_000


class Peer(Process):
    """One of the three servers, on core 0."""

    def __init__(self, bin_dir, kind):
        super().__init__(bin_dir)
        self.schema = os.path.join(PEERS, "peers.protoset")
        self.start([os.path.join(PEERS, f"peer_{kind}")], 0)

    def command(self, method, request, *options):
        return [self.tool("sluice"), "bench", "--addr", self.address, "--protoset", self.schema, "--call", method,
                "--data", request, "--json", *options]

    def bench(self, method, request, seconds, *options):
        """A report of `sluice bench`; the server's CPU time in it is that of the measured time."""
        command = self.command(method, request, "--pid", str(self.process.pid), "--warmup", f"{WARMUP_S}s",
                               "--duration", f"{seconds}s", *options)
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, preexec_fn=pinned(1), check=False)
        if done.returncode != 0:
            sys.exit(f"bench failed ({done.returncode}): {done.stdout}{done.stderr}")
        report = json.loads(done.stdout)
        if list(report["status"]) != ["OK"] or report["unfinished"] > 0:
            sys.exit(f"not every call ended well: {done.stdout}")
        report["cpu_s"] = report["user_s"] + report["system_s"]
        return report


def count(messages, **more):
    return json.dumps({"messages": messages, "bytes": 100, **more})


def latency(server, seconds):
    """Calls that begin on time, 500 a second, which none of the servers is busy with."""
    unary = server.bench(ECHO, HELLO, seconds, "--rate", "500", "--streams", "200")
    first = server.bench(COUNT, count(10), seconds, "--rate", "500", "--streams", "200")
    return {"unary p50, us": unary["p50_call_ms"] * 1e3, "unary p99, us": unary["p99_call_ms"] * 1e3,
            "first message p50, us": first["p50_first_ms"] * 1e3, "first message p99, us": first["p99_first_ms"] * 1e3}


def throughput(server, seconds):
    """What a second of the server's CPU gives when it has as much to do as it can."""
    def per_cpu_s(what, *call):
        report = server.bench(call[0], call[1], seconds, "--streams", str(call[2]))
        return report[what] / report["cpu_s"]
    return {"unary calls, 50 at a time": per_cpu_s("calls", ECHO, HELLO, 50),
            "streams of 10 messages, 50 at a time": per_cpu_s("calls", COUNT, count(10), 50),
            "messages of 1 stream": per_cpu_s("messages", COUNT, count(50_000), 1),
            "messages of 100 streams": per_cpu_s("messages", COUNT, count(2_000), 100)}


def paced(server, seconds):
    """1,000 streams with 20 messages a second each; how many of them would fill the core."""
    messages = 20 * (seconds + WARMUP_S)
    command = server.command(COUNT, count(messages, pause_ms=50), "--streams", "1000", "--runs", "1000")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=pinned(1)) as client:
        time.sleep(WARMUP_S)  # all streams are open by now, and none has ended
        begin, before = time.monotonic(), server.cpu_seconds()
        time.sleep(seconds - WARMUP_S)
        busy = (server.cpu_seconds() - before) / (time.monotonic() - begin)
        report = json.loads(client.communicate(timeout=60)[0])
    if report["status"] != {"OK": 1000} or report["messages"] != 1000 * messages:
        sys.exit(f"not every paced stream ended well: {report}")
    return {"streams with 20 messages a second": 1000 / busy}


def settled_kib(server):
    """The server's memory once it has neither changed nor used the CPU for a second."""
    last, since = None, time.monotonic()
    for _ in range(300):
        now = (server.status("VmRSS"), round(server.cpu_seconds(), 2))
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > 1:
            return now[0]
        time.sleep(0.1)
    sys.exit("the server does not settle")


def per_connection(server, n):
    """Each has made one call, and is silent."""
    before = settled_kib(server)
    clients = []
    try:
        for _ in range(n):
            clients.append(RawClient(server.address))
            clients[-1].unary("/" + ECHO, b"\x0a\x05hello", 1, 1)
        return (settled_kib(server) - before) * 1024 / n
    finally:
        for client in clients:
            client.socket.close()


def per_stream(server, n):
    """On one connection; each has had one message, and waits for the next."""
    before = settled_kib(server)
    command = server.command(COUNT, count(1, hang=True), "--streams", str(n), "--runs", str(n))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=pinned(1)) as client:
        time.sleep(1)  # settled_kib() takes what stands still, and nothing has begun yet
        after = settled_kib(server)
        client.send_signal(signal.SIGINT)
        report = json.loads(client.communicate(timeout=60)[0])
    if report["messages"] != n:
        sys.exit(f"{report['messages']} messages on {n} idle streams")
    return (after - before) * 1024 / n


def memory(start):
    """Of two servers, each warm: what the one needs for connections must not serve the other's streams."""
    result = {}
    for name, measure in (("an idle connection", per_connection), ("an open, idle stream", per_stream)):
        with start() as server:
            server.bench(ECHO, HELLO, 1, "--streams", "10")
            result["at rest, MB"] = settled_kib(server) / 1024
            result[f"{name}, KB"] = measure(server, N_IDLE) / 1024
    return result


def one_server(bin_dir, kind, is_short):
    """All figures of one server in one round: {(table, row): figure}."""
    def start():
        return Peer(bin_dir, kind)
    seconds = 1 if is_short else 4
    figures = {}
    for table, case in (("latency", latency), (GIVES, throughput), (FILLED_BY, paced)):
        with start() as server:
            rows = case(server, max(seconds, 2) if case == paced else seconds)
            figures.update({(table, row): figure for row, figure in rows.items()})
    figures.update({("memory", row): figure for row, figure in memory(start).items()})
    return figures


def versions(bin_dir):
    def said_by(*command):
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    return {"sluice": re.sub(r"^\w+ ", "", said_by(os.path.join(bin_dir, "sluice"), "--version").splitlines()[0]),
            "go": said_by(os.path.join(PEERS, "peer_go"), "--version"),
            "grpc": said_by(os.path.join(PEERS, "peer_grpc"), "--version")}


def spell(figure):
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.1f}"


def advantage(key, of, kind):
    """How many times better ours is in a round: as many times less time or memory, or more for the CPU's time."""
    ours, theirs = (max(of[name][key], 1e-9) for name in ("sluice", kind))
    return ours / theirs if key[0] in MORE_IS_BETTER else theirs / ours


def print_rows(rounds):
    table = None
    for key in rounds[0]["sluice"]:
        if key[0] != table:
            table = key[0]
            print(f"\n{table:<40}{KINDS['sluice']:>12}{KINDS['go']:>12}{'x':>8}{KINDS['grpc']:>12}{'x':>8}")
        line = f"{key[1]:<40}"
        for kind in KINDS:
            line += f"{spell(statistics.median(of[kind][key] for of in rounds)):>12}"
            if kind != "sluice":
                line += f"{statistics.median(advantage(key, of, kind) for of in rounds):>8.1f}"
        print(line)


def compare(bin_dir, is_short, n_rounds):
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))  # a descriptor for each idle connection
    os.environ["GOMAXPROCS"] = "1"  # what grpc-go finds out by itself where it may run on one core only
    of = versions(bin_dir)
    print(", ".join(f"{name} {of[kind]}" for kind, name in KINDS.items()))
    print(f"server on core 0 (GOMAXPROCS=1), client on core 1; medians of {n_rounds} rounds, in turns; "
          "x: how many times better sluice-rpc is, median of the rounds")
    rounds = []
    for _ in range(n_rounds):
        rounds.append({kind: one_server(bin_dir, kind, is_short) for kind in KINDS})
    print_rows(rounds)
    return {"versions": of, "rounds": [{kind: {" | ".join(key): figure for key, figure in figures.items()}
                                        for kind, figures in of_round.items()} for of_round in rounds]}
