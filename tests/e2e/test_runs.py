"""What a run means, seen from outside: stop reasons, guards, budgets, usage, heartbeats, deltas, and what tools may do.

All runs share one daemon and one mock model; the input picks the turns of the scenario."""

import json
import os
import time
import unittest

import harness

MIXED = "aé€🎉" * 15000  # 150,000 bytes, in which no cut at 64 KiB may hit the middle of a character


def call(name="current_time", arguments=None, **more):
    return {"tool_call": dict({"name": name, "arguments": arguments or {}}, **more)}


def text(words):
    return {"text": words}


def broken(name, arguments):
    return {"tool_call": {"name": name, "arguments_text": arguments}}


def finish(reason):
    return {"finish": reason}


def usage(given, answered):
    return {"usage": {"input": given, "output": answered}}


ZONES = [{"timezone": zone} for zone in ("UTC", "+01:00", "+02:00", "+03:00", "+04:00")]
RESULT = text("model saw: {{last_tool_result}}")

# Name of the case, which is the input: what the model does, turn by turn.
TURNS = {
    "use-without-calls": [[text("I will."), finish("tool_calls")]],
    "stop-with-a-call": [[call(), finish("stop")], [text("over")]],
    "unknown-plain": [[text("hm"), finish("tired")]],
    "unknown-with-call": [[call(), finish("tired")], [text("over")]],
    "length-plain": [[text("half a sen"), finish("length")]],
    "length-with-call": [[text("x"), call(), finish("length")]],
    "length-half-call": [[broken("current_time", '{"a": 1'), finish("length")]],
    "filter-with-call": [[text("x"), call(), finish("content_filter")]],
    "cut-with-call": [[text("x"), call(), {"cut": True}]],
    "always-other": [[call(arguments=zone)] for zone in ZONES],
    "always-same": [[call(arguments={"timezone": "UTC"})]],
    "three-calls": [[call(arguments=zone) for zone in ZONES[:3]], [text("over")]],
    "many-calls": [[call(arguments={"timezone": "+%02d:%02d" % (i % 12, i // 12)}) for i in range(65)]],
    "spends-tokens": [[text("a"), call(arguments=zone), usage(11, 7)] for zone in ZONES],
    "sums-usage": [[text("first "), call(), usage(100, 10)], [text("second"), usage(200, 20)]],
    "hides-usage": [[text("x" * 400), {"usage": "none"}]],
    "hides-once": [[text("x" * 400), call(), {"usage": "none"}], [text("y"), usage(5, 6)]],
    "fails-once": [[{"error": {"in_band": True, "attempts": 1, "code": "server_error"}}, text("y"), usage(5, 6)]],
    "refuses-once": [[{"error": {"status": 500, "attempts": 1, "retry_after": 0}}, text("y"), usage(5, 6)]],
    "refuses-for-long": [[{"error": {"status": 503, "retry_after": 50}}]],
    "quiet-model": [[text("a"), {"delay_ms": 2600}, text("b")]],
    "long-text": [[text(MIXED)]],
    "thinks": [[{"thinking": "secret thought"}, text("said")]],
    "bad-characters": [[{"raw": 'data: {"choices":[{"index":0,"delta":{"content":"a\\u0000b"}}]}'}, text("c")]],
    "fragments": [[call(arguments={"timezone": "UTC"}, fragments=5)], [text("over")]],
    "runs-long": [[text("a"), {"hang": True}]],
    "sleeps": [[call("sleep", {"seconds": "30"})], [RESULT]],
    "long-nap": [[call("nap", {"seconds": "1.5"})], [RESULT]],
    "slow-and-fast": [[call("nap", {"seconds": "0.6"}), call("nap", {"seconds": "0.1"})], [RESULT]],
    "says-much": [[call("flood", {"bytes": "200000"})], [RESULT]],
    "says-more": [[call("flood", {"bytes": "60000"}), call("flood", {"bytes": "50000"})], [RESULT]],
    "says-too-much": [[call("flood", {"bytes": "90000000"})], [RESULT]],
    "who-is-it": [[call("whoami")], [RESULT]],
    "exits": [[call("exits")], [RESULT]],
    "no-program": [[call("missing")], [RESULT]],
    "wrong-arguments": [[call("nap", {"seconds": 7, "other": 1})], [RESULT]],
    "no-json": [[broken("nap", "{seconds")], [RESULT]],
    "strange-name": [[call("\N{PARTY POPPER}a" * 100)], [RESULT]],
    "denied-tool": [[call("forbidden")], [RESULT]],
    "asked-tool": [[call("asked")], [RESULT]],
    "fetches": [[call("http_request", {"url": "https://example.com/"})], [RESULT]],
}
SCENARIO = json.dumps(
    {"turns": [{"match": case, "steps": steps} for case, turns in TURNS.items() for steps in turns]}, ensure_ascii=False
)


def program(name, *command, **more):
    properties = {word[2:-2]: {"type": "string"} for word in command if word.startswith("{{")}
    return dict(
        {
            "type": "Process",
            "name": name,
            "description": "A program.",
            "config": {"command": list(command)},
            "parameters": {"type": "object", "properties": properties, "additionalProperties": False},
        },
        **more
    )


def agent(name, **more):
    return json.dumps(dict({"name": name, "model": "openai:mock-1"}, **more))


SLEEP = program("sleep", "/bin/sleep", "{{seconds}}", timeout_secs=1)
NAP = program("nap", "/bin/sleep", "{{seconds}}")
TOOLS = [
    "current_time",
    "http_request",
    SLEEP,
    NAP,
    program("flood", "head", "-c", "{{bytes}}", "/dev/zero"),
    program("whoami", "/bin/sh", "-c", "id -u; id -G; cat /proc/self/status | grep -e NoNewPrivs; env"),
    program("exits", "/bin/sh", "-c", "echo out; echo bad >&2; exit 3"),
    program("missing", "/no/such/program"),
    program("forbidden", "/bin/true", policy="deny"),
    program("asked", "/bin/true", policy="ask"),
]
AGENTS = {
    "helper": {"tools": TOOLS},
    "two": {"tools": TOOLS, "max_iterations": 2},
    "poor": {"tools": TOOLS, "budget": {"max_tokens": 30}},
    "few": {"tools": TOOLS, "budget": {"max_tool_calls": 2}},
    "short": {"run_timeout_secs": 1},
    "beats": {"heartbeat_ms": 1000, "tools": [NAP]},
    "mute": {"reasoning": {"show": False}},
    "one-by-one": {"tools": [NAP], "parallel_tools": 1},
}


def kinds(events, kind):
    return [event for event in events if event["type"] == kind]


class Runs(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.model = harness.MockModel(SCENARIO, ["--quiet"])
        cls.addClassCleanup(cls.model.stop)
        files = {name + ".yaml": agent(name, **more) for name, more in AGENTS.items()}
        cls.server = harness.Daemon(agents=files, env=cls.model.env(), flags=("--limit", "tool_output_kill=1MiB"))
        cls.addClassCleanup(cls.server.stop)
        for _ in range(4):  # what the clients of models and of http_request keep is there from now on
            harness.run_agent(cls.server, "helper", "fetches")
        cls.server.baseline = harness.state_of(cls.server.pid)

    def run_case(self, case, name="helper", flags=()):
        return harness.run_agent(self.server, name, case, flags=flags)

    def fails(self, case, code, status, name="helper", flags=()):
        """The events of a run that ends with this code and gRPC status."""
        done = harness.sluice(self.server, "run", name, case, "--json", "--timeout", "30s", *flags)
        self.assertEqual(done.returncode, 1, done.stdout)
        harness.check_order(done.stdout)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual((events[-1]["type"], events[-1]["code"]), ("error", code))
        self.assertIn(status.encode(), done.stderr)
        self.assertIn("usage", events[-1])
        self.assertTrue(events[-1]["error_id"])
        return events

    def tool(self, case, error_code, name="helper"):
        """The one tool result of a run that goes on after it; and the text in which the model repeats what it saw."""
        events = self.run_case(case, name)
        complete = kinds(events, "tool_call_complete")[0]
        self.assertEqual(complete["error_code"], error_code or "UNSPECIFIED")
        self.assertEqual(complete["success"], error_code == "")
        self.assertEqual(events[-1]["stop_reason"], "END_TURN", "a failed tool does not end the run")
        if error_code:
            self.assertIn(error_code, harness.text_of(events), "the model sees why")
        return complete, harness.text_of(events)

    # ---- Stop reasons ----

    def test_tool_use_without_calls_is_a_protocol_error(self):
        events = self.fails("use-without-calls", "PROVIDER_PROTOCOL", "INTERNAL")
        self.assertEqual(kinds(events, "iteration_complete")[0]["stop_reason"], "INTERRUPTED")

    def test_calls_run_also_when_the_model_says_stop_or_something_unknown(self):
        for case, raw in (("stop-with-a-call", "stop"), ("unknown-with-call", "tired")):
            events = self.run_case(case)
            first = kinds(events, "iteration_complete")[0]
            self.assertEqual((first["stop_reason"], first["provider_stop_reason"]), ("TOOL_USE", raw))
            self.assertTrue(kinds(events, "tool_call_complete")[0]["success"])
            self.assertEqual(events[-1]["total_iterations"], 2)

    def test_an_unknown_reason_without_calls_is_an_end_of_turn(self):
        events = self.run_case("unknown-plain")
        self.assertEqual(kinds(events, "iteration_complete")[0]["provider_stop_reason"], "tired")
        self.assertEqual((events[-1]["stop_reason"], events[-1]["content"]), ("END_TURN", "hm"))

    def test_the_output_limit_is_a_success_and_runs_no_call(self):
        events = self.run_case("length-plain")
        self.assertEqual((events[-1]["stop_reason"], events[-1]["content"]), ("MAX_TOKENS", "half a sen"))
        events = self.run_case("length-with-call")
        self.assertEqual(events[-1]["stop_reason"], "MAX_TOKENS")
        self.assertEqual([e["error_code"] for e in kinds(events, "tool_call_complete")], ["NOT_RUN"])
        events = self.run_case("length-half-call")
        self.assertEqual(kinds(events, "tool_call_start"), [], "a half call is dropped")
        self.assertEqual(events[-1]["stop_reason"], "MAX_TOKENS")

    def test_a_filter_ends_the_run_and_runs_no_call(self):
        events = self.fails("filter-with-call", "CONTENT_FILTER", "FAILED_PRECONDITION")
        self.assertEqual(events[-1]["message"], "Content filter triggered by model")
        self.assertEqual([e["error_code"] for e in kinds(events, "tool_call_complete")], ["NOT_RUN"])
        self.assertEqual(kinds(events, "iteration_complete")[0]["stop_reason"], "CONTENT_FILTER")

    def test_a_cut_answer_runs_no_call(self):
        events = self.fails("cut-with-call", "PROVIDER_TRUNCATED", "ABORTED")
        self.assertTrue(events[-1]["retryable"])
        self.assertTrue({e["error_code"] for e in kinds(events, "tool_call_complete")} <= {"NOT_RUN"})

    # ---- Guards ----

    def test_the_iteration_limit_is_an_error_with_the_number_in_it(self):
        three, nine = ("--max-iterations", "3"), ("--max-iterations", "9")
        for name, flags, limit in (("two", (), 2), ("helper", three, 3), ("two", nine, 2)):
            events = self.fails("always-other", "MAX_ITERATIONS", "RESOURCE_EXHAUSTED", name, flags)
            self.assertEqual(events[-1]["message"], "Exceeded max iterations (%d)" % limit)
            self.assertEqual(events[-1]["total_iterations"], limit)
            self.assertEqual(len(kinds(events, "tool_call_complete")), limit, "the last tools did run")

    def test_the_same_call_five_times_is_a_loop(self):
        events = self.fails("always-same", "LOOP_DETECTED", "RESOURCE_EXHAUSTED")
        self.assertEqual(events[-1]["total_iterations"], 5)
        self.assertEqual([e["success"] for e in kinds(events, "tool_call_complete")], [True] * 4 + [False])

    def test_calls_have_caps_per_answer_and_per_run(self):
        self.fails("many-calls", "PROVIDER_LIMIT", "RESOURCE_EXHAUSTED")
        events = self.fails("three-calls", "BUDGET_EXCEEDED", "RESOURCE_EXHAUSTED", "few")
        self.assertEqual({e["error_code"] for e in kinds(events, "tool_call_complete")}, {"NOT_RUN"})
        self.assertEqual(self.run_case("three-calls")[-1]["stop_reason"], "END_TURN")

    def test_a_conversation_that_outgrows_a_request_ends_the_run(self):
        files = {"helper.yaml": agent("helper", **AGENTS["helper"])}
        flags = ("--limit", "model_request=64KiB")
        self.server = self.daemon(agents=files, env=self.model.env(), flags=flags)
        self.fails("says-much", "PROVIDER_LIMIT", "RESOURCE_EXHAUSTED")
        events = self.fails("says-more", "PROVIDER_LIMIT", "RESOURCE_EXHAUSTED")
        self.assertEqual(events[-1]["message"], "The conversation is larger than a request may be")
        self.assertFalse(events[-1]["retryable"])

    def test_a_budget_of_tokens_ends_the_run_before_the_next_request(self):
        events = self.fails("spends-tokens", "BUDGET_EXCEEDED", "RESOURCE_EXHAUSTED", "poor")
        self.assertEqual((events[-1]["total_iterations"], events[-1]["usage"]["input_tokens"]), (2, 22))

    def test_a_run_has_a_time_limit_of_its_own(self):
        begin = time.monotonic()
        events = self.fails("runs-long", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED", "short")
        self.assertLess(time.monotonic() - begin, 5)
        self.assertGreaterEqual(events[-1]["execution_time_ms"], 1000)
        self.assertEqual(kinds(events, "iteration_complete")[0]["stop_reason"], "INTERRUPTED")
        self.assertTrue(events[-1]["usage"]["estimated"])

    # ---- Usage, content, deltas, heartbeats ----

    def test_usage_is_summed_and_the_content_is_that_of_the_last_iteration(self):
        done = self.run_case("sums-usage")[-1]
        self.assertEqual((done["input_tokens"], done["output_tokens"]), (300, 30))
        self.assertEqual((done["usage"]["input_tokens"], done["usage"]["output_tokens"]), (300, 30))
        self.assertEqual((done["usage"]["model_calls"], done["usage"]["estimated"]), (2, False))
        self.assertEqual(done["content"], "second")

    def test_usage_that_is_not_reported_is_estimated_and_never_zero(self):
        done = self.run_case("hides-usage")[-1]
        self.assertTrue(done["usage"]["estimated"])
        self.assertEqual(done["output_tokens"], 100)
        self.assertGreater(done["input_tokens"], 0)
        events = self.run_case("hides-once")
        self.assertEqual([e["usage"]["estimated"] for e in kinds(events, "iteration_complete")], [True, False])
        self.assertTrue(events[-1]["usage"]["estimated"], "one estimate makes the sum one")

    def test_a_lost_attempt_is_estimated_and_a_refused_one_used_nothing(self):
        done = self.run_case("fails-once")[-1]
        self.assertEqual((done["usage"]["model_calls"], done["usage"]["estimated"]), (2, True))
        self.assertGreater(done["input_tokens"], 100)
        self.assertEqual(done["output_tokens"], 6)
        done = self.run_case("refuses-once")[-1]
        self.assertEqual((done["usage"]["estimated"], done["input_tokens"]), (False, 5))

    def test_a_wait_that_is_longer_than_the_time_left_is_handed_up_at_once(self):
        """PM-1.7: who waits could not know why, and when to come again."""
        last = self.fails("refuses-for-long", "PROVIDER_RATE_LIMITED", "RESOURCE_EXHAUSTED")[-1]
        self.assertEqual((last["retry_after_ms"], last["retryable"], last["provider_status"]), (50000, True, 503))

    def test_long_text_is_split_between_characters(self):
        events = self.run_case("long-text")
        deltas = kinds(events, "text_delta")
        self.assertEqual(harness.text_of(events), MIXED)
        self.assertTrue(all(0 < len(e["delta"].encode()) <= 65536 for e in deltas))
        self.assertGreaterEqual(len(deltas), 3)
        self.assertEqual(events[-1]["content"], MIXED)

    def test_nul_in_an_answer_becomes_a_replacement_character(self):
        self.assertEqual(self.run_case("bad-characters")[-1]["content"], "a\ufffdbc")

    def test_a_quiet_model_makes_heartbeats_without_a_sequence(self):
        events = self.run_case("quiet-model", "beats")
        beats = kinds(events, "heartbeat")
        self.assertGreaterEqual(len(beats), 2)
        for beat in beats:
            self.assertEqual((beat["sequence"], beat["phase"]), (0, "MODEL_STREAM"))
            self.assertEqual(beat["last_sequence"], kinds(events, "text_delta")[0]["sequence"])
        events = self.run_case("long-nap", "beats")
        self.assertEqual(
            [(beat["phase"], beat["open_tool_ids"]) for beat in kinds(events, "heartbeat")],
            [("TOOLS", [kinds(events, "tool_call_start")[0]["tool_id"]])],
        )

    def test_reasoning_can_be_hidden(self):
        self.assertEqual(kinds(self.run_case("thinks"), "thinking")[0]["content"], "secret thought")
        events = self.run_case("thinks", "mute")
        self.assertNotIn("secret thought", json.dumps(events))
        self.assertEqual(events[-1]["content"], "said")

    def test_fragments_of_calls_come_only_on_request(self):
        self.assertEqual(kinds(self.run_case("fragments"), "tool_call_delta"), [])
        events = self.run_case("fragments", flags=("--tool-deltas",))
        joined = "".join(e["arguments_fragment"] for e in kinds(events, "tool_call_delta"))
        self.assertEqual(json.loads(joined), {"timezone": "UTC"})
        self.assertEqual(json.loads(kinds(events, "tool_call_start")[0]["arguments_json"]), {"timezone": "UTC"})

    # ---- Tools ----

    def test_a_tool_that_takes_too_long_is_stopped_and_the_run_goes_on(self):
        complete, _ = self.tool("sleeps", "TIMEOUT")
        self.assertTrue(1000 <= complete["execution_time_ms"] < 4000, complete)
        self.assertEqual(complete["attempts"], 1, "it is not declared idempotent")

    def test_tools_end_in_their_order_and_the_model_gets_the_order_of_the_calls(self):
        events = self.run_case("slow-and-fast")
        starts = [e["tool_id"] for e in kinds(events, "tool_call_start")]
        self.assertEqual([e["tool_id"] for e in kinds(events, "tool_call_complete")], starts[::-1])
        times = [e["execution_time_ms"] for e in kinds(events, "tool_call_complete")]
        self.assertLess(events[-1]["execution_time_ms"], sum(times) + 500)
        events = self.run_case("slow-and-fast", "one-by-one")
        starts = [e["tool_id"] for e in kinds(events, "tool_call_start")]
        self.assertEqual([e["tool_id"] for e in kinds(events, "tool_call_complete")], starts)

    def test_output_is_capped_in_the_middle(self):
        complete, seen = self.tool("says-much", "")
        self.assertEqual((complete["result_bytes"], complete["result_truncated"]), (200000, True))
        self.assertLessEqual(len(complete["result_json"].encode()), 32768)
        self.assertIn("model saw", seen)

    def test_a_flood_is_killed(self):
        complete, _ = self.tool("says-too-much", "OUTPUT_LIMIT")
        self.assertGreater(complete["result_bytes"], 1024 * 1024)

    def test_a_program_is_nobody_and_knows_nothing_of_the_daemon(self):
        complete, seen = self.tool("who-is-it", "")
        out = json.loads(complete["result_json"])["stdout"].splitlines()
        if os.geteuid() == 0:
            self.assertEqual(out[:2], ["65534", "65534"])
        self.assertIn("NoNewPrivs:\t1", out)
        self.assertTrue(any(line.startswith("SLUICE_IDEMPOTENCY_KEY=") for line in out))
        self.assertNotIn("planted-secret", seen)
        self.assertNotIn("OPENAI", complete["result_json"])

    def test_why_a_tool_failed_goes_to_the_client_and_to_the_model(self):
        complete, seen = self.tool("exits", "EXIT_NONZERO")
        self.assertEqual((complete["exit_code"], json.loads(complete["result_json"])["stderr"]), (3, "bad\n"))
        self.assertIn("bad", seen, "what it wrote goes to the model, too")
        self.tool("no-program", "SPAWN_FAILED")
        complete, _ = self.tool("wrong-arguments", "INVALID_ARGS")
        self.assertEqual(complete.get("attempts", 0), 0, "it was not started")
        self.tool("no-json", "INVALID_ARGS")
        complete, _ = self.tool("strange-name", "UNKNOWN_TOOL")
        self.assertIn("\N{PARTY POPPER}", complete["error"])

    def test_policy_and_hosts_deny(self):
        for case in ("denied-tool", "asked-tool", "fetches"):
            self.tool(case, "DENIED")


if __name__ == "__main__":
    unittest.main(verbosity=2)
