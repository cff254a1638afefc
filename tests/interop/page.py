"""Runs the commands of a page exactly as it shows them: page.py PAGE [VARIABLE=VALUE...]

All blocks of a page run in one shell, in their order, in the top folder of the tree, with a home of their own. Each is a case:
every command in it must succeed, and what the page shows of its output must be in it. Blocks that install something run first.
The others run in a network of their own where that can be had, so that the ports that the page names are free, and nothing of
them can leave the machine."""

import os
import re
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import pages  # pylint: disable=wrong-import-position

SECONDS = 800
FRAME = """
failed=
trap 'failed=$BASH_COMMAND' ERR
command -v sudo >/dev/null || sudo() { "$@"; }
is_served() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# For what a background command of the block does when it is ready.
wait_for() {
    local i
    for ((i = 0; i < 600; i++)); do
        ! "$@" || return 0
        sleep 0.05
    done
    echo "not within 30 s: $*"
    return 1
}
"""
ENDING = """
trap - ERR
for signal in TERM TERM KILL; do
    # shellcheck disable=SC2046
    kill -$signal $(jobs -p) 2>/dev/null || break
    sleep 0.5
done
wait
"""


def own_network():
    """The words in front of a command that give it a network with nothing but loopback; none where that is not allowed."""
    for words in (["unshare", "--net"], ["unshare", "--user", "--map-root-user", "--net"]):
        if subprocess.run([*words, "ip", "link", "set", "lo", "up"], capture_output=True, check=False).returncode == 0:
            return [*words, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    print("no network of its own can be had: the page's ports must be free", file=sys.stderr)
    return []


def waits(block):
    """What waits for the block's background commands: for the port that they name, or their own, or for their port file."""
    for line in block.text.replace("\\\n", " ").splitlines():
        named = re.search(r"--listen \S*:(\d+)", line)
        file = re.search(r"--port-file (\S+)", line)
        if line.rstrip().endswith("&"):
            port = named[1] if named else "8088" if "mock-model" in line else "50051"
            yield "wait_for test -s %s\n" % file[1] if file else "wait_for is_served %s\n" % port


def script(blocks, folder):
    """One shell program of all blocks; what each says and how it went are left in the folder."""
    text = FRAME
    for i, block in enumerate(blocks):
        text += 'failed=\n{\n%s%s} >%s/%d.out 2>&1 </dev/null\nprintf "%%s" "$failed" >%s/%d.failed\n' % (
            *(block.text, "".join(waits(block)), folder, i, folder, i),
        )
    return text + ENDING


def environment(home):
    """The user's own, but for the home; nothing of the suites; caches of package managers stay where they are."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    env["HOME"] = home
    old = os.path.expanduser("~")
    for name, path in (("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup"), ("npm_config_cache", ".npm")):
        env.setdefault(name, os.path.join(old, path))
    go = shutil.which("go")
    for name in ("GOPATH", "GOCACHE"):
        if go:
            env[name] = subprocess.run([go, "env", name], capture_output=True, check=True, text=True).stdout.strip()
    tools = os.path.join(os.environ["SLUICE_ROOT"], "build", "interop")
    env.update(GOBIN=tools + "/bin", npm_config_prefix=tools, CARGO_TARGET_DIR=tools + "/cargo")
    env["PATH"] = ":".join(["/usr/bin", "/bin", tools + "/bin", env["PATH"]])
    return env


def read(path):
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return None


def verdict(block, folder, i):
    """Empty, or what was wrong with a block."""
    output, failed = read("%s/%d.out" % (folder, i)), read("%s/%d.failed" % (folder, i))
    if failed is None:
        return "it did not end"
    why = "this failed: " + failed if failed else ""
    if not why and block.output is not None:
        missing = pages.shows(output, block.output)
        why = "its output has no line: " + missing if missing is not None else ""
    if why:
        print("==== %s\n%s\n==== %s" % (block.name(), output, why), file=sys.stderr)
    return why


def run(blocks, prefix, folder, env):
    os.makedirs(folder)
    try:
        subprocess.run([*prefix, "bash", "-c", script(blocks, folder)], env=env, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        print("the page took more than %d s" % SECONDS, file=sys.stderr)
    n_failed = 0
    for i, block in enumerate(blocks):
        why = verdict(block, folder, i)
        name = "%s.%s" % (block.page, next(pages.commands(block))[0].rsplit("/", 1)[-1])
        print("%s %s_in_line_%d%s" % ("FAIL" if why else "ok", name, block.line, ": " + why if why else ""), flush=True)
        n_failed += 1 if why else 0
    return n_failed


def main(page):
    os.chdir(os.environ["SLUICE_ROOT"])
    work = os.path.join(os.environ["SLUICE_WORK"], page.replace("/", "-"))
    os.makedirs(work + "/home")
    env = environment(work + "/home")
    n_failed = run(pages.blocks(page, "sh install"), [], work + "/install", env)
    n_failed += run(pages.blocks(page, "", "sh"), own_network(), work + "/run", env)
    return 1 if n_failed else 0


sys.exit(main(sys.argv[1]))
