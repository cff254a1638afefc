"""A gRPC server that is not ours: grpcio, with and without reflection. Run: grpc_peer.py [--no-reflection] --port-file FILE

Messages are made from peer.proto by protoc's descriptors; there is no generated code."""

import argparse
import os
import signal
import subprocess
import tempfile
import threading
from concurrent import futures

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

HERE = os.path.dirname(os.path.abspath(__file__))
REFLECTION = "/usr/share/grpc-proto"
BIG = 9007199254740993


def protoset(path):
    """Writes the FileDescriptorSet of peer.proto, its imports included."""
    subprocess.run(
        ["protoc", "-I", HERE, "--include_imports", "--descriptor_set_out=" + path, "peer.proto"], check=True, timeout=60
    )


def load():
    """The messages that are needed, by name, and the files of peer.proto."""
    with tempfile.TemporaryDirectory() as work:
        words = ["protoc", "-I", HERE, "-I", REFLECTION, "--include_imports", "--descriptor_set_out=" + work + "/set"]
        names = ["peer.proto", "grpc/reflection/v1alpha/reflection.proto"]
        subprocess.run(words + names, check=True, timeout=60)
        with open(work + "/set", "rb") as file:
            files = descriptor_pb2.FileDescriptorSet.FromString(file.read()).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    factory = message_factory.MessageFactory(pool)
    messages = {
        name.rsplit(".", 1)[1]: factory.GetPrototype(pool.FindMessageTypeByName(name))
        for name in (
            "peer.v1.Ask",
            "grpc.reflection.v1alpha.ServerReflectionRequest",
            "grpc.reflection.v1alpha.ServerReflectionResponse",
        )
    }
    return messages, {file.name: file.SerializeToString() for file in files}


class Peer:
    def __init__(self):
        self.messages, self.files = load()
        self.ask = self.messages["Ask"]

    def echo(self, request, context):
        metadata = dict(context.invocation_metadata())
        if request.text == "" and request.number == 0:
            return request
        if (request.text, request.number, request.note.value, metadata.get("x-test")) != ("hällo", BIG, "n", "yes"):
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not what was agreed on")
        return request

    def count(self, request, context):
        del context
        for number in range(request.number):
            yield self.ask(text="x" * 50, number=number)

    def gather(self, requests, context):
        n = 0
        for request in requests:
            if request.text != "ab"[n % 2]:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "message %d is %r" % (n, request.text))
            n += 1
        if n != 7:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "%d messages" % n)
        return self.ask(number=n)

    def chat(self, requests, context):
        del context
        yield from requests

    def fail(self, request, context):
        del request
        info = b"\x0a\x09NOT_TODAY\x12\x04peer"
        detail = b"\x0a\x28type.googleapis.com/google.rpc.ErrorInfo\x12" + bytes([len(info)]) + info
        status = b"\x08\x07\x12\x02no\x1a" + bytes([len(detail)]) + detail
        context.set_trailing_metadata((("grpc-status-details-bin", status),))
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")

    def reflect(self, requests, context):
        """The file alone, without what it imports: a client must ask for that."""
        del context
        for request in requests:
            reply = self.messages["ServerReflectionResponse"](original_request=request)
            name = request.file_by_filename
            if request.file_containing_symbol.startswith("peer.v1.Peer"):
                name = "peer.proto"
            if name in self.files:
                reply.file_descriptor_response.file_descriptor_proto.append(self.files[name])
            else:
                reply.error_response.error_code = 5
                reply.error_response.error_message = "nothing is known of it"
            yield reply

    def handlers(self, has_reflection):
        def of(make, method, request, reply):
            return make(method, request_deserializer=request.FromString, response_serializer=reply.SerializeToString)

        ask = self.ask
        yield grpc.method_handlers_generic_handler(
            "peer.v1.Peer",
            {
                "Echo": of(grpc.unary_unary_rpc_method_handler, self.echo, ask, ask),
                "Count": of(grpc.unary_stream_rpc_method_handler, self.count, ask, ask),
                "Gather": of(grpc.stream_unary_rpc_method_handler, self.gather, ask, ask),
                "Chat": of(grpc.stream_stream_rpc_method_handler, self.chat, ask, ask),
                "Fail": of(grpc.unary_unary_rpc_method_handler, self.fail, ask, ask),
            },
        )
        if has_reflection:
            request, reply = (self.messages["ServerReflection" + kind] for kind in ("Request", "Response"))
            method = of(grpc.stream_stream_rpc_method_handler, self.reflect, request, reply)
            yield grpc.method_handlers_generic_handler(
                "grpc.reflection.v1alpha.ServerReflection", {"ServerReflectionInfo": method}
            )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--no-reflection", action="store_true")
    parser.add_argument("--streams", type=int, default=100)
    parser.add_argument("--port-file", required=True)
    options = parser.parse_args()
    end = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())
    server = grpc.server(
        futures.ThreadPoolExecutor(8), options=(("grpc.max_concurrent_streams", options.streams), ("grpc.so_reuseport", 0))
    )
    server.add_generic_rpc_handlers(tuple(Peer().handlers(not options.no_reflection)))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with open(options.port_file + ".new", "w", encoding="utf-8") as file:
        file.write("127.0.0.1:%d\n" % port)
    os.rename(options.port_file + ".new", options.port_file)
    end.wait()
    server.stop(None).wait()


if __name__ == "__main__":
    main()
