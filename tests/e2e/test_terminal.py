"""What a person sees of a run on a terminal, and what the terminal is left as."""

import re
import signal
import unittest

import harness

# What the view writes by itself: colours, and a wiped line.
OWN = re.compile(r"\x1b\[(?:0|1|2|31|32)m|\r\x1b\[K")
PLANTED = "a\\u001b]0;title\\u0007b\\u001b[2Jc\\u009b31md\\u007f"
SCENARIO = (
    "turns:\n"
    '  - match: planted\n    steps: [{thinking: "%s"}, {text: "%s"}, '
    '{tool_call: {name: current_time, arguments: {timezone: "%s"}}}]\n'
    '  - match: planted\n    steps: [{error: {in_band: true, code: "x", message: "%s"}}]\n'
    '  - match: wide\n    steps: [{text: "漢字🙂 ", pace: {unit: whole, delay_ms: 0}}, {text: "%s"}]\n'
) % (PLANTED, PLANTED, PLANTED, PLANTED, "x" * 5000)
PLANTER = "name: planter\nmodel: planted:m\ntools: [current_time]\n"


def without_own(shown):
    return OWN.sub("", shown)


class View(harness.Case):
    def setUp(self):
        self.server = self.daemon()

    def test_a_terminal_gets_colours(self):
        status, shown, is_same = harness.Terminal(self.server, "run", "demo", "hello").end()
        self.assertEqual((status, is_same), (0, True))
        self.assertIn("\x1b[32m✓ done\x1b[0m", shown)
        self.assertNotIn("\x1b", without_own(shown))
        for word in ("● demo", "iteration 1 of", "→", "✓", " ms", "tokens in"):
            self.assertIn(word, re.sub(r"\x1b\[\d+m", "", shown))

    def test_a_wait_is_shown_and_wiped(self):
        shown = harness.Terminal(self.server, "run", "load", "events=1 first_ms=1500").end()[1]
        self.assertRegex(shown, r"⠋ waiting \d+\.\d s\x1b\[0m\r\x1b\[K")

    def test_no_color_and_a_dumb_terminal_are_respected(self):
        plain = harness.Terminal(self.server, "run", "demo", "hello", env={"NO_COLOR": "1"}).end()[1]
        self.assertNotIn("\x1b", plain.replace("\r\x1b[K", ""))
        dumb = harness.Terminal(self.server, "run", "demo", "hello", env={"TERM": "dumb"}).end()[1]
        self.assertNotIn("\x1b", dumb)
        self.assertIn("✓ done", dumb)

    def test_the_spinner_stays_inside_a_narrow_terminal_that_shrinks(self):
        terminal = harness.Terminal(self.server, "run", "load", "first_ms=60000", columns=30)
        terminal.read_until(rb" waiting \d+\.\d s\x1b")
        terminal.resize(10)
        terminal.read_until(rb" waiting\x1b")
        terminal.type(b"\x03")
        self.assertEqual(terminal.end()[0], 130)

    def test_an_interrupt_cancels_and_leaves_the_terminal_as_it_was(self):
        terminal = harness.Terminal(self.server, "run", "load", "hang=true")
        terminal.read_until(b"run ")
        terminal.type(b"\x03")
        status, shown, is_same = terminal.end()
        self.assertEqual((status, is_same), (130, True))
        self.assertIn("sluice: cancelled", shown)
        self.assertLess(shown.rfind("\x1b[2m"), shown.rfind("\x1b[0m"), "no style is left on")
        self.assertNotIn("\x1b[?25l", shown, "the cursor is never hidden")
        self.server.wait_log("CLIENT_RESET")

    def test_a_dead_server_ends_the_view_with_one_line(self):
        server = harness.Daemon()
        terminal = harness.Terminal(server, "run", "load", "hang=true")
        terminal.read_until(b"iteration 1")
        server.crash()
        status, shown, is_same = terminal.end()
        self.assertEqual((status, is_same), (3, True), shown)
        self.assertRegex(shown, r"\nsluice: [A-Z]+: %s: [^\n]*\n$" % server.address)


class Injection(harness.Case):
    """Nothing that a model, a tool's arguments or a status message says moves the cursor."""

    def setUp(self):
        scenario = harness.write(SCENARIO)
        config = "providers: [{name: planted, kind: scripted, scenario: %s}]\n" % scenario
        self.server = self.daemon(agents={"planter.yaml": PLANTER}, config=config)

    def check_shown(self, shown):
        self.assertIn("a.]0;title.b.[2Jc.31md.", shown)
        for character in "\x1b\x07\x7f\x9b":
            self.assertNotIn(character, without_own(shown))

    def test_on_a_terminal(self):
        status, shown, _ = harness.Terminal(self.server, "run", "planter", "planted").end()
        self.assertEqual(status, 1)
        self.check_shown(shown)

    def test_in_a_status_message(self):
        done = harness.sluice(self.server, "run", "a\x1b[2J\nb")
        self.assertEqual(done.returncode, 1)
        self.assertEqual(done.stderr, b"sluice: NOT_FOUND: there is no agent 'a.[2J b'\n")

    def test_as_json_on_a_terminal(self):
        status, shown, _ = harness.Terminal(self.server, "run", "planter", "planted", "--json").end()
        self.assertEqual(status, 1)
        for character in "\x1b\x07\x7f\x9b":
            self.assertNotIn(character, shown)
        self.assertIn("\\u009B", shown)

    def test_the_json_means_the_same(self):
        events = harness.run_agent(self.server, "planter", "planted", expected=1)
        self.assertIn("\x1b[2Jc\x9b31md\x7f", harness.text_of(events))

    def test_wide_characters_and_a_long_line_come_whole(self):
        for columns in (20, 200):
            shown = harness.Terminal(self.server, "run", "planter", "wide", columns=columns).end()[1]
            self.assertIn("漢字🙂 " + "x" * 5000 + "\x1b[0m\r\n", shown)


class Pipe(harness.Case):
    def test_a_reader_that_leaves_ends_the_run(self):
        server = self.daemon()
        for extra in ((), ("--json",)):
            child = harness.start_sluice(server, "run", "load", "events=1000000 rate=200", *extra)
            child.stdout.read(1)
            child.stdout.close()
            child.stdout = None
            err = child.communicate(timeout=30)[1]
            self.assertEqual((child.returncode, err), (1, b"sluice: cannot write to standard output\n"))
            server.wait_log("CLIENT_RESET")

    def test_a_full_disk_is_told(self):
        server = self.daemon()
        for words in (("run", "echo", "x"), ("run", "echo", "x", "--json"), ("agents",), ("health",), ("health", "--help")):
            with open("/dev/full", "wb") as full:
                child = harness.start_sluice(server, *words, stdout=full)
                err = child.communicate(timeout=30)[1]
            self.assertEqual((child.returncode, err), (1, b"sluice: cannot write to standard output\n"), words)

    def test_an_interrupt_while_standard_input_is_read_ends_it(self):
        server = self.daemon()
        terminal = harness.Terminal(server, "run", "echo", "-")
        terminal.type(b"begun\n")
        terminal.read_until(b"begun")
        terminal.type(b"\x03")
        self.assertIn(terminal.end()[0], (130, -signal.SIGINT))


if __name__ == "__main__":
    unittest.main(verbosity=2)
