"""The dynamic messages against python3-protobuf: both must make the same of JSON and of bytes.

Usage: schema_python.py SET CONVERT
Each JSON text is encoded by both; the bytes of ours are read back by Python and must be Python's message. Each
message is decoded by both, and must give the same JSON. What Python refuses, ours must refuse, and the other way.
"""
import json
import os
import random
import subprocess
import sys
import warnings

from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

ALL = "awkward.v1.All"
OLD = "awkward.v1.Old"

# (type, JSON text). Both sides agree that it is good.
GOOD = [
    (ALL, "{}"),
    (ALL, '{"aDouble":1.5,"a_float":0.1,"anInt64":"-9223372036854775808","aUint64":"18446744073709551615"}'),
    (ALL, '{"anInt32":-1,"aFixed64":"1","aFixed32":4294967295,"aBool":true,"aString":"h\\u00e9\\u0000\\ud83d\\ude00"}'),
    (ALL, '{"someBytes":"AAECAw==","aUint32":"7","color":"COLOR_RED","anSfixed32":-2,"anSfixed64":"-3"}'),
    (ALL, '{"anSint32":-2147483648,"anSint64":"-9223372036854775808","inner":{"inner":{"anInt32":1}}}'),
    (ALL, '{"aDouble":"NaN","aFloat":"-Infinity","doubles":["Infinity",1e300,-0.5,"1e3",5e-324]}'),
    (ALL, '{"aFloat":3.4028234e38,"aDouble":1.7976931348623157e308}'),
    (ALL, '{"aFloat":16777216,"anInt32":1e3,"aUint32":2.0,"anInt64":5}'),
    (ALL, '{"anInt32":0,"aString":"","aBool":false,"aDouble":0,"color":"COLOR_UNSPECIFIED","someBytes":""}'),
    (ALL, '{"maybeInt":0,"maybeString":"","maybeColor":"COLOR_UNSPECIFIED"}'),
    (ALL, '{"anInt32":null,"inner":null,"packedInts":null,"byString":null,"time":null,"maybeInt":null}'),
    (ALL, '{"color":-7,"colors":["COLOR_CRIMSON",99,0]}'),
    (ALL, '{"packedInts":[1,2,-3],"plainInts":[1,2],"strings":["","a"],"inners":[{},{"anInt32":1}],"bools":[true,false]}'),
    (ALL, '{"packedInts":[],"byString":{},"byteses":["","/+8=","_-8"]}'),
    (ALL, '{"choiceInt":0}'),
    (ALL, '{"choiceMessage":{}}'),
    (ALL, '{"choiceNull":null}'),
    (ALL, '{"choiceString":null,"choiceInt":3}'),
    (ALL, '{"byString":{"a":1,"":0},"byInt32":{"-1":"x"},"byInt64":{"9223372036854775807":{}},"byUint32":{"4294967295":1}}'),
    (ALL, '{"byUint64":{"18446744073709551615":"AQ=="},"bySint32":{"-5":1.5},"bySint64":{"-6":true},"byFixed32":{"1":"a"}}'),
    (ALL, '{"byFixed64":{"1":"a"},"bySfixed32":{"-1":"a"},"bySfixed64":{"-1":"a"},"byBool":{"true":"t","false":"f"}}'),
    (ALL, '{"values":{"a":null,"b":1,"c":[1,{"d":"e"}],"f":{}}}'),
    (ALL, '{"time":"1970-01-01T00:00:00Z"}'),
    (ALL, '{"time":"2026-11-27T20:35:21.123456789Z","times":["0001-01-01T00:00:00Z","9999-12-31T23:59:59.999999999Z"]}'),
    (ALL, '{"time":"2024-02-29T23:59:59.5+01:30","times":["1969-12-31T23:59:59.000001Z","1900-03-01T00:00:00-05:00"]}'),
    (ALL, '{"duration":"1.5s"}'),
    (ALL, '{"duration":"-0.000000001s"}'),
    (ALL, '{"duration":"315576000000s"}'),
    (ALL, '{"duration":"-3s"}'),
    (ALL, '{"mask":"a.bCd,eF"}'),
    (ALL, '{"mask":""}'),
    (ALL, '{"object":{"a":1,"b":[true,null,"x",{"c":{}}]},"value":{"x":[]},"list":[1,"a",null,[]]}'),
    (ALL, '{"value":null}'),
    (ALL, '{"value":false,"manyValues":[null,1,"s",[],{}]}'),
    (ALL, '{"any":{"@type":"type.googleapis.com/awkward.v1.Tree","name":"n","children":[{"name":"c"}]}}'),
    (ALL, '{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1.5s"}}'),
    (ALL, '{"any":{"@type":"type.googleapis.com/google.protobuf.Value","value":[1]}}'),
    (ALL, '{"any":{"@type":"type.googleapis.com/google.protobuf.Any","value":{"@type":"t/awkward.v1.Tree"}}}'),
    (ALL, '{"any":{"@type":"type.googleapis.com/google.protobuf.Int64Value","value":"5"}}'),
    (ALL, '{"empty":{}}'),
    (ALL, '{"doubleWrapper":1,"floatWrapper":0,"int64Wrapper":"1","uint64Wrapper":2,"int32Wrapper":0,"uint32Wrapper":3}'),
    (ALL, '{"boolWrapper":false,"stringWrapper":"","bytesWrapper":"AA=="}'),
    (ALL, '{"otherName":1,"highNumber":2}'),
    (ALL, '{"renamed":1}'),
    (OLD, '{"needed":0}'),
    (OLD, '{"needed":1,"withDefault":0,"closed":"CLOSED_THREE","closeds":["CLOSED_TWO"],"unpacked":[1,2],"packed":[3,4]}'),
    (OLD, '{"needed":1,"grouped":{"text":"t","old":{"needed":2}},"groups":[{"number":1},{}]}'),
    (OLD, '{"needed":1,"closedByName":{"a":"CLOSED0_TWO"}}'),
    (OLD, '{"needed":1,"[awkward.v1.extra]":"e","[awkward.v1.Holder.held]":{"number":3}}'),
    (ALL, '{"old":{"needed":5}}'),
]

