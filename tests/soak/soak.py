"""Mixed traffic through a gate and a vault, again and again, and what they take of memory meanwhile.

The programs run in their jails between a TAP (tests/integration/gate/rig.py) and the test world (egress_world). A round
is client.py's, under another policy than the one before, with another value of the secret.
"""

import json
import os
import re
import sys

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), os.pardir, os.pardir))
for folder in ("tests/lib", "tests/e2e", "tests/integration/gate"):
    sys.path.insert(0, os.path.join(TOP, folder))

CLIENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "client.py")
WHO = ("gate", "vault")
POLICY = """version: 1
network:
  rules:
    - {{ host: files.world.test, port: [443, 8000] }}
    - {{ host: api.world.test, port: 443 }}
    - {{ host: other.world.test, port: 443, http: [ {{ method: GET, path: "/round{round}/**" }} ] }}
    - {{ host: expired.world.test, port: 443, inspect: true }}
    - {{ host: four.world.test, port: [7002, 7003, 7005], protocol: tcp }}
    - {{ host: refuses.world.test, port: 7 }}
    - {{ host: away.world.test, port: 7, protocol: udp }}
    - {{ host: "*.wild.world.test", port: 443 }}
limits: {{ dns_rate: 10000, connection_rate: 10000 }}
secrets:
  - {{ name: TOKEN, from: env, hosts: [api.world.test], header: {{ name: authorization, prefix: "Bearer " }} }}
"""


def memory(pid):
    """KiB of a process's own memory, and how many files it has open."""
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        text = f.read()
    found = {k: int(re.search(rf"^{k}:\s+(\d+)", text, re.MULTILINE)[1]) for k in ("Rss", "Pss", "Anonymous")}
    found["files"] = len(os.listdir(f"/proc/{pid}/fd"))
    return found


class Soak:
    """rig: a Rig. Each round() is one of everything."""

    def __init__(self, rig):
        self.rig, self.rounds, self.wrong, self.records = rig, 0, [], 0

    def round(self):
        self.rounds += 1
        self.rig.policy(POLICY.format(round=self.rounds))
        holder = self.rig.ask("secret", name="TOKEN", value=f"ghp_{self.rounds:036d}")
        got = self.rig.guest("/usr/bin/python3", CLIENT, str(self.rounds), holder, timeout=600)
        if got.returncode:
            raise AssertionError(f"round {self.rounds}: {got.stderr[-2000:]}\n{self.rig.log()}")
        told = json.loads(got.stdout)
        self.wrong += [f"round {self.rounds}: {w}" for w in told["wrong"]]
        self.records += self.rig.ask("forget")
        return {who: memory(self.rig.pids[who]) for who in WHO}
