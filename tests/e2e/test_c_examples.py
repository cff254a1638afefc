"""The programs of examples/c, run against each other and against grpcio; and the page that shows them, docs/grpc-c.md."""

import glob
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent import futures

import grpc
import harness

sys.path.insert(0, harness.ROOT + "/tests")
import pages  # pylint: disable=wrong-import-position

PAGE = "docs/grpc-c.md"
EXAMPLES = "examples/c/"
SERVERS = ("greeter_server", "greeter_async_server")
MESSAGE = b"x" * 65536
MOST_IN_FLIGHT = 16 * 1024 * 1024  # four windows and four queues of one stream, and what grpcio holds
DETAILS = b"\x08\x09\x12\x04busy"

GOOD = [
    "greet: Hello, World!",
    "countdown: 3...",
    "countdown: 2...",
    "countdown: 1...",
    "greet_all: Hello, Ada, Grace, Barbara",
    "chat: Hello, Ada!",
    "chat: Hello, Grace!",
    "chat: Hello, Barbara!",
]
BAD = [
    "greet: INVALID_ARGUMENT ",
    "countdown: DEADLINE_EXCEEDED the deadline has passed",
    "countdown: 3...",
    "countdown: CANCELLED cancelled",
]


class Example:
    """A server of examples/c; it prints its address."""

    def __init__(self, *words):
        self.log = tempfile.NamedTemporaryFile(prefix="sluice-example-")
        self.process = subprocess.Popen([harness.BIN + "/" + words[0], *words[1:]], stdout=self.log, stderr=self.log)
        try:
            self.address = harness.wait_for(words[0] + " listens", self._address)
        except AssertionError:
            self.process.kill()
            raise

    def text(self):
        with open(self.log.name, encoding="utf-8") as file:
            return file.read()

    def _address(self):
        assert self.process.poll() is None, self.text()
        found = re.match(r"listening on (\S+)\n", self.text())
        return found and found[1]

    def stop(self, expected=0):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(30)
        assert "Sanitizer" not in self.text() and status == expected, (status, self.text())


class Upstream:
    """grpcio behind the proxy: every method takes and gives bytes."""

    def __init__(self):
        self.n_made = self.n_taken = 0
        self.ended = threading.Event()
        self.seen = {}
        self.pool = futures.ThreadPoolExecutor(8)
        self.server = grpc.server(self.pool)
        make = {
            "Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "Make": grpc.unary_stream_rpc_method_handler(self.make),
            "Take": grpc.stream_unary_rpc_method_handler(self.take),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("any.Service", make),))
        self.address = "127.0.0.1:%d" % self.server.add_insecure_port("127.0.0.1:0")
        self.go_on = threading.Event()
        self.server.start()

    def fail(self, request, context):
        self.seen = dict(context.invocation_metadata(), request=request, remaining=context.time_remaining())
        context.send_initial_metadata((("x-head", "h"),))
        context.set_trailing_metadata((("x-tail", "t"), ("y-bin", b"\x00\xff"), ("grpc-status-details-bin", DETAILS)))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "busy")

    def make(self, request, context):
        del request
        context.add_callback(self.ended.set)
        while not self.ended.is_set():
            self.n_made += 1
            yield MESSAGE

    def take(self, requests, context):
        del context
        self.go_on.wait(60)
        for _ in requests:
            self.n_taken += 1
        return b"all"

    def stop(self):
        self.go_on.set()
        self.ended.set()
        self.server.stop(0).wait(30)
        self.pool.shutdown()


def settled(count):
    """A number that has stopped to rise."""
    seen = []

    def is_stable():
        seen.append(count())
        return len(seen) > 50 and seen[-50] == seen[-1] > 0

    harness.wait_for("a sender that waits", is_stable, 60)
    return seen[-1]


