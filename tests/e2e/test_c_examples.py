"""The programs of examples/c, run against each other and against grpcio; and the page that shows them, docs/grpc-c.md."""

import glob
import os
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from concurrent import futures

import grpc
import harness
from wire import DATA, Wire, frame

sys.path.insert(0, harness.ROOT + "/tests")
import pages  # pylint: disable=wrong-import-position

PAGE = "docs/grpc-c.md"
EXAMPLES = "examples/c/"
SERVERS = ("greeter_server", "greeter_async_server")
EMBED_LINES = 40
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
        command = [harness.BIN + "/" + words[0], *words[1:]]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=self.log, stderr=self.log)
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
        self.process.stdin.close()
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


class Careless:
    """A greeter that takes every name, also none, and answers so many of a chat."""

    def __init__(self, n_answers):
        self.n_answers = n_answers
        self.server = grpc.server(futures.ThreadPoolExecutor(4))
        make = {
            "Greet": grpc.unary_unary_rpc_method_handler(lambda *_: b""),
            "Countdown": grpc.unary_stream_rpc_method_handler(lambda *_: iter((b"", b""))),
            "GreetAll": grpc.stream_unary_rpc_method_handler(lambda names, _: bytes(0 * len(list(names)))),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("greeter.v1.Greeter", make),))
        self.address = "127.0.0.1:%d" % self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    def chat(self, names, context):
        del context
        yield from (b"" for _ in zip(range(self.n_answers), names))

    def stop(self):
        self.server.stop(0).wait(30)


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

    def execute(self, *words):
        return subprocess.run([harness.BIN + "/" + words[0], *words[1:]], capture_output=True, timeout=60, text=True, check=False)

    def run_client(self, *words):
        done = self.execute(*words)
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

    def assert_fails(self, done, beginning):
        """A client that failed says why: the status, and a sentence or what it stands for."""
        self.assertEqual(done.returncode, 1, done)
        self.assertNotIn("Sanitizer", done.stderr)
        self.assertRegex(done.stderr, "(?m)^" + beginning)

    def test_every_failure_of_a_client_is_told_on_standard_error(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))  # and does not listen
            address = "127.0.0.1:%d" % nobody.getsockname()[1]
            for name in ("greeter_client", "greeter_async_client"):
                self.assert_fails(self.execute(name, address), r"greet: UNAVAILABLE \S+ \S+")
                self.assert_fails(self.execute(name, "nowhere"), r"INVALID_ARGUMENT: \S+ \S+")
            self.assert_fails(self.execute("greeter_client", address, "/no/such/file"), r"[A-Z_]+: \S+ \S+")
            self.assert_fails(self.execute("greeter_client", address, __file__), r"[A-Z_]+: \S+ \S+")
        upstream, _ = self.proxy()
        self.assert_fails(self.execute("greeter_client", upstream.address), r"greet: UNIMPLEMENTED \S+ \S+")

    def test_an_answer_that_is_not_the_expected_one_is_told_on_standard_error(self):
        for n_answers, beginning in ((1, "chat: OK with 1 answers to 3 names"), (3, "greet: OK instead of INVALID_ARGUMENT")):
            server = Careless(n_answers)
            self.addCleanup(server.stop)
            done = self.execute("greeter_client", server.address)
            self.assert_fails(done, beginning + "$")
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)

    def test_a_foreign_loop_serves_the_same_handlers(self):  # EM-1
        server = self.example("epoll_embed", "127.0.0.1:0")
        self.check_lines(self.run_client("greeter_client", server.address), "epoll_embed")
        self.assertEqual(sorted(self.run_client("greeter_async_client", server.address)), sorted(GOOD))
        server.process.stdin.close()
        self.assertEqual(server.process.wait(30), 0)

    def test_a_foreign_loop_drains(self):  # EM-1
        server = self.example("epoll_embed", "127.0.0.1:0")
        with grpc.insecure_channel(server.address) as channel:
            names = queue.Queue()
            answers = channel.stream_stream("/greeter.v1.Greeter/Chat")(iter(names.get, None), timeout=60)
            names.put(b"\x0a\x03Ada")
            self.assertEqual(next(answers), b"\x0a\x0bHello, Ada!")
            server.process.stdin.write(b"\n")
            server.process.stdin.flush()
            harness.wait_for("a server that takes nobody any more", lambda: self.is_refused(server.address))
            names.put(b"\x0a\x05Grace")
            self.assertEqual(next(answers), b"\x0a\x0dHello, Grace!")
            names.put(None)
            self.assertEqual((list(answers), answers.code()), ([], grpc.StatusCode.OK))
            self.assertEqual(server.process.wait(30), 0)

    def is_refused(self, address):
        host, port = address.rsplit(":", 1)
        with socket.socket() as caller:
            return caller.connect_ex((host, int(port))) != 0

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

    def test_an_upstream_that_is_not_there_is_told(self):
        with socket.socket() as nobody:
            nobody.bind(("127.0.0.1", 0))
            proxy = self.example("proxy", "127.0.0.1:0", "127.0.0.1:%d" % nobody.getsockname()[1], expected=-signal.SIGTERM)
            self.assert_fails(self.execute("greeter_client", proxy.address), r"greet: UNAVAILABLE \S+ \S+")

            # What is wrong with the first message is seen while the call is being forwarded, and ends it there.
            wire = Wire(proxy.address)
            for prefix, status in ((b"\x00\x7f\xff\xff\xff", "8"), (b"\x01\x00\x00\x00\x01x", "13"), (b"\x00\x7f\xff\xff\xff", "8")):
                stream = wire.note("/any.Service/Take")
                wire.send(wire.block(stream, wire.request("/any.Service/Take")) + frame(DATA, 0, stream, prefix))
                self.assertEqual(wire.wait_over(stream).get("grpc-status"), status)
            wire.close()

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

    def test_an_event_loop_takes_forty_lines(self):  # EM-1
        with open(EXAMPLES + "epoll_embed.c", encoding="utf-8") as file:
            self.assertLessEqual(len(file.readlines()), EMBED_LINES)

    def test_every_example_is_in_the_page(self):
        with open(PAGE, encoding="utf-8") as file:
            page = file.read()
        for path in glob.glob(EXAMPLES + "*"):
            self.assertIn("(../%s)" % path, page)


if __name__ == "__main__":
    os.chdir(harness.ROOT)
    unittest.main(verbosity=2)
