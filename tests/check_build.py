"""What the build must refuse, and what it must not do: NG-15, PB-13, PB-14 of grpc.md.

Run: check_build.py SOURCE_ROOT BUILD_DIR, whose compile_commands.json says how the sources are compiled."""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import unittest

ROOT, BUILD = sys.argv[1:3]


def command_of(source):
    """How a source is compiled, without its outputs and without -Werror, which a release does not have."""
    with open(BUILD + "/compile_commands.json", encoding="utf-8") as file:
        entry = next(x for x in json.load(file) if x["file"] == ROOT + "/" + source)
    words, out = shlex.split(entry["command"]), []
    while words:
        word = words.pop(0)
        if word in ("-o", "-MF", "-MT", "-MQ"):
            words.pop(0)
        elif word not in ("-MD", "-c") and not word.endswith("ccache"):
            out.append(word)
    return out + ["-Wno-error"], entry["directory"]


def sources(*endings):
    for folder, names, files in os.walk(ROOT):
        names[:] = [n for n in names if n not in (".git", "build")]
        yield from (folder + "/" + f for f in files if f.endswith(endings))


class Nghttp2(unittest.TestCase):
    """NG-15. Its version says nothing: distributions keep it when they repair it."""

    NEEDED = "nghttp2_option_set_max_continuations"

    def compile(self, change):
        command, directory = command_of("service/h2/session.c")
        parts = subprocess.run(command + ["-M"], cwd=directory, check=True, capture_output=True, text=True).stdout
        header = next(x for x in parts.split() if x.endswith("/nghttp2/nghttp2.h"))
        with tempfile.TemporaryDirectory() as own:
            os.mkdir(own + "/nghttp2")
            os.symlink(os.path.dirname(header) + "/nghttp2ver.h", own + "/nghttp2/nghttp2ver.h")
            with open(header, encoding="utf-8") as file, open(own + "/nghttp2/nghttp2.h", "w", encoding="utf-8") as out:
                out.write(change(file.read()))
            command[1:1] = ["-I", own]
            command += ["-fsyntax-only"]
            return subprocess.run(command, cwd=directory, check=False, capture_output=True, text=True)

    def test_the_build_fails_without_the_limit_of_continuation_frames(self):
        self.assertEqual(self.compile(lambda text: text).returncode, 0, "as it is")
        old = self.compile(lambda text: text.replace(self.NEEDED, "nghttp2_option_of_another_time"))
        self.assertNotEqual(old.returncode, 0)
        self.assertIn(self.NEEDED, old.stderr)


class ProtobufC(unittest.TestCase):
    def find(self, pattern, *endings):
        found = []
        for path in sources(*endings):
            with open(path, encoding="utf-8", errors="replace") as file:
                found += ["%s: %s" % (path, line.strip()) for line in file if re.search(pattern, line)]
        return found

    def test_every_message_has_its_init_function(self):  # PB-13
        self.assertEqual(self.find(r"gen_init_helpers\)?\s*=\s*false", ".proto"), [])

    def test_protoc_c_is_not_called(self):  # PB-14: newer protobufs have none
        words = r"(^|[^-\w])protoc-c\b(?!ompiler)"
        self.assertEqual(self.find(words, "CMakeLists.txt", ".cmake", ".cmake.in", ".sh", "/run"), [])


if __name__ == "__main__":
    unittest.main(verbosity=2, argv=sys.argv[:1])