class CExamples(unittest.TestCase):
    def example(self, *words, expected=0):
        started = Example(*words)
        self.addCleanup(started.stop, expected)
        return started

    def run_client(self, *words):
        done = subprocess.run([harness.BIN + "/" + words[0], *words[1:]], capture_output=True, timeout=60, text=True, check=False)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)
        return done.stdout.splitlines()

    def check_lines(self, lines, *words):
        """What the blocking client prints."""
        lines = [line for line in lines if line not in ("greet: request 42", "greet: NAME_MISSING field=name")]
        self.assertEqual(lines[: len(GOOD)], GOOD, words)
        for line, beginning in zip(lines[len(GOOD) :], BAD, strict=True):
            self.assertTrue(line.startswith(beginning), (line, beginning))

    def test_every_client_understands_every_server(self):  # LR-9
        for name in SERVERS:
            server = self.example(name, "127.0.0.1:0", expected=0 if name == "greeter_server" else -signal.SIGTERM)
            for through in (server, self.example("proxy", "127.0.0.1:0", server.address, expected=-signal.SIGTERM)):
                self.check_lines(self.run_client("greeter_client", through.address), name)
                self.assertEqual(sorted(self.run_client("greeter_async_client", through.address)), sorted(GOOD))

    def test_metadata_and_details_arrive(self):
        server = self.example("greeter_server", "127.0.0.1:0")
        lines = self.run_client("greeter_client", server.address)
        self.assertIn("greet: request 42", lines)
        self.assertIn("greet: INVALID_ARGUMENT a greeting needs a name", lines)
        self.assertIn("greet: NAME_MISSING field=name", lines)

    def test_half_a_name_is_never_answered(self):
        for name in SERVERS:
            server = self.example(name, "127.0.0.1:0", expected=0 if name == "greeter_server" else -signal.SIGTERM)
            request = b"\x0a\xac\x02" + b"\xc3\xa9" * 150  # a name of 300 bytes, each letter of two
            with grpc.insecure_channel(server.address) as channel:
                unary = channel.unary_unary("/greeter.v1.Greeter/Greet")
                collect = channel.stream_unary("/greeter.v1.Greeter/GreetAll")
                for call in (lambda f=unary: f(request, timeout=10), lambda f=collect: f(iter([request]), timeout=10)):
                    with self.assertRaises(grpc.RpcError) as caught:
                        call()
                    self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED, name)

    def test_many_metadata_pass_the_proxy(self):
        upstream, channel = self.proxy()
        given = tuple(("x-%d" % i, "v") for i in range(100))
        with self.assertRaises(grpc.RpcError):
            channel.unary_unary("/any.Service/Fail")(b"", metadata=given, timeout=10)
        self.assertEqual(sum(1 for key in upstream.seen if key.startswith("x-")), 100)

    def test_tls_is_spoken(self):
        with tempfile.TemporaryDirectory() as work:
            harness.make_certificate(work + "/tls")
            server = self.example("greeter_server", "127.0.0.1:0", work + "/tls.cert", work + "/tls.key")
            address = server.address.replace("127.0.0.1", "localhost")
            self.check_lines(self.run_client("greeter_client", address, work + "/tls.cert"))

    def test_a_foreign_loop_serves_unary_and_streams(self):  # EM-1
        server = self.example("epoll_embed", "127.0.0.1:0")
        with grpc.insecure_channel(server.address) as channel:
            greet = channel.unary_unary("/greeter.v1.Greeter/Greet")
            self.assertEqual(greet(b"\x0a\x03Ada", timeout=20), b"\x0a\x03Ada")
            count = channel.unary_stream("/greeter.v1.Greeter/Countdown")
            self.assertEqual(list(count(b"\x08\x02", timeout=20)), [b"\x0a\x042...", b"\x0a\x041..."])

    def proxy(self):
        upstream = Upstream()
        self.addCleanup(upstream.stop)
        proxy = self.example("proxy", "127.0.0.1:0", upstream.address, expected=-signal.SIGTERM)
        channel = grpc.insecure_channel(proxy.address)
        self.addCleanup(channel.close)
        return upstream, channel

    def test_the_proxy_forwards_metadata_deadline_and_the_whole_status(self):  # EM-4
        upstream, channel = self.proxy()
        with self.assertRaises(grpc.RpcError) as caught:
            channel.unary_unary("/any.Service/Fail")(b"\x00raw", timeout=30, metadata=(("x-key", "v"), ("z-bin", b"\xfe")))
        error = caught.exception
        self.assertEqual((error.code(), error.details()), (grpc.StatusCode.FAILED_PRECONDITION, "busy"))
        self.assertIn(("x-head", "h"), error.initial_metadata())
        trailers = dict(error.trailing_metadata())
        self.assertEqual((trailers["x-tail"], trailers["y-bin"]), ("t", b"\x00\xff"))
        self.assertEqual(trailers["grpc-status-details-bin"], DETAILS)
        seen = upstream.seen
        self.assertEqual((seen["request"], seen["x-key"], seen["z-bin"]), (b"\x00raw", "v", b"\xfe"))
        self.assertTrue(0 < seen["remaining"] <= 30)

    def test_the_proxy_holds_back_a_server_whose_client_does_not_read(self):
        upstream, channel = self.proxy()
        stream = channel.unary_stream("/any.Service/Make")(b"")
        next(stream)
        n_made = settled(lambda: upstream.n_made)
        self.assertLess(n_made * len(MESSAGE), MOST_IN_FLIGHT)
        for _ in range(n_made + 10):
            self.assertEqual(next(stream), MESSAGE)
        self.assertFalse(upstream.ended.is_set())
        stream.cancel()
        self.assertTrue(upstream.ended.wait(30), "the cancel went through")

    def test_the_proxy_holds_back_a_client_whose_server_does_not_read(self):
        upstream, channel = self.proxy()
        n_sent = 0
        is_over = threading.Event()

        def requests():
            nonlocal n_sent
            while not is_over.is_set():
                n_sent += 1
                yield MESSAGE

        call = channel.stream_unary("/any.Service/Take").future(requests())
        self.assertLess(settled(lambda: n_sent) * len(MESSAGE), MOST_IN_FLIGHT)
        is_over.set()
        upstream.go_on.set()
        self.assertEqual(call.result(30), b"all")
        self.assertEqual(upstream.n_taken, n_sent)

    def test_a_message_too_large_for_the_proxy_ends_its_call(self):
        _, channel = self.proxy()
        with self.assertRaises(grpc.RpcError) as caught:
            channel.stream_unary("/any.Service/Take")(iter([b"x" * (5 * 1024 * 1024)]), timeout=5)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.RESOURCE_EXHAUSTED)

    def test_a_deadline_passes_the_proxy(self):  # DL-5
        upstream, channel = self.proxy()
        stream = channel.unary_stream("/any.Service/Make")(b"", timeout=1)
        with self.assertRaises(grpc.RpcError) as caught:
            for _ in stream:
                pass
        self.assertEqual(caught.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        self.assertTrue(upstream.ended.wait(30))


class Page(unittest.TestCase):
    def test_every_block_of_code_stands_in_an_example(self):  # LR-9
        texts = {}
        for path in glob.glob(EXAMPLES + "*"):
            with open(path, encoding="utf-8") as file:
                texts[path] = file.read()
        blocks = pages.blocks(PAGE, "c", "proto", "cmake")
        self.assertGreater(len(blocks), 5)
        for block in blocks:
            self.assertTrue(any(block.text in text for text in texts.values()), block.name())

    def test_every_example_is_in_the_page(self):
        with open(PAGE, encoding="utf-8") as file:
            page = file.read()
        for path in glob.glob(EXAMPLES + "*"):
            self.assertIn("(../%s)" % path, page)


if __name__ == "__main__":
    os.chdir(harness.ROOT)
    unittest.main(verbosity=2)
