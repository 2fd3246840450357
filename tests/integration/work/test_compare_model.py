"""Random work on a base by a guest and by the host, and what compare makes of it, against a model.

The model knows what the guest did, not what an overlay keeps of it: each file of the base is followed to
where its directory went, and merged there by the rule of three. What compare proposes, applied to the
host's files, must come to the same. COMPARE_SEED repeats a failure.
"""

import json
import os
import random

import pytest
from compare_world import World

NAMES = ["a", "b", "c", "d"]
LIST = """
import json, os, stat, sys
found = {}
for at, _, names in os.walk("."):
    for name in names:
        path = os.path.join(at, name)
        with open(path) as f:
            found[path[2:]] = [stat.S_IMODE(os.stat(path).st_mode), f.read()]
json.dump(found, open(sys.argv[1], "w"))
"""


class Dir:
    """A directory of the guest: what is in it, and which of the base's it was."""

    def __init__(self, origin=None):
        self.origin = origin
        self.items = {}


class Guest:
    """Does work, and writes it down as a shell's commands."""

    def __init__(self, rng, files):
        self.rng = rng
        self.said = []
        self.made = 0
        self.root = Dir("")
        for path in files:
            at = self.root
            *above, name = path.split("/")
            for part in above:
                below = "/".join(filter(None, [at.origin, part]))
                at = at.items.setdefault(part, Dir(below))
            at.items[name] = None

    def all(self, at=None, path=""):
        at = at or self.root
        for name, item in at.items.items():
            yield path + name, item, at
            if item is not None:
                yield from self.all(item, path + name + "/")

    def some(self, is_dir):
        found = [x for x in self.all() if (x[1] is not None) == is_dir]
        return self.rng.choice(found) if found else None

    def place(self, avoid=None):
        """A directory and a name in it that is free."""
        dirs = [("", self.root)]
        dirs += [(p + "/", d) for p, d, _ in self.all() if d is not None and not (p + "/").startswith(avoid or "//")]
        prefix, at = self.rng.choice(dirs)
        free = [n for n in NAMES if n not in at.items]
        return (prefix, at, self.rng.choice(free)) if free else (prefix, at, None)

    def step(self):
        getattr(self, self.rng.choice(["edit", "edit", "delete", "create", "chmod", "mkdir", "move_dir", "move_dir",
                                       "move_file", "delete_dir", "make_again"]))()

    def edit(self):
        if found := self.some(False):
            self.made += 1
            self.said.append(f"echo g{self.made} >> {found[0]}")

    def chmod(self):
        if found := self.some(False):
            self.said.append(f"chmod {self.rng.choice(['600', '755', '644'])} {found[0]}")

    def delete(self):
        if found := self.some(False):
            del found[2].items[found[0].split("/")[-1]]
            self.said.append(f"rm {found[0]}")

    def create(self):
        prefix, at, name = self.place()
        if name:
            self.made += 1
            at.items[name] = None
            self.said.append(f"echo n{self.made} > {prefix}{name}")

    def mkdir(self):
        prefix, at, name = self.place()
        if name:
            at.items[name] = Dir()
            self.said.append(f"mkdir {prefix}{name}")

    def move_dir(self):
        if found := self.some(True):
            prefix, at, name = self.place(found[0] + "/")
            if name:
                at.items[name] = found[2].items.pop(found[0].split("/")[-1])
                self.said.append(f"mv -T {found[0]} {prefix}{name}")

    def move_file(self):
        if found := self.some(False):
            prefix, at, name = self.place()
            if name:
                at.items[name] = found[2].items.pop(found[0].split("/")[-1])
                self.said.append(f"mv -T {found[0]} {prefix}{name}")

    def delete_dir(self):
        if found := self.some(True):
            del found[2].items[found[0].split("/")[-1]]
            self.said.append(f"rm -r {found[0]}")

    def make_again(self):
        if found := self.some(True):
            found[2].items[found[0].split("/")[-1]] = Dir()
            self.said.append(f"rm -r {found[0]}; mkdir {found[0]}")

    def dirs(self):
        """Where each directory of the base is now, and what each of the guest's was."""
        alive = {"": ""}
        alive.update({d.origin: p for p, d, _ in self.all() if d is not None and d.origin is not None})
        was = {"": ""}
        for path, d, _ in self.all():
            if d is None:
                continue
            above = was[os.path.dirname(path)]
            natural = None if above is None else "/".join(filter(None, [above, os.path.basename(path)]))
            was[path] = d.origin if d.origin is not None else natural if natural not in alive else None
        return alive, was


def some_tree(rng):
    files = {}
    for _ in range(rng.randint(4, 12)):
        path = "/".join(rng.choice(NAMES) for _ in range(rng.randint(1, 3)))
        clash = any(f.startswith(path + "/") or path.startswith(f + "/") for f in files)
        if not clash and path not in files:
            files[path] = (rng.choice([0o644, 0o755]), f"b{len(files)}\n")
    return files


