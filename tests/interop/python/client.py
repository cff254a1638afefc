"""Calls a running sluiced with Debian's grpcio: streams, cancel, deadline, errors, reflection, TLS."""

import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time

import grpc
from google.protobuf import any_pb2  # noqa: F401  (the library is there)
from sluice.v1 import events_pb2, runtime_pb2
from std.health.v1 import health_pb2
from std.reflection.v1 import reflection_pb2
from std.reflection.v1alpha import reflection_pb2 as reflection_alpha_pb2

ADDR = os.environ["SLUICE_ADDR"]
TLS_ADDR = os.environ["SLUICE_TLS_ADDR"]
LOG = os.environ["SLUICE_LOG"]
PID = int(os.environ["SLUICE_PID"])
SLUICE = os.environ["SLUICE_BIN"] + "/sluice"
WORK = os.environ["SLUICE_WORK"]
RUNTIME = "/sluice.v1.AgentRuntime/"


STREAMS = []  # (the event behind which it begins, its messages as they came)


def recorded(after=0):
    """Reads the events of one stream, and keeps their bytes for check_streams()."""
    messages = []
    STREAMS.append((after, messages))

    def read(data):
        messages.append(data)
        return events_pb2.StreamEvent.FromString(data)

    return read


def check_streams():
    """What came on every stream of a case is in order, and whole if its last event came."""
    for after, messages in STREAMS:
        last = events_pb2.StreamEvent.FromString(messages[-1]).WhichOneof("event") if messages else ""
        if messages:
            check_framed(messages, "--after", str(after), *([] if last in ("done", "error") else ["--may-be-cut"]))
    STREAMS.clear()


class Client:
    """The methods by path: messages from protoc, calls from grpcio."""

    def __init__(self, channel):
        self.channel = channel

    def streaming(self, request, **options):
        return self.channel.unary_stream(
            RUNTIME + "ExecuteStreaming",
            request_serializer=runtime_pb2.ExecuteRequest.SerializeToString,
            response_deserializer=recorded(),
        )(request, **options)

    def attach(self, run_id, after_sequence=0, **options):
        return self.channel.unary_stream(
            RUNTIME + "Attach",
            request_serializer=runtime_pb2.AttachRequest.SerializeToString,
            response_deserializer=recorded(after_sequence),
        )(runtime_pb2.AttachRequest(run_id=run_id, after_sequence=after_sequence), **options)

    def converse(self, requests, **options):
        return self.channel.stream_stream(
            RUNTIME + "Converse",
            request_serializer=runtime_pb2.ConverseRequest.SerializeToString,
            response_deserializer=recorded(),
        )(requests, **options)

    def unary(self, method, request, reply, **options):
        path = method if method.startswith("/") else RUNTIME + method
        return self.channel.unary_unary(
            path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=reply.FromString,
        )(request, **options)


def call_until_error(call, code):
    """The messages of a call that ends with this status."""
    try:
        yield from call
    except grpc.RpcError as error:
        assert error.code() == code, error
    else:
        raise AssertionError("it ended well")


def request(agent, text="", **fields):
    return runtime_pb2.ExecuteRequest(agent=agent, input=text, **fields)


def wait_for(what, condition, seconds=10):
    """Waits for a condition, with a bound."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError("not within %d s: %s" % (seconds, what))


def log_line(*words):
    """The daemon's log line that has all these words."""
    with open(LOG, encoding="utf-8") as log:
        return next((line for line in log if all(word in line for word in words)), None)


def check_order(events, *flags):
    """The project's own order checker must agree with what another language's client received."""
    check_framed([event.SerializeToString() for event in events], *flags)


