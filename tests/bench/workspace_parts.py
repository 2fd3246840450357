"""How fast work is in a workspace: M4, M5, M7 and M8 for bench_review.py.

Actions are done in a guest and on the host by one program (workspace_guest.py), in turns. In a guest each
is done in the workspace, and (`disk`) in a copy on the disk that the image's own files are on: on a software
CPU, where all in a guest takes many times as long, the ratio to that copy says what a workspace costs.

    M4  search     grep for a word that no file has, BENCH_SEARCH_FILES (20,000) files
        npm        npm ci of BENCH_NPM_PACKAGES (20) packages that lie in the workspace
        go, cargo  a build after a change of one package that others import; and before that one after
                   no change, which compiles nothing, although the host made what is there
    M5  watch      inotify on BENCH_WATCH_DIRS (100,000) directories: from before a file is opened to be
                   written to, until the event is read; for the first write to a file, and for later ones
    M7  idle       processor and wake-ups of all processes of a session that waits for input, for
                   BENCH_IDLE_S (20) seconds; QEMU by hand, waiting as well, beside it
    M8  shared     the host's page cache of what four sessions on one tree read, to that of one

The tools are Debian's, in an image of their own; on the host they are run from the same files (chroot),
so M4 needs root, and packages of this host's apt once.
"""

import contextlib
import ctypes
import json
import os
import select
import subprocess
import sys
import tarfile
import time

import bench
import bench_pack
import bench_start

import client_image
import leaks

with open(os.path.join(bench.HERE, "workspace_guest.py"), encoding="utf-8") as source:
    PROGRAM = source.read()
RUNS = int(os.environ.get("BENCH_WORK_RUNS") or "2")
SEARCH_FILES = int(os.environ.get("BENCH_SEARCH_FILES") or "20000")
NPM_PACKAGES = int(os.environ.get("BENCH_NPM_PACKAGES") or "20")
WATCH_DIRS = int(os.environ.get("BENCH_WATCH_DIRS") or "100000")
IDLE_S = float(os.environ.get("BENCH_IDLE_S") or "20")
ANSWER_S = 900  # of one action, on a software CPU that others use as well
GUESTS = 4
GO_PACKAGES, CRATES = 6, 3  # a software CPU takes seconds for each
EVENT_MS = 50
SETTLE_S = 10  # a session that waits has then done all it does at its start
IDLE_MS_A_SECOND, IDLE_PARTS = 5, 5
LIBEXEC = os.path.join(bench.STAGE, "libexec")
CACHESTAT = 451
BUILDERS = client_image.Recipe(
    "bench-image",
    ("cargo", "gcc", "golang-go", "libc6-dev", "nodejs", "npm", "python3"),
    (*client_image.LEFT_OUT, "/usr/share/go-*/test/*"),
    'set -e\nrm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*\n',
)


def engine():
    """What runs the guests: BENCH_ENGINE, or what berm itself takes."""
    return os.environ.get("BENCH_ENGINE") or "auto"


