"""What every end-to-end test proves besides its own subject: streams of events are in order, and the same for all who see
them (RL-I1, RL-I2), and no planted secret is in anything that was written (RL-I8)."""

import contextlib
import json
import os
import subprocess
import tempfile

MAX_KEPT = 8 << 20  # bytes of streams that later ones are compared with

_SECRETS = set()
_STREAMS = {}  # (run id, form): (after, bytes), the longest that was seen


# ---- Secrets ----


def plant(secret):
    """From now on this text may be in nothing that is written. Gives it back."""
    _SECRETS.add(secret.encode())
    _SECRETS.add(json.dumps(secret)[1:-1].encode())
    return secret


def search(where, data):
    """No secret is in these bytes."""
    for secret in _SECRETS:
        at = data.find(secret)
        assert at < 0, "a planted secret is in %s: %r" % (where, data[max(0, at - 200) : at + len(secret) + 20])


def written_files(pid):
    """Files that a process has open to write them: its log, its store."""
    found = set()
    for name in os.listdir("/proc/%d/fd" % pid):
        with contextlib.suppress(OSError):  # closed meanwhile
            path = os.readlink("/proc/%d/fd/%s" % (pid, name))
            with open("/proc/%d/fdinfo/%s" % (pid, name), encoding="ascii") as file:
                flags = int(next(line.split()[1] for line in file if line.startswith("flags:")), 8)
            if os.path.isfile(path) and flags & os.O_ACCMODE != os.O_RDONLY:
                found.add(path)
    return found


def search_files(paths):
    for path in paths:
        with contextlib.suppress(FileNotFoundError):  # SQLite's log is removed in the end
            with open(path, "rb") as file:
                search(path, file.read())


def search_process(pid):
    """Its command line and its children's, which everybody on the machine can read."""
    for name in (str(pid), *_children(pid)):
        with contextlib.suppress(OSError):
            with open("/proc/%s/cmdline" % name, "rb") as file:
                search("the command line of %s" % name, file.read())


def _children(pid):
    for task in os.listdir("/proc/%d/task" % pid):
        with contextlib.suppress(FileNotFoundError):
            with open("/proc/%d/task/%s/children" % (pid, task), encoding="ascii") as file:
                yield from file.read().split()


# ---- Events ----


def _check(data, *words):
    done = subprocess.run(
        [os.environ["SLUICE_BIN"] + "/sluice", "check-events", *words], input=data, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def check_order(data, *words):
    """Lines of `sluice run --json`, or messages as they stand on the wire."""
    search("events", data)
    _check(data, *words)


def check_stream(data, run_id=None, after=0, may_be_cut=False):
    """A stream that begins behind `after` is in order, and says what other streams of its run have said."""
    key = (run_id, data[:1] == b"\0")
    known = _STREAMS.get(key)
    if known == (after, data, may_be_cut):
        return
    check_order(data, "--after", str(after), *(["--may-be-cut"] if may_be_cut else []))
    if run_id is None:
        return
    if known is not None:
        with tempfile.NamedTemporaryFile() as first:
            first.write(known[1])
            first.flush()
            _check(data, "--may-be-cut", "--after", str(known[0]), "--after", str(after), first.name, "-")
    if known is None or len(data) > len(known[1]):
        _STREAMS[key] = (after, data, may_be_cut)
        if sum(len(stream[1]) for stream in _STREAMS.values()) > MAX_KEPT:
            _STREAMS.pop(next(iter(_STREAMS)))


def forget_streams():
    """A server was killed: what it had sent of a run need not be what the run has after the next start."""
    _STREAMS.clear()
