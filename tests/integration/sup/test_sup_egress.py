"""A gate and a vault that are late, refuse, lie or die; the policy, secrets and connections that
commands bring; and what is written down of it."""

import json
import os
import signal
import socket
import struct

import fake_control as say
import gates
import pytest
import sandboxes
import starts
import test_sup_template
import wire
from test_sup_gate import environment, gated  # noqa: F401

# serves commands one after another: each runs until the next, and writes its EXEC's payload
SERVES = """
boot()
running = None
while True:
    type_, stream, _, payload = receive(EXEC, STATS)
    if type_ == STATS:
        say(STATS_OK, payload=bytes(72))
        continue
    if running and running != 1:
        say(EXIT, running, payload=exit_payload(0))
    say(EXEC_OK, stream, payload=u32(42))
    say(DATA, stream, OUT, payload=payload)
    running = stream
"""
QUICK = """
boot()
_, _, _, payload = receive(EXEC)
say(EXEC_OK, 1, payload=u32(42))
say(DATA, 1, OUT, payload=payload)
end()
"""
# tells the test what the vault has
TELLS = """
import json
def tell(*_):
    mark('mark-vault', json.dumps({
        'values': {n.decode(): v.decode() for n, v in values.items()},
        'policies': [p.hex() for p in policies]}))
for kind in (say.POLICY, say.SECRET, say.SECRET_RM, say.IMPORT):
    control.on[kind] = (lambda f: lambda *a: (f(*a), tell()))(control.on[kind])
ready()
"""


def start(sup, behaviour=SERVES, gate="ready()\n", vault="ready()\n", cold=True, **more):
    sup.play(behaviour)
    gates.play(sup.folder, gate, vault)
    return starts.Sandbox(sup, "tiny", ["true"], cold=cold, engine=starts.QEMU, **more)


def folder(sup, s):
    return os.path.join(sup.state_dir, "sandboxes", s.id)


def lines(path):
    with open(os.path.join(path, "egress.jsonl")) as f:
        return [json.loads(line) for line in f]


def generation(tlv):
    return struct.unpack_from("<Q", tlv, 8)[0]


class Asker:
    """A command at egress.sock."""

    def __init__(self, sup, s):
        path = os.path.join(folder(sup, s), "egress.sock")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd = os.open(os.path.dirname(path), os.O_RDONLY)
        sandboxes.wait_for("egress.sock", lambda: os.path.exists(path))
        self.sock.connect(f"/proc/self/fd/{fd}/egress.sock")
        os.close(fd)
        self.sock.settimeout(30)

    def send(self, kind, payload=b"", fds=(), **more):
        socket.send_fds(self.sock, [say.packet(kind, payload, **more)], list(fds))
        for fd in fds:
            os.close(fd)

    def answer(self):
        data = self.sock.recv(4096)
        return (data[1], data[4:]) if data else None

    def ask(self, *args):
        self.send(*args)
        return self.answer()

    def policy(self, expect=0, tlv=None):
        data = starts.policy(True) if tlv is None else tlv
        return self.ask(say.POLICY, struct.pack("<I", expect), [starts.memory_file(data)])

    def secret(self, name, value):
        return self.ask(say.SECRET, struct.pack("<I", 9) + say.str16(name),
                        [starts.memory_file(value)])

    def remove(self, name):
        return self.ask(say.SECRET_RM, struct.pack("<I", 9) + say.str16(name))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()


def number(payload):
    return struct.unpack_from("<I", payload)[0]


def words(payload):
    return say.take_str16(payload, 4)[0].decode()


def run(sup, s, env=()):
    """One more command: its environment."""
    with sup.connect(s.id) as c:
        c.send(wire.EXEC, 1, 0, wire.exec_payload(["x"], env))
        return dict(environment(c.expect(wire.DATA).payload))


def info(sup, s):
    with sup.connect(s.id) as c:
        c.send(wire.INFO)
        return json.loads(c.expect(wire.INFO_OK).payload)


# --- the start ---