# Both sides agree that it is bad.
BAD = [
    (ALL, '{"nothing":1}'),
    (ALL, '{"anInt32":2147483648}'), (ALL, '{"anInt32":"x"}'), (ALL, '{"anInt32":1.5}'), (ALL, '{"anInt32":true}'),
    (ALL, '{"aUint32":-1}'), (ALL, '{"aUint64":"18446744073709551616"}'), (ALL, '{"anInt64":"9223372036854775808"}'),
    (ALL, '{"aFloat":3.5e38}'), (ALL, '{"aDouble":"x"}'), (ALL, '{"aBool":1}'), (ALL, '{"aBool":"true"}'),
    (ALL, '{"aString":1}'), (ALL, '{"someBytes":1}'), (ALL, '{"color":"COLOR_BLUE"}'), (ALL, '{"color":[]}'),
    (ALL, '{"packedInts":1}'), (ALL, '{"packedInts":[null]}'), (ALL, '{"byString":[]}'), (ALL, '{"byInt32":{"x":"a"}}'),
    (ALL, '{"byBool":{"yes":"a"}}'), (ALL, '{"byString":{"a":null}}'), (ALL, '{"inner":1}'),
    (ALL, '{"choiceInt":1,"choiceString":"a"}'),
    (ALL, '{"time":"x"}'), (ALL, '{"time":"2026-02-30T00:00:00Z"}'), (ALL, '{"time":"2026-01-01T00:00:00"}'),
    (ALL, '{"time":1}'), (ALL, '{"duration":"1"}'), (ALL, '{"duration":"1.5"}'), (ALL, '{"duration":"315576000001s"}'),
    (ALL, '{"duration":"xs"}'), (ALL, '{"mask":"a_b"}'), (ALL, '{"mask":1}'), (ALL, '{"object":[]}'), (ALL, '{"list":{}}'),
    (ALL, '{"any":{"name":"x"}}'), (ALL, '{"any":{"@type":"type.googleapis.com/no.Such"}}'),
    (ALL, '{"any":{"@type":"type.googleapis.com/awkward.v1.Tree","x":1}}'), (ALL, '{"empty":{"a":1}}'),
    (OLD, '{"needed":1,"grouped":1}'), (OLD, '{"needed":1,"[awkward.v1.nothing]":1}'),
]



def varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def num(field, value):
    return varint(field << 3) + varint(value)


def part(field, content):
    return varint(field << 3 | 2) + varint(len(content)) + content


def group(field, content):
    return varint(field << 3 | 3) + content + varint(field << 3 | 4)


