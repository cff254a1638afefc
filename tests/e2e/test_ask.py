"""`sluice run --approve ask` on a terminal: what is shown, what each answer does, and what is no answer."""

import hashlib
import os
import tempfile
import unittest

import harness
from run_case import RunCase, call, shell, turns

ASKED = shell("write", "echo written", policy="ask")
SELF = {"self": True, "timeout_secs": 20}
SAW = {"text": "saw {{last_tool_result}}"}
QUESTION = rb"Run it\? \[y,n,l,\?\] "
KEY = "planted-alice-key-0123456789abcdef"


class Ask(RunCase):
    def ask(self, *flags, calls=1, **agent):
        agent.setdefault("approval", SELF)
        self.start(turns([call("write") for _ in range(calls)], [SAW]), [ASKED], **agent)
        return self.run_at_terminal(*flags)

    def run_at_terminal(self, *flags, env=None):
        terminal = harness.Terminal(self.server, "run", "helper", "x", *flags, env=env)
        self.addCleanup(terminal.process.kill)
        return terminal

    def questions(self, terminal, n):
        """The n-th question is there."""
        terminal.read_until(rb"(?s)(?:write \{\}\r\n" + QUESTION + rb".*?){%d}" % n)

    def ends(self, terminal, status=0):
        code, shown, is_same = terminal.end()
        self.assertEqual((code, is_same), (status, True), shown)
        return shown

    def is_approved(self, shown):
        self.assertRegex(shown, r"\? ?\x1b\[0m approved")
        self.assertNotIn("expired", shown)

    def test_y_runs_the_call(self):
        for flags in ((), ("--approve", "ask")):  # the default, at a terminal
            with self.subTest(flags=flags):
                terminal = self.ask(*flags)
                self.questions(terminal, 1)
                terminal.type(b"y\n")
                shown = self.ends(terminal)
                self.is_approved(shown)
                self.assertIn("saw ", shown)
                self.assertIn("written", shown)

    def test_n_denies_it_with_the_words_behind_it(self):
        terminal = self.ask()
        self.questions(terminal, 1)
        terminal.type(b"n not on a Friday\n")
        shown = self.ends(terminal)
        self.assertIn("denied: not on a Friday", shown)
        self.assertIn("write: denied: not on a Friday", shown)  # the model was told

    def test_what_is_no_answer_is_explained_and_asked_again(self):
        terminal = self.ask()
        for n, word in enumerate((b"?\n", b"\n", b"yes\n", b"l and why\n"), 1):
            self.questions(terminal, n)
            terminal.type(word)
        self.questions(terminal, 5)
        terminal.type(b"y \xff\n")
        terminal.read_until(rb"(?s)the comment: .*" + QUESTION)
        terminal.seen = terminal.seen.replace(b"\xff", b"")  # as it was typed
        terminal.type(b"n\n")
        shown = self.ends(terminal)
        self.assertEqual(shown.count("leave it to others"), 4)
        self.assertIn("the comment: ", shown)
        self.assertNotIn("approved", shown)

    def test_several_calls_are_asked_one_by_one(self):
        terminal = self.ask(calls=3)
        terminal.read_until(rb"(?s)(?:sluice approve.*){3}" + QUESTION)
        for word, said in ((b"y", b"approved"), (b"n no", b"denied: no"), (b"y fine", b"approved: fine")):
            terminal.type(word + b"\n")
            if said != b"approved: fine":  # the last one's
                terminal.read_until(b"(?s)" + said + b".*" + QUESTION)
        shown = self.ends(terminal)
        self.assertIn("approved: fine", shown)
        self.assertIn("denied: no", shown)

    def test_what_others_decide_is_not_asked_any_more(self):
        terminal = self.ask(calls=2)
        terminal.read_until(rb"(?s)(?:sluice approve.*){2}" + QUESTION)
        line = next(x for x in terminal.seen.decode().splitlines() if "sluice approve" in x)
        words = line.rsplit("sluice approve ", 1)[1].split()
        self.assertEqual(harness.sluice(self.server, "approve", *words, "--deny").returncode, 0)
        terminal.read_until(rb"denied(?s:.)*" + QUESTION)  # the other call's
        terminal.type(b"y\n")
        shown = self.ends(terminal)
        self.is_approved(shown)

    def test_a_call_that_is_left_waits_for_others(self):
        for word in (b"l\n", b"\x04"):
            with self.subTest(word=word):
                terminal = self.ask()
                self.questions(terminal, 1)
                terminal.type(word)
                line = next(x for x in terminal.seen.decode().splitlines() if "sluice approve" in x)
                words = line.rsplit("sluice approve ", 1)[1].split()
                self.assertEqual(harness.sluice(self.server, "approve", *words).returncode, 0)
                self.is_approved(self.ends(terminal))

    def test_an_interrupt_at_the_question_cancels_the_run(self):
        terminal = self.ask()
        self.questions(terminal, 1)
        terminal.type(b"\x03")
        self.assertIn("sluice: cancelled", self.ends(terminal, 130))
        self.server.wait_log("CLIENT_RESET")

    def test_who_may_not_is_told_and_the_run_waits_on(self):
        files = tempfile.mkdtemp(prefix="sluice-ask-")
        for name, text in (("keys", "sha256:%s alice acme\n" % hashlib.sha256(KEY.encode()).hexdigest()), ("key", KEY)):
            with open(files + "/" + name, "w", encoding="ascii") as file:
                file.write(text)
            os.chmod(files + "/" + name, 0o600)
        config = 'identity: {keys: %s/keys}\naccess:\n  - {tenants: ["*"], agents: ["*"]}\n' % files
        self.start(turns([call("write")], [SAW]), [ASKED], config=config, approval={"approvers": ["bea"], "timeout_secs": 20})
        terminal = self.run_at_terminal(env={"SLUICE_KEY_FILE": files + "/key"})
        self.questions(terminal, 1)
        terminal.type(b"y\n")
        terminal.read_until(rb"sluice: not decided: PERMISSION_DENIED")
        self.assertIsNone(terminal.process.poll())
        terminal.type(b"\x03")
        self.ends(terminal, 130)

    def test_without_a_terminal_nobody_is_asked(self):
        self.start(turns([call("write")], [SAW]), [ASKED], approval=SELF)
        done = harness.sluice(self.server, "run", "helper", "x", "--approve", "ask")
        self.assertEqual((done.returncode, b"--approve: ask needs a terminal" in done.stderr), (2, True))
        for flags in (("--json",), ("--detach",)):
            terminal = self.run_at_terminal("--approve", "ask", *flags)
            self.assertIn("--approve: ", self.ends(terminal, 2))
        terminal = self.run_at_terminal("--approve", "none")
        terminal.read_until(b"sluice approve")
        terminal.type(b"\x03")
        self.assertNotIn("Run it?", self.ends(terminal, 130))


if __name__ == "__main__":
    unittest.main(verbosity=2)