def test_commands_get_placeholders_and_never_a_value(gated):
    net = [starts.policy_part(), starts.secret_part("KEY", b"the real one"),
           starts.secret_part("OTHER", b"another"), starts.secret_part("MINE", b"third")]
    with start(gated, QUICK, vault=TELLS, net=net, env=["MINE=third", "A=1", "OTHER="]) as s:
        result, out = s.finish()
    assert result["reason"] == "exited", result
    # a variable that came along by its name has the value: it does not go in
    assert environment(out) == [("A", "1"), ("OTHER", ""), ("KEY", "ph-KEY"), ("MINE", "ph-MINE")]
    told = json.loads(gates.marked(gated.folder, "mark-vault"))
    assert told["values"] == {"KEY": "the real one", "OTHER": "another", "MINE": "third"}
    assert [generation(bytes.fromhex(p)) for p in told["policies"]] == [1]


@pytest.mark.parametrize("late", ["policy", "secret", "ready", "gate"])
def test_the_guest_waits_for_all_of_it(gated, late):
    wait = "import time\nwhile not os.path.exists(here + '/mark-go'): time.sleep(0.02)\n"
    hold = f"f = control.on[say.{late.upper()}]\ndef g(*a):\n    " + \
        wait.replace("\n", "\n    ") + f"\n    f(*a)\ncontrol.on[say.{late.upper()}] = g\nready()\n"
    gate = wait + "ready()\n" if late == "gate" else "ready()\n"
    vault = {"ready": wait + "ready()\n", "gate": "ready()\n"}.get(late, hold)
    behaviour = "send(hello())\nreceive(IDENTITY)\nmark('mark-identity')\nsay(IDENTITY_OK)\n" \
        "receive(EXEC)\nsay(EXEC_OK, 1, payload=u32(42))\nend()\n"
    net = [starts.policy_part(), starts.secret_part("KEY", b"value")]
    with start(gated, behaviour, gate, vault, net=net) as s:
        sandboxes.wait_for("both", lambda: len(gates.processes()) >= 2)
        with pytest.raises(AssertionError):
            sandboxes.wait_for("the guest", lambda: os.path.exists(
                os.path.join(gated.folder, "mark-identity")), 0.3)
        with open(os.path.join(gated.folder, "mark-go"), "w"):
            pass
        assert s.finish()[0]["reason"] == "exited"


@pytest.mark.parametrize("late, seen", [("gate", []), ("vault", ["identity"])])
def test_a_restored_guest_takes_its_identity_while_the_vault_starts(gated, late, seen):
    def marks():
        return [m for m in ("identity", "exec") if os.path.exists(os.path.join(gated.folder, f"mark-{m}"))]

    wait = "import time\nwhile not os.path.exists(here + '/mark-go'): time.sleep(0.02)\nready()\n"
    scripts = {"gate": "ready()\n", "vault": "ready()\n", late: wait}
    behaviour = test_sup_template.MACHINE + test_sup_template.HONEST + \
        "mark('mark-identity')\nsay(IDENTITY_OK)\nreceive(EXEC)\nmark('mark-exec')\n" \
        "say(EXEC_OK, 1, payload=u32(42))\nend()\n"
    with start(gated, behaviour, cold=False, **scripts) as s:
        sandboxes.wait_for("both", lambda: len(gates.processes()) >= 2)
        sandboxes.wait_for("the guest", lambda: marks() == seen)
        with pytest.raises(AssertionError):
            sandboxes.wait_for("more", lambda: marks() != seen, 0.3)
        with open(os.path.join(gated.folder, "mark-go"), "w"):
            pass
        result, _ = s.finish()
    assert (result["reason"], result["exit_code"]) == ("exited", 0), result


def fails(sup, vault, message, gate="ready()\n", **more):
    more.setdefault("net", [starts.policy_part(), starts.secret_part("KEY", b"value")])
    with start(sup, SERVES, gate, vault, **more) as s:
        result, _ = s.finish()
    assert (result["reason"], result["exit_code"]) == ("not-started", 125), result
    assert message in result["message"] and result["message"].isprintable(), result