# Bytes: out of order, in parts, packed either way, of a wrong wire type, unknown, groups, closed enums.
WIRE = [
    (ALL, b""), (ALL, num(5, 1)), (ALL, num(5, 1) + num(5, 2)), (ALL, num(5, 0)),
    (ALL, part(11, num(5, 1)) + part(11, num(5, 2) + num(3, 3))),
    (ALL, part(11, part(11, num(5, 1))) + num(5, 1) + part(11, part(11, num(13, 2)))),
    (ALL, part(30, b"\1\2\3") + num(30, 4)), (ALL, part(31, b"\1\2") + num(31, 3)), (ALL, part(30, b"")),
    (ALL, num(5, 2**64 - 1)), (ALL, num(5, 2**40 + 5)), (ALL, num(8, 2**63)), (ALL, num(13, 2**40 + 7)),
    (ALL, num(40, 5) + part(41, b"a")), (ALL, part(41, b"a") + num(40, 5)), (ALL, num(43, 0)), (ALL, num(40, 0)),
    (ALL, part(42, num(5, 1)) + part(42, num(3, 2))), (ALL, part(42, num(5, 1)) + num(40, 1) + part(42, num(3, 2))),
    (ALL, num(14, 99)), (ALL, num(35, 1) + part(35, b"\0\2")), (ALL, num(22, 0) + num(20, 0)),
    (ALL, part(50, part(1, b"k") + num(2, 5))), (ALL, part(50, num(2, 5))), (ALL, part(50, b"")), (ALL, part(51, b"")),
    (ALL, part(50, part(1, b"k") + num(2, 5)) + part(50, part(1, b"k") + num(2, 6))), (ALL, part(52, num(1, 7))),
    (ALL, part(52, num(1, 7) + part(2, num(5, 1)) + part(2, num(3, 1)))), (ALL, part(53, num(1, 1) + num(2, 77))),
    (ALL, part(61, num(1, 1) + part(2, b"t")) + part(61, part(2, b"f"))), (ALL, part(62, part(1, b"k"))),
    (ALL, num(1000, 5) + part(1001, b"x") + group(1002, num(1, 1) + group(3, b"")) + num(5, 6)),
    (ALL, part(5, b"\1")), (ALL, num(9, 1)), (ALL, num(11, 1)), (ALL, varint(5 << 3 | 5) + b"\1\0\0\0"),
    (ALL, part(70, num(1, 1) + num(2, 500000000))), (ALL, part(71, num(1, 2**64 - 1) + num(2, 2**64 - 1))),
    (ALL, part(70, num(1, 1)) + part(70, num(2, 5000))), (ALL, part(70, b"")), (ALL, part(71, b"")), (ALL, part(72, b"")),
    (ALL, part(72, part(1, b"a_b.c") + part(1, b"d"))), (ALL, part(73, b"")), (ALL, part(75, b"")), (ALL, part(76, b"")),
    (ALL, part(80, b"") + part(84, b"") + part(86, b"") + part(87, b"") + part(88, b"")), (ALL, part(77, num(1, 1))),
    (ALL, part(74, num(4, 1) + part(3, b"s"))), (ALL, part(79, num(1, 0)) + part(79, part(5, b"")) + part(79, part(6, b""))),
    (OLD, num(1, 1) + num(3, 9)), (OLD, num(1, 1) + num(3, 2) + num(3, 9)), (OLD, num(1, 1) + num(4, 2) + num(4, 9) + num(4, 3)),
    (OLD, num(1, 1) + part(4, b"\2\x09\3")), (OLD, num(1, 1) + group(7, part(1, b"t")) + group(8, num(1, 1)) + group(8, b"")),
    (OLD, num(1, 1) + group(7, part(1, b"t")) + group(7, part(2, num(1, 2)))),
    (OLD, num(1, 1) + part(9, part(1, b"a") + num(2, 2))),
    (OLD, num(1, 1) + part(9, part(1, b"a"))), (OLD, num(1, 1) + part(100, b"e")),
    (OLD, num(1, 1) + part(5, b"\1\2") + num(6, 3)), (OLD, num(1, 1) + num(2, 42)),
]
BAD_WIRE = [(ALL, "28"), (ALL, "5a05"), (ALL, "0d0102"), (ALL, "2f"), (ALL, "4a01ff"), (ALL, "0b"),
            (ALL, "0b14"), (ALL, "28ffffffffffffffffffff01"), (OLD, "08013b08")]