def host_steps(rng, files):
    said = []
    for _ in range(rng.randint(0, 4)):
        path = rng.choice(sorted(files))
        at = os.path.dirname(path)
        said.append(rng.choice([f"echo h >> {path}", f"rm -f {path}", f"chmod 640 {path} || true",
                                f"echo h > ./{at}/h{len(said)}", f"echo {rng.choice('gn')}1 >> {path}"]))
    return said


def merged(base, host, guest):
    """Of one thing, each (mode, text) or None. The host's, where both have changed it."""
    if guest == base or host == guest:
        return host
    if host == base:
        return guest
    if None in (base, host, guest):
        return host
    text = guest[1] if host[1] in (base[1], guest[1]) else host[1] if guest[1] == base[1] else None
    mode = guest[0] if host[0] in (base[0], guest[0]) else host[0]
    if text is None or (text == host[1] == base[1] and guest[0] != base[0] != host[0] != guest[0]):
        return host
    return (mode, text)


def by_the_model(base, host, guest, work):
    alive, was = work.dirs()
    result = {}

    def carried(path):
        """To where the nearest directory above it that is left has gone."""
        at = os.path.dirname(path)
        while at not in alive:
            at = os.path.dirname(at)
        return os.path.join(alive[at], os.path.relpath(path, at or "."))

    def put(path, item):
        if item is not None:
            result[path] = item

    for path in base.keys() | host.keys():
        if path in base:
            there = guest.get(carried(path)) if os.path.dirname(path) in alive_or_again(alive, was) else None
            put(carried(path), merged(base[path], host.get(path), there))
        else:
            put(carried(path), host[path])
    for path, item in guest.items():
        above = was[os.path.dirname(path)]
        origin = path if above is None else os.path.join(above, os.path.basename(path))
        if above is None or (origin not in base and origin not in host):
            put(path, item)
    return result


def alive_or_again(alive, was):
    return {k for k in alive} | {o for o in was.values() if o is not None}


def as_proposed(changes, host, guest):
    """The host's files after all that is proposed was taken."""
    moves = {c["from"]: c["path"] for c in changes
             if c["op"] == 5 and c["state"] == 1 and c["guest"][0] == 2}

    def carried(path):
        best = max((m for m in moves if path.startswith(m + "/")), key=len, default=None)
        return path if best is None else moves[best] + path[len(best):]

    result = {carried(path): item for path, item in host.items()}
    taken = [c for c in changes if c["state"] == 1]
    for c in taken:
        if c["op"] == 6:
            result.pop(c["path"], None)
        if c["op"] == 5 and c["guest"][0] == 1:
            result.pop(carried(c["from"]), None)
    for c in taken:
        if c["op"] == 3 and c["path"] in result:
            result[c["path"]] = (c["mode"], result[c["path"]][1])
        elif c["op"] == 4 and c["guest"][0] == 2:
            result.pop(c["path"], None)
        elif c["op"] in (1, 2, 4, 5) and c["guest"][0] == 1:
            result[c["path"]] = (c["mode"], guest[c["path"]][1])
    return result


def files_of(top):
    found = {}
    for at, _, names in os.walk(top):
        for name in names:
            path = os.path.join(at, name)
            with open(path, encoding="utf-8") as f:
                found[os.path.relpath(path, top)] = (os.stat(path).st_mode & 0o777, f.read())
    return found


def build(world, files):
    for path, (mode, text) in files.items():
        full = os.path.join(world.tree, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as f:
            f.write(text)
        os.chmod(full, mode)


@pytest.mark.parametrize("number", range(12))
def test_three_ways_against_a_model(tmp_path, number):
    seed = int(os.environ.get("COMPARE_SEED", number))
    rng = random.Random(seed)
    world, base = World(tmp_path), some_tree(rng)
    build(world, base)
    world.pack()
    work = Guest(rng, sorted(base))
    for _ in range(rng.randint(1, 7)):
        work.step()
    listing = tmp_path / "listing"
    (tmp_path / "list.py").write_text(LIST)
    world.work("\n".join([*work.said, f"/usr/bin/python3 {tmp_path}/list.py {listing}"]))
    guest = {path: tuple(item) for path, item in json.loads(listing.read_text()).items()}
    host_said = host_steps(rng, base)
    world.host("\n".join(f"({s}) 2>/dev/null || true" for s in host_said))
    host = files_of(world.tree)
    changes = world.compare()
    got, want = as_proposed(changes, host, guest), by_the_model(base, host, guest, work)
    assert got == want, f"seed {seed}\nguest: {work.said}\nhost: {host_said}\n{changes}"