def check_framed(messages, *flags):
    framed = b"".join(struct.pack(">BI", 0, len(message)) + message for message in messages)
    done = subprocess.run([SLUICE, "check-events", *flags], input=framed, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def expect_status(call, code):
    try:
        result = call()
        if hasattr(result, "__iter__"):
            list(result)
    except grpc.RpcError as error:
        assert error.code() == code, "%s: %s" % (error.code(), error.details())
        return error
    raise AssertionError("no error, %s expected" % code)


def reason_of(error):
    """ErrorInfo.reason in grpc-status-details-bin, found as raw text: no googleapis package is needed."""
    details = dict(error.trailing_metadata()).get("grpc-status-details-bin", b"")
    return details


def kinds(events):
    return [event.WhichOneof("event") for event in events]


# ---- Cases ------------------------------------------------------------------------------------------


def echo_streams_its_input_back(client):
    call = client.streaming(request("echo", "one two three"))
    events = list(call)
    text = "".join(e.text_delta.delta for e in events if e.WhichOneof("event") == "text_delta")
    assert text == "one two three", text
    assert kinds(events)[0] == "run_started" and kinds(events)[-1] == "done", kinds(events)
    assert events[-1].done.content == "one two three"
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    run_id = dict(call.initial_metadata())["sluice-run-id"]
    assert run_id == events[0].run_started.run_id
    check_order(events)


def demo_runs_tools_in_parallel_and_thinks(client):
    events = list(client.streaming(request("demo", "show me"), timeout=60))
    seen = kinds(events)
    assert "thinking" in seen and "tool_call_start" in seen and seen[-1] == "done", seen
    assert max(e.iteration_start.iteration for e in events) >= 2
    first_complete = seen.index("tool_call_complete")
    assert seen[:first_complete].count("tool_call_start") >= 2
    assert events[-1].done.usage.output_tokens > 0
    check_order(events)


def load_sends_exactly_what_was_asked(client):
    events = list(client.streaming(request("load", '{"events": 1000, "bytes": 100, "rate": 0}'), timeout=30))
    assert len(events) == 1004, len(events)
    assert all(len(e.text_delta.delta) == 100 for e in events if e.WhichOneof("event") == "text_delta")
    assert events[-1].done.content == ""
    check_order(events)


def execute_answers_with_the_result(client):
    reply = client.unary("Execute", request("echo", "a b"), runtime_pb2.ExecuteResponse, timeout=10)
    assert reply.result.content == "a b" and reply.run_id


def agents_are_listed(client):
    reply = client.unary("ListAgents", runtime_pb2.ListAgentsRequest(), runtime_pb2.ListAgentsResponse)
    names = [agent.name for agent in reply.agents]
    assert {"demo", "echo", "load"} <= set(names), names
    page = client.unary("ListAgents", runtime_pb2.ListAgentsRequest(page_size=1), runtime_pb2.ListAgentsResponse)
    assert len(page.agents) == 1 and page.next_page_token


def cancel_ends_the_run(client):
    call = client.streaming(request("load", "hang=true"))
    run_id = dict(call.initial_metadata())["sluice-run-id"]
    next(e for e in call if e.WhichOneof("event") == "text_delta")
    call.cancel()
    wait_for("the run's end in the log", lambda: log_line(run_id, "CLIENT_RESET"))


def a_deadline_ends_the_call_and_the_run(client):
    call = client.streaming(request("load", "hang=true"), timeout=0.5)
    run_id = dict(call.initial_metadata())["sluice-run-id"]
    error = expect_status(lambda: call, grpc.StatusCode.DEADLINE_EXCEEDED)
    assert error is not None
    # The client resets the stream at its own deadline; which of the two the server sees first is a race.
    wait_for(
        "the run's end in the log",
        lambda: log_line(run_id, "code=DEADLINE_EXCEEDED") or log_line(run_id, "CLIENT_RESET"),
    )


def a_killed_client_is_a_lost_connection(client):
    program = (
        "import sys, grpc; sys.path[:0] = %r\n"
        "from sluice.v1 import runtime_pb2\n"
        "c = grpc.insecure_channel(%r)\n"
        "s = c.unary_stream('/sluice.v1.AgentRuntime/ExecuteStreaming',"
        " request_serializer=runtime_pb2.ExecuteRequest.SerializeToString)"
        "(runtime_pb2.ExecuteRequest(agent='load', input='hang=true'))\n"
        "print(dict(s.initial_metadata())['sluice-run-id'], flush=True)\n"
        "list(s)\n" % (sys.path, ADDR)
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    run_id = child.stdout.readline().strip()
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert run_id
    wait_for("the run's end in the log", lambda: log_line(run_id, "CLIENT_DISCONNECTED"))


def an_unknown_agent_is_not_found(client):
    error = expect_status(lambda: client.streaming(request("nobody")), grpc.StatusCode.NOT_FOUND)
    assert b"AGENT_NOT_FOUND" in reason_of(error) and b"run_started" in reason_of(error)


def bad_input_of_load_is_an_invalid_argument(client):
    error = expect_status(lambda: client.streaming(request("load", "evnts=3")), grpc.StatusCode.INVALID_ARGUMENT)
    assert b"INVALID_REQUEST" in reason_of(error)


def bad_options_are_an_invalid_argument(client):
    options = runtime_pb2.RunOptions(durability=runtime_pb2.DURABILITY_SYNC)
    expect_status(
        lambda: client.streaming(request("echo", "x", options=options)), grpc.StatusCode.INVALID_ARGUMENT
    )
    expect_status(
        lambda: client.streaming(request("echo", "x", options=runtime_pb2.RunOptions(max_iterations=0))),
        grpc.StatusCode.INVALID_ARGUMENT,
    )


def a_failing_model_ends_with_error_event_and_status(client):
    call = client.streaming(request("load", '{"events": 10, "fail_after": 3}'))
    events = []
    try:
        for event in call:
            events.append(event)
    except grpc.RpcError as error:
        assert error.code() not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE), error.code()
    assert kinds(events)[-1] == "error", kinds(events)
    assert kinds(events).count("text_delta") == 3
    check_order(events)


def a_run_is_started_followed_and_cancelled_apart(client):
    started = client.unary("StartRun", request("load", "hang=true"), runtime_pb2.StartRunResponse, timeout=10)
    call = client.attach(started.run_id, timeout=30)
    events = [next(call), next(call)]
    assert dict(call.initial_metadata())["sluice-run-id"] == started.run_id
    cancel = runtime_pb2.CancelRunRequest(run_id=started.run_id, wait=True)
    reply = client.unary("CancelRun", cancel, runtime_pb2.CancelRunResponse, timeout=10)
    assert reply.state == runtime_pb2.RUN_STATE_CANCELLED, reply
    try:
        for event in call:
            events.append(event)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.CANCELLED, error
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))
    assert events[-1].error.cancel_reason == events_pb2.CANCEL_REASON_CANCEL_RPC
    run = client.unary("GetRun", runtime_pb2.GetRunRequest(run_id=started.run_id), runtime_pb2.GetRunResponse).run
    assert run.last_sequence == len(events) and run.error == events[-1].error, run
    again = []
    try:
        for event in client.attach(started.run_id, after_sequence=1):
            again.append(event)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.CANCELLED, error
    assert [e.SerializeToString() for e in again] == [e.SerializeToString() for e in events[1:]]
    listed = client.unary("ListRuns", runtime_pb2.ListRunsRequest(agent="load"), runtime_pb2.ListRunsResponse).runs
    assert started.run_id in [r.run_id for r in listed]
    unknown = runtime_pb2.GetRunRequest(run_id="0" * 32)
    expect_status(lambda: client.unary("GetRun", unknown, runtime_pb2.GetRunResponse), grpc.StatusCode.NOT_FOUND)