BROKE = "the vault broke the protocol"
LIES = {
    "no answer's number": ("control.on[say.SECRET] = lambda p, f: control.say(say.SECRET_OK, "
                           "bytes(4) + say.str16('KEY') + say.str16('x'))"),
    "another name": ("control.on[say.SECRET] = lambda p, f: control.say(say.SECRET_OK, p[:4] + "
                     "say.str16('NOT') + say.str16('x'))"),
    "no placeholder": ("control.on[say.SECRET] = lambda p, f: control.say(say.SECRET_OK, p[:4] + "
                       "say.str16('KEY') + say.str16(''))"),
    "one that breaks a line": ("control.on[say.SECRET] = lambda p, f: control.say(say.SECRET_OK, "
                               "p[:4] + say.str16('KEY') + say.str16('a\\nb'))"),
    "twice": "f = control.on[say.SECRET]\ncontrol.on[say.SECRET] = lambda *a: (f(*a), f(*a))",
    "another generation": "control.on[say.POLICY] = lambda p, f: control.say(say.POLICY_OK, p"
                          "[:0] + b'\\2\\0\\0\\0')",
    "a certificate": "control.say(say.READY, bytes(4) + b'-----BEGIN CERTIFICATE-----\\nQUJD\\n"
                     "-----END CERTIFICATE-----\\n')",
    "a record before it is ready": "control.record()",
    "an import of nothing": "control.on[say.SECRET] = lambda p, f: control.say(say.SECRET_OK, "
                            "struct.pack('<I', (1 << 16) + 1) + bytes(4))",
    "what only a supervisor says": "control.on[say.POLICY] = lambda p, f: control.say(say.STATS, p)",
    "a descriptor": "control.on[say.POLICY] = lambda p, f: control.say(say.POLICY_OK, p, f)",
    "counters nobody asked for": "control.on[say.POLICY] = lambda p, f: control.say(say.STATS_OK, p + "
                                 "bytes(2))",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_vault_that_breaks_the_protocol(gated, lie):
    fails(gated, LIES[lie] + "\nready()\n", BROKE)


REFUSALS = {
    "a secret": ("control.on[say.SECRET] = lambda p, f: control.say(say.SECRET_BAD, p[:4] + "
                 "say.str16('it is \\x1b empty'))", "the vault does not take KEY: it is \\x1b empty"),
    "the policy": ("control.on[say.POLICY] = lambda p, f: control.say(say.POLICY_BAD, p + "
                   "say.str16('not sealed'))", "the vault does not take the policy: not sealed"),
    "all": ("os.write(2, b'no memory can be locked\\n'); os._exit(1)",
            "the vault ended: no memory can be locked"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_a_vault_that_refuses(gated, what):
    script, message = REFUSALS[what]
    fails(gated, script + "\nready()\n", message)


def test_no_vault_is_installed(gated):
    path = os.path.join(gated.folder, "berm-vault")
    os.rename(path, path + "-away")
    try:
        fails(gated, "", "the vault is not installed (berm-vault)")
    finally:
        os.rename(path + "-away", path)


PLANS = {
    "none": ([], "a network needs a policy"),
    "no policy": ([starts.secret_part("KEY", b"x")], "a network needs a policy"),
    "no compiled one": ([starts.policy_part(b"allow: all")], "the policy is no compiled one"),
    "a damaged one": ([starts.policy_part(starts.policy()[:-1] + b"\1")], "compiled policy"),
    "two": ([starts.policy_part(), starts.policy_part()], "plan is damaged"),
    "a stranger": ([starts.policy_part(), (say.packet(say.STATS, bytes(4)), None)], "damaged"),
    "no file": ([(say.packet(say.POLICY, bytes(4)), None)], "damaged"),
    "a secret of no name": ([starts.policy_part(), starts.secret_part("", b"x")], "damaged"),
}


@pytest.mark.parametrize("plan", PLANS)
def test_a_plan_that_is_none(gated, plan):
    parts, message = PLANS[plan]
    fails(gated, "ready()\n", message,
          net=[(data, os.dup(fd) if fd is not None else None) for data, fd in parts])


# --- ends ---


@pytest.mark.parametrize("who", ["gate", "vault"])
def test_the_sandbox_ends_with_either(gated, who):
    with start(gated) as s:
        s.started()
        for pid in gates.processes(f"berm-{who}"):
            os.kill(pid, signal.SIGKILL)
        result, _ = s.finish()
    assert (result["reason"], result["exit_code"]) == (f"{who}-ended", 125), result
    assert result["message"] == f"the {who} ended"


@pytest.mark.parametrize("who", ["gate", "vault"])
@pytest.mark.parametrize("how", ["control.say(99)", "control.say(say.RECORD, b'x')",
                                 "control.record(reason=60)"])
def test_one_that_breaks_the_protocol_later(gated, who, how):
    script = {who: f"ready()\nimport time\nwhile not os.path.exists(here + '/mark-go'): "
                   f"time.sleep(0.02)\n{how}\n"}
    with start(gated, **script) as s:
        s.started()
        with open(os.path.join(gated.folder, "mark-go"), "w"):
            pass
        result, _ = s.finish()
    assert (result["reason"], result["exit_code"]) == (f"{who}-ended", 125), result
    assert "broke" in result["message"] and result["message"].startswith(f"the {who}"), result


def test_a_violation_whose_policy_kills(gated):
    vault = "ready()\nimport time\nwhile not os.path.exists(here + '/mark-go'): time.sleep(0.02)\n" \
        "control.record(event=say.VIOLATION, layer=say.HTTP, reason=14, flags=5, host='e\\x1bvil', " \
        "secret='KEY')\n"
    with start(gated, vault=vault) as s:
        s.started()
        with open(os.path.join(gated.folder, "mark-go"), "w"):
            pass
        result, _ = s.finish()
    assert (result["reason"], result["exit_code"]) == ("secret-violation", 137), result
    assert "KEY" in result["message"] and "e\\x1bvil" in result["message"], result


# --- records and counters ---

SAYS = """
control.stats = {'flows_open': 3, 'bytes_up': 1 << 63}
def go(*_):
    control.record(host='api.example', address=bytes([203, 0, 113, 9]), method='GET', path='/a"b',
                   layer=say.HTTP, reason=1, status=403, flags=1, flow=5)
    control.record(event=say.LOST, reason=0, count=7)
f = control.on[say.STATS]
control.on[say.STATS] = lambda *a: (go(), f(*a))
ready()
"""


def test_records_are_written_down(gated):
    with start(gated, gate=SAYS) as s:
        s.started()
        got = info(gated, s)["egress"]
        assert got["counters"]["gate"] == {"flows_open": 3, "bytes_up": (1 << 63) - 1}
        assert got["counters"]["vault"] == {}
        got = info(gated, s)["egress"]
        assert got["records"] >= 2 and got["records_lost"] >= 7
        assert got["generation"] == 1 and len(got["digest"]) == 64 and got["rules"] == 0
        first, lost = lines(folder(gated, s))[:2]
    assert lost["event"] == "lost" and lost["count"] == 7
    del first["time"]
    assert first == {
        "sandbox": s.id, "by": "gate", "generation": 1, "event": "refused", "layer": "http",
        "reason": "no-rule", "rule": None, "host": "api.example", "address": "203.0.113.9", "port": 443,
        "method": "GET", "path": '/a"b', "status": 403, "bytes_up": 0, "bytes_down": 0, "ms": 0,
        "count": 0, "secret": None, "inspected": True, "pin_only": False, "exec": 1, "flow": 5}


FLOOD = """
def go(*_):
    control.record(event=say.VIOLATION, layer=say.HTTP, reason=14, host='first.example', secret='KEY')
    for _ in range(22000):
        control.record(host='x' * 250, path='/' + 'y' * 900, method='GET', layer=say.HTTP, reason=12)
    control.record(host='last.example')
    open(here + '/mark-done', 'w').close()
ready()
import threading, time
def wait():
    while not os.path.exists(here + '/mark-go'): time.sleep(0.02)
    go()
threading.Thread(target=wait, daemon=True).start()
"""


def test_noise_does_not_wipe_out_how_it_began(gated):
    """22 000 refusals of 1.4 KB: more than the record keeps."""
    with start(gated, vault=FLOOD) as s:
        s.started()
        with open(os.path.join(gated.folder, "mark-go"), "w"):
            pass
        folder = os.path.join(gated.state_dir, "sandboxes", s.id)
        sandboxes.wait_for("all of it", lambda: os.path.exists(os.path.join(gated.folder, "mark-done")), 120)
        said = [json.loads(line) for line in gated.ok("logs", "--egress", "--json", s.id).splitlines()]
        lost = [e for e in said if e["event"] == "lost"]
        assert (said[0]["event"], said[0]["host"], said[-1]["host"]) == ("violation", "first.example", "last.example")
        assert lost and {e["by"] for e in lost} == {"supervisor"}
        assert sum(e["count"] for e in lost) + len(said) - len(lost) == 22002
        assert sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder) if "jsonl" in n) <= 24 << 20


def test_what_was_recorded_last_is_kept_with_the_record(gated):
    """Of a detached sandbox; the gate says it only when it is asked for the last time."""
    behaviour = QUICK.replace("end()", "mark('mark-runs')\nend()")
    with start(gated, behaviour, gate=SAYS, detach=True, remove=False) as s:
        s.finish()
        ended = os.path.join(gated.state_dir, "ended", s.id)
        sandboxes.wait_for("its record", lambda: os.path.exists(ended))
        assert [r["event"] for r in lines(ended)] == ["refused", "lost"]
        assert generation(open(os.path.join(ended, "policy"), "rb").read()) == 1
        gated.ok("rm", s.id)


def test_one_that_does_not_count_keeps_nobody(gated):
    with start(gated, vault="control.on[say.STATS] = lambda *a: None\nready()\n") as s:
        s.started()
        got = info(gated, s)["egress"]
        assert got["counters"] == {"gate": {}, "vault": None}


# --- what commands ask for ---


def test_a_policy_is_put_into_force(gated):
    with start(gated, vault=TELLS) as s:
        s.started()
        path = os.path.join(folder(gated, s), "policy")
        assert generation(open(path, "rb").read()) == 1
        with Asker(gated, s) as a, Asker(gated, s) as b:
            kind, payload = a.policy()
            assert (kind, number(payload)) == (say.POLICY_OK, 2)
            kind, payload = b.policy(expect=2)
            assert (kind, number(payload)) == (say.POLICY_OK, 3)
            kind, payload = a.policy(expect=2)
            assert (kind, number(payload)) == (say.POLICY_BAD, 3)
            assert words(payload).startswith("generation 3 of the policy is in force, not 2")
            for bad in (b"", b"x", starts.policy()[:-1], starts.policy() + b"x", bytes(1 << 19)):
                kind, payload = a.policy(tlv=bad)
                assert (kind, number(payload)) == (say.POLICY_BAD, 3), words(payload)
        assert generation(open(path, "rb").read()) == 3
        assert info(gated, s)["egress"]["generation"] == 3
        told = json.loads(gates.marked(gated.folder, "mark-vault"))
    assert [generation(bytes.fromhex(p)) for p in told["policies"]] == [1, 2, 3]


def test_a_policy_that_the_vault_refuses_changes_nothing(gated):
    vault = "def f(p, fds):\n    if p[0] == 2:\n        control.say(say.POLICY_BAD, p + " \
        "say.str16('the gate is full'))\n    else:\n        on_policy(p, fds)\n" \
        "control.on[say.POLICY] = f\nready()\n"
    with start(gated, vault=vault) as s:
        s.started()
        with Asker(gated, s) as a:
            kind, payload = a.policy()
            assert (kind, number(payload), words(payload)) == (say.POLICY_BAD, 1, "the gate is full")
            assert generation(open(os.path.join(folder(gated, s), "policy"), "rb").read()) == 1
            kind, payload = a.policy(expect=1)
            assert (kind, number(payload)) == (say.POLICY_OK, 3)  # no number is used twice


def test_secrets_come_and_go(gated):
    net = [starts.policy_part(), starts.secret_part("KEY", b"first")]
    with start(gated, vault=TELLS, net=net) as s:
        s.started()
        with Asker(gated, s) as a:
            assert run(gated, s) == {"KEY": "ph-KEY"}
            assert a.secret("NEW", b"x")[0] == say.SECRET_OK
            assert a.secret("KEY", b"second")[0] == say.SECRET_OK
            assert run(gated, s) == {"KEY": "ph-KEY", "NEW": "ph-NEW"}
            assert run(gated, s, ["NEW="]) == {"KEY": "ph-KEY", "NEW": ""}
            assert run(gated, s, ["NEW=second"]) == {"KEY": "ph-KEY", "NEW": "ph-NEW"}
            assert info(gated, s)["egress"]["secrets"] == ["KEY", "NEW"]
            assert a.remove("KEY")[0] == say.SECRET_OK
            assert run(gated, s) == {"NEW": "ph-NEW"}
            kind, payload = a.remove("KEY")
            assert (kind, words(payload)) == (say.SECRET_BAD, "there is no such secret")
        told = json.loads(gates.marked(gated.folder, "mark-vault"))
    assert told["values"] == {"NEW": "x"}


def test_values_go_from_vault_to_vault(gated):
    net = [starts.policy_part(), starts.secret_part("KEY", b"inherited")]
    with start(gated, net=net) as s:
        s.started()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Asker(gated, s) as a:
            assert a.ask(say.EXPORT, bytes(4), [theirs.detach()])[0] == say.SECRET_OK
        part = (say.packet(say.IMPORT, bytes(4)), ours.detach())
        with start(gated, QUICK, vault=TELLS, net=[starts.policy_part(), part]) as child:
            result, out = child.finish()
    assert environment(out) == [("KEY", "ph-KEY")]
    told = json.loads(gates.marked(gated.folder, "mark-vault"))
    assert told["values"] == {"KEY": "inherited"}


def test_without_secrets_no_vault_is_asked_for_any(gated):
    never = "del control.on[say.EXPORT], control.on[say.IMPORT]\nready()\n"
    with start(gated, vault=never) as s:
        s.started()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with Asker(gated, s) as a:
            assert a.ask(say.EXPORT, bytes(4), [theirs.detach()])[0] == say.SECRET_OK
        part = (say.packet(say.IMPORT, bytes(4)), ours.detach())
        with start(gated, QUICK, vault=never, net=[starts.policy_part(), part]) as child:
            result, out = child.finish()
    assert result["reason"] == "exited" and environment(out) == []


def test_one_request_at_a_time(gated):
    """The second waits for the first, and whoever goes away meanwhile is no trouble."""
    vault = "import threading, time\ndef f(p, fds):\n    mark('mark-asked')\n" \
        "    while not os.path.exists(here + '/mark-go'): time.sleep(0.02)\n    on_secret(p, fds)\n" \
        "control.on[say.SECRET] = f\nready()\n"
    with start(gated, vault=vault) as s:
        s.started()
        with Asker(gated, s) as b:
            a = Asker(gated, s)
            a.send(say.SECRET, bytes(4) + say.str16("A"), [starts.memory_file(b"x")])
            gates.marked(gated.folder, "mark-asked")
            b.send(say.SECRET, bytes(4) + say.str16("B"), [starts.memory_file(b"x")])
            a.sock.close()
            b.sock.settimeout(0.3)
            with pytest.raises(TimeoutError):
                b.answer()
            b.sock.settimeout(30)
            with open(os.path.join(gated.folder, "mark-go"), "w"):
                pass
            kind, payload = b.answer()
            assert kind == say.SECRET_OK and say.take_str16(payload, 4)[0] == b"B"
        assert run(gated, s) == {"A": "ph-A", "B": "ph-B"}


RUDE = {
    "nothing": lambda a: a.sock.send(b""),
    "a byte": lambda a: a.sock.send(b"x"),
    "too much": lambda a: a.sock.send(bytes(60000)),
    "another version": lambda a: a.send(say.STATS, bytes(4), version=2),
    "what a start says": lambda a: a.send(say.ROOTS, bytes(4), [os.dup(0)]),
    "what a vault says": lambda a: a.send(say.POLICY_OK, bytes(4)),
    "a policy without a file": lambda a: a.send(say.POLICY, bytes(4)),
    "a removal with one": lambda a: a.send(say.SECRET_RM, bytes(4) + say.str16("A"), [os.dup(0)]),
    "a secret of a bad name": lambda a: a.send(say.SECRET, bytes(4) + say.str16("A=B"), [os.dup(0)]),
    "many files": lambda a: a.send(say.POLICY, bytes(4), [os.dup(0) for _ in range(9)]),
    "a connection to port 0": lambda a: a.send(say.ACCEPTED, struct.pack("<HB16sH", 0, 4, b"", 1),
                                               [os.dup(0)]),
}


@pytest.mark.parametrize("how", RUDE)
def test_a_command_that_breaks_the_protocol_is_let_go(gated, how):
    with start(gated) as s:
        s.started()
        with Asker(gated, s) as a:
            RUDE[how](a)
            try:
                assert a.sock.recv(4096) == b""
            except ConnectionResetError:
                pass
        with Asker(gated, s) as a:
            assert a.policy()[0] == say.POLICY_OK


def test_more_commands_than_places(gated):
    with start(gated) as s:
        s.started()
        many = [Asker(gated, s) for _ in range(20)]
        with Asker(gated, s) as a:
            assert a.secret("KEY", b"x")[0] == say.SECRET_OK
        for one in many:
            one.sock.close()


# --- connections into the guest ---

ECHOES = """
def take(payload, fds):
    port, family, addr, peer = struct.unpack('<HB16sH', payload)
    with socket.socket(fileno=os.dup(fds[0])) as c:
        c.sendall(f'{port} {family} {addr.hex()} {peer}'.encode())
control.on[say.ACCEPTED] = take
ready()
"""


def listening(family=socket.AF_INET, address="127.0.0.1"):
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind((address, 0))
    sock.listen(8)
    return sock


def heard(sock):
    sock.settimeout(30)
    got = b""
    while more := sock.recv(4096):
        got += more
    return got.decode()


def test_published_ports(gated):
    v4, v6 = listening(), listening(socket.AF_INET6, "::1")
    at = [s.getsockname()[:2] for s in (v4, v6)]
    net = [starts.policy_part(),
           (say.packet(say.LISTEN, struct.pack("<HB16sH", 80, 4, b"\x7f\0\0\1", at[0][1])), v4.detach()),
           (say.packet(say.LISTEN, struct.pack("<HB16sH", 81, 6, bytes(15) + b"\1", at[1][1])),
            v6.detach())]
    with start(gated, gate=ECHOES, net=net) as s:
        s.started()
        for where, want in zip(at, (f"80 4 7f000001{'0' * 24}", f"81 6 {'0' * 31}1")):
            with socket.create_connection(where, 30) as c:
                assert heard(c) == f"{want} {c.getsockname()[1]}"
        assert info(gated, s)["egress"]["ports"] == [
            {"address": "127.0.0.1", "host": at[0][1], "guest": 80},
            {"address": "::1", "host": at[1][1], "guest": 81}]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(at[0], 30)


def test_a_connection_is_handed_over(gated):
    with start(gated, gate=ECHOES) as s, listening() as door:
        s.started()
        with Asker(gated, s) as a, socket.create_connection(door.getsockname(), 30) as c:
            inner, who = door.accept()
            a.send(say.ACCEPTED, struct.pack("<HB16sH", 8080, 4, b"\x7f\0\0\1", who[1]),
                   [inner.detach()])
            assert heard(c) == f"8080 4 7f000001{'0' * 24} {who[1]}"


def test_a_gate_that_takes_no_connections(gated):
    """What it has no room for is closed, and nothing else suffers."""
    gate = "import threading\ncontrol.say(say.READY, bytes(4))\nthreading.Event().wait()\n"
    door = listening()
    where = door.getsockname()
    net = [starts.policy_part(),
           (say.packet(say.LISTEN, struct.pack("<HB16sH", 80, 4, b"\x7f\0\0\1", where[1])), door.detach())]
    with start(gated, gate=gate, net=net) as s:
        s.started()
        many = []
        for _ in range(600):
            many.append(socket.create_connection(where, 30))
        many[-1].settimeout(30)
        try:
            assert many[-1].recv(1) == b""
        except ConnectionResetError:
            pass
        assert run(gated, s) == {}
        for c in many:
            c.close()
