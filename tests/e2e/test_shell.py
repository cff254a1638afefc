"""`sluice config`, `--help` of every command, and the completion scripts in the shells that they are for."""

import json
import os
import re
import subprocess
import tempfile
import unittest

import harness

COMMANDS = re.compile(r"^  ([a-z-]+)  ", re.M)


def run(program, *words, **env):
    return subprocess.run(
        [harness.BIN + "/" + program, *words], env=dict(os.environ, **env), capture_output=True, timeout=60, check=False)


class Config(harness.Case):
    def show(self, *words, **env):
        done = run("sluice", "config", "show", "--json", *words, **env)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        return json.loads(done.stdout)

    def file(self, text):
        path = tempfile.mkstemp(suffix=".yaml")[1]
        self.addCleanup(os.unlink, path)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def test_each_value_says_where_it_comes_from(self):
        path = self.file("log:\n  level: debug\nlisten: ['127.0.0.1:1']\nlimits:\n  runs: 5\n  message_recv: 8MiB\n  input: 1KiB\nops_listen: 127.0.0.1:2\n")
        shown = self.show("--config", path, "--limit", "input=2KiB", "--log-format", "json", SLUICE_LOOPS="3")
        settings = {k: (v["value"], v["source"]) for k, v in shown["settings"].items()}
        self.assertEqual(settings["log.level"], ("debug", path + ":2"))
        self.assertEqual(settings["listen"], ([{"address": "127.0.0.1:1"}], path + ":3"))
        self.assertEqual(settings["ops_listen"], ("127.0.0.1:2", path + ":8"))
        self.assertEqual(settings["loops"], (3, "SLUICE_LOOPS"))
        self.assertEqual(settings["log.format"], ("json", "--log-format"))
        self.assertEqual(settings["reflection"], ("auto", "default"))
        limits = {k: (v["value"], v["source"]) for k, v in shown["limits"].items()}
        self.assertEqual(limits["runs"], (5, path + ":5"))
        self.assertEqual(limits["message_recv"], (8 << 20, path + ":6"))
        self.assertEqual(limits["input"], (2048, "--limit"))
        self.assertEqual(limits["drain_delay"], (5000, "default"))

    def test_the_load_profile_is_a_source(self):
        limits = self.show("--profile", "load", "--limit", "runs=9")["limits"]
        self.assertEqual((limits["connections"]["value"], limits["connections"]["source"]), (1000000, "--profile load"))
        self.assertEqual((limits["runs"]["value"], limits["runs"]["source"]), (9, "--limit"))

    def test_every_limit_is_shown_with_unit_default_range_and_meaning(self):
        limits = self.show()["limits"]
        with open(harness.ROOT + "/runtime/base/limits.h", encoding="utf-8") as file:
            rows = re.findall(r"^ *X\((\w+), (\w+), (\d+), (\d+), (\d+), +\"(.*?)\"\)", file.read(), re.M)
        self.assertEqual(list(limits), [row[0] for row in rows])
        for name, unit, value, least, greatest, text in rows:
            shown = limits[name]
            self.assertEqual(
                (shown["unit"], shown["default"], shown["least"], shown["greatest"], shown["text"]),
                (unit.lower(), int(value), int(least), int(greatest), text))
        text = run("sluice", "config", "show").stdout.decode()
        for name in limits:
            self.assertRegex(text, r"(?m)^%s +\S+" % name)
        self.assertRegex(text, r"(?m)^message_recv +4 MiB +4 MiB +1 KiB to 1 GiB +default +one received message$")

    def test_secrets_are_masked(self):
        path = self.file("providers:\n  - name: openai\n    api_key: sk-planted\n    headers: {x-a: planted2}\n")
        for words in (["--json"], []):
            done = run("sluice", "config", "show", "--config", path, *words)
            self.assertNotIn(b"planted", done.stdout + done.stderr)
            self.assertIn(b"***", done.stdout)

    def test_mistakes_end_with_78_and_wrong_usage_with_2(self):
        path = self.file("limits:\n  runs: many\nno_such_key: 1\n")
        for what in ("show", "check"):
            done = run("sluice", "config", what, "--config", path)
            self.assertEqual(done.returncode, 78, done.stderr)
            self.assertIn(b"no_such_key", done.stderr)
            self.assertEqual(run("sluice", "config", what, "--no-such").returncode, 2)
        self.assertEqual(run("sluice", "config").returncode, 2)

    def test_check_is_the_daemons_check(self):
        done = run("sluice", "config", "check", "--agents", harness.ROOT + "/examples/agents")
        theirs = run("sluiced", "--check", "--agents", harness.ROOT + "/examples/agents")
        self.assertEqual((done.returncode, done.stdout), (theirs.returncode, theirs.stdout))
        self.assertEqual(done.returncode, 0, done.stderr)


