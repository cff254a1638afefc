"""The measurements behind ./run bench."""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import durability
import peers
from client import MESSAGE_BYTES, bench, median
from raw_client import Provider, RawClient, cancels, field, lone_events
from servers import BareServer, MockModel, Server, certificate, pinned, relay_config, size_kib

CALLGRIND_STREAMS = 100


def saturated(bin_dir, streams, total):
    with Server(bin_dir) as server:
        text = f"events={total // streams} bytes={MESSAGE_BYTES} rate=0"
        return bench(server, "load", text, streams, streams)


def paced(bin_dir, streams, rate, seconds):
    with Server(bin_dir) as server:
        text = f"events={int(rate * seconds)} bytes={MESSAGE_BYTES} rate={rate}"
        return bench(server, "load", text, streams, streams)


def short_runs(bin_dir, streams, runs):
    with Server(bin_dir) as server:
        return bench(server, "load", f"events=1 bytes={MESSAGE_BYTES} rate=0", streams, runs)


def whole_path(bin_dir, streams, runs):
    """A provider's bytes on a socket, parsed, packed and sent: mock-model, sluiced, bench."""
    with MockModel(bin_dir) as model, Server(bin_dir, model.config()) as server:
        return bench(server, "relay", "go", streams, runs)


EXECUTE = "/sluice.v1.AgentRuntime/Execute"
EXECUTE_STREAMING = "/sluice.v1.AgentRuntime/ExecuteStreaming"


def unary(start, path, payload, calls, outstanding=50):
    """CPU us of the server a call; `start` gives the server."""
    with start() as server, RawClient(server.address) as client:
        client.unary(path, payload, outstanding, outstanding)
        before = server.cpu_seconds()
        client.unary(path, payload, outstanding, calls)
        return (server.cpu_seconds() - before) * 1e6 / calls


