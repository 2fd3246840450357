"""The evaluator against a model written from docs/internals/policy.md alone: random policies, random
questions, two answers. The seed of a failure is in its message; POLICY_SEED repeats it.
"""

import os
import random
import subprocess

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
PROGRAM = os.path.join(TOP, "build/main/tests/integration/policy/policytest")
PRESETS = os.path.join(TOP, "profiles/egress")

LABELS = ["a", "b", "x-y"]
BASES = ["e.test", "e.test", "b.e.test", "evile.test"]
PORTS = [80, 443, 443, 5000, 6443]
PUBLIC = ["93.184.216.34", "2606:2800:220:1::1"]
PRIVATE = ["10.0.0.1", "10.0.1.9", "fd12::9"]
NEVER = ["169.254.169.254", "169.254.7.7", "fe80::1"]
METHODS = ["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
SEGMENTS = ["a", "b", "ab"]
CONTROL = {2379, 2380, 6443, 10250, 10255, 10257, 10259}


# -- random policies ------------------------------------------------------------------------------


def some_name(rng):
    return ".".join([*(rng.choice(LABELS) for _ in range(rng.randrange(2))), rng.choice(BASES)])


def some_pattern(rng):
    return rng.choice(["", "", "*.", "**."]) + some_name(rng)


def some_ports(rng):
    if rng.random() < 0.2:
        low = rng.randrange(1, 9000)
        return [(low, low + rng.randrange(4000))]
    return [(p, p) for p in rng.sample(PORTS, rng.randrange(2, 5))]


def some_path_pattern(rng):
    parts = []
    for _ in range(rng.randrange(1, 5)):
        parts.append(rng.choice([*SEGMENTS, "*", "a*", "*b", "**", "**"]))
    return "/" + "/".join(parts) + rng.choice(["", "", "/"])


def some_entry(rng):
    entry = {}
    if rng.random() < 0.7:
        entry["method"] = rng.sample([*METHODS, "read-only", "write"], rng.randrange(1, 3))
    if rng.random() < 0.7 or not entry:
        entry["path"] = some_path_pattern(rng)
    if rng.random() < 0.3:
        mode = rng.choice([None, None, "any", "all", "once", "missing"])
        values = [rng.choice(["1", "2*", "*", ""]) for _ in range(rng.randrange(1, 3))]
        entry["query"] = {rng.choice("qr"): (mode, values)}
    return entry


def some_rule(rng):
    rule = {"deny": rng.random() < 0.25}
    if rng.random() < 0.2:
        nets = ["10.0.0.0/24", "10.0.0.1/32", "fd12::/64", "93.184.216.0/24", "10.0.0.0/8"]
        rule["address"] = rng.choice(nets)
        if not rule["deny"] or rng.random() < 0.5:
            rule["ports"] = some_ports(rng)
        if rng.random() < 0.3:
            rule["protocol"] = rng.choice(["tcp", "udp"])
        return rule
    rule["host"] = some_pattern(rng)
    if rng.random() < 0.8:
        rule["ports"] = some_ports(rng)
    if rng.random() < 0.35:
        rule["http"] = [some_entry(rng) for _ in range(rng.randrange(1, 3))]
        if rng.random() < 0.15:
            rule["observe"] = True
    if rng.random() < 0.3:
        allowed = ["tcp", "udp"] if rule["deny"] else ["tls", "http", "tcp", "udp"]
        if "http" in rule:
            allowed = [p for p in allowed if p in ("tls", "http")]
        if allowed and (rule["deny"] or "ports" in rule or allowed[0] == "tls"):
            rule["protocol"] = rng.choice(allowed)
            if rule["protocol"] in ("tcp", "udp") and "ports" not in rule and not rule["deny"]:
                rule["ports"] = some_ports(rng)
    if not rule["deny"] and rng.random() < 0.15:
        reads = rule.get("protocol") not in ("tcp", "udp")
        if "http" not in rule and (rng.random() < 0.5 or not reads):
            rule["inspect"] = False
        elif reads:
            rule["inspect"] = True
    return rule


def some_secret(rng, number):
    secret = {"name": f"S{number}", "hosts": [some_pattern(rng) for _ in range(rng.randrange(1, 3))]}
    if rng.random() < 0.3:
        secret["ports"] = some_ports(rng)
    if rng.random() < 0.3:
        secret["method"] = rng.sample(METHODS, 2)
    if rng.random() < 0.3:
        secret["path"] = [some_path_pattern(rng)]
    return secret


def some_policy(rng):
    return {
        "default": "allow" if rng.random() < 0.2 else "deny",
        "rules": [some_rule(rng) for _ in range(rng.randrange(0, 9))],
        "secrets": [some_secret(rng, i) for i in range(rng.randrange(0, 4))],
    }


# -- as YAML --------------------------------------------------------------------------------------


def quoted(value):
    return '"' + value + '"'


def ports_yaml(ports):
    return "[" + ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ports) + "]"


