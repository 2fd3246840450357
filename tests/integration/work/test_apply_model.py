"""Random plans against a model: a tree that is a dictionary.

The seed of a failure is in its message; APPLY_SEED repeats it.
"""

import os
import random
import shutil
import tempfile

import pytest

from applytree import DIR, NOTHING, World, build, seen

ROUNDS = int(os.environ.get("APPLY_ROUNDS", "40"))
NAMES = ["a", "b", "c", "dd", "e.x", "-", "\udce9"]
MODES = [0o644, 0o600, 0o755, 0o700]


class Node:
    """Something in the result; host: its name on the host, if it is (or comes from) something there."""

    def __init__(self, kind, mode, data, host=None):
        self.kind, self.mode, self.data, self.host = kind, mode, data, host

    def value(self):
        return (self.kind, self.mode, self.data)


def under(path, folder):
    return path == folder or path.startswith(folder + "/")


def parent_of(path):
    return path.rsplit("/", 1)[0] if "/" in path else ""


def random_tree(rng):
    tree = {}
    folders = [""]
    for _ in range(rng.randrange(4, 25)):
        path = os.path.join(rng.choice(folders), rng.choice(NAMES))
        if path in tree:
            continue
        what = rng.random()
        if what < 0.4 and path.count("/") < 4:
            tree[path] = ("dir", 0o755, b"")
            folders.append(path)
        elif what < 0.9:
            tree[path] = ("file", rng.choice(MODES), rng.randbytes(rng.randrange(40)))
        else:
            tree[path] = ("link", 0, rng.choice([b"a", b"../b", b"/etc/passwd"]))
    return tree


def to_disk(w, tree):
    build(
        w.root,
        {
            p: (m, None) if k == "dir" else os.fsdecode(d) if k == "link" else (m, d)
            for p, (k, m, d) in tree.items()
        },
    )


def edit(rng, work):
    """One change of the agent's to the result."""
    paths = sorted(work)
    folders = ["", *(p for p in paths if work[p].kind == "dir")]
    what = rng.choice(["edit", "edit", "add", "add", "mkdir", "delete", "chmod", "move", "turn"])
    path = rng.choice(paths) if paths else ""
    if what in ("add", "mkdir"):
        path = os.path.join(rng.choice(folders), rng.choice(NAMES))
        if path not in work:
            work[path] = new_node(rng, "dir" if what == "mkdir" else None)
    elif not paths:
        return
    elif what == "edit" and work[path].kind == "file":
        work[path] = Node("file", work[path].mode, rng.randbytes(30), work[path].host)
    elif what == "chmod" and work[path].kind != "link":
        old = work[path]
        mode = 0o750 if old.kind == "dir" else rng.choice(MODES)
        work[path] = Node(old.kind, mode, old.data, old.host)
    elif what == "delete":
        remove(work, path)
    elif what == "turn":
        kind = work[path].kind
        remove(work, path)
        work[path] = new_node(rng, "file" if kind == "dir" else "dir")
    elif what == "move" and work[path].kind == "dir":
        target = os.path.join(rng.choice(folders), rng.choice(NAMES))
        if target not in work and not under(target, path):
            for p in [p for p in paths if under(p, path)]:
                work[target + p[len(path):]] = work.pop(p)


def new_node(rng, kind=None):
    kind = kind or rng.choice(["file", "file", "link"])
    data = b"" if kind == "dir" else b"target" if kind == "link" else rng.randbytes(20)
    return Node(kind, {"dir": 0o755, "link": 0}.get(kind, rng.choice(MODES)), data)


def remove(work, path):
    for p in [p for p in work if under(p, path)]:
        del work[p]


def make_plan(w, host, work):
    """What a comparison would propose: directories are renamed, all else is added and deleted."""
    kept = {n.host for n in work.values() if n.kind == "dir" and n.host}
    moved, replaced = set(), set()
    for path in sorted(work):
        node = work[path]
        above = parent_of(path)
        base = "" if above == "" else work[above].host
        here = None if base is None else os.path.join(base, path.rsplit("/", 1)[-1])
        there = host.get(here) if here is not None else None
        if node.kind == "dir":
            if node.host is None and there and there[0] == "dir" and here not in kept:
                node.host = here  # deleted and made again: the same one
                kept.add(here)
            if node.host is not None:
                if node.host != here:
                    w.move(node.host, path)
                    moved.add(node.host)
                if host[node.host][1] != node.mode:
                    w.chmod(path, node.mode, host=node.host)
                continue
        over = there is not None and not (there[0] == "dir" and here in kept)
        was = seen(w.at(here)) if over else NOTHING
        if over:
            replaced.add(here)
        if node.kind == "dir":
            w.mkdir(path, node.mode, was=was)
        elif over and there == node.value():
            continue
        elif node.kind == "link":
            w.link(path, os.fsdecode(node.data), was=was)
        elif over and there[0] == "file" and there[2] == node.data:
            w.chmod(path, node.mode, was=was)
        else:
            w.put(path, node.data, node.mode, was=was)
    for path in sorted(host):
        if path in kept or path in replaced:
            continue
        if host[path][0] == "dir":
            w.rmdir(path)
        else:
            w.delete(path)


