"""Runs against `sluice mock-model` over real HTTP: text, tools, every fault, cancel, backpressure."""

import json
import re
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import threading
import time
import unittest

import harness
from wire import STREAMING, Wire, field, run_request

TEXT = """
turns:
  - steps:
      - thinking: "The user said {{input}}."
      - text: "You said {{input}}."
        pace: {unit: chars, size: 3, delay_ms: 1}
      - usage: {input: 11, output: 7, cached: 3, reasoning: 2}
"""
TOOLS = """
turns:
  - steps:
      - text: "Let me look."
      - tool_call: {name: current_time, arguments: {}, fragments: 2}
      - tool_call: {name: current_time, arguments: {}}
      - tool_call: {name: no_such_tool, arguments: {}}
  - steps:
      - text: "Done: {{last_tool_result}}"
"""
HANG = """
turns:
  - steps:
      - text: "Hello."
      - hang: true
"""


def error(**fields):
    return "turns:\n  - steps:\n      - error: %s\n" % json.dumps(fields)


class Models(harness.Case):
    def pair(self, scenario, flags=()):
        mock = self.mock(scenario)
        return mock, self.daemon(agents={"helper.yaml": harness.HELPER}, env=mock.env(), flags=flags)

    def fails_with(self, scenario, code, status, flags=()):
        """The run ends with this code; the exit status is 1 and the gRPC status is on stderr."""
        _, server = self.pair(scenario, flags)
        done = harness.sluice(server, "run", "helper", "x", "--json", "--timeout", "30s")
        self.assertEqual(done.returncode, 1, done.stdout)
        harness.check_order(done.stdout)
        last = json.loads(done.stdout.splitlines()[-1])
        self.assertEqual((last["type"], last["code"]), ("error", code))
        self.assertIn(status.encode(), done.stderr)
        return last

    def test_text_thinking_and_usage_arrive(self):
        mock, server = self.pair(TEXT)
        events = harness.run_agent(server, "helper", "grüße 🎉")
        self.assertEqual(harness.text_of(events), "You said grüße 🎉.")
        self.assertEqual("".join(e["content"] for e in events if e["type"] == "thinking"), "The user said grüße 🎉.")
        usage = events[-1]["usage"]
        self.assertEqual((usage["input_tokens"], usage["output_tokens"], usage["cache_read_tokens"]), (11, 7, 3))
        self.assertEqual(usage["estimated"], False)
        self.assertEqual(mock.stats()["completed"], 1)
        self.assertNotIn("planted-secret", server.log() + json.dumps(events))

    def test_tools_run_in_parallel_and_their_results_go_back(self):
        _, server = self.pair(TOOLS)
        events = harness.run_agent(server, "helper", "x")
        completes = [e for e in events if e["type"] == "tool_call_complete"]
        self.assertEqual(sorted(e["success"] for e in completes), [False, True, True])
        self.assertEqual([e["error_code"] for e in completes if not e["success"]], ["UNKNOWN_TOOL"])
        self.assertEqual(events[-1]["total_iterations"], 2)
        self.assertIn("UNKNOWN_TOOL", harness.text_of(events), "the model sees the failed tool's error")

    def test_documents_too_large_for_a_loop_go_through_the_pool(self):
        # PM-1.6: arguments of 480 KB are read and checked there, and the next request is built there.
        step = '      - tool_call: {name: current_time, arguments: {format: "%s"}}\n' % ("{{input}}" * 120)
        mock, server = self.pair("turns:\n  - steps:\n" + step + '  - steps:\n      - text: "after"\n')
        events = harness.run_agent(server, "helper", "x" * 4000)
        completes = [e for e in events if e["type"] == "tool_call_complete"]
        self.assertEqual([e["error_code"] for e in completes], ["INVALID_ARGS"])
        self.assertEqual(harness.text_of(events), "after")
        self.assertEqual(mock.stats()["completed"], 2)

    def test_the_provider_faults_have_their_codes(self):
        self.fails_with(error(status=401), "PROVIDER_AUTH", "FAILED_PRECONDITION")
        self.fails_with(error(status=400, message="bad"), "PROVIDER_REJECTED", "FAILED_PRECONDITION")
        last = self.fails_with(error(status=429, retry_after=100), "PROVIDER_RATE_LIMITED", "RESOURCE_EXHAUSTED")
        self.assertEqual(last["retry_after_ms"], 100000)
        self.fails_with(error(in_band=True, code="server_error"), "PROVIDER_OVERLOADED", "ABORTED")

    def test_a_server_error_is_retried_first(self):
        mock, server = self.pair(
            "turns:\n  - steps:\n      - error: {status: 500, attempts: 1, retry_after: 0}\n      - text: back\n"
        )
        events = harness.run_agent(server, "helper", "x")
        self.assertEqual(mock.stats()["requests"], 2)
        self.assertEqual(harness.text_of(events), "back", "nothing of the failed attempt is seen")

    def test_a_cut_answer_is_asked_for_again_if_the_agent_wants_that(self):  # AL-4.8
        mock = self.mock(
            "turns:\n  - steps:\n      - text: first\n      - error: {in_band: true, code: server_error, attempts: 1}\n"
            "      - text: ', second'\n"
        )
        server = self.daemon(agents={"helper.yaml": harness.HELPER + "restart_interrupted: true\n"}, env=mock.env())
        events = harness.run_agent(server, "helper", "x")
        self.assertEqual(
            [(e["iteration"], e["attempt"]) for e in events if e["type"] == "iteration_start"], [(1, 1), (1, 2)]
        )
        self.assertEqual(
            [e["stop_reason"] for e in events if e["type"] == "iteration_complete"], ["INTERRUPTED", "END_TURN"]
        )
        self.assertEqual(events[-1]["content"], "first, second", "only what the second attempt said")
        self.assertEqual((events[-1]["total_iterations"], events[-1]["usage"]["model_calls"]), (1, 2))
        self.assertEqual(mock.stats()["requests"], 2)

    def test_an_answer_that_does_not_fit_its_schema_is_asked_for_again(self):  # AL-4.8, AL-5.8
        scenario = "turns:\n  - steps: [{text: 'The grade is 2.'}]\n  - {match: does not fit, steps: [{text: '%s'}]}\n"
        agent = harness.HELPER + "output_schema: {type: object, required: [grade]}\non_validation_error: retry\n"
        mock = self.mock(scenario % '{"grade": 2}')
        server = self.daemon(agents={"helper.yaml": agent}, env=mock.env())
        events = harness.run_agent(server, "helper", "x")
        self.assertEqual(events[-1]["content"], '{"grade": 2}')
        self.assertEqual([e["iteration"] for e in events if e["type"] == "iteration_start"], [1, 2])
        self.assertEqual(harness.rises({}, server.metrics(), "sluice_output_violations_total"), {'agent="helper"': 1})
        mock = self.mock(scenario % '{"grad": 2}')
        server = self.daemon(agents={"helper.yaml": agent}, env=mock.env())
        events = harness.run_agent(server, "helper", "x", expected=1)
        self.assertEqual((events[-1]["code"], events[-1]["retryable"]), ("OUTPUT_INVALID", False))
        self.assertEqual(mock.stats()["completed"], 2)

    def test_estimates_are_counted_apart_from_what_providers_report(self):  # AL-2.3
        reported = "turns:\n  - steps:\n      - text: hello\n      - usage: {input: 5, output: 3}\n"
        for scenario, is_exact in (reported, True), (reported.replace("{input: 5, output: 3}", "none"), False):
            _, server = self.pair(scenario)
            before = server.metrics()
            usage = harness.run_agent(server, "helper", "x")[-1]["usage"]
            after = server.metrics()
            labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="mock-1",gen_ai_token_type='
            tokens = {'"input"': usage["input_tokens"], '"output"': usage["output_tokens"]}
            exact = harness.rises(before, after, "gen_ai_client_token_usage_sum")
            estimated = harness.rises(before, after, "sluice_estimated_tokens_total")
            self.assertEqual(exact, {labels + k: v for k, v in tokens.items()} if is_exact else {})
            self.assertEqual(estimated, {} if is_exact else {"type=" + k: v for k, v in tokens.items()})
            self.assertTrue(all(tokens.values()) and usage["estimated"] != is_exact)

    def test_what_a_run_costs_is_counted_and_bounded(self):  # AL-2.3, AL-5.4
        step = "      - usage: {input: 100, output: 10, cached: 40}\n"
        mock = self.mock(
            "turns:\n  - steps:\n      - tool_call: {name: current_time, arguments: {}}\n" + step
            + "  - steps:\n      - text: Done.\n" + step
        )
        prices = "prices: {currency: EUR, models: {mock-1: {input: 10, output: 100, cache_read: 1}}}"
        server = self.daemon(
            agents={
                "helper.yaml": harness.HELPER,
                "poor.yaml": harness.HELPER.replace("helper", "poor") + "budget: {max_cost_micros: 1640}\n",
            },
            config="providers: [{name: openai, %s}]\n" % prices,
            env=mock.env(),
        )
        events = harness.run_agent(server, "helper", "x")
        costs = [e["usage"]["cost_micros"] for e in events if e["type"] == "iteration_complete"]
        self.assertEqual(costs, [60 * 10 + 40 * 1 + 10 * 100] * 2)
        self.assertEqual((events[-1]["usage"]["cost_micros"], events[-1]["usage"]["currency"]), (3280, "EUR"))
        asked = {"run_id": events[0]["run_id"]}
        done = harness.sluice(server, "call", "sluice.v1.AgentRuntime/GetRun", json.dumps(asked))
        usage = json.loads(done.stdout)["run"]["usage"]
        self.assertEqual((usage["costMicros"], usage["currency"]), ("3280", "EUR"))
        events = harness.run_agent(server, "poor", "x", expected=1)
        self.assertEqual((events[-1]["code"], events[-1]["usage"]["cost_micros"]), ("BUDGET_EXCEEDED", 1640))
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        for limit, wanted in (1640, 8), (1641, 0):  # RESOURCE_EXHAUSTED; the second answer is the last
            budget = field(6, field(17, field(3, limit)))
            self.assertEqual(wire.ask(STREAMING, run_request("helper", "x") + budget).status(), wanted)
        reply = wire.ask(STREAMING, run_request("poor", "x") + field(6, field(17, field(3, 10**9))))
        self.assertEqual(reply.status(), 8, "a request may only narrow what its agent may spend")

    def test_a_cut_stream_is_an_error_and_not_an_end(self):
        last = self.fails_with("turns:\n  - steps:\n      - text: half\n      - cut: true\n", "PROVIDER_TRUNCATED", "ABORTED")
        self.assertEqual((last["usage"]["estimated"], last["usage"]["output_tokens"]), (True, 1), "a quarter of the bytes")

    def test_silence_is_a_timeout(self):
        self.fails_with(HANG, "PROVIDER_TIMEOUT", "ABORTED", flags=("--limit", "model_idle=300ms"))

    def test_nobody_listening_is_unreachable(self):
        server = self.daemon(
            agents={"helper.yaml": harness.HELPER},
            env={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1", "OPENAI_API_KEY": "k" * 20},
            flags=("--limit", "model_retries=0"),
        )
        events = harness.run_agent(server, "helper", "x", expected=1)
        self.assertEqual(events[-1]["code"], "PROVIDER_UNREACHABLE")

    def serve_tls(self, host):
        """A TLS server with a certificate for this host that nobody has signed; gives its port."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        subprocess.run(
            [
                *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(),
                *("-subj", "/CN=" + host, "-keyout", folder + "/key.pem", "-out", folder + "/cert.pem"),
            ],
            check=True,
            capture_output=True,
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        self.connections = 0

        def serve():
            for _ in range(8):
                try:
                    conn, _ = listener.accept()
                except OSError:
                    return
                self.connections += 1
                try:
                    context.wrap_socket(conn, server_side=True).close()
                except OSError:
                    conn.close()

        threading.Thread(target=serve, daemon=True).start()
        return listener.getsockname()[1]

    def test_a_certificate_that_nobody_signed_is_refused_and_not_tried_again(self):
        # PM-1.8, PM-1.7: TLS errors are never retried.
        server = self.daemon(
            agents={"helper.yaml": harness.HELPER},
            env={"OPENAI_BASE_URL": "https://localhost:%d/v1" % self.serve_tls("localhost"), "OPENAI_API_KEY": "k" * 20},
        )
        events = harness.run_agent(server, "helper", "x", expected=1)
        self.assertEqual((events[-1]["code"], events[-1].get("retryable", False)), ("PROVIDER_TLS", False))
        self.assertEqual(self.connections, 1)

    def serve(self, answer):
        """A model that is a port: gives the daemon's environment and the list of the bodies that came."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        bodies = []

        def read_request(conn):
            data = b""
            while b"\r\n\r\n" not in data:
                data += conn.recv(65536)
            head, _, body = data.partition(b"\r\n\r\n")
            size = int(re.search(rb"(?i)content-length: (\d+)", head).group(1))
            while len(body) < size:
                body += conn.recv(65536)
            return body

        def run():
            for _ in range(4):
                try:
                    conn, _ = listener.accept()
                except OSError:
                    return
                with conn:
                    bodies.append(read_request(conn))
                    conn.sendall(answer)

        threading.Thread(target=run, daemon=True).start()
        url = "http://127.0.0.1:%d/v1" % listener.getsockname()[1]
        return {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "k" * 20}, bodies

    def test_html_instead_of_a_stream_is_a_protocol_error(self):
        body = b"<html>not a model</html>"
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: %d\r\n\r\n" % len(body)
        env, _ = self.serve(head + body)
        server = self.daemon(agents={"helper.yaml": harness.HELPER}, env=env)
        events = harness.run_agent(server, "helper", "x", expected=1)
        self.assertEqual(events[-1]["code"], "PROVIDER_PROTOCOL")
        self.assertNotIn("html", json.dumps(events))

    def test_the_conversation_of_a_request_goes_before_its_input(self):
        chunk = {"choices": [{"index": 0, "delta": {"content": "yes"}, "finish_reason": "stop"}]}
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        env, bodies = self.serve(head + b"data: %s\n\ndata: [DONE]\n\n" % json.dumps(chunk).encode())
        server = self.daemon(agents={"helper.yaml": harness.HELPER}, env=env)
        system, user, assistant, tool = (field(1, role) for role in (1, 2, 3, 4))
        calls = field(3, field(1, "c1") + field(2, "first") + field(3, '{"a":1}')) + field(
            3, field(1, "c2") + field(2, "next")
        )
        messages = (
            system + field(2, "Be brief."),
            user + field(2, "before"),
            assistant + calls,
            tool + field(2, "one") + field(4, "c1"),
            tool + field(2, "two") + field(4, "c2") + field(6, 1),
        )
        body = run_request("helper", "now") + field(3, b"".join(field(1, message) for message in messages))
        wire = Wire(server.address)
        self.addCleanup(wire.close)
        self.assertEqual(wire.ask(STREAMING, body).status(), 0)
        sent = json.loads(bodies[0])["messages"]
        self.assertEqual([m["role"] for m in sent], ["system", "system", "user", "assistant", "tool", "tool", "user"])
        self.assertEqual([m["content"] for m in sent[1:3] + sent[4:]], ["Be brief.", "before", "one", "two", "now"])
        calls = [(c["id"], c["function"]["name"], c["function"]["arguments"]) for c in sent[3]["tool_calls"]]
        self.assertEqual(calls, [("c1", "first", '{"a":1}'), ("c2", "next", "{}")])
        self.assertEqual([m["tool_call_id"] for m in sent[4:6]], ["c1", "c2"])

    def test_a_cancel_closes_the_models_socket(self):
        mock, server = self.pair(HANG)
        child = harness.start_sluice(server, "run", "helper", "x", "--json")
        harness.wait_for("the request", lambda: mock.stats()["active"] == 1)
        child.stdout.readline()
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
        harness.wait_for("the abort at the model", lambda: mock.stats()["aborted"] == 1, seconds=5)
        server.wait_log("CLIENT_RESET")

    def test_a_reader_that_does_not_read_holds_the_model_back(self):
        step = '      - text: "%s"\n        pace: {unit: chars, size: 1000}\n' % ("{{input}}" * 60)
        mock, server = self.pair("turns:\n  - steps:\n" + step * 40)  # about 10 MB
        child = harness.start_sluice(server, "run", "helper", "x" * 4000, "--json")
        first = child.stdout.readline()
        child.send_signal(signal.SIGSTOP)
        last = -1
        for _ in range(100):  # until nothing moves any more
            now = mock.stats()["bytes_accepted"]
            if now == last:
                break
            last = now
            time.sleep(0.3)
        self.assertEqual(mock.stats()["active"], 1, "the model is held back in the middle of its answer")
        child.send_signal(signal.SIGCONT)
        out, _ = child.communicate(timeout=120)
        self.assertEqual(child.returncode, 0)
        self.assertGreater(mock.stats()["bytes_accepted"], last, "and went on")
        harness.check_order(first + out)
        self.assertEqual(out.count(b'"done"'), 1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