def a_repeated_request_follows_its_run(client):
    asked = request("echo", "once", request_id="interop-python-%d" % os.getpid())
    first = client.unary("Execute", asked, runtime_pb2.ExecuteResponse)
    assert client.unary("Execute", asked, runtime_pb2.ExecuteResponse) == first
    call = client.streaming(asked)
    assert dict(call.initial_metadata())["sluice-attached"] == "1"
    assert list(call)[-1].done.content == "once"
    asked.input = "twice"
    expect_status(lambda: client.streaming(asked), grpc.StatusCode.ALREADY_EXISTS)


def a_conversation_ends_by_its_own_words(client):
    said = queue.SimpleQueue()
    said.put(runtime_pb2.ConverseRequest(start=request("load", "hang=true")))
    call = client.converse(iter(said.get, None))
    events = []
    for event in call_until_error(call, grpc.StatusCode.CANCELLED):
        events.append(event)
        if event.WhichOneof("event") == "run_started":
            said.put(runtime_pb2.ConverseRequest(cancel=runtime_pb2.CancelCommand(reason="enough")))
    said.put(None)
    assert events[-1].error.cancel_reason == events_pb2.CANCEL_REASON_CANCEL_RPC
    check_order(events)


def a_conversation_goes_on_without_more_input(client):
    start = runtime_pb2.ConverseRequest(start=request("echo", "hello"))
    assert list(client.converse(iter([start])))[-1].done.content == "hello"
    wrong = runtime_pb2.ConverseRequest(user_input=runtime_pb2.UserInput(text="x"))
    expect_status(lambda: client.converse(iter([wrong])), grpc.StatusCode.INVALID_ARGUMENT)
    decision = runtime_pb2.DecideApprovalRequest(
        run_id="x", answer=runtime_pb2.ApprovalAnswer(approval_id="y", decision=events_pb2.APPROVAL_DECISION_DENIED)
    )
    expect_status(
        lambda: client.unary("DecideApproval", decision, runtime_pb2.DecideApprovalResponse), grpc.StatusCode.NOT_FOUND
    )


