"""A sandbox with a policy in the test world, and its three witnesses: the guest, the servers and the record."""

import contextlib
import json
import os

import sandboxes
from bermtest import TOP, wait_for

PROBE = os.path.join(TOP, "tests/lib/probe.py")
EXEC_SECONDS_MAX = 300


class WorldBerm(sandboxes.Berm):
    """berm run on the berm side of the world."""

    def __init__(self, state_dir, stage, world):
        super().__init__(state_dir, stage)
        self.world = world

    def argv(self, args):
        return [*self.world.enter_as_user(), *super().argv(args)]


class Box:
    """A sandbox in the background."""

    def __init__(self, berm, image, policy="", flags=(), env=None, files=None, keep=None):
        """policy: text of a file; files: where it may be written; keep: argv of the guest's first command."""
        self.berm, self.world, self.image = berm, berm.world, image
        self.policy, self.flags, self.env = policy, list(flags), env or {}
        self.files = files
        self.keep = keep or ["sleep", "36000"]
        self.id = None

    def __enter__(self):
        flags = list(self.flags)
        if self.policy:
            flags += ["--policy", self.write("policy.yaml", self.policy)]
        self.id = self.berm.ok("run", "-d", *flags, self.image, *self.keep, env=self.env).strip().splitlines()[-1]
        try:
            with open(PROBE, "rb") as f:
                self.berm.ok("exec", self.id, "sh", "-c", "cat >/tmp/probe.py", input=f.read())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.id:
            self.berm.run("rm", "-f", self.id)
            self.id = None

    def write(self, name, text):
        path = os.path.join(self.files, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def exec(self, *argv, user=None, **more):
        more.setdefault("timeout", EXEC_SECONDS_MAX)
        return self.berm.run("exec", self.id, *argv, **more)

    def sh(self, script, code=0, **more):
        got = self.exec("sh", "-c", script, **more)
        assert code is None or got.returncode == code, f"{script}\n{got.returncode}\n{got.stdout}\n{got.stderr}"
        return got.stdout

    def py(self, script, *argv, **more):
        """The values that a Python script said, with probe.py's words at hand. One value comes alone."""
        script = "import sys; sys.path.insert(0, '/tmp'); from probe import *\n" + script
        got = self.exec("python3", "-c", script, *[str(a) for a in argv], **more)
        assert got.returncode == 0, f"{script}\n{got.stdout}\n{got.stderr}"
        values = [json.loads(line) for line in got.stdout.splitlines()]
        return values[0] if len(values) == 1 else values

    def start(self, *argv, **more):
        return self.berm.start("exec", self.id, *argv, **more)

    # -- the record -------------------------------------------------------------------------------

    def events(self, since=0, **wanted):
        """What `berm logs --egress` tells, from that one on."""
        lines = self.berm.ok("logs", "--egress", "--json", self.id).splitlines()
        found = [json.loads(line) for line in lines][since:]
        return [e for e in found if all(e.get(k) == v for k, v in wanted.items())]

    def mark(self):
        return Mark(self)

    def inspect(self):
        return self.berm.json("inspect", self.id)

    def stats(self):
        return self.berm.json("stats", "--no-stream", "--json", self.id)


class Mark:
    """Where the servers' record and the sandbox's own were."""

    def __init__(self, box):
        self.box, self.world = box, box.world
        self.events_at, self.at = len(box.events()), box.world.mark()

    def event(self, seconds=10, **wanted):
        """The one event like that since; it may be written a moment after the guest has seen it."""
        found = wait_for(f"an event {wanted} in {self.events()}", lambda: self.events(**wanted), seconds)
        assert len(found) == 1, f"more than one event: {found}"
        return found[0]

    def events(self, **wanted):
        return self.box.events(self.events_at, **wanted)

    def requests(self, **wanted):
        return self.world.requests(self.at, **wanted)

    def arrived(self, kind=None, **wanted):
        return self.world.since(self.at, kind, **wanted)

    def packets(self):
        """What left berm's side, lookups aside: (protocol, address, port) of each."""
        return {(p["what"], p["to"], p.get("port")) for p in self.arrived("packet") if p.get("port") != 53}

    def nothing_arrived(self, dns=()):
        """No server saw anything, but questions about these names."""
        wrong = self.world.silent(self.at, dns)
        assert not wrong, f"arrived: {wrong}"

    def bytes(self):
        return self.world.bytes_since(self.at)


def refused(mark, reason, dns=(), **wanted):
    """One event of a refusal, and nothing at any server."""
    got = mark.event(event="refused", reason=reason, **wanted)
    mark.nothing_arrived(dns)
    return got


@contextlib.contextmanager
def boxes(*made):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(b) for b in made]
