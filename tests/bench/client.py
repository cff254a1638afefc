"""`sluice bench` on core 1, and what the measurements do with its reports."""

import json
import statistics
import subprocess
import sys

from servers import pinned

MESSAGE_BYTES = 100


def bench(server, agent, text, streams, runs, extra=()):
    """One `sluice bench`; its report with the server's CPU seconds and memory beside it."""
    command = [server.tool("sluice"), "bench", "--addr", server.address, "--agent", agent, "--input", text,
               "--streams", str(streams), "--runs", str(runs), "--json", *extra]
    before = server.cpu_seconds()
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, preexec_fn=pinned(1))
    cpu = server.cpu_seconds() - before
    if done.returncode != 0:
        sys.exit(f"bench failed ({done.returncode}): {done.stdout}{done.stderr}")
    report = json.loads(done.stdout)
    if list(report["status"]) != ["OK"]:
        sys.exit(f"not every run ended well: {report['status']}")
    report.update(cpu_s=cpu, cpu_us_per_message=cpu * 1e6 / report["messages"],
                  cpu_us_per_run=cpu * 1e6 / report["calls"], busy=cpu / report["seconds"],
                  rss_peak_kib=server.status("VmHWM"))
    return report


def median(rounds, *keys):
    values = []
    for value in rounds:
        for key in keys:
            value = value[key]
        values.append(value)
    return statistics.median(values)