class Help(harness.Case):
    def test_every_command_lists_its_options(self):
        usage = run("sluice", "--help").stdout.decode()
        names = COMMANDS.findall(usage)
        self.assertGreaterEqual(len(names), 11)
        for name in names:
            done = run("sluice", name, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, b""), name)
            self.assertTrue(done.stdout.startswith(b"usage: sluice " + name.encode()), name)
        self.assertIn(b"--max-iterations N", run("sluice", "run", "--help").stdout)


class Completion(harness.Case):
    def script(self, shell):
        done = run("sluice", "completion", shell)
        self.assertEqual(done.returncode, 0, done.stderr)
        path = tempfile.mkstemp(suffix="." + shell)[1]
        self.addCleanup(os.unlink, path)
        with open(path, "wb") as file:
            file.write(done.stdout)
        return path

    def shell(self, *words):
        env = dict(os.environ, PATH=harness.BIN + ":" + os.environ["PATH"], HOME=tempfile.gettempdir())
        done = subprocess.run(words, env=env, capture_output=True, timeout=60, check=False, cwd=harness.ROOT)
        self.assertEqual((done.returncode, done.stderr), (0, b""), words)
        return done.stdout.decode().split()

    def bash(self, line):
        """What bash offers behind a line; its words are split as bash splits them, at colons, too."""
        words = [w for w in re.split(r"\s+|(:)", line) if w is not None and w != ""]
        words += [""] if line.endswith(" ") else []
        quoted = " ".join("'%s'" % w for w in words)
        return self.shell("bash", "--norc", "-c", "source %s; COMP_WORDS=(%s); COMP_CWORD=%d; _sluice; printf '%%s\\n' \"${COMPREPLY[@]}\""
                          % (self.script("bash"), quoted, len(words) - 1))

    def fish(self, line):
        return self.shell("fish", "--no-config", "-c", "source %s; complete -C '%s' | string replace -r '\\t.*' ''; true" % (self.script("fish"), line))

    def zsh(self, line):
        """compadd is replaced: it prints what it is given."""
        words = line.split() + ([""] if line.endswith(" ") else [])
        quoted = " ".join("'%s'" % w for w in words)
        script = ("compdef() { :; }; functions[compdef]=':'; compadd() { [[ $1 == -S ]] && shift 2; shift; print -l -- ${(M)@:#${words[CURRENT]}*}; }; "
                  "_files() { print -l -- *(N); }; source %s; words=(%s); CURRENT=%d; _sluice" % (self.script("zsh"), quoted, len(words)))
        return self.shell("zsh", "-f", "-c", script)

    def check_all(self, complete):
        server = self.daemon()
        addr = "--addr " + server.address
        self.assertEqual(sorted(complete("sluice ag")), ["agents"])
        self.assertTrue({"run", "call", "bench", "completion"} <= set(complete("sluice ")))
        self.assertEqual(complete("sluice run --max"), ["--max-iterations"])
        self.assertTrue({"--tool-deltas", "--addr", "--ca", "--timeout"} <= set(complete("sluice run --")))
        self.assertNotIn("--addr", complete("sluice check-events --"))
        self.assertIn("--listen", complete("sluice config show --"))
        self.assertEqual(sorted(complete("sluice config ")), ["check", "show"])
        self.assertIn("README.md", complete("sluice check-events "))
        self.assertEqual(sorted(complete("sluice run %s " % addr)), ["demo", "echo", "load"])
        run_id = harness.sluice(server, "run", "--detach", "echo", "x").stdout.decode().strip()
        self.assertIn(run_id, complete("sluice attach %s " % addr))
        self.assertIn("grpc.health.v1.Health/", complete("sluice call %s grpc.h" % addr))
        self.assertEqual(complete("sluice call %s grpc.health.v1.Health/C" % addr), ["grpc.health.v1.Health/Check"])
        self.assertEqual(complete("sluice run --addr 127.0.0.1:1 "), [])

    def test_bash(self):
        self.check_all(self.bash)

    def test_zsh(self):
        self.check_all(self.zsh)

    def test_fish(self):
        self.check_all(self.fish)


if __name__ == "__main__":
    harness.main()