def to_model(w):
    return {
        os.fsdecode(p): (k, m, w.read(p) if k == "file" else os.fsencode(d))
        for p, (k, m, d) in w.tree().items()
    }


def seeds():
    if "APPLY_SEED" in os.environ:
        return [int(os.environ["APPLY_SEED"])]
    first = random.SystemRandom().randrange(1 << 32)
    return range(first, first + ROUNDS)


@pytest.fixture(scope="module")
def folder():
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = tempfile.mkdtemp(prefix="test-apply-", dir=base)
    old = os.umask(0o022)
    yield made
    os.umask(old)
    shutil.rmtree(made, ignore_errors=True)


def scene(folder, seed):
    """A host, a plan for it, and the result."""
    rng = random.Random(seed)
    shutil.rmtree(os.path.join(folder, "w"), ignore_errors=True)
    w = World(os.path.join(folder, "w"))
    host = random_tree(rng)
    to_disk(w, host)
    work = {p: Node(*v, host=p) for p, v in host.items()}
    for _ in range(rng.randrange(1, 12)):
        edit(rng, work)
    make_plan(w, host, work)
    return rng, w, host, {p: n.value() for p, n in work.items()}


def test_random_plans(folder):
    for seed in seeds():
        rng, w, host, want = scene(folder, seed)
        more = rng.choice([[], [], ["no-exchange"]])
        why = f"APPLY_SEED={seed}"
        assert to_model(w) == host, why
        got = w.apply(*more)
        assert got.end in ("done", "nothing"), f"{why}: {got}"
        w.clean()
        assert to_model(w) == want, why
        again = w.apply(*more)
        assert again.end in ("nothing", "returned"), f"{why}: {again}"
        assert to_model(w) == want, why
        if got.end == "done":
            undone = w.undo(*more)
            assert undone.end == "done", f"{why}: {undone}"
            w.clean()
            assert to_model(w) == host, why


def test_random_plans_killed_anywhere(folder):
    for seed in seeds():
        rng, w, host, want = scene(folder, seed)
        more = rng.choice([[], ["no-exchange"]])
        why = f"APPLY_SEED={seed}"
        whole = w.apply("count", *more)
        if whole.end != "done":
            continue
        points = [(p, int(n)) for p, n in sorted(whole.points.items()) if int(n)]
        for _ in range(3):
            _, w, host, want = scene(folder, seed)
            point, n = rng.choice(points)
            at = f"{point}:{rng.randrange(1, n + 1)}"
            assert w.apply(f"kill={at}", *more).code, f"{why} {at}"
            w.recover(*more)
            w.clean()
            assert to_model(w) in (host, want), f"{why} {at}"


def test_random_plans_on_a_host_that_changes(folder):
    """Whatever the host did meanwhile is as it did it; all else is old or new, path by path."""
    for seed in seeds():
        rng, w, host, want = scene(folder, seed)
        why = f"APPLY_SEED={seed}"
        mine = {}
        for path in sorted(host):
            if host[path][0] == "file" and rng.random() < 0.3:
                mine[path] = b"host %d" % rng.randrange(1000)
                w.write(path, mine[path])
        for path in [p for p in host if host[p][0] == "dir"]:
            name = f"{path}/mine"
            if rng.random() < 0.3:
                mine[name] = b"added by the host"
                w.write(name, mine[name])
        now = to_model(w)
        got = w.apply()
        if got.end == "returned":
            assert to_model(w) == now, f"{why}: {got}"
        else:
            assert got.end in ("done", "nothing"), f"{why}: {got}"
            check_mine(w, mine, why)
            continue
        got = w.apply("rest")
        assert got.end in ("done", "nothing"), f"{why}: {got}"
        w.clean()
        check_mine(w, mine, why)
        for path, (kind, _, data) in to_model(w).items():
            known = {v[2] for v in (*now.values(), *want.values()) if v[0] == kind}
            assert data in known, f"{why}: {path}"
        if got.end == "done":
            assert w.undo("rest").end in ("done", "nothing"), why
            check_mine(w, mine, why)


def check_mine(w, mine, why):
    """Every edit of the host is still there, wherever its directory has gone."""
    have = sorted(v[2] for v in to_model(w).values() if v[0] == "file")
    for path, data in mine.items():
        assert data in have, f"{why}: the host's {path} is lost"


assert DIR == 2
