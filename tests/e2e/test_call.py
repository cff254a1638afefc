"""`sluice call` and `sluice frame` against sluiced, and against a gRPC server of other people with awkward types."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

import harness

SERVER = harness.ROOT + "/tests/e2e/grpc_server.py"
ECHO = "awkward.v1.Awkward/Echo"
# What a JSON text becomes when it was sent, and came back.
AWKWARD = {
    "aDouble": "NaN", "aFloat": 0.1, "anInt64": "-9223372036854775808", "aUint64": "18446744073709551615",
    "aString": "h\u00e9\u0000", "someBytes": "+/8=", "color": "COLOR_RED", "maybeInt": 0, "packedInts": [1, -2],
    "choiceNull": None, "byBool": {"true": "t"}, "values": {"a": None, "b": [1, {"c": False}]},
    "time": "2026-11-27T20:35:21.500Z", "duration": "-1.500s", "mask": "a.bC,d", "object": {"x": {}},
    "any": {"@type": "type.googleapis.com/awkward.v1.Tree", "name": "n"}, "int64Wrapper": "0",
    "old": {"needed": 1, "grouped": {"text": "t"}, "[awkward.v1.extra]": "e"},
}


def types_file(folder):
    path = folder + "/types.pb"
    subprocess.run(
        ["protoc", "--descriptor_set_out=" + path, "--include_imports", "-I", harness.ROOT, "-I", "/usr/include",
         "tests/unit/schema_types.proto"],
        check=True, timeout=60)
    return path


class Foreign(harness.Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="sluice-types-")
        cls.types = types_file(cls.folder)

    def server(self, reflection):
        server = harness.Process("grpc_server", [sys.executable, "-B", SERVER, self.types, reflection])
        self.addCleanup(server.stop)
        return server

    def call(self, server, *words, expected=0, **options):
        done = harness.sluice(server, "call", *words, **options)
        self.assertEqual(done.returncode, expected, done.stderr.decode())
        return done

    def check_types(self, server, *flags):
        done = self.call(server, ECHO, json.dumps(AWKWARD), *flags)
        self.assertEqual(json.loads(done.stdout), AWKWARD)
        self.assertEqual(done.stdout.count(b"\n"), 1, "one line in a pipe")

    def test_awkward_types_come_back_as_they_were_by_each_kind_of_reflection(self):
        for reflection in ("v1", "v1alpha", "lazy"):
            with self.subTest(reflection=reflection):
                self.check_types(self.server(reflection))

    def test_without_reflection_a_protoset_is_asked_for_and_is_enough(self):
        server = self.server("none")
        done = self.call(server, ECHO, expected=1)
        self.assertIn(b"--protoset", done.stderr)
        self.check_types(server, "--protoset", self.types)
        self.assertEqual(self.call(server, "--protoset", self.types).stdout, b"awkward.v1.Awkward\n")
        self.assertIn(b"cannot be read", self.call(server, ECHO, "--protoset", "/no/such", expected=1).stderr)
        self.assertIn(b"no FileDescriptorSet", self.call(server, ECHO, "--protoset", SERVER, expected=1).stderr)

    def test_the_four_kinds_of_methods(self):
        server = self.server("v1")
        done = self.call(server, "awkward.v1.Awkward/Count", '{"name": "n"}')
        self.assertEqual(done.stdout, b'{"name":"n 0"}\n{"name":"n 1"}\n{"name":"n 2"}\n')
        many = b'{"anInt32": 1}{"an_int32": 2}\n\n  {"anInt32":3}'
        self.assertEqual(self.call(server, "awkward.v1.Awkward/Collect", input=many).stdout, b'{"packedInts":[1,2,3]}\n')
        self.assertEqual(self.call(server, "awkward.v1.Awkward/Collect", "-", input=b"").stdout, b"{}\n")
        self.assertEqual(self.call(server, "awkward.v1.Awkward.Talk", many.decode()).stdout.count(b"\n"), 3)
        large = json.dumps({"aString": "x" * 100000}).encode() * 40  # more than windows hold
        self.assertEqual(self.call(server, "awkward.v1.Awkward/Talk", input=large).stdout.count(b"\n"), 40)

    def test_an_answer_comes_before_the_next_question_is_written(self):
        child = subprocess.Popen(
            [harness.BIN + "/sluice", "call", "awkward.v1.Awkward/Talk", "--addr", self.server("v1").address],
            bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for i in range(1, 4):
            child.stdin.write(b'{"anInt32":')  # in parts
            child.stdin.write(b'%d}\n' % i)
            self.assertEqual(child.stdout.readline(), b'{"anInt32":%d}\n' % i)
        child.stdin.close()
        self.assertEqual((child.stdout.read(), child.wait(20)), (b"", 0))
        child.stdout.close()

    def test_an_interrupt_cancels_while_reading_and_while_receiving(self):
        server = self.server("v1")
        for words in (["awkward.v1.Awkward/Talk"], [ECHO, "-"]):
            child = subprocess.Popen(
                [harness.BIN + "/sluice", "call", *words, "--addr", server.address],
                bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            if len(words) == 1:
                child.stdin.write(b'{"aString":"hang"}')
                child.stdout.readline()
            else:  # the thread that reads is there once the types are known
                harness.wait_for("threads", lambda: len(os.listdir("/proc/%d/task" % child.pid)) >= 3)
            child.send_signal(signal.SIGINT)
            status = child.wait(20)  # with stdin still open: its end is an event of its own
            _, errors = child.communicate(timeout=20)
            self.assertEqual(status, 130, errors)

    def test_headers_go_out_and_are_shown(self):
        server = self.server("v1")
        done = self.call(
            server, ECHO, '{"aString": "metadata"}', "--header", "X-A: 1", "--header=x-b-bin:AAH/", "--gzip", "--show-headers")
        seen = json.loads(done.stdout)["aString"]
        for pair in ("('x-a', '1')", "('x-b-bin', b'\\x00\\x01\\xff')"):
            self.assertIn(pair, seen)
        self.assertRegex(done.stderr, b"(?m)^< x-a: 1$")
        self.assertRegex(done.stderr, b"(?m)^< x-b-bin: AAH/$")
        for bad in ("no colon", "grpc-x: 1", "x-bin: %", "a b: c"):
            self.assertIn(b"--header", self.call(server, ECHO, "--header", bad, expected=2).stderr)

    def test_an_error_has_its_details_in_words(self):
        server = self.server("v1")
        done = self.call(server, ECHO, '{"aString": "fail"}', "--show-headers", expected=1)
        self.assertIn(b"sluice: NOT_FOUND: absent\n", done.stderr)
        self.assertIn(b'  ErrorInfo {"reason":"STALE","domain":"awkward"}\n', done.stderr)
        self.assertIn(b'  Tree {"name":"oak"}\n', done.stderr)
        self.assertIn(b'  Such {"@value":"AQ=="}\n', done.stderr)
        self.assertIn(b"< x-why: because\n", done.stderr)
        error = json.loads(self.call(server, ECHO, '{"aString": "fail"}', "--json", expected=1).stderr)
        self.assertEqual((error["code"], error["message"], len(error["details"])), ("NOT_FOUND", "absent", 3))

    def test_wrong_input_is_refused_before_it_is_sent(self):
        server = self.server("v1")
        for text, word in (
            ("{", b"no JSON"), ('{"nothing": 1}', b"nothing"), ('{"inner": {"packedInts": [1, "x"]}}', b"inner.packedInts[1]"),
            ('{"anInt32": 1, "anInt32": 2}', b"no JSON"), ("", b"empty"), ("{}{}", b"takes one message"), ("@/no/such", b"/no/such"),
        ):
            done = self.call(server, ECHO, text, expected=2)
            self.assertIn(word, done.stderr)
            self.assertEqual(done.stdout, b"")
        self.assertIn(b"value 2", self.call(server, "awkward.v1.Awkward/Talk", input=b"{} {x", expected=2).stderr)

    def test_names_that_are_not_there(self):
        server = self.server("v1")
        self.assertIn(b"it has Echo, Count, Collect, Talk", self.call(server, "awkward.v1.Awkward/No", expected=1).stderr)
        self.assertIn(b"no.Such", self.call(server, "no.Such/M", expected=1).stderr)
        self.assertEqual(harness.sluice(None, "call", ECHO).returncode, 3)
        self.assertEqual(harness.sluice(None, "call", "--protoset", self.types, ECHO).returncode, 3)

    def test_a_description_is_taken_as_it_is(self):
        server = self.server("v1")
        template = json.loads(self.call(server, ECHO, "--describe").stdout)
        del template["any"]  # of a type that has to be filled in
        self.call(server, ECHO, json.dumps(template))
        self.assertIn(b"Echo(awkward.v1.All)", self.call(server, "awkward.v1.Awkward").stdout)
        lines = [json.loads(x) for x in self.call(server, "awkward.v1.Awkward", "--json").stdout.splitlines()]
        self.assertEqual([x["server_streaming"] for x in lines], [False, True, False, True])

    def test_defaults_are_shown_when_asked_for(self):
        server = self.server("v1")
        done = self.call(server, "awkward.v1.Awkward/Count", "--emit-defaults")
        self.assertEqual(done.stdout.splitlines()[0], b'{"children":[],"name":" 0"}')

    def test_a_frame_of_a_foreign_method(self):
        server = self.server("v1")
        for words in (["--protoset", self.types], []):
            done = harness.sluice(server, "frame", ECHO, '{"anInt32": 5}{}', *words)
            self.assertEqual((done.returncode, done.stdout), (0, b"\0\0\0\0\x02\x28\x05\0\0\0\0\0"), done.stderr)


class Own(harness.Case):
    def test_a_run_by_call_has_the_events_of_a_run(self):
        server = self.daemon()
        done = harness.sluice(server, "call", "sluice.v1.AgentRuntime/ExecuteStreaming", '{"agent":"echo","input":"a b"}')
        events = [json.loads(x) for x in done.stdout.splitlines()]
        self.assertEqual([e["sequence"] for e in events], [str(i + 1) for i in range(len(events))])
        self.assertEqual("".join(e["textDelta"]["delta"] for e in events if "textDelta" in e), "a b")
        self.assertEqual(events[-1]["done"]["stopReason"], "STOP_REASON_END_TURN")
        done = harness.sluice(server, "call", "sluice.v1.AgentRuntime/Execute", '{"agent":"nobody"}')
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'ErrorInfo {"reason":"AGENT_NOT_FOUND"', done.stderr)

    def test_every_service_and_method_is_listed(self):
        server = self.daemon()
        services = harness.sluice(server, "call").stdout.decode().split()
        self.assertIn("sluice.v1.AgentRuntime", services)
        for service in services:
            lines = harness.sluice(server, "call", service).stdout.decode().splitlines()
            self.assertTrue(lines and all(x.startswith(service + "/") for x in lines), service)
            for line in lines:
                done = harness.sluice(server, "call", line.split("(")[0], "--describe")
                self.assertEqual(done.returncode, 0, done.stderr)

    def test_reflection_that_is_off_says_what_to_do(self):
        server = self.daemon(config="reflection: off\n")
        done = harness.sluice(server, "call", "grpc.health.v1.Health/Check")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"--protoset", done.stderr)
        with tempfile.TemporaryDirectory() as folder:
            done = harness.sluice(None, "proto", "export", "--protoset", folder + "/api.pb")
            self.assertEqual(done.returncode, 0, done.stderr)
            done = harness.sluice(server, "call", "grpc.health.v1.Health/Check", "--protoset", folder + "/api.pb")
        self.assertEqual(done.stdout, b'{"status":"SERVING"}\n')

    def test_an_interrupt_cancels_the_run(self):
        server = self.daemon()
        child = harness.start_sluice(server, "call", "sluice.v1.AgentRuntime/ExecuteStreaming", '{"agent":"load","input":"hang=true"}')
        run_id = json.loads(child.stdout.readline())["runStarted"]["runId"]
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=20)
        self.assertEqual(child.returncode, 130)
        server.wait_log(run_id, "CLIENT_RESET")

    def test_frames_of_the_api_need_no_server(self):
        done = harness.sluice(None, "frame", "sluice.v1.AgentRuntime/Execute", '{"agent":"a","input":"b"}')
        self.assertEqual((done.returncode, done.stdout), (0, b"\0\0\0\0\x06\x0a\x01a\x12\x01b"))
        done = harness.sluice(None, "frame", "sluice.v1.AgentRuntime/Execute", "-", input=b'{"agent":"a"}')
        self.assertEqual(done.stdout, b"\0\0\0\0\x03\x0a\x01a")
        self.assertEqual(harness.sluice(None, "frame", "sluice.v1.AgentRuntime/Execute", '{"x":1}').returncode, 2)
        self.assertEqual(harness.sluice(None, "frame", "other.v1.Svc/M", "{}").returncode, 3)

    def test_a_frame_is_not_written_to_a_terminal(self):
        ours, theirs = os.openpty()
        done = subprocess.run(
            [harness.BIN + "/sluice", "frame", "sluice.v1.AgentRuntime/Execute", "{}"],
            stdout=theirs, stderr=subprocess.PIPE, timeout=20, check=False)
        os.close(theirs)
        os.close(ours)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"binary", done.stderr)

    def test_the_exported_files_are_those_of_the_tree(self):
        with tempfile.TemporaryDirectory() as folder:
            done = harness.sluice(None, "proto", "export", folder + "/a/b", "--protoset", folder + "/set.pb")
            self.assertEqual(done.returncode, 0, done.stderr)
            n = 0
            for root, _, names in os.walk(folder + "/a/b"):
                for name in names:
                    path = os.path.relpath(root + "/" + name, folder + "/a/b")
                    with open(root + "/" + name, "rb") as ours, open(harness.ROOT + "/proto/" + path, "rb") as theirs:
                        self.assertEqual(ours.read(), theirs.read())
                    n += 1
            self.assertEqual(n, 3)
            done = subprocess.run(
                ["protoc", "--descriptor_set_in=" + folder + "/set.pb", "--decode=sluice.v1.ExecuteRequest", "sluice/v1/runtime.proto"],
                input=b"\x0a\x01a", capture_output=True, timeout=20, check=False)
            self.assertEqual(done.stdout, b'agent: "a"\n', done.stderr)
            self.assertEqual(harness.sluice(None, "proto", "export", "/proc/no/such").returncode, 1)
        self.assertEqual(harness.sluice(None, "proto").returncode, 2)


if __name__ == "__main__":
    harness.main()
