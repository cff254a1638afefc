"""A gRPC server by other people (grpcio) with the awkward types of tests/unit/schema_types.proto.

Usage: grpc_server.py SET REFLECTION --port-file FILE
SET is a FileDescriptorSet; REFLECTION is none, v1, v1alpha, or lazy: v1, but each answer has one file, without imports.
"""

import concurrent.futures
import signal
import sys

import grpc
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory

SERVICE = "awkward.v1.Awkward"


class Types:
    def __init__(self, path):
        self.set = descriptor_pb2.FileDescriptorSet()
        with open(path, "rb") as file:
            self.set.ParseFromString(file.read())
        self.add_reflection()
        self.pool = descriptor_pool.DescriptorPool()
        for file in self.set.file:
            self.pool.Add(file)
        self.classes = message_factory.MessageFactory(self.pool).GetMessages([f.name for f in self.set.file])
        self.files = {f.name: f for f in self.set.file}

    def add_reflection(self):
        """What of the reflection protocol is needed here; its messages are the same in both versions."""
        kinds = {"string": 9, "int32": 5, "bytes": 12}
        file = self.set.file.add(name="reflection_subset.proto", package="r", syntax="proto3")
        layout = {
            "Request": [("file_by_filename", 3, "string"), ("file_containing_symbol", 4, "string"),
                        ("list_services", 7, "string")],
            "Files": [("file_descriptor_proto", 1, "bytes*")],
            "Service": [("name", 1, "string")],
            "Services": [("service", 1, "Service*")],
            "Error": [("error_code", 1, "int32"), ("error_message", 2, "string")],
            "Response": [("files", 4, "Files"), ("services", 6, "Services"), ("error", 7, "Error")],
        }
        for name, fields in layout.items():
            message = file.message_type.add(name=name)
            if name == "Request":
                message.oneof_decl.add(name="message_request")
            for field, number, kind in fields:
                to = message.field.add(name=field, number=number, label=3 if kind.endswith("*") else 1)
                kind = kind.rstrip("*")
                if kind in kinds:
                    to.type = kinds[kind]
                else:
                    to.type, to.type_name = 11, ".r." + kind
                if name == "Request":
                    to.oneof_index = 0


class Server:
    def __init__(self, types, reflection):
        self.types = types
        self.reflection = reflection

    # ---- The service ----

    def fail(self, request, context):
        """a_string "fail": NOT_FOUND with details that sluice knows, and one of the server's own."""
        status = b"\x08\x05\x12\x06absent"
        info = b"\x0a\x05STALE\x12\x07awkward"
        tree = self.types.classes["awkward.v1.Tree"](name="oak")
        for url, value in (("google.rpc.ErrorInfo", info), ("awkward.v1.Tree", tree.SerializeToString()), ("no.Such", b"\x01")):
            detail = any_pb2.Any(type_url="type.googleapis.com/" + url, value=value).SerializeToString()
            status += b"\x1a" + bytes([len(detail)]) + detail
        context.set_trailing_metadata((("grpc-status-details-bin", status), ("x-why", "because")))
        context.abort(grpc.StatusCode.NOT_FOUND, "absent")

    def echo(self, request, context):
        seen = [(k, v) for k, v in context.invocation_metadata() if k.startswith("x-") or k == "grpc-encoding"]
        context.send_initial_metadata([(k, v) for k, v in seen if k.startswith("x-")])
        if request.a_string == "fail":
            self.fail(request, context)
        if request.a_string == "metadata":
            return type(request)(a_string=repr(seen))
        return request

    def count(self, request, context):
        for i in range(3):
            yield type(request)(name="%s %d" % (request.name, i))

    def collect(self, requests, context):
        answer = self.types.classes["awkward.v1.All"]()
        for request in requests:
            answer.packed_ints.append(request.an_int32)
        return answer

    def talk(self, requests, context):
        for request in requests:
            if request.a_string == "hang":
                while context.is_active():
                    yield request
            yield request

    # ---- Reflection ----

    def files(self, name, found):
        if name not in found:
            found[name] = self.types.files[name]
            if self.reflection != "lazy":
                for dependency in self.types.files[name].dependency:
                    self.files(dependency, found)
        return found

    def reflect(self, requests, context):
        answer = self.types.classes["r.Response"]
        for request in requests:
            kind = request.WhichOneof("message_request")
            reply = answer()
            try:
                if kind == "list_services":
                    reply.services.service.add(name=SERVICE)
                elif kind == "file_by_filename":
                    found = self.files(request.file_by_filename, {})
                    reply.files.file_descriptor_proto.extend(f.SerializeToString() for f in found.values())
                else:
                    name = self.types.pool.FindFileContainingSymbol(request.file_containing_symbol).name
                    reply.files.file_descriptor_proto.extend(f.SerializeToString() for f in self.files(name, {}).values())
            except KeyError:
                reply.error.error_code = 5
                reply.error.error_message = "not here"
            yield reply

    def handlers(self):
        def method(make, function, request, response="awkward.v1.All"):
            return make(function, self.types.classes[request].FromString, lambda m: m.SerializeToString())

        every = "awkward.v1.All"
        yield grpc.method_handlers_generic_handler(SERVICE, {
            "Echo": method(grpc.unary_unary_rpc_method_handler, self.echo, every),
            "Count": method(grpc.unary_stream_rpc_method_handler, self.count, "awkward.v1.Tree"),
            "Collect": method(grpc.stream_unary_rpc_method_handler, self.collect, every),
            "Talk": method(grpc.stream_stream_rpc_method_handler, self.talk, every),
        })
        if self.reflection != "none":
            version = "v1alpha" if self.reflection == "v1alpha" else "v1"
            yield grpc.method_handlers_generic_handler("grpc.reflection.%s.ServerReflection" % version, {
                "ServerReflectionInfo": method(grpc.stream_stream_rpc_method_handler, self.reflect, "r.Request"),
            })


def main():
    types = Types(sys.argv[1])
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
    for handler in Server(types, sys.argv[2]).handlers():
        server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    signal.signal(signal.SIGTERM, lambda *_: server.stop(0))
    server.start()
    with open(sys.argv[4] + ".new", "w", encoding="ascii") as file:
        file.write("127.0.0.1:%d\n" % port)
    import os

    os.rename(sys.argv[4] + ".new", sys.argv[4])
    server.wait_for_termination()


if __name__ == "__main__":
    main()
