"""The gRPC library as a package: built alone, installed, and used from outside the tree by what is installed and nothing else.

The commands are those of docs/library.md, as they stand; then what they have left is looked at. SL_PACKAGE_UPDATE=1 in the environment stores the
exported names and the layout of the structs instead of comparing them."""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

ROOT = os.environ["SLUICE_ROOT"]
HERE = ROOT + "/tests/package"
PAGE = "docs/library.md"
EXAMPLES = "docs/grpc-c.md"
UPDATE = os.environ.get("SL_PACKAGE_UPDATE") == "1"
SECONDS = 540
# LR-6: nothing that ends the process, speaks to its terminal, or changes what belongs to all of it.
FORBIDDEN = re.compile(
    r"(abort|exit|_exit|_Exit|quick_exit|atexit|__assert\w*|raise|kill|signal|sigaction|std(err|out)|v?f?printf|__v?f?printf_chk|perror|puts|fputs"
    r"|setlocale|setenv|putenv|chdir|umask|uv_replace_allocator|CRYPTO_set_mem_functions|OPENSSL_init_\w+|ERR_print\w+)(@.*)?"
)
NEEDED = {
    "rpc-core": {"libnghttp2.so.14", "libprotobuf-c.so.1", "libz.so.1"},
    "rpc": {"libsluice-rpc-core.so.0", "libuv.so.1", "libssl.so.3", "libcrypto.so.3"},
}
NEVER = re.compile(r"lib(curl|sqlite3|jansson|yaml|stdc\+\+)")

sys.path.insert(0, ROOT + "/tests")
import pages  # pylint: disable=wrong-import-position


def execute(*words, **options):
    done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False, **options)
    if done.returncode:
        raise AssertionError("%s: exit status %d\n%s%s" % (" ".join(words), done.returncode, done.stdout[-4000:], done.stderr[-4000:]))
    return done.stdout