def entry_yaml(entry):
    parts = []
    if "method" in entry:
        parts.append("method: [" + ", ".join(entry["method"]) + "]")
    if "path" in entry:
        parts.append("path: " + quoted(entry["path"]))
    for name, (mode, values) in entry.get("query", {}).items():
        listed = "[" + ", ".join(quoted(v) for v in values) + "]"
        if mode == "missing":
            listed = "{ missing: true }"
        elif mode:
            listed = f"{{ {mode}: {listed} }}"
        parts.append(f"query: {{ {name}: {listed} }}")
    return "{ " + ", ".join(parts) + " }"


def rule_yaml(rule):
    parts = [f"{k}: {quoted(rule[k])}" for k in ("host", "address") if k in rule]
    if "ports" in rule:
        parts.append("port: " + ports_yaml(rule["ports"]))
    if "protocol" in rule:
        parts.append("protocol: " + rule["protocol"])
    if rule["deny"]:
        parts.append("deny: true")
    for flag in ("inspect", "observe"):
        if flag in rule:
            parts.append(f"{flag}: {str(rule[flag]).lower()}")
    if "http" in rule:
        parts.append("http: [ " + ", ".join(entry_yaml(e) for e in rule["http"]) + " ]")
    return "{ " + ", ".join(parts) + " }"


def secret_yaml(secret):
    parts = [f"name: {secret['name']}", "hosts: [" + ", ".join(map(quoted, secret["hosts"])) + "]"]
    if "ports" in secret:
        parts.append("port: " + ports_yaml(secret["ports"]))
    if "method" in secret:
        parts.append("method: [" + ", ".join(secret["method"]) + "]")
    if "path" in secret:
        parts.append("path: [" + ", ".join(map(quoted, secret["path"])) + "]")
    return "{ " + ", ".join(parts) + " }"


def policy_yaml(policy):
    lines = ["version: 1", "network:", f"  default: {policy['default']}", "  rules:"]
    lines += [f"    - {rule_yaml(r)}" for r in policy["rules"]] or ["    []"]
    lines += ["secrets:"] + ([f"  - {secret_yaml(s)}" for s in policy["secrets"]] or ["  []"])
    return "\n".join(lines) + "\n"


# -- the model ------------------------------------------------------------------------------------


def host_covers(pattern, name):
    stars, _, rest = pattern.rpartition("*.")
    if "*" not in pattern:
        return pattern == name
    if not name.endswith("." + rest):
        return False
    front = name[: -len(rest) - 1]
    return bool(front) and (stars == "*" or "." not in front)


