"""What the pages show: their fenced blocks, and the commands in them.

A block of commands is fenced as `sh`, or without a word; one whose commands install something as `sh install`. A block fenced as `text` that
follows a block of commands at once shows lines of its output, in their order; `…` stands for anything in a line."""

import glob
import os
import re
import shlex

FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.M | re.S)
COMMANDS = ("", "sh", "sh install")
OTHER_SHELLS = ("bash", "shell", "console", "zsh")  # would not be seen
SEPARATORS = ("|", "&", "&&", "||", ";", ";;", "(", ")", "<(")


class Block:
    def __init__(self, page, line, language, text):
        self.page, self.line, self.language, self.text = page, line, language, text
        self.output = None  # the lines that the next block shows of this one's output

    def name(self):
        return "%s:%d" % (self.page, self.line)


def pages():
    return ["README.md", *sorted(glob.glob("docs/*.md"))]


def blocks(page, *languages):
    """The fenced blocks of a page, of these languages or of all."""
    with open(page, encoding="utf-8") as file:
        text = file.read()
    found, before, end = [], None, 0
    for fence in FENCE.finditer(text):
        block = Block(page, text.count("\n", 0, fence.start()) + 1, fence[1], fence[2])
        if block.language == "text" and before is not None and not text[end : fence.start()].strip():
            before.output = block.text.splitlines()
        before = block if block.language in COMMANDS else None
        end = fence.end()
        found.append(block)
    return [block for block in found if not languages or block.language in languages]


def commands(block):
    """The simple commands of a block, as lists of words, without assignments, redirections and here-documents."""
    text = re.sub(r"<<'?(\w+)'?[^\n]*\n.*?^\1$", "", block.text.replace("\\\n", " "), flags=re.M | re.S)
    for line in text.splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = []
        for token in [*lexer, ";"]:
            if token in SEPARATORS:
                if words := simple(words):
                    yield words
                words = []
            else:
                words.append(token)


def simple(words):
    """Without assignments in front, and without redirections."""
    while words and re.match(r"[A-Za-z_]+=", words[0]):
        words = words[1:]
    for i, word in enumerate(words):
        if word in (">", ">>", "<", ">&", "&>"):
            return words[: i - 1] if i and words[i - 1].isdigit() else words[:i]
    return words


def shows(output, lines):
    """None, or the first of the lines that is not in the output behind the one before it."""
    rest = iter(output.splitlines())
    for line in lines:
        if not line.strip("… "):
            continue
        pattern = re.compile(".*".join(re.escape(part.strip()) for part in line.split("…")))
        if not any(pattern.fullmatch(seen.strip()) for seen in rest):
            return line
    return None


def program(words):
    """What a command runs: `./run demo` is that, `…/bin/sluice` and `taskset -c 0 …/bin/sluice` are sluice."""
    if words[0] == "taskset":
        words = words[3:]
    if words[0] == "./run":
        return " ".join(words[:2])
    return os.path.basename(words[0])