class Package(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        """Runs the page beside a link to the tree, with a home of its own."""
        cls.folder = tempfile.mkdtemp(prefix="sluice-package-")
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        os.symlink(ROOT, cls.folder + "/sluice")
        cls.prefix = cls.folder + "/rpc"
        cls.env = dict(os.environ, HOME=cls.folder, LD_LIBRARY_PATH=cls.prefix + "/lib", PKG_CONFIG_PATH=cls.prefix + "/lib/pkgconfig")
        for name in ("CFLAGS", "LDFLAGS", "DESTDIR"):
            cls.env.pop(name, None)
        os.chdir(ROOT)
        text, cls.shown = "set -eu\n", []
        for block in pages.blocks(PAGE, *pages.COMMANDS):
            text += block.text
            cls.shown += block.output or []
        text += "kill $(jobs -p) 2>/dev/null || true\nwait || true\n"
        begin = time.monotonic()
        cls.output = execute("bash", "-c", text, cwd=cls.folder, env=cls.env)
        print("the page took %.0f s" % (time.monotonic() - begin), file=sys.stderr)

    def test_the_examples_build_and_run_outside_the_tree(self):
        """LR-9."""
        blocks = pages.blocks(EXAMPLES, *pages.COMMANDS)
        text = "set -eu\n" + "".join(block.text for block in blocks) + "kill $(jobs -p)\nwait\n"
        output = execute("bash", "-c", text, cwd=self.folder, env=self.env)
        self.assertIsNone(pages.shows(output, [line for block in blocks for line in block.output or []]))

    def library(self, name):
        return "%s/lib/libsluice-%s.so" % (self.prefix, name)

    def symbols(self, name, *options):
        """(name, version) of the dynamic symbols."""
        for line in execute("nm", "-D", *options, self.library(name)).splitlines():
            symbol, _, version = line.split()[-1].partition("@")
            yield symbol, version.lstrip("@")

    def compare(self, name, text):
        path = HERE + "/" + name
        if UPDATE:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text)
        with open(path, encoding="utf-8") as file:
            self.assertEqual(text.splitlines(), file.read().splitlines(), "the ABI has changed: %s; SL_PACKAGE_UPDATE=1 stores it" % name)

    def test_the_programs_of_the_page_do_what_it_shows(self):
        self.assertGreater(len(self.shown), 3)
        self.assertIsNone(pages.shows(self.output, self.shown))

    def test_both_builds_of_the_programs_work_with_each_other(self):
        for server, client in (("server", "build/client"), ("build/server", "client"), ("server-static", "client")):
            address = "unix:%s/socket" % self.folder
            with subprocess.Popen([self.folder + "/greeter/" + server, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.env, text=True) as process:
                self.assertEqual(process.stdout.readline(), address + "\n")
                self.assertIsNone(pages.shows(execute(self.folder + "/greeter/" + client, address, env=self.env), self.shown[:4]))
                process.stdin.close()
                self.assertEqual(process.wait(timeout=60), 0)

    def test_the_build_asks_for_nothing_else(self):
        """LR-1."""
        with open(self.folder + "/build-rpc/CMakeCache.txt", encoding="utf-8") as file:
            self.assertEqual(re.findall(r"(?im)^\S*(?:curl|jansson|yaml|sqlite)\S*:", file.read()), [])

    def test_each_library_links_its_row_of_the_table_and_no_more(self):
        """LR-1, EM-1."""
        for name, needed in NEEDED.items():
            text = execute("readelf", "-d", self.library(name))
            found = set(re.findall(r"\(NEEDED\).*\[(.*)\]", text))
            self.assertEqual({one for one in found if not re.match(r"(libc|ld-linux.*)\.so", one)}, needed)
            self.assertIn("[libsluice-%s.so.0]" % name, re.search(r"\(SONAME\).*", text)[0])
        for path in (self.library("rpc"), self.folder + "/greeter/server", self.folder + "/greeter/build/client"):
            self.assertNotRegex(execute("ldd", path, env=self.env), NEVER)
        for path in (self.library("rpc-core"), self.folder + "/greeter/core", self.folder + "/greeter/build/core"):
            text = execute("ldd", path, env=self.env)
            self.assertNotRegex(text, NEVER)
            self.assertNotRegex(text, r"lib(uv|ssl|crypto)\.so")
            self.assertNotIn("not found", text)

    def test_the_exported_names_are_the_stored_ones(self):
        """LR-8."""
        for name in NEEDED:
            public = []
            for symbol, version in self.symbols(name, "--defined-only"):
                if symbol.startswith("SLUICE_RPC_"):
                    continue  # the versions themselves
                self.assertRegex(symbol, "^sl_")
                self.assertIn(version, ("SLUICE_RPC_0", "SLUICE_RPC_PRIVATE_0.1.0"))
                if version == "SLUICE_RPC_0":
                    public.append(symbol)
            self.compare("symbols-%s.txt" % name, "".join(symbol + "\n" for symbol in sorted(public)))

    def test_the_archives_bring_no_other_names(self):
        for name in NEEDED:
            path = "%s/lib/libsluice-%s.a" % (self.prefix, name)
            found = {line.split()[-1] for line in execute("nm", "-g", "--defined-only", path).splitlines() if re.match(r"[0-9a-f]{16} ", line)}
            self.assertEqual(found, {symbol for symbol, _ in self.symbols(name, "--defined-only") if not symbol.startswith("SLUICE_")})
        self.assertNotIn("libsluice", execute("readelf", "-d", self.folder + "/greeter/server-static"))

    def test_every_function_of_the_headers_is_exported(self):
        exported = {symbol for name in NEEDED for symbol, _ in self.symbols(name, "--defined-only")}
        declared = set()
        for name, text in self.headers():
            text = re.sub(r"^(typedef|static inline) .*", "", text, flags=re.M)
            declared |= set(re.findall(r"^(?:[A-Za-z_].*[ *])?(sl_[a-z0-9_]+)\(", re.sub(r"^#.*(\\\n.*)*", "", text, flags=re.M), re.M))
        self.assertGreater(len(declared), 100)
        self.assertEqual(declared - exported, set())

    def test_the_headers_name_nothing_of_the_tree(self):
        for name in os.listdir(self.prefix + "/include/sluice"):
            with open(self.prefix + "/include/sluice/" + name, encoding="utf-8") as file:
                self.assertNotRegex(file.read(), r"\b(?!UTF)[A-Z]{2,3}-\d|\.md\b|install:|(service|runtime)/", name)

    def test_the_layout_of_the_structs_is_the_stored_one(self):
        """LR-8."""
        lines = []
        for _, text in self.headers():
            for struct, body in re.findall(r"^struct (sl_\w+) \{\n(.*?)^\};", text, re.M | re.S):
                lines.append("STRUCT(%s)" % struct)
                for field in body.split(";")[:-1]:
                    names = re.findall(r"\(\*(\w+)\)", field)[:1] or [re.search(r"(\w+)(\[\w+\])?\s*$", one)[1] for one in field.split(",")]
                    lines += ["FIELD(%s, %s)" % (struct, name) for name in names]
        self.assertGreater(len(lines), 60)
        with open(self.folder + "/layout.inc", "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
        program = self.folder + "/layout"
        execute("cc", "-I", self.folder, "-I", self.prefix + "/include", HERE + "/greeter/layout.c", "-o", program)
        self.compare("layout.txt", execute(program))

    def test_nothing_ends_the_process_or_changes_what_is_its(self):
        """LR-6."""
        for name in NEEDED:
            used = {symbol for symbol, _ in self.symbols(name, "--undefined-only")}
            self.assertIn("malloc" if name == "rpc-core" else "uv_run", used)
            self.assertEqual({symbol for symbol in used if FORBIDDEN.fullmatch(symbol)}, set())

    def test_each_header_compiles_alone_and_in_other_languages(self):
        for name, _ in self.headers():
            source = "int unused;\n#include <sluice/%s>\n#include <sluice/%s>\n" % (name, name)
            warnings = ("-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", self.prefix + "/include")
            execute("cc", "-x", "c", "-std=c11", "-Wpedantic", *warnings, "-", input=source)
            execute("c++", "-x", "c++", "-std=c++17", *warnings, "-", input=source)

    def test_code_of_another_generation_is_refused(self):
        """GC-10."""
        with open(self.folder + "/greeter/greeter.sl.h", encoding="utf-8") as file:
            text = file.read()
        options = ("-x", "c", "-fsyntax-only", "-I", self.prefix + "/include", "-I", self.folder + "/greeter", "-")
        execute("cc", *options, input=text)
        with self.assertRaisesRegex(AssertionError, "do not fit"):
            execute("cc", *options, input=re.sub(r"SL_GEN_VERSION != \d+", "SL_GEN_VERSION != 0", text))

    def test_the_manual_pages_are_one_for_each_header_and_clean(self):
        """LR-13. The commands' pages come with the programs: those of sluiced and sluice are not part of this installation."""
        pages_of = self.manual()
        parts = {name[:-2] for name in os.listdir(self.prefix + "/include/sluice")} - {"rpc"}
        commands = {"man1/protoc-gen-sluice-c.1"}
        self.assertEqual(set(pages_of), {"man3/sluice-rpc-%s.3" % part for part in parts} | commands | {"man7/sluice-rpc.7"})
        for path in [*(self.man + "/" + name for name in pages_of), ROOT + "/docs/man/sluiced.8", ROOT + "/docs/man/sluice.1"]:
            self.assertEqual(execute("mandoc", "-T", "lint", "-W", "warning", path), "", path)
        overview = set(re.findall(r"^\.It Xr sluice-rpc-(\w+) 3$", pages_of["man7/sluice-rpc.7"], re.M))
        self.assertEqual(overview, parts)

    def test_each_function_is_named_by_one_manual_page_and_found_by_its_name(self):
        """LR-13."""
        homes = {}
        for path, text in self.manual().items():
            for name in re.findall(r"^\.Nm (sl_\w+)", re.search(r"^\.Sh NAME\n(.*?)^\.Nd ", text, re.M | re.S)[1], re.M):
                self.assertNotIn(name, homes, path)
                homes[name] = path
        exported = set()
        for name in NEEDED:
            with open("%s/symbols-%s.txt" % (HERE, name), encoding="utf-8") as file:
                exported |= set(file.read().split())
        self.assertGreater(len(exported), 100)
        self.assertEqual(exported - set(homes), set())
        for name, path in homes.items():
            self.assertEqual(self.links.pop("man3/%s.3" % name, None), path)
        self.assertEqual(self.links, {"man1/protoc-gen-sluice-pb-c.1": "man1/protoc-gen-sluice-c.1"})
        for path, text in self.manual().items():  # no page speaks of functions that nobody can call
            self.assertEqual(set(re.findall(r"\b(sl_[a-z0-9_]+)\(\)", text)) - set(homes), set(), path)

    def manual(self):
        """Paths and texts of the pages; fills `links`: where the others lead."""
        self.man, self.links, found = self.prefix + "/share/man", {}, {}
        for folder in os.listdir(self.man):
            for name in os.listdir(self.man + "/" + folder):
                with open("%s/%s/%s" % (self.man, folder, name), encoding="utf-8") as file:
                    text = file.read()
                if text.startswith(".so "):
                    self.links[folder + "/" + name] = text[4:].rstrip("\n")
                else:
                    found[folder + "/" + name] = re.sub(r"\\f[A-Z]", "", text).replace("\\%", "")
        return found

    def headers(self):
        """Names and texts, without comments."""
        folder = self.prefix + "/include/sluice"
        for name in sorted(os.listdir(folder)):
            with open(folder + "/" + name, encoding="utf-8") as file:
                yield name, re.sub(r"/\*.*?\*/", "", file.read(), flags=re.S)


if __name__ == "__main__":
    unittest.main(verbosity=2)
