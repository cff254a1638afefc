"""./run with the real binaries, and stand-ins for what installs and builds."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

import harness

# Every package but uthash-dev is there until apt-get was asked for it.
DPKG = """#!/bin/sh
eval "last=\\${$#}"
[ "$last" = uthash-dev ] && [ ! -e installed ] && exit 1
echo install ok installed
"""
APT = """#!/bin/sh
echo "$@" >>apt.log
case "$*" in *uthash-dev*) touch installed ;; esac
"""


class Script(harness.Case):
    def setUp(self):
        self.dir = tempfile.mkdtemp()
        shutil.copy(harness.ROOT + "/run", self.dir)
        os.makedirs(self.dir + "/build/release")
        os.makedirs(self.dir + "/path")
        os.symlink(harness.BIN, self.dir + "/build/release/bin")
        self.stand_in("cmake", "#!/bin/sh\n")
        self.stand_in("dpkg-query", DPKG)
        self.stand_in("apt-get", APT)
        self.stand_in("sudo", '#!/bin/sh\nexec "$@"\n')
        self.env = {"PATH": self.dir + "/path:" + os.environ["PATH"]}

    def stand_in(self, name, text):
        with open(self.dir + "/path/" + name, "w", encoding="ascii") as file:
            file.write(text)
        os.chmod(file.name, 0o755)

    def run_script(self, *words):
        return subprocess.run(
            [self.dir + "/run", *words], env=dict(os.environ, **self.env), capture_output=True, timeout=60, check=False
        )

    def test_demo_says_what_it_installs_and_shows_a_run(self):
        done = self.run_script("demo")
        out = done.stdout.decode()
        self.assertEqual((done.returncode, done.stderr), (0, b""), out)
        self.assertEqual(out.splitlines()[0], "Installing 1 Debian packages: uthash-dev")
        self.assertRegex(out, r"✓ done: 3 iterations, [0-9.]+ s, \d+ tokens in, \d+ out")
        with open(self.dir + "/apt.log", encoding="ascii") as file:
            self.assertEqual([line.split()[0] for line in file], ["update", "install"])
        again = self.run_script("demo", "again")
        self.assertNotIn(b"Installing", again.stdout)
        self.assertIn(b"You said: again", again.stdout)

    def test_an_interrupt_of_demo_is_130_and_leaves_nothing(self):
        terminal = harness.Terminal(None, "demo", program=self.dir + "/run", env=self.env)
        terminal.read_until(rb"iteration 1")
        terminal.type(b"\x03")
        status, shown, is_same = terminal.end()
        self.assertEqual((status, is_same), (130, True), shown)
        self.assertIn("sluice: cancelled", shown)
        self.assertNotIn("level=info", shown, "the server's log is for failures")

    def test_a_server_that_does_not_start_is_told(self):
        done = subprocess.run(
            [self.dir + "/run", "demo"],
            env=dict(os.environ, **self.env, SLUICE_LOG_LEVEL="loud"),
            capture_output=True,
            timeout=60,
            check=False,
        )
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, rb"SLUICE_LOG_LEVEL[^\n]*'loud'[^\n]*\nrun: sluiced did not start\n$")

    def test_a_build_that_fails_shows_its_end(self):
        self.stand_in("cmake", "#!/bin/sh\necho broken by this line\nexit 1\n")
        done = self.run_script("build")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"broken by this line\nrun: the build of preset release failed\n", done.stderr)

    def test_serve_is_sluiced_with_its_flags(self):
        server = harness.Process(
            "run serve", [self.dir + "/run", "serve", "--listen", "127.0.0.1:0", "--limit", "drain_delay=0"], self.env
        )
        self.addCleanup(server.stop)
        self.assertEqual(harness.sluice(server, "health").stdout, b"SERVING\n")
        self.assertEqual(self.run_script("serve", "--bogus").returncode, 2)

    def test_the_words_that_count_tests_are_understood(self):
        """./run test ends with "N passed, N failed": from what ctest says, and the linters."""
        summary = "98% tests passed, 2 tests failed out of 100"
        self.stand_in("ctest", "#!/bin/sh\necho '%s'\nexit 8\n" % summary)
        done = self.run_script("test")
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (1, b"99 passed, 2 failed"), done.stderr)
        self.stand_in("ctest", "#!/bin/sh\necho '100% tests passed, 0 tests failed out of 100'\n")
        done = self.run_script("test")
        self.assertEqual((done.returncode, done.stdout.splitlines()[-1]), (0, b"101 passed, 0 failed"))
        self.stand_in("ctest", "#!/bin/sh\nexit 1\n")
        self.assertIn(b"run: ctest ran no test", self.run_script("test").stderr)

    def test_alone_it_lists_what_it_can_do(self):
        done = self.run_script()
        self.assertEqual(done.returncode, 0)
        for name in ("demo", "serve", "test", "interop", "build", "lint", "fuzz", "bench"):
            self.assertIsNotNone(re.search(r"(?m)^  %s +\w" % name, done.stdout.decode()), name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
