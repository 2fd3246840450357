"""A workspace in a guest and the review of it: from an agent's end to the first screen, what large
proposals take, and how fast work in a workspace is. BENCH_PARTS names parts of it.

`models` is without a guest: a tree is packed, the stream of an agent that edited ten files is made by
hand, and reviewdrive opens the review of it, as `berm review` does before it draws. `first` reads the
proposal in its jail as well; `again` finds its index. Trees: 1,000 files and BENCH_PACK_FILES
(100,000) made here, the kernel's source if linux-source is installed, and BENCH_L5_FILES (200,000)
of a KiB, of which one is edited (L5). The ratio of a large tree to the small one says whether the time follows
the tree. Of each, what memory is needed at most, in MiB: the packer's, and the jailed reader's for a
proposal of 100,000 files (L6, L7). `export` is how fast an upper layer of BENCH_EXPORT_MIB (2048) is exported (M6),
by the same code that runs in the guest.

`screen` is the whole of it: `berm code`, from the end of its command to the first screen, on a terminal.
`work`, `watch`, `idle` and `shared` are in workspace_parts.py. They take the engine that BENCH_ENGINE names, or berm's
own choice; for the kvm engine in the test host, see docs/benchmarks.md. With BENCH_REVIEW_GUEST=1, `status`: git status
in the guest against the host's (M3): a fifth of the host's processor on a software engine, so it says something on the
kvm engine.
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
import workspace_parts

sys.path.insert(0, os.path.join(bench.TOP, "tests", "integration", "review"))

import review_world  # noqa: E402
from proposal_stream import BLOCK, Stream, header, record  # noqa: E402

RUNS = int(os.environ.get("BENCH_RUNS") or "10")
EXPORT_MIB = int(os.environ.get("BENCH_EXPORT_MIB") or "2048")
L5_FILES = int(os.environ.get("BENCH_L5_FILES") or "200000")
MAIN = os.path.join(bench.TOP, "build/main/tests/integration")
EXPORT = os.path.join(MAIN, "work/exportdrive")
PROPOSAL = os.path.join(MAIN, "work/proposaldrive")
UNPACK = os.path.join(bench.TOP, "build/main/src/bin/berm-unpack")
EDITS = 10
FIRST_SCREEN_MS, SCREENS, GUEST_S = 1000, 2, 300
PACKER_MIB, PARSER_MIB, EXPORT_MB_S = 256, 128, 500
WIDE = 100_000
STATUS_RUNS = 3
STATUS_FIRST, STATUS_LATER = 1.5, 1.2  # of the host's


def files_of(tree):
    found = []
    for folder, dirs, files in os.walk(tree):
        dirs.sort()
        found += [os.path.relpath(os.path.join(folder, name), tree) for name in sorted(files)]
    return [path for path in found if path.endswith((".c", ".h"))]


def edited(world, edits):
    """What an agent leaves that edited so many files all over the tree."""
    paths = files_of(world.tree)
    for i in range(edits):
        path = paths[len(paths) * i // edits]
        with open(world.at(path), "rb") as f:
            text = f.read().decode("latin-1")
        world.agent.file(path, (text + "/* edited */\n").encode("latin-1"))
    world.guest()


def open_ms(world, edits):
    """From the start of the program to the whole list of what waits."""
    began = time.perf_counter()
    with world.review() as r:
        took = (time.perf_counter() - began) * 1000
        waiting = r.totals()["undecided"]
    if waiting != edits:
        sys.exit(f"bench_review: {waiting} changes wait, and {edits} were made")
    return took


def review_of(name, world, edits):
    """Milliseconds of the first opening of a proposal, and of later ones."""
    edited(world, edits)
    index = os.path.join(world.session, "proposal.idx")
    first, again = [], []
    for _ in range(RUNS):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(index)
        first.append(open_ms(world, edits))
        again.append(open_ms(world, edits))
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


def many(root):
    """Of a KiB each, a thousand in a directory."""
    for i in range(L5_FILES):
        folder = os.path.join(root, f"d{i // 1000}")
        if i % 1000 == 0:
            os.mkdir(folder)
        with open(os.path.join(folder, f"f{i}.c"), "wb") as f:
            f.write(b"%0*d" % (1024, i))


TREES = (("small", small, EDITS), ("synthetic", bench_pack.synthetic, EDITS),
         ("kernel", bench_pack.kernel_source, EDITS), ("l5", many, 1))


def trees(parts):
    """Each is made once for all that is done with it: to make and remove 100,000 files may take minutes."""
    times = {}
    for name, make, edits in TREES:
        with packed(make) as world:
            if world is None:
                bench.note("review: no linux-source here: only trees made for this were measured")
                continue
            if "models" in parts:
                times[name] = review_of(name, world, edits)
                if name != "small":
                    memory(name, world)
                    bench.ratio(f"review_{name}_ratio_small", times[name], times["small"], budget=1.5)
            if "screen" in parts and name != "l5":
                exit_to_screen(name, world.tree)


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


def memory(name, world):
    at = os.path.join(world.path, "memory")
    spool, index = os.path.join(world.path, "spool"), os.path.join(world.path, "index")
    bench.report(f"pack_{name}_peak_mib", [peak_mib(bench_pack.TOOL, "pack", world.tree, at)],
                 budget=PACKER_MIB, better="lower")
    wide_spool(spool, WIDE)
    bench.report(f"proposal_{name}_peak_mib",
                 [peak_mib(PROPOSAL, "unpack", UNPACK, spool, os.path.join(at, "base.erofs"), index)],
                 budget=PARSER_MIB, better="lower", entries=WIDE)
    for path in (at, spool, index):
        bench_pack.forget(path)


def export():
    """On the clock, and by the processor's time alone, which what else runs here does not change."""
    rates, cpu_rates, size = [], [], EXPORT_MIB * (1 << 20) / 1e3
    with bench_pack.folder() as work:
        upper = os.path.join(work, "upper")
        os.mkdir(upper)
        piece = os.urandom(4 << 20)
        for i in range(EXPORT_MIB // 4):
            with open(os.path.join(upper, f"f{i:05}"), "wb") as f:
                f.write(piece)
        os.sync()
        for run in range(3 + 1):
            ms, cpu_ms, _ = bench_pack.timed(EXPORT, upper, "/dev/null")
            if run > 0:
                rates.append(size / ms)
                cpu_rates.append(size / cpu_ms)
    bench.report("export_mb_s", rates, budget=EXPORT_MB_S, better="higher", mib=EXPORT_MIB)
    bench.report("export_cpu_mb_s", cpu_rates, better="higher")


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


def exit_to_screen(name, tree):
    """`berm code`, from its command's last word to the review's first screen."""
    times = []
    with bench.State() as state:
        paths = files_of(tree)
        paths = " ".join(paths[len(paths) * i // EDITS] for i in range(EDITS - 1))
        script = f"for f in {paths}; do echo edited >> $f; done; echo x > zz-new; printf 'agent-%s' done"
        for run in range(SCREENS + 1):
            with open(os.path.join(tree, f"zz-host-{run}"), "w", encoding="ascii"):
                pass  # or the session would share the last one's base, which is on the disk already
            argv = workspace_parts.code(state, tree, "--on-exit", "review", "--", "sh", "-c", script)
            t = Terminal(argv, state.env, tree)
            ended = t.until(b"agent-done", GUEST_S)
            shown = t.until(b"zz-new", GUEST_S) if ended else None
            t.close()
            if shown is None:
                sys.exit(f"bench_review: no first screen of {name}: {t.seen[-300:]!r}")
            if run > 0:
                times.append((shown - ended) * 1000)
        bench.report(f"review_{name}_exit_to_screen_ms", times, budget=FIRST_SCREEN_MS, better="lower")


STATUS = """
import subprocess, time
for _ in range(%d):
    began = time.monotonic()
    out = subprocess.run(["git", "status", "--porcelain"], capture_output=True, check=True).stdout
    print("status", (time.monotonic() - began) * 1000, len(out))
"""


def said(name, code, text):
    """The milliseconds of each status."""
    lines = [line.split() for line in text.splitlines() if line.startswith("status ")]
    if code or len(lines) != STATUS_RUNS or any(line[2] != "0" for line in lines):
        sys.exit(f"bench_review: status of the {name} is not clean, or failed with {code}: {text}")
    return [float(line[1]) for line in lines]


def repository(tree):
    os.mkdir(tree)
    bench_pack.synthetic(tree)
    git = ["git", "-C", tree, "-c", "user.name=b", "-c", "user.email=b@b", "-c", "gc.auto=0"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"], ["status"]):
        subprocess.run([*git, *words], check=True, stdout=subprocess.DEVNULL)
    time.sleep(3)  # an index as young as its files proves nothing
    subprocess.run([*git, "status"], check=True, stdout=subprocess.DEVNULL)


def git_status():
    """The first status in a guest, and later ones, against the host's own with a warm cache; in the test host
    with a cold one as well."""
    times = {"cold": [], "host": [], "guest": []}
    script = ["python3", "-c", STATUS % STATUS_RUNS]
    with bench.State() as state, bench_pack.folder() as work:
        tree = os.path.join(work, "tree")
        repository(tree)
        argv = workspace_parts.code(state, tree, "--on-exit", "keep", "--no-tty", "--", *script)
        for name in ("guest", "host", "cold", "guest", "host", "cold"):
            if name == "cold" and not drop_caches():
                continue
            words, where = (argv, None) if name == "guest" else (script, tree)
            got = subprocess.run(words, env=state.env, cwd=where, stdin=subprocess.DEVNULL, capture_output=True,
                                 text=True, check=False)
            times[name].append(said(name, got.returncode, got.stdout + got.stderr))
    first = {name: [one[0] for one in runs] for name, runs in times.items()}
    later = {name: [ms for one in runs for ms in one[1:]] for name, runs in times.items()}
    for name in ("cold", "host", "guest"):
        if times[name]:
            bench.report(f"status_{name}_first_ms", first[name], files=bench_pack.FILES)
            bench.report(f"status_{name}_later_ms", later[name], files=bench_pack.FILES)
    bench.ratio("status_first_ratio_host", first["guest"], later["host"], budget=STATUS_FIRST)
    if times["cold"]:
        bench.ratio("status_first_ratio_cold_host", first["guest"], first["cold"], budget=STATUS_FIRST)
    bench.ratio("status_later_ratio_host", later["guest"], later["host"], budget=STATUS_LATER)


def drop_caches():
    """Of the test host, where nobody else misses them; then git itself is brought in again."""
    if os.environ.get("BENCH_WHERE") != "kvmhost":
        return False
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("3")
    subprocess.run(["python3", "-c", STATUS % STATUS_RUNS], cwd="/", capture_output=True, check=False)
    return True


PARTS = {"export": export, **workspace_parts.PARTS, "status": git_status}
OF_TREES = ("models", "screen")


def main():
    for program in (review_world.DRIVE, review_world.BASETOOL, EXPORT, PROPOSAL, UNPACK):
        if not os.path.exists(program):
            sys.exit(f"bench_review: no {program}: ninja -C build/main")
    every = [*OF_TREES, *PARTS]
    names = os.environ.get("BENCH_PARTS", "").split()
    names = names or [n for n in every if n != "status" or os.environ.get("BENCH_REVIEW_GUEST")]
    for name in names:
        if name not in every:
            sys.exit(f"bench_review: there is no part '{name}': {' '.join(every)}")
    if set(OF_TREES) & set(names):
        bench.note("review: models, screen")
        trees(names)
    for name in names:
        if name in PARTS:
            bench.note(f"review: {name}")
            PARTS[name]()


if __name__ == "__main__":
    main()
