"""A gate and a vault between a kernel's own network stack and the test world: what tests hold."""

import contextlib
import json
import os
import signal
import subprocess
import sys

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
sys.path.insert(0, f"{TOP}/tests/e2e")
from egress_world.world import missing  # noqa: E402

TUN = os.access("/dev/net/tun", os.R_OK | os.W_OK) and os.geteuid() == 0
WHY_NOT = missing() or ("" if TUN else "a tap device needs root")
HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = os.environ.get("BERM_GATE_PROGRAMS", f"{TOP}/build/main/src/bin")
POLICYC = f"{TOP}/build/main/tests/integration/vault/policyc"


class Rig:
    def __init__(self, world, folder, rules):
        self.world, self.folder, self.generation = world, str(folder), 0
        self.driver = subprocess.Popen([*world.enter(), "/usr/bin/python3", f"{HERE}/driver.py", self.folder, PROGRAMS],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        line = self.driver.stdout.readline()
        assert line, self.log()
        self.pids = json.loads(line)
        self.rules(rules)

    def log(self):
        with open(f"{self.folder}/companions.log", encoding="utf-8", errors="replace") as f:
            return f.read()

    def ask(self, do, **what):
        self.driver.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self.driver.stdin.flush()
        answer = json.loads(self.driver.stdout.readline())
        assert "fault" not in answer, (answer, self.log())
        return answer["ok"]

    def policy(self, text):
        self.generation += 1
        got = subprocess.run([POLICYC, str(self.generation)], input=text.encode(), capture_output=True, check=False)
        assert got.returncode == 0, got.stderr
        assert self.ask("policy", tlv=got.stdout.hex(), generation=self.generation) is True

    def rules(self, rules):
        lines = "".join(f"    - {{ {r} }}\n" for r in rules)
        self.policy(f"version: 1\nnetwork:\n  rules:\n{lines}")

    def words(self):
        return ["nsenter", "-t", str(self.pids["guest"]), "-n", "-m", "--"]

    def guest(self, *argv, **more):
        """Runs a command where the guest would be."""
        more = {"capture_output": True, "text": True, "timeout": 120, "check": False, **more}
        return subprocess.run([*self.world.enter(), *self.words(), *argv], **more)

    def guest_process(self, script, prelude=""):
        """The same, a Python script that goes on while the test does other things."""
        return subprocess.Popen([*self.world.enter(), *self.words(), "/usr/bin/python3", "-c", prelude + script],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def kill(self, who):
        os.kill(self.pids[who], signal.SIGKILL)

    def has_ended(self, who):
        with open(f"/proc/{self.pids[who]}/stat", encoding="ascii", errors="replace") as f:
            return f.read().rpartition(")")[2].split()[0] == "Z"

    def records(self, **wanted):
        return [r for r in self.ask("drain") if all(r[k] == v for k, v in wanted.items())]

    def stats(self, who="gate"):
        return self.ask("stats", who=who)

    def close(self):
        self.driver.stdin.close()
        self.driver.wait()
        self.driver.stdout.close()


@contextlib.contextmanager
def joined(world, folder, rules):
    """A rig of a fresh world, whose programs have nothing to complain of."""
    world.reset()
    made = Rig(world, folder, rules)
    yield made
    log = made.log()
    made.close()
    assert log == ""
