"""What judges written in Python share: tools of others, servers, a certificate, and counting.

Each case is a line "ok NAME" or "FAIL NAME: why"; finish() says "N passed, N failed" and ends."""

import atexit
import glob
import os
import socket
import subprocess
import sys
import time

BIN = os.environ["JUDGE_BIN"]
HOME = os.environ["JUDGE_HOME"]
WORK = os.environ["JUDGE_WORK"]
WAIT_SECONDS = 60

_counts = {"passed": 0, "failed": 0}


def say(text):
    print(text, flush=True)


def check(name, is_ok, why=""):
    """Counts a case."""
    _counts["passed" if is_ok else "failed"] += 1
    say("ok %s" % name if is_ok else "FAIL %s: %s" % (name, why))


def finish():
    say("%(passed)d passed, %(failed)d failed" % _counts)
    sys.exit(0 if _counts["failed"] == 0 and _counts["passed"] > 0 else 1)


def go_install(package, version):
    """Builds a program of a Go module, once; gives its path."""
    home = os.path.join(HOME, "go", "%s@%s" % (package.replace("/", "_"), version))
    if not glob.glob(home + "/*"):
        say("Installing %s@%s" % (package, version))
        env = dict(os.environ, GOBIN=home, GOFLAGS="-modcacherw")
        subprocess.run(["go", "install", "%s@%s" % (package, version)], env=env, check=True, stderr=subprocess.PIPE)
    return glob.glob(home + "/*")[0]


def certificate():
    """A certificate for loopback, of an authority of its own: (certificate, key, authority)."""
    cert, key, authority = (WORK + "/" + name for name in ("cert.pem", "key.pem", "authority.pem"))
    if not os.path.exists(cert):
        def openssl(*words):
            subprocess.run(["openssl", *words], check=True, stderr=subprocess.DEVNULL)
        new_key = ("-newkey", "rsa:2048", "-nodes")
        openssl("req", "-x509", *new_key, "-days", "2", "-subj", "/CN=judge", "-keyout", WORK + "/authority.key",
                "-out", authority)
        openssl("req", *new_key, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "-keyout", key, "-out", WORK + "/request.pem")
        openssl("x509", "-req", "-in", WORK + "/request.pem", "-days", "2", "-copy_extensions", "copy", "-CA", authority,
                "-CAkey", WORK + "/authority.key", "-CAcreateserial", "-out", cert)
    return cert, key, authority


def free_port():
    """For servers that cannot say which port they took."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def tail(path, n=20):
    with open(path, encoding="utf-8", errors="replace") as file:
        return "".join(file.readlines()[-n:]).strip()


class Server:
    """A server in the background. With `port` None, ours: it prints the port that it took."""

    def __init__(self, name, command, port=None):
        self.name = name
        self.log = "%s/%s.log" % (WORK, name.replace(" ", "_"))
        with open(self.log, "w", encoding="utf-8") as log:
            out = subprocess.PIPE if port is None else log
            # pylint: disable-next=consider-using-with
            self.process = subprocess.Popen(command, stdout=out, stderr=log, text=True)
        atexit.register(self.process.kill)  # does nothing to one that has ended
        if port is None:
            line = self.process.stdout.readline().strip()
            if not line.isdigit():
                raise RuntimeError("%s did not start: %s" % (name, tail(self.log)))
            port = int(line)
        self.port = port
        self._wait()

    def _wait(self):
        until = time.monotonic() + WAIT_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > until or self.process.poll() is not None:
                    raise RuntimeError("%s did not start: %s" % (self.name, tail(self.log))) from None
                time.sleep(0.05)

    def end(self):
        """Ends it; gives the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def end_clean(self):
        """One of ours: that it ends in order, with nothing to say, is a case."""
        status = self.end()
        check("%s ends clean" % self.name, status == 0 and not tail(self.log), "status %s: %s" % (status, tail(self.log)))