def methods_that_nobody_has_are_unimplemented(client):
    expect_status(
        lambda: client.unary("/no.Service/Method", runtime_pb2.CancelRunRequest(), runtime_pb2.CancelRunResponse),
        grpc.StatusCode.UNIMPLEMENTED,
    )


def an_oversize_message_is_refused(client):
    expect_status(lambda: client.streaming(request("echo", "x" * 5_000_000)), grpc.StatusCode.RESOURCE_EXHAUSTED)
    reply = client.unary("Execute", request("echo", "still here"), runtime_pb2.ExecuteResponse)
    assert reply.result.content == "still here"


def a_hundred_streams_share_a_connection(client):
    calls = [client.streaming(request("load", "events=50 bytes=200 rate=0")) for _ in range(100)]
    for call in calls:
        events = list(call)
        assert len(events) == 54, len(events)


def a_slow_reader_loses_nothing(client):
    call = client.streaming(request("load", "events=20000 bytes=1000 rate=0"), timeout=60)
    events = []
    for event in call:
        events.append(event)
        if len(events) < 5:
            time.sleep(0.1)
    assert len(events) == 20004, len(events)
    assert [e.sequence for e in events] == list(range(1, len(events) + 1))


def health_is_serving(client):
    check = "/grpc.health.v1.Health/Check"
    for name in ("", "sluice.v1.AgentRuntime"):
        reply = client.unary(check, health_pb2.HealthCheckRequest(service=name), health_pb2.HealthCheckResponse)
        assert reply.status == health_pb2.HealthCheckResponse.SERVING
    expect_status(
        lambda: client.unary(check, health_pb2.HealthCheckRequest(service="x"), health_pb2.HealthCheckResponse),
        grpc.StatusCode.NOT_FOUND,
    )
    watch = client.channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )(health_pb2.HealthCheckRequest(service="x"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    watch.cancel()


def reflection_knows_services_and_files(client):
    for version, module in (("v1", reflection_pb2), ("v1alpha", reflection_alpha_pb2)):
        ask = client.channel.stream_stream(
            "/grpc.reflection.%s.ServerReflection/ServerReflectionInfo" % version,
            request_serializer=module.ServerReflectionRequest.SerializeToString,
            response_deserializer=module.ServerReflectionResponse.FromString,
        )
        replies = list(
            ask(
                iter(
                    [
                        module.ServerReflectionRequest(list_services=""),
                        module.ServerReflectionRequest(file_containing_symbol="sluice.v1.AgentRuntime"),
                        module.ServerReflectionRequest(file_containing_symbol="no.Such"),
                    ]
                )
            )
        )
        names = [service.name for service in replies[0].list_services_response.service]
        assert "sluice.v1.AgentRuntime" in names and "grpc.health.v1.Health" in names, names
        assert replies[1].file_descriptor_response.file_descriptor_proto
        assert replies[2].error_response.error_code == 5


def tls_serves_the_same(_client):
    with open(WORK + "/ca.pem", "rb") as file:
        credentials = grpc.ssl_channel_credentials(file.read())
    with grpc.secure_channel(TLS_ADDR, credentials, (("grpc.ssl_target_name_override", "localhost"),)) as channel:
        events = list(Client(channel).streaming(request("echo", "over tls"), timeout=10))
        assert events[-1].done.content == "over tls"
        check_order(events)


def compressed_requests_are_understood(_client):
    with grpc.insecure_channel(ADDR, compression=grpc.Compression.Gzip) as channel:
        text = "word " * 2000
        reply = Client(channel).unary("Execute", request("echo", text), runtime_pb2.ExecuteResponse, timeout=10)
        assert reply.result.content == text, len(reply.result.content)


def what_belongs_to_the_calls_is_given_back(_client):
    """Descriptors, threads and children are those of the start again."""

    def state():
        fds = len(os.listdir("/proc/%d/fd" % PID))
        tasks = os.listdir("/proc/%d/task" % PID)
        children = ""
        for task in tasks:
            with open("/proc/%d/task/%s/children" % (PID, task), encoding="ascii") as file:
                children += file.read()
        return fds, len(tasks), children.split()

    wait_for(
        "baseline %s, now %s" % (BASELINE, state()),
        lambda: state()[0] <= BASELINE[0] + 1 and state()[1] == BASELINE[1] and state()[2] == BASELINE[2],
    )


CASES = [
    echo_streams_its_input_back,
    demo_runs_tools_in_parallel_and_thinks,
    load_sends_exactly_what_was_asked,
    execute_answers_with_the_result,
    agents_are_listed,
    cancel_ends_the_run,
    a_deadline_ends_the_call_and_the_run,
    a_killed_client_is_a_lost_connection,
    an_unknown_agent_is_not_found,
    bad_input_of_load_is_an_invalid_argument,
    bad_options_are_an_invalid_argument,
    a_failing_model_ends_with_error_event_and_status,
    a_run_is_started_followed_and_cancelled_apart,
    a_repeated_request_follows_its_run,
    a_conversation_ends_by_its_own_words,
    a_conversation_goes_on_without_more_input,
    methods_that_nobody_has_are_unimplemented,
    an_oversize_message_is_refused,
    a_hundred_streams_share_a_connection,
    a_slow_reader_loses_nothing,
    health_is_serving,
    reflection_knows_services_and_files,
    tls_serves_the_same,
    compressed_requests_are_understood,
]


def run_case(case, client):
    name = "python." + case.__name__
    try:
        case(client)
        check_streams()
    except Exception as error:  # pylint: disable=broad-except
        print("FAIL %s: %s %s" % (name, type(error).__name__, str(error).replace("\n", " ")[:300]), flush=True)
        return False
    print("ok " + name, flush=True)
    return True


def take_baseline():
    fds = len(os.listdir("/proc/%d/fd" % PID))
    return fds, len(os.listdir("/proc/%d/task" % PID)), []


BASELINE = take_baseline()


def main():
    ok = True
    with grpc.insecure_channel(ADDR) as channel:
        client = Client(channel)
        for case in CASES:
            ok &= run_case(case, client)
    ok &= run_case(what_belongs_to_the_calls_is_given_back, None)
    assert threading.active_count() >= 1
    return 0 if ok else 1


sys.exit(main())