def segment_covers(pattern, text):
    """Recursive, unlike what is tested."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return segment_covers(pattern[1:], text) or bool(text and segment_covers(pattern, text[1:]))
    return bool(text) and pattern[0] == text[0] and segment_covers(pattern[1:], text[1:])


def path_covers(pattern, path):
    def segments(want, have):
        if not want:
            return not have
        if want[0] == "**":
            return segments(want[1:], have) or bool(have and segments(want, have[1:]))
        return bool(have) and segment_covers(want[0], have[0]) and segments(want[1:], have[1:])

    return segments(pattern.split("/")[1:], path.split("/")[1:])


def methods_of(words):
    if words is None:
        return None
    got = set()
    for word in words:
        if word in ("read-only", "write"):
            got |= {"GET", "HEAD", "OPTIONS"}
        if word == "write":
            got |= {"POST", "PUT", "PATCH"}
        got |= {word, "HEAD"} if word == "GET" else {word}
    return got


def query_holds(name, mode, values, query, deny):
    """Values of the parameter; the random queries have neither escapes nor ';'."""
    pairs = [part.partition("=") for part in query.split("&") if part]
    have = [value for key, _, value in pairs if key == name]
    hits = [v for v in have if any(segment_covers(p, v) for p in values)]
    mode = mode or ("any" if deny else "all")
    return {
        "any": bool(hits),
        "all": bool(have) and len(hits) == len(have),
        "once": len(have) == 1 and len(hits) == 1,
        "missing": not have,
    }[mode]


class Model:
    def __init__(self, policy):
        self.policy = policy
        self.rules = policy["rules"]

    @staticmethod
    def in_net(address, net):
        import ipaddress

        net, address = ipaddress.ip_network(net), ipaddress.ip_address(address)
        return address.version == net.version and address in net

    @staticmethod
    def ports_of(rule):
        if "ports" in rule:
            return rule["ports"]
        if rule["deny"]:
            return [(1, 65535)]
        return {"tls": [(443, 443)], "http": [(80, 80)]}.get(
            rule.get("protocol"), [(80, 80), (443, 443)]
        )

    def on_port(self, rule, port):
        return any(low <= port <= high for low, high in self.ports_of(rule))

    @staticmethod
    def on_transport(rule, transport):
        if rule["deny"] and "protocol" not in rule:
            return True
        return (rule.get("protocol") == "udp") == (transport == "udp")

    def address(self, ask):
        """None, or why not; and whether an address rule opens it."""
        if ask["addr"] in NEVER:
            metadata = ask["addr"] == "169.254.169.254"
            return ("metadata-address" if metadata else "special-address"), False
        special = ask["addr"] in PRIVATE
        opened = False
        for rule in self.rules:
            if "address" not in rule or not self.in_net(ask["addr"], rule["address"]):
                continue
            if not self.on_port(rule, ask["port"]) or not self.on_transport(rule, ask["transport"]):
                continue
            if rule["deny"]:
                return "denied-by-rule", False
            named = (ask["port"], ask["port"]) in merged(self.ports_of(rule))
            if not (special and ask["port"] in CONTROL and not named):
                opened = True
        return ("special-address" if special and not opened else None), opened

    def covering(self, name, port):
        for rule in self.rules:
            if "host" in rule and host_covers(rule["host"], name) and self.on_port(rule, port):
                yield rule

    def begins(self, rule, port):
        protocol = rule.get("protocol")
        if protocol in ("tls", "http"):
            return protocol
        if protocol in ("tcp", "udp"):
            return "raw"
        reads = "http" in rule or rule.get("inspect")
        return "http" if port == 80 else "tls" if port == 443 or reads else "raw"

    def found(self, name, ask):
        """What the rules that cover the name say together."""
        f = {"deny": False, "deny_http": False, "allow": False, "begins": set(), "http": False,
             "pass": False, "inspect": False, "other": False, "default": False}
        for rule in self.covering(name, ask["port"]):
            if not self.on_transport(rule, ask["transport"]):
                f["other"] |= not rule["deny"]
            elif rule["deny"]:
                f["deny_http" if "http" in rule else "deny"] = True
            else:
                f["allow"] = True
                f["begins"].add(self.begins(rule, ask["port"]))
                f["http"] |= "http" in rule
                f["inspect"] |= rule.get("inspect") is True
                f["pass"] |= rule.get("inspect") is False or rule.get("protocol") == "tcp"
        if not f["allow"] and self.policy["default"] == "allow" and ask["transport"] == "tcp":
            f["allow"] = f["default"] = True
            f["begins"] = {{443: "tls", 80: "http"}.get(ask["port"], "raw")}
        f["secrets"] = ask["transport"] == "tcp" and any(
            any(host_covers(h, name) for h in s["hosts"])
            and any(low <= ask["port"] <= high for low, high in s.get("ports", [(1, 65535)]))
            for s in self.policy["secrets"]
        )
        if "raw" in f["begins"] and not f["pass"]:
            if f["deny_http"]:
                f["begins"] = f["begins"] - {"raw"} | {"tls", "http"}
            elif f["secrets"]:
                f["begins"] = f["begins"] - {"raw"} | {"tls"}
        return f

    def refuse(self, ask, crowd):
        if any(f["deny"] for f in crowd):
            return "deny", "denied-by-rule"
        if ask["transport"] == "udp" and ask["port"] == 443:
            return "deny", "quic-refused"
        default_udp = ask["transport"] == "udp" and self.policy["default"] == "allow"
        if any(f["other"] for f in crowd) or default_udp:
            return "deny", "protocol-not-allowed"
        if not crowd and any("host" in r and not r["deny"] for r in self.rules):
            return "deny", "not-resolved"
        return "deny", "no-rule"

    def connect(self, ask):
        why, opened = self.address(ask)
        if why:
            return "deny", why
        crowd = [self.found(n, ask) for n in ask["names"]]
        good = [f for f in crowd if f["allow"] and not f["deny"]]
        denied = any(f["deny"] for f in crowd)
        if not good:
            if opened:
                return ("needs-name" if denied else "allow"), "allowed"
            open_default = self.policy["default"] == "allow" and not ask["names"]
            if denied or not open_default or ask["transport"] == "udp":
                return self.refuse(ask, crowd)
            return {443: "needs-tls", 80: "needs-http"}.get(ask["port"], "allow"), "allowed"
        if ask["transport"] == "udp":
            return ("deny", "denied-by-rule") if denied else ("allow", "allowed")
        begins = set().union(*(f["begins"] for f in good))
        if begins in ({"tls"}, {"http"}):
            return "needs-" + begins.pop(), "allowed"
        if not denied and all("raw" in f["begins"] for f in good):
            return "allow", "allowed"
        return "needs-name", "allowed"

    def flow(self, ask):
        why, opened = self.address(ask)
        if why:
            return "deny", why, False
        if not ask["name"]:
            return self.nameless(ask, opened)
        f = self.found(ask["name"], ask)
        if f["deny"]:
            return "deny", "denied-by-rule", False
        if ask["name"] not in ask["names"]:
            if opened and not f["deny_http"]:
                return "allow", "allowed", False
            tls = ask["seen"] == "tls"
            return "deny", "sni-mismatch" if tls else "host-mismatch", False
        fits = "raw" in f["begins"] or ask["seen"] in f["begins"] or f["default"]
        if not (f["allow"] and fits) and not opened:
            if not f["allow"]:
                return "deny", "no-rule", False
            return "deny", "not-tls" if "tls" in f["begins"] else "not-http", False
        if f["deny_http"]:
            if ask["seen"] == "raw":
                return "deny", "not-tls", False
            if f["pass"]:
                return "deny", "denied-by-rule", False
            return "allow", "allowed", True
        reads = f["http"] or f["inspect"] or ask["seen"] == "http"
        reads = reads or (f["secrets"] and ask["seen"] == "tls")
        return "allow", "allowed", reads and not f["pass"] and ask["seen"] != "raw"

    def nameless(self, ask, opened):
        crowd = [self.found(n, ask) for n in ask["names"]]
        good = [f for f in crowd if f["allow"] and not f["deny"]]
        denied = any(f["deny"] or f["deny_http"] for f in crowd)
        if not denied and opened:
            return "allow", "allowed", False
        if not denied and self.policy["default"] == "allow" and ask["seen"] != "http":
            return "allow", "allowed", False
        if ask["seen"] != "raw":
            return "deny", {"tls": "sni-missing", "http": "host-mismatch"}[ask["seen"]], False
        if not good:
            return *self.refuse(ask, crowd), False
        if not denied and all("raw" in f["begins"] for f in good):
            return "allow", "allowed", False
        only_http = set().union(*(f["begins"] for f in good)) == {"http"}
        return "deny", "not-http" if only_http else "not-tls", False

    @staticmethod
    def entry(entry, ask, deny):
        """'yes', 'method' (all but that) or 'no'."""
        if "path" in entry and not path_covers(entry["path"], ask["path"]):
            return "no"
        for name, (mode, values) in entry.get("query", {}).items():
            if not query_holds(name, mode, values, ask["query"], deny):
                return "no"
        methods = methods_of(entry.get("method"))
        return "yes" if methods is None or ask["method"] in methods else "method"

    def request(self, ask):
        why, opened = self.address(ask)
        if why:
            return "deny", why
        if not ask["name"]:
            return "deny", "host-mismatch"
        allow = opened or self.policy["default"] == "allow"
        observed_deny = observe = method = path = False
        for rule in self.covering(ask["name"], ask["port"]):
            if not self.on_transport(rule, "tcp"):
                continue
            answers = [self.entry(e, ask, rule["deny"]) for e in rule.get("http", [])] or ["yes"]
            hit = "yes" in answers
            if rule["deny"]:
                if hit and not rule.get("observe"):
                    return "deny", "denied-by-rule"
                observed_deny |= hit
                continue
            begins = self.begins(rule, ask["port"])
            if begins not in ("raw", ask["seen"]):
                continue
            allow |= hit
            observe |= not hit and bool(rule.get("observe"))
            if not hit and not rule.get("observe"):
                method |= "method" in answers
                path |= "method" not in answers
        if allow:
            return "allow", "denied-by-rule" if observed_deny else "allowed"
        if observe:
            return "allow", "method" if method else "path"
        return "deny", "method" if method else "path" if path else "no-rule"

    def name(self, name):
        rules = [r for r in self.rules if "host" in r and host_covers(r["host"], name)]
        for rule in rules:
            if rule["deny"] and not {"ports", "http", "protocol"} & rule.keys():
                return "deny", "denied-by-rule"
        if any(not r["deny"] for r in rules) or self.policy["default"] == "allow":
            return "allow", "allowed"
        return "deny", "no-rule"

    def secrets(self, ask):
        if not ask["name"] or ask["seen"] != "tls" or ask["transport"] != "tcp":
            return 0
        f = self.found(ask["name"], ask)
        if f["pass"] or f["deny"]:
            return 0
        got = 0
        for i, s in enumerate(self.policy["secrets"]):
            ports = s.get("ports", [(1, 65535)])
            fits = any(host_covers(h, ask["name"]) for h in s["hosts"])
            fits &= any(low <= ask["port"] <= high for low, high in ports)
            methods = methods_of(s.get("method"))
            fits &= methods is None or ask["method"] in methods
            fits &= any(path_covers(p, ask["path"]) for p in s.get("path", ["/**"]))
            got |= fits << i
        return got


def merged(ports):
    """Ranges that touch are one, as in the compiled policy."""
    out = []
    for low, high in sorted(ports):
        if out and low <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(high, out[-1][1]))
        else:
            out.append((low, high))
    return out


# -- the questions --------------------------------------------------------------------------------


def some_ask(rng, names):
    pins = rng.sample(names, min(len(names), rng.randrange(0, 4)))
    chance = rng.random()
    name = rng.choice(pins) if pins and chance < 0.8 else rng.choice(names) if chance < 0.9 else ""
    address = rng.choice(PUBLIC * 12 + PRIVATE + NEVER[: rng.randrange(4)])
    path = "/" + "/".join(rng.choice(SEGMENTS) for _ in range(rng.randrange(1, 4)))
    query = "&".join(f"{rng.choice('qr')}={rng.choice(['1', '2', '22', ''])}" for _ in range(rng.randrange(3)))
    return {
        "addr": address,
        "port": rng.choice(PORTS),
        "transport": "udp" if rng.random() < 0.1 else "tcp",
        "seen": rng.choice(["tls", "tls", "http", "raw"]),
        "names": pins,
        "name": name,
        "method": rng.choice(METHODS),
        "path": path + rng.choice(["", "", "/"]),
        "query": query,
    }


def line(kind, ask):
    words = [kind, ask["addr"], str(ask["port"]), ask["transport"], ask["seen"],
             ",".join(ask["names"]), ask["name"], ask["method"], ask["path"], ask["query"]]
    return "\t".join(words)


def expect(model, kind, ask):
    if kind == "name":
        return model.name(ask)
    if kind == "secrets":
        return (f"{model.secrets(ask):x}",)
    if kind == "flow":
        if ask["transport"] == "udp":
            return model.connect(ask)
        act, reason, inspect = model.flow(ask)
        return act, reason, inspect
    return getattr(model, kind)(ask)


def got_of(kind, text):
    words = text.split("\t")
    if kind == "secrets":
        return (words[0],)
    return (words[0], words[1], "i" in words[2]) if kind == "flow" else (words[0], words[1])


def questions(rng, policy, count):
    names = sorted({some_name(rng) for _ in range(6)})
    for rule in policy["rules"]:
        if "host" in rule:
            base = rule["host"].rpartition("*.")[2]
            names += [base, "a." + base]
    for _ in range(count):
        kind = rng.choice(["connect", "flow", "flow", "request", "request", "secrets", "name"])
        if kind == "name":
            yield kind, rng.choice(names)
            continue
        ask = some_ask(rng, sorted(set(names)))
        if kind in ("request", "secrets"):
            ask["transport"] = "tcp"
        if kind == "request":
            ask["seen"] = rng.choice(["tls", "tls", "http"])
        yield kind, ask


def ask_program(path, asked):
    lines = [f"name\t{a}" if k == "name" else line(k, a) for k, a in asked]
    done = subprocess.run([PROGRAM, PRESETS, "file", path], input="\n".join(lines) + "\n",
                          capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(asked)
    return answers


@pytest.mark.parametrize("part", range(6))
def test_random_policies_against_the_model(tmp_path, part):
    seed = int(os.environ.get("POLICY_SEED", "20")) * 1000 + part
    rng = random.Random(seed)
    for number in range(40):
        policy = some_policy(rng)
        path = tmp_path / "p.yaml"
        path.write_text(policy_yaml(policy))
        asked = list(questions(rng, policy, 120))
        model = Model(policy)
        for (kind, ask), text in zip(asked, ask_program(str(path), asked)):
            want = expect(model, kind, ask)
            got = got_of(kind, text)[: len(want)]
            assert got == tuple(want), (
                f"seed {seed}, policy {number}: {kind} {ask}\n{path.read_text()}\n{text}"
            )