def percentiles(latencies_ns):
    ordered = sorted(latencies_ns)
    return {"p50_us": statistics.median(ordered) / 1e3, "p99_us": ordered[len(ordered) * 99 // 100] / 1e3,
            "n": len(ordered)}


def lone_event(bin_dir, events):
    with Server(bin_dir) as server, RawClient(server.address) as client:
        order = f"events={events} bytes=100 rate=200 stamp=true"
        return percentiles(lone_events(client, EXECUTE_STREAMING, field(1, "load") + field(2, order)))


def cancel(bin_dir, count):
    with Provider() as provider, Server(bin_dir, relay_config(provider.address)) as server, \
            RawClient(server.address) as client:
        return percentiles(cancels(client, provider, EXECUTE_STREAMING, field(1, "relay") + field(2, "go"), count))


def encrypted(bin_dir, streams, total):
    with Server(bin_dir, tls=True) as server:
        text = f"events={total // streams} bytes={MESSAGE_BYTES} rate=0"
        return bench(server, "load", text, streams, streams, ["--tls", "--skip-verify"])


def loops(bin_dir, n_loops, total):
    """Sixteen connections with a stream each; with two loops the server has both cores, and the client, too."""
    with Server(bin_dir, loops=n_loops) as server:
        text = f"events={total // 16} bytes={MESSAGE_BYTES} rate=0"
        return bench(server, "load", text, 16, 16, ["--connections", "16"])


def other_calls(bin_dir, is_short):
    """What has no row in the table of cases."""
    calls = 5_000 if is_short else 50_000
    check = "/grpc.health.v1.Health/Check"
    echo = field(1, "echo") + field(2, "hello")
    return {
        "check_us": unary(lambda: Server(bin_dir), check, b"", calls),
        "check_bare_us": unary(lambda: BareServer(bin_dir, "hand"), check, b"", calls),
        "execute_us": unary(lambda: Server(bin_dir), EXECUTE, echo, calls // 5),
        "lone_event": lone_event(bin_dir, 200 if is_short else 2_000),
        "cancel": cancel(bin_dir, 100 if is_short else 1_000),
    }


def print_other_calls(rounds):
    for name, key in (("health Check", "check_us"), ("the same, bare server", "check_bare_us"),
                      ("Execute of echo", "execute_us")):
        print(f"{name}: {median(rounds, key):.2f} CPU us a call (50 at a time)")
    for name, key in (("lone event, made to read", "lone_event"), ("RST_STREAM to the provider's end", "cancel")):
        print(f"{name}: p50 {median(rounds, key, 'p50_us'):.0f} us, p99 {median(rounds, key, 'p99_us'):.0f} us")


def idle_all(n):
    """One connection with all streams; a connection for each; the same with TLS."""
    return ((n, 1, False), (n, n, False), (n, n, True))


def idle(bin_dir, streams, connections=1, tls=False):
    """Memory of streams whose run waits for its model; a further call is served beside them."""
    flags = ["--tls", "--skip-verify"] if tls else []
    ramp = ["--ramp", f"{streams // 300 + 1}s"] if tls else []  # a handshake costs each side a millisecond, and has 10 s
    with Server(bin_dir, tls=tls) as server:
        empty = server.status("RssAnon")
        command = [server.tool("sluice"), "bench", "--addr", server.address, "--agent", "load",
                   "--input", "hang=true", "--streams", str(streams), "--runs", str(streams),
                   "--connections", str(connections), "--json", *flags, *ramp]
        client = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                  preexec_fn=pinned(1))
        full = settle(server, empty)
        subprocess.run([server.tool("sluice"), "run", "echo", "x", "--addr", server.address, *flags],
                       check=True, stdout=subprocess.DEVNULL, timeout=30)
        client.send_signal(signal.SIGINT)
        report = json.loads(client.communicate(timeout=60)[0])
        if report["messages"] < streams * 3:
            sys.exit(f"only {report['messages']} messages on {streams} idle streams")
        return {"streams": streams, "connections": report["connections"], "tls": tls, "rss_anon_empty_kib": empty, "rss_anon_full_kib": full,
                "bytes_per_stream": (full - empty) * 1024 / streams}


def settle(server, empty):
    """The server's memory once it has not grown for five seconds, with little use of the CPU: PINGs of 10,000
    connections take some."""
    last, since, cpu = -1, time.monotonic(), 0
    for _ in range(1200):
        now = server.status("RssAnon")
        if now != last:
            last, since, cpu = now, time.monotonic(), server.cpu_seconds()
        elif now > empty and time.monotonic() - since > 5 and server.cpu_seconds() - cpu < 0.5:
            return now
        time.sleep(0.1)
    sys.exit("the server does not settle")


def start_up(bin_dir):
    """Milliseconds from exec to the answer of the first call, the client's own start included."""
    begin = time.monotonic()
    with Server(bin_dir) as server:
        listening = time.monotonic()
        subprocess.run([server.tool("sluice"), "health", "--addr", server.address], check=True,
                       stdout=subprocess.DEVNULL, timeout=30)
        return {"listening_ms": (listening - begin) * 1e3, "served_ms": (time.monotonic() - begin) * 1e3,
                "cpu_ms": server.cpu_seconds() * 1e3,
                "rss_kib": server.status("VmRSS"), "rss_anon_kib": server.status("RssAnon")}


def instructions(bin_dir, events):
    """Instructions of a whole server run that sends `events` events on each stream."""
    with tempfile.TemporaryDirectory() as work:
        out = os.path.join(work, "callgrind.out")
        tool = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
        with Server(bin_dir, wrapper=tool, profile=True) as server:
            text = f"events={events} bytes={MESSAGE_BYTES} rate=0"
            bench(server, "load", text, CALLGRIND_STREAMS, CALLGRIND_STREAMS)
            server.stop()
        with open(out, encoding="utf-8") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith(("summary:", "totals:")))


