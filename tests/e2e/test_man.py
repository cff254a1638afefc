"""LR-13: the manual pages of the commands have the options, variables and commands that the programs know, and no others."""

import re
import subprocess

import harness


def page(name):
    with open("%s/docs/man/%s" % (harness.ROOT, name), encoding="utf-8") as file:
        return file.read()


def help_of(program, *words):
    done = subprocess.run([harness.BIN + "/" + program, *words, "--help"], capture_output=True, text=True, timeout=60, check=True)
    return done.stdout


def options_shown(text):
    """Those that begin a line."""
    return set(re.findall(r"^  (--[a-z-]+)", text, re.M)) | set(re.findall(r"^  --version, (--help)", text, re.M))


def options_described(text):
    return {"-" + name for name in re.findall(r"^\.It Fl (-[a-z-]+)", text, re.M)}


def variables_shown(text):
    return set(re.findall(r"\b(SLUICE_[A-Z_]+)", text))


def variables_described(text):
    lines = re.findall(r"^\.It Ev (.*)", text, re.M)
    return {name for line in lines for name in line.split(" , ") if name.startswith("SLUICE_")}


class Man(harness.Case):
    def test_the_page_of_sluiced_has_its_options_and_variables(self):
        shown, text = help_of("sluiced"), page("sluiced.8")
        self.assertGreater(len(options_shown(shown)), 12)
        self.assertEqual(options_described(text), options_shown(shown))
        self.assertEqual(variables_described(text), variables_shown(shown))

    def test_the_page_of_sluice_has_its_commands_with_their_options(self):
        text = page("sluice.1")
        commands = re.findall(r"^  ([a-z-]+)  ", help_of("sluice"), re.M)
        head, _, rest = text.partition("\n.Sh COMMANDS\n")
        parts = {part.split()[0]: part for part in re.split(r"^\.Ss ", rest.partition("\n.Sh ")[0], flags=re.M) if part.strip()}
        self.assertGreater(len(commands), 8)
        self.assertEqual(set(parts), set(commands))
        general, _, common = head.partition("\n.Sh OPTIONS OF COMMANDS THAT CALL A SERVER\n")
        self.assertEqual(options_described(general), {"--help", "--version"})
        callers, variables = [], set()
        for command in commands:
            own, _, shared = help_of("sluice", command).partition("\nEvery command that calls a server:\n")
            self.assertEqual(options_described(parts[command]), options_shown(own), command)
            variables |= variables_shown(shared)
            if shared:
                callers.append(command)
                self.assertEqual(options_described(common), options_shown(shared))
        self.assertEqual(variables_described(text), variables)
        named = re.search(r"^These are\n(.*?)^\.Bl", common, re.M | re.S)[1]
        self.assertEqual(set(re.findall(r"[a-z]{3,}", named)) - {"and"}, set(callers))

    def test_the_page_of_the_plugins_has_their_parameters(self):
        known = set()
        for source, pattern in (("main.c", r'value_of\(parameter, "([a-z_]+)="\)'), ("pb_main.c", r'char name\[\] = "([a-z_]+)"')):
            with open("%s/codegen/%s" % (harness.ROOT, source), encoding="utf-8") as file:
                found = re.findall(pattern, file.read())
            self.assertTrue(found, source)
            known |= set(found)
        self.assertEqual(set(re.findall(r"^\.It Cm ([a-z_]+)", page("protoc-gen-sluice-c.1"), re.M)), known)


if __name__ == "__main__":
    harness.main()
