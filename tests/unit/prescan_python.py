"""WS-7: the pre-scanner and protobuf-c against Python's protobuf, on a corpus and on random messages.

Usage: prescan_python.py PROTOC ROOT PRESCAN_VERDICT CORPUS
Accepting must agree, but for what is refused on purpose: NUL in strings and too much memory.
What is accepted must mean the same. Known difference of protobuf-c 1.4.1: two copies of a singular
message are not merged field by field, so random messages have none.
"""
import os
import random
import struct
import subprocess
import sys
import tempfile

OK, RESOURCE_EXHAUSTED, INTERNAL = 0, 8, 13
TAIL = b"\x08\x01"


def load(protoc, root):
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([protoc, "-I", root, "--python_out", folder, "tests/unit/rpc_types.proto"],
                       check=True, cwd=root)
        sys.path.insert(0, os.path.join(folder, "tests", "unit"))
        import rpc_types_pb2
    return rpc_types_pb2.Plain


def varint(value):
    out = bytearray()
    while True:
        out.append((value & 0x7F) | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def field(number, wire, payload):
    return varint(number << 3 | wire) + payload


def text(rng):
    return "".join(chr(rng.choice([65, 0xE4, 0x20AC, 0x1F600, 0x7F])) for _ in range(rng.randrange(6)))


def block(payload):
    return varint(len(payload)) + payload


def unknown(rng, depth):
    """A field that Plain does not have, or has with another wire type; sometimes a group."""
    number = rng.choice([50, 999, 2, 3, 6, 7, 8, 15])
    wire = rng.choice([0, 1, 5, 3] if number != 15 else [1, 2, 5, 3])
    if number == 7:
        wire = rng.choice([0, 2, 5, 3])
    if number == 8:
        wire = rng.choice([0, 1, 2, 3])
    if wire == 3:
        inner = b"".join(unknown(rng, depth + 1) for _ in range(rng.randrange(3))) if depth < 3 else b""
        return field(number, 3, inner + field(number, 4, b""))
    return field(number, wire, {0: varint(rng.getrandbits(64)), 1: rng.randbytes(8),
                                2: block(rng.randbytes(3)), 5: rng.randbytes(4)}[wire])


def message(rng, depth=0):
    makers = [
        lambda: field(1, 0, varint(rng.getrandbits(64))),
        lambda: field(1, 2, block(b"".join(varint(rng.getrandbits(31)) for _ in range(3)))),
        lambda: field(2, 2, block(text(rng).encode())),
        lambda: field(6, 2, block(rng.randbytes(rng.randrange(5)))),
        lambda: field(7, 1, struct.pack("<d", rng.random())),
        lambda: field(8, 5, struct.pack("<f", rng.randrange(100))),
        lambda: field(9, 2, block(rng.randbytes(16))),
        lambda: field(9, 1, rng.randbytes(8)),
        lambda: field(10, 2, block(bytes([0, 1, 1]))),
        lambda: field(11, 0, varint(rng.getrandbits(64))),
        lambda: field(12, 2, block(text(rng).encode())),
        lambda: field(13, 5, rng.randbytes(4)),
        lambda: field(14, 2, block(rng.randbytes(2))),
        lambda: field(15, 0, varint(rng.randrange(2))),
        lambda: field(100, 2, block(bytes([0, 1]))),
        lambda: unknown(rng, 0),
    ]
    if depth < 4:
        makers.append(lambda: field(4, 2, block(message(rng, depth + 1))))
    parts = [rng.choice(makers)() for _ in range(rng.randrange(7))]
    if depth < 4 and rng.random() < 0.3:
        parts.append(field(3, 2, block(message(rng, depth + 1))))
    rng.shuffle(parts)
    return b"".join(parts)


def damage(rng, data):
    data = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if data:
            at = rng.randrange(len(data))
            kind = rng.randrange(3)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at:]
            else:
                data.insert(at, rng.randrange(256))
    return bytes(data)


def ask(program, inputs):
    said = b"".join(struct.pack(">I", len(data)) + data for data in inputs)
    heard = subprocess.run([program], input=said, stdout=subprocess.PIPE, check=True).stdout
    answers, at = [], 0
    while at < len(heard):
        status, size = struct.unpack_from(">BI", heard, at)
        answers.append((status, heard[at + 5:at + 5 + size]))
        at += 5 + size
    assert len(answers) == len(inputs)
    return answers


def parse(plain, data):
    found = plain()
    try:
        # At the end of a group that never began it stops in silence, and so does not come to the last byte
        # of a field that is put behind.
        if plain().ParseFromString(data + TAIL) != len(data + TAIL):
            return None
        return found if found.ParseFromString(data) == len(data) else None
    except Exception:  # DecodeError, or UnicodeDecodeError of a text
        return None


def same(first, second):
    first.DiscardUnknownFields()
    second.DiscardUnknownFields()
    return first.SerializeToString(deterministic=True) == second.SerializeToString(deterministic=True)


def main():
    protoc, root, program, corpus = sys.argv[1:]
    plain = load(protoc, root)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # protobuf writes a line for every bad text
    rng = random.Random(20261122)
    good = [message(rng) for _ in range(3000)]
    bad = [damage(rng, data) for data in good]
    for name in sorted(os.listdir(corpus)):
        with open(os.path.join(corpus, name), "rb") as file:
            bad.append(file.read())
    n_wrong = n_accepted = n_refused = 0
    for index, (data, (status, packed)) in enumerate(zip(good + bad, ask(program, good + bad))):
        theirs = parse(plain, data)
        n_accepted += status == OK
        n_refused += status == INTERNAL
        if status == RESOURCE_EXHAUSTED:
            continue
        if index < len(good):
            right = status == OK and theirs is not None and same(theirs, parse(plain, packed))
        else:
            right = (status == OK) == (theirs is not None) or (status == INTERNAL and b"\0" in data)
        if not right:
            n_wrong += 1
            print("differs:", index, data.hex(), status, theirs is not None)
    print(f"{n_accepted} accepted, {n_refused} refused, {n_wrong} differ")
    return n_wrong > 0 or n_accepted < len(good) or n_refused < 500


if __name__ == "__main__":
    sys.exit(main())