def callgrind(bin_dir):
    """Start-up and the runs' begin and end cancel out between a short and a long run."""
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    few, many = 500, 2500
    difference = instructions(bin_dir, many) - instructions(bin_dir, few)
    return {"instructions_per_event": difference / (CALLGRIND_STREAMS * (many - few))}


def cases(bin_dir, is_short):
    total = 400_000 if is_short else 4_000_000
    seconds = 2 if is_short else 5
    runs = 2_000 if is_short else 20_000
    return {
        "saturated, 1 stream": lambda: saturated(bin_dir, 1, total),
        "saturated, 100 streams": lambda: saturated(bin_dir, 100, total),
        "saturated, 1,000 streams": lambda: saturated(bin_dir, 1000, total),
        "TLS, 100 streams": lambda: encrypted(bin_dir, 100, total // 2),
        "16 connections, 1 loop": lambda: loops(bin_dir, 1, total),
        "16 connections, 2 loops": lambda: loops(bin_dir, 2, total),
        "paced, 1,000 x 50/s": lambda: paced(bin_dir, 1000, 50, seconds),
        "runs of one delta, 100": lambda: short_runs(bin_dir, 100, runs),
        "mock model, 1 stream": lambda: whole_path(bin_dir, 1, 20 if is_short else 100),
        "mock model, 50 streams": lambda: whole_path(bin_dir, 50, 50 if is_short else 200),
    }


def bare_cases(is_short):
    """What sluiced is compared with the bare server in: (name, input of `load`, streams)."""
    total = 400_000 if is_short else 2_000_000
    for streams in (1, 100, 1000):
        name = f"saturated, {streams:,} stream{'s' if streams > 1 else ''}"
        yield name, f"events={total // streams} bytes={MESSAGE_BYTES} rate=0", streams
    yield "paced, 1,000 x 50/s", f"events={100 if is_short else 250} bytes={MESSAGE_BYTES} rate=50", 1000


BARE_SERVERS = {
    "sluiced": Server,
    "protobuf-c": lambda bin_dir: BareServer(bin_dir, "protobuf-c"),
    "hand": lambda bin_dir: BareServer(bin_dir, "hand"),
}


def compare_bare(bin_dir, is_short, n_rounds):
    """sluiced and the bare servers in turns: CPU us a message, and the ratios of each round."""
    results = {}
    print(f"CPU us a message, medians of {n_rounds} interleaved rounds; x: sluiced to it, median of the rounds")
    print(f"{'case':<26}{'sluiced':>9}{'bare, protobuf-c':>18}{'x':>6}{'bare, by hand':>15}{'x':>6}")
    for name, text, streams in bare_cases(is_short):
        rounds = []
        for _ in range(n_rounds):
            costs = {}
            for kind, start in BARE_SERVERS.items():
                with start(bin_dir) as server:
                    costs[kind] = bench(server, "load", text, streams, streams)["cpu_us_per_message"]
            rounds.append(costs)
        results[name] = rounds
        ratio = {kind: statistics.median(costs["sluiced"] / costs[kind] for costs in rounds) for kind in rounds[0]}
        print(f"{name:<26}{median(rounds, 'sluiced'):>9.3f}{median(rounds, 'protobuf-c'):>18.3f}"
              f"{ratio['protobuf-c']:>6.2f}{median(rounds, 'hand'):>15.3f}{ratio['hand']:>6.2f}")
    return results


def print_table(results):
    print(f"{'case':<26}{'messages':>10}{'per CPU s':>12}{'CPU us each':>12}{'busy':>6}{'first p50':>11}"
          f"{'p99 ms':>9}{'gap p50':>10}{'p99 ms':>9}{'peak MB':>9}")
    for name, rounds in results.items():
        cost = median(rounds, "cpu_us_per_message")
        print(f"{name:<26}{median(rounds, 'messages'):>10.0f}{1e6 / cost:>12,.0f}{cost:>12.3f}"
              f"{median(rounds, 'busy'):>6.0%}{median(rounds, 'p50_first_ms'):>11.2f}"
              f"{median(rounds, 'p99_first_ms'):>9.2f}{median(rounds, 'p50_gap_ms'):>10.3f}"
              f"{median(rounds, 'p99_gap_ms'):>9.2f}{median(rounds, 'rss_peak_kib') / 1024:>9.1f}")


def main():
    pinned(1)()  # raw_client.py runs in here
    parser = argparse.ArgumentParser(prog="./run bench", description="Measures the release build.")
    parser.add_argument("--short", action="store_true", help="a tenth of the messages, one round")
    parser.add_argument("--rounds", type=int, help="rounds of all cases; the medians are printed (3)")
    parser.add_argument("--callgrind", action="store_true", help="only instructions per event, by valgrind")
    parser.add_argument("--bare", action="store_true", help="only the comparison with a bare server")
    parser.add_argument("--peers", action="store_true", help="only the library beside grpc-go and gRPC C++")
    parser.add_argument("--durability", action="store_true", help="only what a store costs: NONE, ASYNC and SYNC in turns")
    parser.add_argument("--store", metavar="FOLDER", help="where --durability has its stores (the folder of temporary files)")
    parser.add_argument("--json", metavar="FILE", help="every figure of every round")
    parser.add_argument("--bin", default="build/release/bin", help="the binaries (build/release/bin)")
    options = parser.parse_args()
    n_rounds = options.rounds or (1 if options.short else 3)
    figures = {"cores": os.cpu_count(), "kernel": os.uname().release}
    if options.callgrind:
        figures["callgrind"] = callgrind(options.bin)
        print(f"{figures['callgrind']['instructions_per_event']:.0f} instructions per event of the server "
              f"({CALLGRIND_STREAMS} streams, {MESSAGE_BYTES} bytes)")
    elif options.bare:
        figures["bare"] = compare_bare(options.bin, options.short, n_rounds)
    elif options.durability:
        figures["durability"] = durability.compare(options.bin, options.store, options.short, n_rounds)
    elif options.peers:
        figures["peers"] = peers.compare(options.bin, options.short, n_rounds)
    else:
        results = {name: [] for name in cases(options.bin, options.short)}
        for _ in range(n_rounds):
            for name, case in cases(options.bin, options.short).items():
                results[name].append(case())
        print_table(results)
        calls = [other_calls(options.bin, options.short) for _ in range(n_rounds)]
        start = [start_up(options.bin) for _ in range(5)]
        n_idle = 1_000 if options.short else 10_000
        resting = [idle(options.bin, *case) for case in idle_all(n_idle)]
        sizes = {name: size_kib(options.bin, name) for name in ("sluiced", "sluice", "sluice-exec")}
        print(f"\nruns of one delta: {median(results['runs of one delta, 100'], 'cpu_us_per_run'):.1f} CPU us a run")
        print_other_calls(calls)
        for rest in resting:
            print(f"idle: {rest['bytes_per_stream']:.0f} bytes per stream with its run "
                  f"({rest['streams']} streams on {rest['connections']} connections{', TLS' if rest['tls'] else ''})")
        print(f"start: listening after {median(start, 'listening_ms'):.0f} ms, first call answered after "
              f"{median(start, 'served_ms'):.0f} ms; {median(start, 'cpu_ms'):.0f} ms of the server's CPU")
        print(f"at rest: {median(start, 'rss_kib') / 1024:.1f} MB, {median(start, 'rss_anon_kib') / 1024:.1f} MB "
              "of them anonymous")
        print("stripped: " + ", ".join(f"{name} {size} KiB" for name, size in sizes.items()))
        figures.update(cases=results, calls=calls, start=start, idle=resting, stripped_kib=sizes)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump(figures, file, indent=1)


main()
