"""From an agent's end to the first screen of the review, and what large proposals take.

Without a guest: a tree is packed, the stream of an agent that edited ten files is made by hand, and
reviewdrive opens the review of it, as `berm review` does before it draws. `first` reads the
proposal in its jail as well; `again` finds its index. Trees: 1,000 files and BENCH_PACK_FILES
(100,000) made here, and the kernel's source if linux-source is installed. The ratio of the large
tree to the small one says whether the time follows the tree.

Then what is needed at most: memory of the packer and of the jailed reader on a tree of 100,000 files
and a proposal of as many (L6, L7), in MiB; and how fast an upper layer of BENCH_EXPORT_MIB is
exported (M6), by the same code that runs in the guest.

Where the installation can start guests, `berm code` once whole: from the end of its command to the
first screen, on a terminal. With BENCH_REVIEW_GUEST=1, git status in the guest against the host's
(M3): a fifth of the host's processor on a software engine, so it says something on the kvm engine.
"""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time

import bench
import bench_pack

sys.path.insert(0, os.path.join(bench.TOP, "tests", "integration", "review"))

import review_world  # noqa: E402
from proposal_stream import BLOCK, Stream, header, record  # noqa: E402

RUNS = int(os.environ.get("BENCH_RUNS") or "10")
EXPORT_MIB = int(os.environ.get("BENCH_EXPORT_MIB") or "1024")
MAIN = os.path.join(bench.TOP, "build/main/tests/integration")
EXPORT = os.path.join(MAIN, "work/exportdrive")
PROPOSAL = os.path.join(MAIN, "work/proposaldrive")
UNPACK = os.path.join(bench.TOP, "build/main/src/bin/berm-unpack")
EDITS = 10
FIRST_SCREEN_MS = 1000
PACKER_MIB, PARSER_MIB, EXPORT_MB_S = 256, 128, 500
WIDE = 100_000


def files_of(tree):
    found = []
    for folder, dirs, files in os.walk(tree):
        dirs.sort()
        found += [os.path.relpath(os.path.join(folder, name), tree) for name in sorted(files)]
    return [path for path in found if path.endswith((".c", ".h"))]


