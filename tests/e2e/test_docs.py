"""What README.md, docs/ and examples/ show is what the binaries take."""

import glob
import json
import os
import re
import subprocess
import sys
import tempfile

import harness
import yaml

sys.path.insert(0, harness.ROOT + "/tests")
import pages  # pylint: disable=wrong-import-position

BUILT_IN = 3
FAULTS = {
    "rate limit": "PROVIDER_RATE_LIMITED",
    "overloaded": "PROVIDER_OVERLOADED",
    "in the stream": "PROVIDER_OVERLOADED",
    "cut": "PROVIDER_TRUNCATED",
    "filter": "CONTENT_FILTER",
}


# Pages whose commands are all run, as they stand, by the suite of ./run interop that has their name.
RUN_IN_WHOLE = {"docs/%s.md" % name: name for name in ("quickstart", "quickstart-more", "load-testing", "migration", "deployment", "troubleshooting")}
# The same, by a test of CTest.
RUN_BY_TEST = {"docs/library.md": "tests/package/test_package.py", "docs/grpc-c.md": "tests/package/test_package.py", "docs/runs.md": "tests/e2e/test_attach.py", "docs/sessions.md": "tests/e2e/test_sessions.py"}
# What CI runs, and what only carries other commands.
BY_CI = ("./run test", "./run interop")
SHELL = ("echo", "source")
# Commands that no test runs, and why.
BY_HAND = {
    ("docs/conformance.md", "./run judge"): "the judges come from registries of packages",
    ("docs/performance.md", "./run bench"): "minutes of a machine that does nothing else",
    ("docs/performance.md", "cat"): "of a process that is being measured",
    ("docs/performance.md", "strace"): "the same",
    ("docs/performance.md", "perf"): "the same",
    ("docs/performance.md", "valgrind"): "the same",
}


def command_blocks(page):
    return pages.blocks(page, *pages.COMMANDS)


def commands(page):
    """The commands of a page that call one of our programs, where no suite runs them as they stand."""
    if page in RUN_IN_WHOLE or page in RUN_BY_TEST:
        return
    for block in command_blocks(page):
        for words in pages.commands(block):
            if pages.program(words) in ("sluice", "sluiced"):
                yield words[3:] if words[0] == "taskset" else words


def read(path):
    with open(path, encoding="utf-8") as file:
        return file.read()


def milliseconds(text):
    """A time as limits.h and configurations have it: 20000, or 5m."""
    number, unit = re.fullmatch(r"(\d+)(ms|s|m|h|)", text).groups()
    return int(number) * {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "": 1}[unit]


def limit(name):
    """The default of a limit that is a time."""
    return int(re.search(r"X\(%s, MS, (\d+)," % name, read("runtime/base/limits.h"))[1])


def execute(words, text=b"", folder="."):
    """Runs one of our programs; nothing is served at the address that it gets."""
    env = dict(os.environ, SLUICE_ADDR="127.0.0.1:1")
    program = harness.BIN + "/" + os.path.basename(words[0])
    return subprocess.run(
        [program, *words[1:]], env=env, input=text, capture_output=True, timeout=60, check=False, cwd=folder
    )