class Peer:
    def __init__(self, program, path):
        self.process = subprocess.Popen([program, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        encoding="utf-8")

    def ask(self, verb, type_name, text):
        self.process.stdin.write(f"{verb} {type_name} {text}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().rstrip("\n")


class Compare:
    def __init__(self, path, program):
        self.pool = descriptor_pool.DescriptorPool()
        files = descriptor_pb2.FileDescriptorSet()
        with open(path, "rb") as f:
            files.ParseFromString(f.read())
        for file in files.file:
            self.pool.Add(file)
        self.types = message_factory.MessageFactory(self.pool).GetMessages([f.name for f in files.file])
        self.peer = Peer(program, path)
        self.n = 0
        self.faults = []

    def fail(self, what, *more):
        self.faults.append(" | ".join([what, *map(str, more)]))

    def python_json(self, message):
        return json.loads(json_format.MessageToJson(message, descriptor_pool=self.pool))

    def check_same_json(self, type_name, text, message, ours):
        if ours.startswith("!"):
            self.fail("decode refused", type_name, text, ours)
        elif repr(plain(json.loads(ours))) != repr(plain(self.python_json(message))):
            self.fail("decoded differently", type_name, text, ours, self.python_json(message))

    def good(self, type_name, text):
        self.n += 1
        try:
            want = json_format.Parse(text, self.types[type_name](), descriptor_pool=self.pool)
        except json_format.ParseError as e:
            self.fail("python refuses", type_name, text, e)
            return
        ours = self.peer.ask("e", type_name, text)
        if ours.startswith("!"):
            self.fail("encode refused", type_name, text, ours)
            return
        got = self.types[type_name]()
        got.ParseFromString(bytes.fromhex(ours))
        if got.SerializeToString(deterministic=True) != want.SerializeToString(deterministic=True):
            self.fail("encoded differently", type_name, text, got, want)
        self.check_same_json(type_name, text, want, self.peer.ask("d", type_name, ours))

    def bad(self, type_name, text):
        self.n += 1
        try:
            json_format.Parse(text, self.types[type_name](), descriptor_pool=self.pool)
            self.fail("python accepts", type_name, text)
        except json_format.ParseError:
            pass
        ours = self.peer.ask("e", type_name, text)
        if not ours.startswith("!"):
            self.fail("accepted", type_name, text, ours)

    def wire(self, type_name, data):
        self.n += 1
        text = data.hex()
        message = self.types[type_name]()
        message.MergeFromString(data)
        self.check_same_json(type_name, text, message, self.peer.ask("d", type_name, text))

    def bad_wire(self, type_name, text):
        self.n += 1
        try:
            self.types[type_name]().MergeFromString(bytes.fromhex(text))
            self.fail("python accepts", type_name, text)
        except Exception as e:  # DecodeError, or what it stands on
            del e
        if "malformed" not in self.peer.ask("d", type_name, text):
            self.fail("accepted", type_name, text)


def plain(value):
    """Members in one order, and integral floats as integers: 5 and 5.0 are the same JSON number."""
    if isinstance(value, dict):
        return {k: plain(value[k]) for k in sorted(value)}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def damaged(compare, seed, rounds):
    """Bytes with a change: both read them, or both refuse; and what both read is the same."""
    rng = random.Random(seed)
    originals = [bytes.fromhex(compare.peer.ask("e", t, j)) for t, j in GOOD if t == ALL]
    for _ in range(rounds):
        data = bytearray(rng.choice(originals) + rng.choice(originals))
        for _ in range(rng.randint(0, 2)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        message = compare.types[ALL]()
        ours = compare.peer.ask("d", ALL, bytes(data).hex())
        try:
            message.MergeFromString(bytes(data))
            theirs = compare.python_json(message)
        except Exception:  # refused by one or the other: both may, for reasons of their own (Any, times, UTF-8)
            continue
        compare.n += 1
        if not ours.startswith("!") and repr(plain(json.loads(ours))) != repr(plain(theirs)):
            compare.fail("decoded differently", bytes(data).hex(), ours, theirs)
        if "malformed" in ours and data.count(0) == 0:  # Python ends at a tag 0
            compare.fail("refused", bytes(data).hex(), ours, theirs)


def main():
    warnings.simplefilter("error")  # Python's parser only warns when a group ends that did not begin
    compare = Compare(sys.argv[1], sys.argv[2])
    for type_name, text in GOOD:
        compare.good(type_name, text)
    for type_name, text in BAD:
        compare.bad(type_name, text)
    for type_name, text in WIRE:
        compare.wire(type_name, text)
    for type_name, text in BAD_WIRE:
        compare.bad_wire(type_name, text)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libprotobuf complains of each damaged string
    damaged(compare, 1, 1500)
    for fault in compare.faults[:20]:
        print(fault)
    print(f"{compare.n} compared, {len(compare.faults)} differ")
    return 1 if compare.faults or compare.n < len(GOOD) + len(BAD) else 0


if __name__ == "__main__":
    sys.exit(main())
