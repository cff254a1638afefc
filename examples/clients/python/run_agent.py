"""Runs an agent and prints what it says: run_agent.py AGENT INPUT [SECONDS]

The server is SLUICE_ADDR or 127.0.0.1:50051; SLUICE_CA, a PEM file, turns TLS on. Exit status: 0 done, 1 error, 130 cancelled by Ctrl-C."""

import os
import pathlib
import signal
import sys

import error_details_pb2
import grpc
from sluice.v1 import runtime_pb2, runtime_pb2_grpc

OPTIONS = [
    ("grpc.service_config", (pathlib.Path(__file__).parents[2] / "service-config.json").read_text()),
    ("grpc.keepalive_time_ms", 30_000),  # the server allows a PING every 10 s
    ("grpc.max_receive_message_length", 5 << 20),  # an event has at most 4 MiB
]


def open_channel():
    address = os.environ.get("SLUICE_ADDR", "127.0.0.1:50051")
    if "SLUICE_CA" not in os.environ:
        return grpc.insecure_channel(address, OPTIONS)
    authorities = pathlib.Path(os.environ["SLUICE_CA"]).read_bytes()
    return grpc.secure_channel(address, grpc.ssl_channel_credentials(authorities), OPTIONS)


def reason_of(error, has_run):
    """ErrorInfo of an error: the reason, and whether a run had started. The client's own errors have none."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in error_details_pb2.Status.FromString(value).details:
                if detail.type_url.endswith("/google.rpc.ErrorInfo"):
                    info = error_details_pb2.ErrorInfo.FromString(detail.value)
                    return info.reason, info.metadata["run_started"] == "true"
    return "-", has_run


def main(agent, text, seconds=60.0):
    with open_channel() as channel:
        request = runtime_pb2.ExecuteRequest(agent=agent, input=text)
        call = runtime_pb2_grpc.AgentRuntimeStub(channel).ExecuteStreaming(request, timeout=float(seconds))
        signal.signal(signal.SIGINT, lambda *_: call.cancel())
        has_run = False
        try:
            for event in call:
                has_run = True
                kind = event.WhichOneof("event")
                if kind == "text_delta":
                    print(event.text_delta.delta, end="", flush=True)
                elif kind == "tool_call_start":
                    print("[%s]" % event.tool_call_start.tool_name, file=sys.stderr)
                elif kind == "done":
                    print("\n%d tokens" % event.done.output_tokens, file=sys.stderr)
        except grpc.RpcError as error:
            reason, has_run = reason_of(error, has_run)
            state = "the run had started" if has_run else "no run was started"
            print("\n%s %s (%s): %s" % (error.code().name, reason, state, error.details()), file=sys.stderr)
            return 130 if error.code() == grpc.StatusCode.CANCELLED else 1
    return 0


sys.exit(main(*sys.argv[1:]))