class Docs(harness.Case):
    def check(self, *words, n_agents=0):
        """sluiced --check finds nothing wrong, and so many agents."""
        done = execute(["sluiced", "--check", *words])
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        self.assertNotIn(b"sluiced:", done.stderr)
        if n_agents:
            self.assertEqual(done.stdout.decode(), "%d agents, no mistakes\n" % (n_agents + BUILT_IN))

    def test_the_example_agents_load(self):
        n_agents = 0
        for name in glob.glob("examples/agents/*.yaml"):
            with open(name, encoding="utf-8") as file:
                n = len(re.findall(r"^(?:  )?name: ", file.read(), re.M))
            self.assertGreater(n, 0, name)
            self.check("--agents", name, n_agents=n)
            n_agents += n
        self.assertGreaterEqual(n_agents, 6)
        self.check("--agents", "examples/agents", n_agents=n_agents)
        self.check("--config", "examples/sluiced.yaml", n_agents=n_agents + 1)

    def test_the_example_with_known_callers_is_understood(self):
        self.assertTrue(self.understand_yaml(read("examples/identity.yaml")))

    def test_each_setting_of_an_agent_is_in_an_example(self):
        """The first columns of the tables of docs/agents.md; providers, limits and the input of load are no settings of a file."""
        files = [*glob.glob("examples/agents/*.yaml"), *glob.glob("examples/scripted/*.yaml"), "examples/sluiced.yaml"]
        text = "".join(read(name) for name in files)
        n = 0
        for title in ("Fields", "`providers:` in the configuration", "Tools"):
            section = re.search(r"^#+ %s\n(.*?)^#" % re.escape(title), read("docs/agents.md"), re.M | re.S)[1]
            for cell in re.findall(r"^\| ([^|]*) \|", section, re.M):
                for key in re.findall(r"`([a-z_]+)`", cell):
                    self.assertRegex(text, r"(?m)(^|[\s{,])%s:" % key, "%s of docs/agents.md is in no example" % key)
                    n += 1
        self.assertGreater(n, 40)

    def test_a_broken_agent_would_be_noticed(self):
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write("name: broken\nmodel: openai:x\nno_such_key: 1\n")
            file.flush()
            self.assertIn(b"no_such_key", execute(["sluiced", "--check", "--agents", file.name]).stderr)

    def test_the_example_with_a_script_and_a_program_runs(self):
        with open("examples/sluiced.yaml", encoding="utf-8") as file:
            server = self.daemon(config=file.read(), flags=("--agents", "examples/scripted"))
        events = harness.run_agent(server, "weather", "How is it?")
        completes = {e["tool_name"]: e for e in events if e["type"] == "tool_call_complete"}
        self.assertEqual([completes[name]["success"] for name in ("read_sensor", "current_time")], [True, True])
        self.assertIn("temperature", completes["read_sensor"]["result_json"])
        self.assertIn("The station says: ", events[-1]["content"])

    def test_the_example_scenarios_are_served(self):
        names = glob.glob("examples/scenarios/*.yaml")
        self.assertGreaterEqual(len(names), 3)
        for name in names:
            with open(name, encoding="utf-8") as file:
                self.mock(file.read())

    def test_the_faults_are_what_the_example_says(self):
        with open("examples/scenarios/faults.yaml", encoding="utf-8") as file:
            mock = self.mock(file.read())
        retries = "providers: [{name: openai, retry: {max: 0}}]\n"
        server = self.daemon(agents={"helper.yaml": harness.HELPER}, config=retries, env=mock.env())
        for text, code in FAULTS.items():
            self.assertEqual(harness.run_agent(server, "helper", text, expected=1)[-1]["code"], code)
        events = harness.run_agent(server, "helper", "bad arguments")
        self.assertEqual([e["error_code"] for e in events if e["type"] == "tool_call_complete"], ["INVALID_ARGS"])
        self.assertIn("Say one of", harness.text_of(harness.run_agent(server, "helper", "hello")))

    def test_the_commands_of_the_pages_are_understood(self):
        self.serve_examples()
        n = 0
        for page in pages.pages():
            for words in commands(page):
                with self.subTest(page=page, command=" ".join(words)):
                    self.understand(words)
                n += 1
        self.assertGreater(n, 10, "the pages have commands")

    def test_every_command_of_the_pages_is_run_by_a_test(self):
        whole = {pages.program(words) for page in RUN_IN_WHOLE for block in command_blocks(page) for words in pages.commands(block)}
        known = {"sluice", "sluiced", *BY_CI, *SHELL, *(name for name in whole if name.startswith("./run "))}
        by_hand = set()
        for page in pages.pages():
            for block in pages.blocks(page):
                self.assertNotIn(block.language.split(" ")[0], pages.OTHER_SHELLS, block.name() + ": fence commands as sh")
            for block in command_blocks(page) if page not in RUN_IN_WHOLE and page not in RUN_BY_TEST else ():
                for words in pages.commands(block):
                    name = pages.program(words)
                    if (page, name) in BY_HAND:
                        by_hand.add((page, name))
                    else:
                        self.assertIn(name, known, "%s: no test runs this; or it is no command: then fence it as text" % block.name())
        self.assertEqual(by_hand, set(BY_HAND), "what is run by hand is in a page")

    def test_the_pages_that_are_run_as_they_stand_have_their_suites(self):
        with open("tests/interop/run.sh", encoding="utf-8") as file:
            suites = " ".join(re.findall(r"suites\+?=\(([a-z -]+)\)", file.read())).split()
        for page, name in RUN_IN_WHOLE.items():
            self.assertIn(name, suites)
            with open("tests/interop/%s/run" % name, encoding="utf-8") as file:
                self.assertRegex(file.read(), r"page\.py\" %s\n" % page)
            self.assertGreater(len(command_blocks(page)), 2, page)

    def test_the_pages_that_a_test_runs_are_named_by_it(self):
        for page, path in RUN_BY_TEST.items():
            self.assertIn('"%s"' % page, read(path))
            self.assertGreater(len(command_blocks(page)), 2, page)

    def test_what_a_page_shows_of_an_output_must_be_in_it(self):
        self.assertIsNone(pages.shows("a 1\n  b\nc 2 d\n", ["a …", "…", "c … d"]))
        for lines in (["b", "a 1"], ["a"], ["c…e"], ["b", "b"]):
            self.assertIsNotNone(pages.shows("a 1\n  b\nc 2 d\n", lines))

    def test_the_snippets_that_are_rust_are_in_the_program_that_is_run(self):
        with open("examples/clients/rust/src/bin/migration.rs", encoding="utf-8") as file:
            program = file.read()
        snippets = pages.blocks("docs/migration.md", "rust")
        self.assertGreater(len(snippets), 3)
        for block in snippets:
            self.assertIn(block.text, program, block.name())

    def test_the_manifests_for_kubernetes_are_consistent(self):
        blocks = [block for block in pages.blocks("docs/deployment.md", "yaml") if "apiVersion" in block.text]
        config, deployment, service = (part for block in blocks for part in yaml.safe_load_all(block.text))
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        with tempfile.TemporaryDirectory() as folder:
            for name, text in config["data"].items():
                with open(folder + "/" + name, "w", encoding="utf-8") as file:
                    file.write(text.replace("/etc/sluice/agents", folder + "/helper.yaml"))
            self.check("--config", folder + "/sluiced.yaml", n_agents=1)
        settings = yaml.safe_load(config["data"]["sluiced.yaml"])
        delay = limit("drain_delay")
        grace_ms = 1000 * pod["terminationGracePeriodSeconds"]
        self.assertGreater(grace_ms, delay + milliseconds(settings["limits"]["drain_timeout"]), "the drain may end")
        probes = {container[name]["httpGet"]["path"]: container[name]["httpGet"]["port"] for name in ("readinessProbe", "livenessProbe")}
        self.assertEqual(probes, {"/readyz": "ops", "/healthz": "ops"})  # a drain must not fail the liveness
        ports = {port["name"]: port["containerPort"] for port in container["ports"]}
        self.assertEqual(service["spec"]["ports"][0]["port"], ports["grpc"])
        self.assertTrue(settings["listen"][0].endswith(":%d" % ports["grpc"]))
        self.assertTrue(settings["ops_listen"].endswith(":%d" % ports["ops"]))
        self.assertEqual(service["spec"]["selector"], deployment["spec"]["template"]["metadata"]["labels"])
        self.assertEqual(deployment["spec"]["selector"]["matchLabels"], service["spec"]["selector"])
        volumes = {volume["name"] for volume in pod["volumes"]}
        self.assertTrue({mount["name"] for mount in container["volumeMounts"]} <= volumes)
        mounted = {mount["subPath"] for mount in container["volumeMounts"] if "subPath" in mount}
        self.assertEqual(mounted, set(config["data"]))
        dockerfile = read("docker/Dockerfile")
        self.assertIn("USER %d:%d" % (pod["securityContext"]["runAsUser"], pod["securityContext"]["runAsGroup"]), dockerfile)

    def test_the_compose_file_lets_a_drain_end_and_publishes_on_this_machine_only(self):
        compose = yaml.safe_load(read("docker/compose.yaml"))
        (service,) = compose["services"].values()
        self.assertGreater(milliseconds(service["stop_grace_period"]), limit("drain_delay") + limit("drain_timeout"))
        self.assertTrue(service["read_only"])
        self.assertEqual(service["cap_drop"], ["ALL"])
        for port in service["ports"]:
            self.assertRegex(port, r"^127\.0\.0\.1:")
        for volume in service["volumes"]:
            name = volume.split(":")[0]
            self.assertTrue(name in compose["volumes"] or os.path.isdir("docker/" + name), volume)
        (store,) = [volume.split(":")[1] for volume in service["volumes"] if volume.startswith("runs:")]
        self.assertIn("VOLUME %s\n" % store, read("docker/Dockerfile"))
        self.assertEqual(os.path.dirname(yaml.safe_load(read("docker/sluiced.yaml"))["store"]["sqlite"]["path"]), store)

    def test_the_service_config_of_the_page_is_the_examples(self):
        (block,) = pages.blocks("docs/deployment.md", "json")
        self.assertEqual(block.text, read("examples/service-config.json"))
        for method in json.loads(block.text)["methodConfig"]:
            self.assertEqual(method["retryPolicy"]["retryableStatusCodes"], ["UNAVAILABLE"])

    def serve_examples(self):
        with open("examples/sluiced.yaml", encoding="utf-8") as file:
            folders = ("--agents", "examples/scripted", "--agents", "examples/agents")
            self.server = self.daemon(config=file.read(), flags=folders)

    def understand(self, words):
        if os.path.basename(words[0]) == "sluiced":
            done = execute(words if "--check" in words else [*words, "--help"])
            self.assertEqual((done.returncode, b"sluiced:" in done.stderr), (0, False), done.stderr.decode())
        elif words[1] == "proto":
            with tempfile.TemporaryDirectory() as folder:
                self.assertEqual(execute(words, folder=folder).returncode, 0)
        elif words[1] == "keys":
            with tempfile.TemporaryDirectory() as folder:
                done = execute(words, text=b"a-key-for-the-test-of-pages\n", folder=folder)
            self.assertEqual((done.returncode, done.stdout[:7]), (0, b"sha256:"), done.stderr.decode())
        elif words[1] in ("config", "completion", "frame"):
            done = execute(words)
            self.assertEqual(done.returncode, 0, done.stderr.decode())
        elif words[1] == "mock-model":
            harness.Process("mock-model", [harness.BIN + "/sluice", *words[1:], "--listen", "127.0.0.1:0"]).stop()
        elif words[1] == "run":  # the agent is there and takes the input; a key for its model may be missing
            done = execute([*words, "--addr", self.server.address, "--timeout", "3s"], b"text")
            self.assertIn(done.returncode, (0, 1), done.stderr.decode())
            self.assertNotRegex(done.stderr, rb"sluice: (NOT_FOUND|INVALID_ARGUMENT|UNAVAILABLE)")
        elif words[1] == "call":
            done = execute([*words, "--addr", "127.0.0.1:1"], text=b"{}")
            self.assertEqual(done.returncode, 3, done.stderr.decode())
        elif words[1] in ("agents", "health"):
            done = execute([*words, "--addr", self.server.address])
            self.assertEqual(done.returncode, 0, done.stderr.decode())
        elif words[1] == "bench":
            with tempfile.TemporaryDirectory() as folder:  # for the files that it writes
                words = [word.replace("~/", folder + "/") for word in words]
                done = execute([*words, "--addr", "127.0.0.1:1", "--runs", "1"], folder=folder)
            self.assertEqual(done.returncode, 3, done.stderr.decode())
        elif words[1] == "check-events" and len(words) > 2:
            self.understand_streams(words)
        else:
            self.assertNotEqual(execute(words).returncode, 2)

    def understand_streams(self, words):
        """The files are streams of one run; what follows `--after` is where the file before it begins."""
        lines = execute(["sluice", "run", "demo", "x", "--json", "--addr", self.server.address]).stdout.splitlines(keepends=True)
        with tempfile.TemporaryDirectory() as folder:
            for i, word in enumerate(words):
                if word.startswith("~/"):
                    words[i] = folder + word[1:]
                    after = int(words[i + 2]) if words[i + 1 : i + 2] == ["--after"] else 0
                    with open(words[i], "wb") as file:
                        file.writelines(lines[after:])
            done = execute(words)
        self.assertEqual(done.returncode, 0, done.stderr.decode())

    def test_the_run_script_has_what_the_pages_name_and_lists_it(self):
        with open("run", encoding="utf-8") as file:
            functions = set(re.findall(r"^cmd_([a-z]+)\(\)", file.read(), re.M))
        listed = subprocess.run(["./run"], capture_output=True, timeout=20, check=True).stdout.decode()
        self.assertEqual(set(re.findall(r"^  ([a-z]+) +\S", listed, re.M)), functions, "each has its sentence")
        named = set()
        for page in pages.pages():
            with open(page, encoding="utf-8") as file:
                named |= set(re.findall(r"\./run ([a-z]+)", file.read()))
        self.assertTrue({"demo", "test", "serve", "interop"} <= named)
        self.assertEqual(named - functions, set())
        wrong = subprocess.run(["./run", "no-such"], capture_output=True, timeout=20, check=False)
        self.assertEqual((wrong.returncode, wrong.stdout), (1, b""))
        self.assertIn(b"run: no command 'no-such'", wrong.stderr)

    def test_a_false_command_would_be_noticed(self):
        self.serve_examples()
        for words in (["sluice", "run", "nobody", "x"], ["sluice", "run", "load", "no=1"], ["sluice", "run", "echo", "--no-such"], ["sluiced", "--no-such"], ["sluice", "no-such"]):
            with self.assertRaises(AssertionError):
                self.understand(words)

    def test_the_yaml_of_the_pages_is_understood(self):
        n = 0
        for page in ("README.md", "docs/agents.md", "docs/configuration.md", "docs/scenarios.md"):
            for block in pages.blocks(page, "yaml"):
                with self.subTest(block=block.name()):
                    n += self.understand_yaml(block.text)
        self.assertGreater(n, 6, "the pages have files")

    def understand_yaml(self, text):
        """An agent, a scenario or a configuration, by its keys. False: parts of several files."""
        if re.search(r"^turns:", text, re.M):
            self.mock(text)
            return True
        if re.search(r"^# in the ", text, re.M):
            return False
        with tempfile.TemporaryDirectory() as folder, tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            harness.make_certificate(folder + "/server")
            for path, here in (("server.pem", "server.cert"), ("server.key", "server.key"), ("clients.pem", "server.cert")):
                text = text.replace("/etc/sluice/" + path, folder + "/" + here)
            with open(folder + "/keys", "w", encoding="ascii") as keys:
                (block,) = (x for x in pages.blocks("docs/configuration.md", "text") if "sha256:" in x.text)
                keys.write(block.text)
            text = text.replace("/etc/sluice/keys", folder + "/keys")
            file.write(text.replace("/etc/sluice/agents", harness.ROOT + "/examples/agents"))
            file.flush()
            is_agent = re.match(r"(name|apiVersion):", text) is not None
            self.check("--agents" if is_agent else "--config", file.name, n_agents=1 if is_agent else 0)
        return True


if __name__ == "__main__":
    os.chdir(harness.ROOT)
    harness.main()
