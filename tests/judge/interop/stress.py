"""grpc-go's stress client against our server: every call must succeed, memory must stay flat, and no call be left."""

import subprocess
import time

import judge

# Without cancel_after_begin: it half-closes a call that it has cancelled, and on a busy machine our answer is there before
# grpc-go acts on its cancel. Then grpc-go gives the answer, as the comment in its readClient() says, and the case fails.
TEST_CASES = ("empty_unary:20,large_unary:10,client_streaming:5,server_streaming:5,ping_pong:5,empty_stream:5,"
              "timeout_on_sleeping_server:5,cancel_after_first_response:10,status_code_and_message:5,custom_metadata:5")
CHANNELS, STUBS = 2, 4
SETTLED = 0.25  # of the time: from then on memory is compared
GROWTH_KIB = 4096
EXTRA_SECONDS = 120


def resident_kib(pid):
    with open("/proc/%d/status" % pid, encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def watch(client, server, seconds):
    """Waits for the client; gives what the server held, a figure a second."""
    sizes = []
    start = time.monotonic()
    while client.poll() is None:
        if time.monotonic() - start > seconds + EXTRA_SECONDS:
            client.kill()
        sizes.append(resident_kib(server.process.pid))
        time.sleep(1)
    return sizes


def ask_stats(client, server):
    done = subprocess.run([*client, "--server_host=localhost", "--server_port=%d" % server.port, "--test_case=no_call_left"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False)
    judge.check("no call is left", done.returncode == 0, done.stdout)
    judge.say("our server: %s" % done.stdout.strip())


def run(program, start_server, client, seconds):
    server = start_server("our server under stress", "--use_tls=false")
    command = [program, "--server_addresses=localhost:%d" % server.port, "--test_cases=%s" % TEST_CASES,
               "--test_duration_secs=%d" % seconds, "--num_channels_per_server=%d" % CHANNELS,
               "--num_stubs_per_channel=%d" % STUBS, "--metrics_port=%d" % judge.free_port()]
    log = judge.WORK + "/stress.log"
    with open(log, "w", encoding="utf-8") as out, subprocess.Popen(command, stdout=out, stderr=out) as stress:
        sizes = watch(stress, server, seconds)
    judge.check("grpc-go's stress client for %d s" % seconds, stress.returncode == 0,
                "status %s: %s" % (stress.returncode, judge.tail(log)))
    settled = sizes[int(len(sizes) * SETTLED):] or [0]
    judge.say("memory of our server: %d KiB after %d s, %d KiB at the end, %d KiB at most" % (
        settled[0], int(len(sizes) * SETTLED), settled[-1], max(sizes or [0])))
    judge.check("memory stays flat", settled[-1] - settled[0] <= GROWTH_KIB, "it grew by %d KiB" % (settled[-1] - settled[0]))
    ask_stats(client, server)
    server.end_clean()
