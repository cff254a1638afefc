"""What README.md, docs/ and examples/ show is what the binaries take."""

import glob
import os
import re
import shlex
import subprocess
import tempfile

import harness

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
BUILT_IN = 3
FAULTS = {
    "rate limit": "PROVIDER_RATE_LIMITED",
    "overloaded": "PROVIDER_OVERLOADED",
    "in the stream": "PROVIDER_OVERLOADED",
    "cut": "PROVIDER_TRUNCATED",
    "filter": "CONTENT_FILTER",
}


def pages():
    return ["README.md", *sorted(glob.glob("docs/*.md"))]


def blocks(page, language):
    """The fenced blocks of a page in one language; "": those that name none."""
    with open(page, encoding="utf-8") as file:
        return [text for name, text in FENCE.findall(file.read()) if name == language]


def commands(page):
    """The simple commands of a page's shell blocks that call one of our programs, as lists of words."""
    for text in blocks(page, "") + blocks(page, "sh"):
        for line in text.replace("\\\n", " ").splitlines():
            if not re.search(r"\bsluiced?\b", line):
                continue
            words = []
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            try:
                tokens = [*lexer, ";"]
            except ValueError:
                continue  # a drawing
            for token in tokens:
                if token not in ("|", "&", "&&", ";", ">", "("):
                    words.append(token)
                    continue
                while words and re.match(r"[A-Z_]+=", words[0]):
                    words = words[1:]
                if words and os.path.basename(words[0]) in ("sluice", "sluiced"):
                    yield words
                words = []


def execute(words, text=b""):
    """Runs one of our programs; nothing is served at the address that it gets."""
    env = dict(os.environ, SLUICE_ADDR="127.0.0.1:1")
    program = harness.BIN + "/" + os.path.basename(words[0])
    return subprocess.run([program, *words[1:]], env=env, input=text, capture_output=True, timeout=60, check=False)


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
        for page in pages():
            for words in commands(page):
                with self.subTest(page=page, command=" ".join(words)):
                    self.understand(words)
                n += 1
        self.assertGreater(n, 10, "the pages have commands")

    def serve_examples(self):
        with open("examples/sluiced.yaml", encoding="utf-8") as file:
            folders = ("--agents", "examples/scripted", "--agents", "examples/agents")
            self.server = self.daemon(config=file.read(), flags=folders)

    def understand(self, words):
        if os.path.basename(words[0]) == "sluiced":
            done = execute(words if "--check" in words else [*words, "--help"])
            self.assertEqual((done.returncode, b"sluiced:" in done.stderr), (0, False), done.stderr.decode())
        elif words[1] == "mock-model":
            harness.Process("mock-model", [harness.BIN + "/sluice", *words[1:], "--listen", "127.0.0.1:0"]).stop()
        elif words[1] == "run":  # the agent is there and takes the input; a key for its model may be missing
            done = execute([*words, "--addr", self.server.address, "--timeout", "3s"], b"text")
            self.assertIn(done.returncode, (0, 1), done.stderr.decode())
            self.assertNotRegex(done.stderr, rb"sluice: (NOT_FOUND|INVALID_ARGUMENT|UNAVAILABLE)")
        elif words[1] in ("agents", "health"):
            done = execute([*words, "--addr", self.server.address])
            self.assertEqual(done.returncode, 0, done.stderr.decode())
        elif words[1] == "bench":
            done = execute([*words, "--addr", "127.0.0.1:1", "--runs", "1"])
            self.assertEqual(done.returncode, 3, done.stderr.decode())
        else:
            self.assertNotEqual(execute(words).returncode, 2)

    def test_the_run_script_has_what_the_pages_name_and_lists_it(self):
        with open("run", encoding="utf-8") as file:
            functions = set(re.findall(r"^cmd_([a-z]+)\(\)", file.read(), re.M))
        listed = subprocess.run(["./run"], capture_output=True, timeout=20, check=True).stdout.decode()
        self.assertEqual(set(re.findall(r"^  ([a-z]+) +\S", listed, re.M)), functions, "each has its sentence")
        named = set()
        for page in pages():
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
        for page in ("README.md", "docs/agents.md", "docs/scenarios.md"):
            for text in blocks(page, "yaml"):
                with self.subTest(page=page, text=text):
                    n += self.understand_yaml(text)
        self.assertGreater(n, 6, "the pages have files")

    def understand_yaml(self, text):
        """An agent, a scenario or a configuration, by its keys. False: parts of several files."""
        if re.search(r"^turns:", text, re.M):
            self.mock(text)
            return True
        if re.search(r"^# in the ", text, re.M):
            return False
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            file.write(text)
            file.flush()
            is_agent = re.match(r"(name|apiVersion):", text) is not None
            self.check("--agents" if is_agent else "--config", file.name, n_agents=1 if is_agent else 0)
        return True


if __name__ == "__main__":
    os.chdir(harness.ROOT)
    harness.main()