def native(state):
    """Does a guest's processor run at the host's speed? Only then a budget against the host means anything."""
    got = subprocess.run([state.berm, "run", "--json", "--engine", engine(), "--", "true"], env=state.env,
                         stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return json.loads(got.stdout)["result"]["level"] == "microvm"


def code(state, tree, *args):
    return [state.berm, "code", "custom", "-C", tree, "--no-settings", "--engine", engine(), *args]


# -- the program, on both sides -------------------------------------------------------------------


class Worker:
    """workspace_guest.py, asked line by line."""

    def __init__(self, argv, here, env=None):
        self.here, self.numbers = here, 0
        self.process = subprocess.Popen(argv, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.rest = b""
        self.answer("start")

    def answer(self, what):
        end = time.monotonic() + ANSWER_S
        while b"\n" not in self.rest:
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
            if not more:
                sys.exit(f"bench_review: no answer to '{what}'" + ("" if ready else f" within {ANSWER_S} s"))
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        said = json.loads(line)
        if "error" in said:
            sys.exit(f"bench_review: {what}: {said['error']}")
        return said

    def ask(self, action, place=None, number=0):
        self.process.stdin.write(f"{action} {place or self.here} {number}\n".encode())
        self.process.stdin.flush()
        return self.answer(action)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def in_guest(state, tree, *flags):
    """In a session on that tree, at its own path."""
    argv = code(state, tree, "--same-path", "--no-tty", "--on-exit", "keep", *flags)
    return Worker([*argv, "--", "python3", "-c", PROGRAM, tree], tree, state.env)


def on_host(tree):
    return Worker([sys.executable, "-S", "-c", PROGRAM, tree], tree)


CHROOT = """
mount --rbind /dev "$1/dev"
mount -t proc proc "$1/proc"
mkdir -p "$1$2"
mount --bind "$2" "$1$2"
exec chroot "$1" /usr/bin/python3 -c "$3" "$2"
"""


def in_root(root, tree):
    """On the host, with the programs below `root`."""
    return Worker(["unshare", "-m", "sh", "-euc", CHROOT, "sh", root, tree, PROGRAM], tree)


@contextlib.contextmanager
def tree_of(*makers):
    with bench_pack.folder() as work:
        tree = os.path.join(work, "tree")
        os.mkdir(tree)
        for make in makers:
            make(tree)
        yield tree


def write(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)


# -- M4: search, a package install, builds --------------------------------------------------------


def texts(tree):
    """Files as sources are: lines of words, 2 to 14 KiB."""
    line = "static int take_one(struct thing *t, const char *word, size_t len, struct err *e)\n"
    for i in range(SEARCH_FILES):
        write(os.path.join(tree, "search", f"d{i // 1000}", f"e{i // 30 % 100}", f"file{i}.c"), line * (25 + i % 150))


def npm_project(tree):
    """Packages of 25 files each, and a project that wants all of them."""
    root = os.path.join(tree, "npm")
    wanted = {}
    for i in range(NPM_PACKAGES):
        package = os.path.join(tree, "made", f"p{i}", "package")
        write(os.path.join(package, "package.json"), json.dumps({"name": f"p{i}", "version": "1.0.0"}))
        for n in range(24):
            write(os.path.join(package, "lib", f"f{n}.js"), f"module.exports = {n};\n" * (10 + 10 * n))
        os.makedirs(os.path.join(root, "packages"), exist_ok=True)
        with tarfile.open(os.path.join(root, "packages", f"p{i}.tgz"), "w:gz") as tar:
            tar.add(package, "package")
        wanted[f"p{i}"] = f"file:packages/p{i}.tgz"
    bench_pack.forget(os.path.join(tree, "made"))
    write(os.path.join(root, "package.json"), json.dumps({"name": "work", "version": "1.0.0", "dependencies": wanted}))


def go_project(tree):
    root = os.path.join(tree, "go")
    write(os.path.join(root, "go.mod"), "module example.test/work\n\ngo 1.19\n")
    for i in range(GO_PACKAGES):
        body = "".join(f"func F{n}(x int) string {{ return fmt.Sprint(x*{n}, {i}) }}\n" for n in range(60))
        uses = 'import (\n\t"fmt"\n\t"example.test/work/p0"\n)\nvar Of = p0.F0\n' if i else 'import "fmt"\n'
        write(os.path.join(root, f"p{i}", "p.go"), f"package p{i}\n{uses}{body}")
    imports = "".join(f'\t"example.test/work/p{i}"\n' for i in range(GO_PACKAGES))
    calls = "".join(f"\tprintln(p{i}.F1({i}))\n" for i in range(GO_PACKAGES))
    write(os.path.join(root, "app", "main.go"), f"package main\nimport (\n{imports})\nfunc main() {{\n{calls}}}\n")


PACKAGE = '[package]\nname = "{}"\nversion = "1.0.0"\nedition = "2021"\n'


def cargo_project(tree):
    root = os.path.join(tree, "cargo")
    crates = [f"p{i}" for i in range(CRATES)]
    names = ", ".join(f'"{c}"' for c in [*crates, "app"])
    write(os.path.join(root, "Cargo.toml"), f"[workspace]\nmembers = [{names}]\n")
    for i, crate in enumerate(crates):
        body = "".join(f"pub fn f{n}(x: u64) -> String {{ format!(\"{{}}\", x * {n} + {i}) }}\n" for n in range(60))
        write(os.path.join(root, crate, "src", "lib.rs"), body)
        uses = '[dependencies]\np0 = { path = "../p0" }\n' if i else ""
        write(os.path.join(root, crate, "Cargo.toml"), PACKAGE.format(crate) + uses)
    calls = "".join(f'    println!("{{}}", {c}::f1(7));\n' for c in crates)
    write(os.path.join(root, "app", "src", "main.rs"), f"fn main() {{\n{calls}}}\n")
    needs = "".join(f'{c} = {{ path = "../{c}" }}\n' for c in crates)
    write(os.path.join(root, "app", "Cargo.toml"), PACKAGE.format("app") + f"[dependencies]\n{needs}")


def builders(state, work):
    """The image `builders` in the store, and the same files on the host."""
    tar, root = BUILDERS.tar(), os.path.join(work, "root")
    state.run("image", "import", "--name", "builders", tar)
    os.mkdir(root)
    subprocess.run(["tar", "xf", tar, "-C", root], check=True)
    return root


BUDGETS = {"search": 1.3, "npm": 1.3, "go": 1.2, "cargo": 1.2}
ACTIONS = (os.environ.get("BENCH_WORK_ACTIONS") or " ".join(BUDGETS)).split()
SIDES = ("guest", "disk", "host")


def nothing_to_build(workers):
    """What the host built is up to date wherever it is looked at."""
    for action in [name for name in ("go", "cargo") if name in ACTIONS]:
        for side, (worker, place) in workers.items():
            said = worker.ask(action, place)
            bench.report(f"work_{action}_{side}_unchanged_ms", [said["ms"]])
            bench.report(f"work_{action}_{side}_spurious", [said["compiled"]], 0, budget=0, better="lower")


def in_turns(workers):
    times = {action: {side: [] for side in SIDES} for action in ACTIONS}
    for run in range(RUNS + 1):
        for action in ACTIONS:
            compiled = {}
            for side in SIDES if run % 2 == 0 else reversed(SIDES):
                worker, place = workers[side]
                said = worker.ask(action, place, run + 1)
                compiled[side] = said.get("compiled")
                if run > 0 or action == "npm":  # which has no first time: all it makes is removed again
                    times[action][side].append(said["ms"])
                elif side != "host":
                    bench.report(f"work_{action}_{side}_first_ms", [said["ms"]])
            if len(set(compiled.values())) != 1:
                sys.exit(f"bench_review: {action} did not compile the same everywhere: {compiled}")
    return times


def report_work(times, real):
    for action in ACTIONS:
        budget = BUDGETS[action]
        for side in SIDES:
            bench.report(f"work_{action}_{side}_ms", times[action][side])
        bench.ratio(f"work_{action}_ratio_disk", times[action]["guest"], times[action]["disk"], budget=budget)
        bench.ratio(f"work_{action}_ratio_host", times[action]["guest"], times[action]["host"],
                    budget=budget if real else None)


def work():
    why = BUILDERS.missing() if os.geteuid() == 0 else "not root"
    if why:
        bench.note(f"review: M4, work in a guest, was not measured: {why}")
        return
    with bench.State() as state, bench_pack.folder() as place, \
            tree_of(texts, npm_project, go_project, cargo_project) as tree:
        real = native(state)
        root = builders(state, place)
        with in_root(root, tree) as host:
            host.ask("lock")
            host.ask("go")
            host.ask("cargo")
            with in_guest(state, tree, "--image", "builders") as guest:
                guest.ask("copy")
                workers = {"guest": (guest, None), "disk": (guest, "/root/copy"), "host": (host, None)}
                nothing_to_build(workers)
                report_work(in_turns(workers), real)


# -- M5: a watcher --------------------------------------------------------------------------------


def folders(tree):
    """Each with a file."""
    for i in range(WATCH_DIRS - WATCH_DIRS // 100):
        write(os.path.join(tree, f"d{i // 99}", f"e{i % 99}", "file"), "text\n" * 100)


def report_watch(side, got):
    bench.report(f"watch_{side}_begin_ms", [got["ms"]], directories=got["watches"])
    for which in ("first", "later"):
        bench.report(f"watch_{side}_{which}_ms", got[which], 3, budget=EVENT_MS if side == "guest" else None,
                     better="lower")


def watch():
    with bench.State() as state, tree_of(folders) as tree:
        with in_guest(state, tree) as worker:
            guest = worker.ask("watch")
        if "why" in guest:
            sys.exit(f"bench_review: {guest['watches']} directories are all that a guest watches: {guest['why']}")
        report_watch("guest", guest)
        with on_host(tree) as worker:
            host = worker.ask("watch")
        if "why" in host:
            bench.note(f"review: this host watches only {host['watches']} directories: {host['why']}")
            return
        report_watch("host", host)
        for which in ("first", "later"):
            bench.ratio(f"watch_{which}_ratio_host", guest[which], host[which])


# -- M7: a session that waits ---------------------------------------------------------------------


def spent(pids):
    """{thread: (nanoseconds on a processor, how often it went to sleep)} of those."""
    found = {}
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{task}/schedstat", encoding="ascii") as f:
                ns = int(f.read().split()[0])
                with open(f"/proc/{pid}/task/{task}/status", encoding="utf-8") as f:
                    found[task] = ns, sum(int(line.split()[1]) for line in f if line.startswith("voluntary_ctxt"))
    return found


def idle_of(name, pids, **more):
    time.sleep(SETTLE_S)
    ms, sleeps, part_s = [], [], IDLE_S / IDLE_PARTS
    before = spent(pids)
    for _ in range(IDLE_PARTS):
        time.sleep(part_s)
        now = spent(pids)
        kept = now.keys() & before.keys()
        ms.append(sum(now[t][0] - before[t][0] for t in kept) / 1e6 / part_s)
        sleeps.append(sum(now[t][1] - before[t][1] for t in kept) / part_s)
        before = now
    bench.report(f"idle_{name}_ms_a_second", ms, 2, processes=len(pids), **more)
    bench.report(f"idle_{name}_wakes_a_second", sleeps)
    return ms


def idle():
    with bench.State() as state, tree_of(lambda tree: write(os.path.join(tree, "f"), "x\n")) as tree:
        with in_guest(state, tree) as guest:
            found = leaks.processes(state.dir, LIBEXEC)
            if len(found) < 3 or guest.process.pid not in found:
                sys.exit(f"bench_review: a session has more processes than these: {list(found.values())}")
            ours = idle_of("session", sorted(found), budget=IDLE_MS_A_SECOND, better="lower")
        with bench_pack.folder() as place:
            q, _ = bench_start.booted(place, bench.image_disk())
            try:
                theirs = idle_of("qemu", [q.process.pid])
            finally:
                q.close()
    bench.ratio("idle_ratio_qemu", ours, theirs)


# -- M8: what is read by several ------------------------------------------------------------------


class Range(ctypes.Structure):
    _fields_ = [("off", ctypes.c_uint64), ("len", ctypes.c_uint64)]


class Cached(ctypes.Structure):
    _fields_ = [(n, ctypes.c_uint64) for n in ("cache", "dirty", "writeback", "evicted", "recently_evicted")]


def cached_bytes(paths):
    """Of these files, each counted once however many names it has; None if this kernel cannot tell."""
    libc, seen, total = ctypes.CDLL(None, use_errno=True), set(), 0
    for path in paths:
        with open(path, "rb") as f:
            st, said = os.fstat(f.fileno()), Cached()
            if (st.st_dev, st.st_ino) in seen:
                continue
            seen.add((st.st_dev, st.st_ino))
            if libc.syscall(CACHESTAT, f.fileno(), ctypes.byref(Range(0, 0)), ctypes.byref(said), 0) < 0:
                return None
            total += said.cache * os.sysconf("SC_PAGE_SIZE")
    return total


def bases(state):
    where = os.path.join(state.dir, "sessions")
    return [os.path.join(where, s, "base.erofs") for s in sorted(os.listdir(where))]


def cold(paths):
    for path in paths:
        with open(path, "rb") as f:
            os.fsync(f.fileno())
            os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def shared():
    with bench.State() as state, tree_of(texts) as tree, contextlib.ExitStack() as open_ones:
        guests = [open_ones.enter_context(in_guest(state, tree, "--memory", "512MiB")) for _ in range(GUESTS)]
        paths = bases(state)
        if len(paths) != GUESTS:
            sys.exit(f"bench_review: {GUESTS} sessions have {len(paths)} bases")
        cold(paths)
        size = guests[0].ask("read_all")["bytes"]
        one = cached_bytes(paths)
        for guest in guests[1:]:
            guest.ask("read_all")
        all_of_them = cached_bytes(paths)
        if one is None:
            bench.note("review: this kernel does not tell what it has cached: M8 was not measured")
            return
        if one < size:
            sys.exit(f"bench_review: a guest read {size} bytes, and {one} are in the host's page cache")
        bench.report("shared_one_mib", [one / (1 << 20)])
        bench.report("shared_all_mib", [all_of_them / (1 << 20)], guests=GUESTS)
        bench.ratio("shared_ratio_one", [all_of_them], [one], budget=1.1)


PARTS = {"work": work, "watch": watch, "idle": idle, "shared": shared}