def edited(world):
    """What an agent leaves that edited ten files all over the tree."""
    paths = files_of(world.tree)
    for i in range(EDITS):
        path = paths[len(paths) * i // EDITS]
        with open(world.at(path), "rb") as f:
            text = f.read().decode("latin-1")
        world.agent.file(path, (text + "/* edited */\n").encode("latin-1"))
    world.guest()


def open_ms(world):
    """From the start of the program to the whole list of what waits."""
    began = time.perf_counter()
    with world.review() as r:
        took = (time.perf_counter() - began) * 1000
        waiting = r.totals()["undecided"]
    if waiting != EDITS:
        sys.exit(f"bench_review: {waiting} changes wait, and {EDITS} were made")
    return took


def review_of(name, world):
    """Milliseconds of the first opening of a proposal, and of later ones."""
    edited(world)
    index = os.path.join(world.session, "proposal.idx")
    first, again = [], []
    for _ in range(RUNS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(index)
        first.append(open_ms(world))
        again.append(open_ms(world))
    bench.report(f"review_{name}_first_ms", first, budget=FIRST_SCREEN_MS, better="lower")
    bench.report(f"review_{name}_again_ms", again, budget=FIRST_SCREEN_MS, better="lower")
    return first


@contextlib.contextmanager
def packed(make):
    with bench_pack.folder() as work:
        world = review_world.World(work)
        yield world if make(world.tree) is not False and world.pack() else None


def small(root):
    files, bench_pack.FILES = bench_pack.FILES, 1000
    bench_pack.synthetic(root)
    bench_pack.FILES = files


def models():
    times = {}
    for name, make in (("small", small), ("synthetic", bench_pack.synthetic),
                       ("kernel", bench_pack.kernel_source)):
        with packed(make) as world:
            if world is None:
                bench.note("review: no linux-source here: only trees made for this were measured")
                continue
            times[name] = review_of(name, world)
            if name == "synthetic":
                memory(world)
    for name in times.keys() - {"small"}:
        bench.ratio(f"review_{name}_ratio_small", times[name], times["small"], budget=1.5)


# -- what it takes --------------------------------------------------------------------------------


def peak_mib(*argv):
    """Of the program or one that it ran."""
    code = ("import resource, subprocess, sys;"
            "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL);"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    got = subprocess.run([sys.executable, "-S", "-c", code, *argv], check=True,
                         stdout=subprocess.PIPE)
    return int(got.stdout) / 1024


def wide_spool(path, count):
    """`count` new files of a KiB."""
    stream = Stream()
    body, parts = record("mtime", b"1.000000000") + record("size", b"1024"), []
    for i in range(count):
        name = b"f%07d" % i
        records = record("path", name) + body
        parts += [header(b"x", 0o644, len(records), b".berm-pax"), records,
                  bytes(-len(records) % BLOCK), header(b"0", 0o644, 1024, name), b"x" * 1024]
    stream.data += b"".join(parts)
    stream.entries += count
    with open(path, "wb") as f:
        f.write(stream.whole())


def memory(world):
    at = os.path.join(world.path, "memory")
    spool, index = os.path.join(world.path, "spool"), os.path.join(world.path, "index")
    bench.report("pack_peak_mib", [peak_mib(bench_pack.TOOL, "pack", world.tree, at)],
                 budget=PACKER_MIB, better="lower", files=bench_pack.FILES)
    wide_spool(spool, WIDE)
    bench.report("proposal_peak_mib",
                 [peak_mib(PROPOSAL, "unpack", UNPACK, spool, os.path.join(at, "base.erofs"), index)],
                 budget=PARSER_MIB, better="lower", entries=WIDE)
    for path in (at, spool, index):
        bench_pack.forget(path)


def export():
    rates = []
    with bench_pack.folder() as work:
        upper = os.path.join(work, "upper")
        os.mkdir(upper)
        piece = os.urandom(4 << 20)
        for i in range(EXPORT_MIB // 4):
            with open(os.path.join(upper, f"f{i:05}"), "wb") as f:
                f.write(piece)
        os.sync()
        for run in range(3 + 1):
            began = time.perf_counter()
            subprocess.run([EXPORT, upper, "/dev/null"], check=True)
            if run > 0:
                rates.append(EXPORT_MIB * (1 << 20) / 1e6 / (time.perf_counter() - began))
    bench.report("export_mb_s", rates, budget=EXPORT_MB_S, better="higher", mib=EXPORT_MIB)


# -- the whole of it ------------------------------------------------------------------------------


class Terminal:
    """A program on a terminal of its own, and when it wrote what."""

    def __init__(self, argv, env, cwd):
        self.seen = b""
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cwd)
            os.execve(argv[0], argv, {**env, "TERM": "xterm-256color"})
        subprocess.run(["stty", "-F", os.ttyname(self.fd), "rows", "50", "cols", "120"], check=False)

    def until(self, mark, seconds):
        """When `mark` came, or None."""
        end = time.perf_counter() + seconds
        while mark not in self.seen:
            ready, _, _ = select.select([self.fd], [], [], max(0, end - time.perf_counter()))
            try:
                more = os.read(self.fd, 65536) if ready else b""
            except OSError:
                more = b""
            if not more:
                return None
            self.seen += more
        now = time.perf_counter()
        self.seen = self.seen[self.seen.index(mark) + len(mark):]
        return now

    def close(self):
        os.close(self.fd)  # as a terminal that is shut: nothing is decided
        for _ in range(100):
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                return
            time.sleep(0.1)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def verbs(state):
    got = subprocess.run([state.berm, "help"], env=state.env, capture_output=True, text=True, check=False)
    return got.stdout.split()


def code(state, tree, *args):
    return [state.berm, "code", "custom", "-C", tree, "--no-settings", *args]


def exit_to_screen(name, make):
    """`berm code`, from its command's last word to the review's first screen."""
    times = []
    with bench.State() as state, bench_pack.folder() as work:
        tree = os.path.join(work, "tree")
        os.mkdir(tree)
        make(tree)
        paths = " ".join(files_of(tree)[:EDITS - 1])
        script = f"for f in {paths}; do echo edited >> $f; done; echo x > zz-new; printf 'agent-%s' done"
        for run in range(2 + 1):
            t = Terminal(code(state, tree, "--on-exit", "review", "--", "sh", "-c", script), state.env, tree)
            ended = t.until(b"agent-done", 300)
            shown = t.until(b"zz-new", 120) if ended else None
            t.close()
            if shown is None:
                bench.note(f"review: no first screen of {name}: {t.seen[-300:]!r}")
                return
            if run > 0:
                times.append((shown - ended) * 1000)
    bench.report(f"review_{name}_exit_to_screen_ms", times, budget=FIRST_SCREEN_MS, better="lower")


STATUS = """
import subprocess, time
for _ in range(3):
    began = time.monotonic()
    out = subprocess.run(["git", "status", "--porcelain"], capture_output=True, check=True).stdout
    print("status", (time.monotonic() - began) * 1000, len(out))
"""


def git_status():
    """The first status in a guest, and later ones, against the host's own."""
    with bench.State() as state, bench_pack.folder() as work:
        tree = os.path.join(work, "tree")
        os.mkdir(tree)
        bench_pack.synthetic(tree)
        git = ["git", "-C", tree, "-c", "user.name=b", "-c", "user.email=b@b"]
        for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"], ["status"]):
            subprocess.run([*git, *words], check=True, stdout=subprocess.DEVNULL)
        time.sleep(3)  # an index as young as its files proves nothing
        subprocess.run([*git, "status"], check=True, stdout=subprocess.DEVNULL)
        argv = code(state, tree, "--on-exit", "keep", "--no-tty", "--", "python3", "-c", STATUS)
        host = subprocess.run(["python3", "-c", STATUS], cwd=tree, check=True, capture_output=True, text=True)
        guest = subprocess.run(argv, env=state.env, check=True, capture_output=True, text=True)
    times = {}
    for where, text in (("host", host.stdout), ("guest", guest.stdout)):
        lines = [line.split() for line in text.splitlines() if line.startswith("status ")]
        if len(lines) != 3 or any(line[2] != "0" for line in lines):
            sys.exit(f"bench_review: status of the {where} is not clean: {text}")
        times[where] = [float(line[1]) for line in lines]
        bench.report(f"status_{where}_ms", times[where], first=round(times[where][0], 1))
    host_ms = [sum(times["host"][1:]) / 2]
    bench.ratio("status_first_ratio_host", times["guest"][:1], host_ms, budget=1.5)
    bench.ratio("status_later_ratio_host", times["guest"][1:], times["host"][1:], budget=1.2)


def main():
    for program in (review_world.DRIVE, review_world.BASETOOL, EXPORT, PROPOSAL, UNPACK):
        if not os.path.exists(program):
            sys.exit(f"bench_review: no {program}: ninja -C build/main")
    models()
    export()
    with bench.State() as state:
        whole = {"code", "review"} <= set(verbs(state))
    if whole:
        exit_to_screen("small", small)
        exit_to_screen("synthetic", bench_pack.synthetic)
    else:
        bench.note("review: this installation has no berm code and berm review: not measured as a whole")
    if os.environ.get("BENCH_REVIEW_GUEST"):
        git_status()


if __name__ == "__main__":
    main()
