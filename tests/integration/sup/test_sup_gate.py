"""A gate that is late, lies, dies or lets go: the guest does not run without one, the sandbox ends
with it and says why, and nothing is left of either."""

import os
import signal
import struct
import time

import gates
import pytest
import sandboxes
import starts
import wire

CERT = "-----BEGIN CERTIFICATE-----\nMIIBdGVzdA==\n-----END CERTIFICATE-----\n"
# hands out what it was told, and runs until it is stopped
GUEST = """
import json
send(hello())
_, _, _, identity = receive(IDENTITY)
mark("mark-identity")
say(IDENTITY_OK, payload=WHERE)
_, _, _, payload = receive(EXEC)
say(EXEC_OK, 1, payload=u32(42))
say(DATA, 1, OUT, payload=identity[-2200:] if REPEAT == "identity" else payload)
end()
"""


@pytest.fixture
def gated(sup):
    """The supervisor over a fake engine and a fake gate. No gate outlives its test."""
    before = gates.processes()
    gates.install(sup.folder)
    yield sup
    sandboxes.wait_for("no gate is left", lambda: not gates.processes() - before)
    gates.remove(sup.folder)


def guest(repeat="exec", where=bytes(4)):
    return f"REPEAT = {repeat!r}\nWHERE = {where!r}\n" + GUEST


def start(sup, behaviour, gate="ready()\n", vault="ready()\n", **more):
    sup.play(behaviour)
    gates.play(sup.folder, gate, vault)
    return starts.Sandbox(sup, "tiny", ["true"], cold=True, engine=starts.QEMU, **more)


def ends(sup, behaviour, gate, reason, words, **more):
    with start(sup, behaviour, gate, **more) as s:
        result, _ = s.finish()
    assert (result["reason"], result["exit_code"]) == (reason, 125), result
    assert words in result["message"] and result["message"].isprintable(), result


def test_the_guest_gets_its_network_and_certificate(gated):
    with start(gated, guest("identity"), f"ready({CERT!r}, 0x01020304)\n") as s:
        result, out = s.finish()
    assert result["reason"] == "exited", result
    network = wire.network_part()
    assert out.endswith(b"\1" + network + b"\1\4\3\2\1" + wire.str16(CERT) + b"\0")


def test_without_a_network_there_is_no_gate(gated):
    with start(gated, guest("identity"), "mark('mark-gate')\n", network=False) as s:
        result, out = s.finish()
    assert result["reason"] == "exited" and out.endswith(b"\0\0")
    assert not os.path.exists(os.path.join(gated.folder, "mark-gate"))


def test_no_gate_is_installed(gated):
    path = os.path.join(gated.folder, "berm-gate")
    os.rename(path, path + "-away")
    try:
        ends(gated, guest(), "", "not-started", "the gate is not installed (berm-gate)")
    finally:
        os.rename(path + "-away", path)


def test_the_guest_waits_for_its_gate(gated):
    """A gate may take its time over a key; until then the guest hears nothing."""
    gate = "import time\nwhile not os.path.exists(here + '/mark-go'): time.sleep(0.02)\nready()\n"
    with start(gated, guest(), gate) as s:
        sandboxes.wait_for("the gate", lambda: gated.by_program("berm-supervisor"))
        time.sleep(0.3)
        assert not os.path.exists(os.path.join(gated.folder, "mark-identity"))
        with open(os.path.join(gated.folder, "mark-go"), "w"):
            pass
        assert s.finish()[0]["reason"] == "exited"


LIES = {
    "nothing": "control.send(b'')",
    "a byte": "control.send(b'x')",
    "another version": "control.send(struct.pack('<BBHI', 2, 1, 0, 0))",
    "no certificate": "ready('hello')",
    "a key": "ready('-----BEGIN PRIVATE KEY-----\\nQUJD\\n-----END PRIVATE KEY-----\\n')",
    "too much": "control.send(bytes(60000))",
    "a hash of nothing": "ready('', 5)",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_gate_that_breaks_the_protocol(gated, lie):
    ends(gated, guest(), LIES[lie], "not-started",
         "the gate ended" if lie == "nothing" else "the gate broke the protocol")


ENDS = {
    "at once": ("os._exit(0)", "not-started", "the gate ended"),
    "with a word": ("os.write(2, b'one\\nno key\\x1b[2J can be made\\n'); os._exit(1)", "not-started",
                    "the gate ended: no key\\x1b[2J can be made"),
    "without its log": ("os.close(1); os.close(2); import time; time.sleep(100)", "not-started",
                        "the gate ended"),
    "while the guest runs": ("ready(); os.read(4, 1)", "gate-ended", "the gate ended"),
}
LIVES = """
start()
import socket
socket.socket(fileno=10).send(b"go")
silent()
"""


@pytest.mark.parametrize("when", ENDS)
def test_the_sandbox_ends_with_its_gate(gated, when):
    script, reason, words = ENDS[when]
    ends(gated, LIVES, script + "\nos._exit(3)", reason, words)


def test_a_killed_gate(gated):
    with start(gated, "start()\nsilent()\n", "ready()\nmark('mark-pid', str(os.getppid()))\n") as s:
        s.started()
        before = gates.processes("berm-gate")
        assert before
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        result, _ = s.finish()
    assert (result["reason"], result["message"]) == ("gate-ended", "the gate ended")


@pytest.mark.parametrize("how", ["the caller goes", "it is killed"])
def test_the_gate_ends_with_its_supervisor(gated, how):
    with start(gated, "start()\nsilent()\n", "ready()\n") as s:
        s.started()
        assert gates.processes()
        if how == "it is killed":
            s.process.kill()
    gated.run("ps")


def test_a_flood_of_words(gated):
    """What a gate says costs no memory, and the last of it is kept."""
    gate = "ready()\nos.read(4, 1)\nfor i in range(20000): os.write(2, b'x' * 99 + b'\\n')\n"
    with start(gated, LIVES, gate + "os.write(2, b'that was all\\n')\nos._exit(1)\n") as s:
        result, _ = s.finish()
    assert result["message"] == "the gate ended: that was all"


VARIABLES = {
    "NODE_EXTRA_CA_CERTS": "/a/one.crt", "DENO_CERT": "/a/one.crt", "SSL_CERT_FILE": "/b/all.pem",
    "REQUESTS_CA_BUNDLE": "/b/all.pem", "GIT_SSL_CAINFO": "/b/all.pem", "CURL_CA_BUNDLE": "/mine",
    "PIP_CERT": "",
}


def environment(payload):
    """Of an EXEC, as a list of pairs."""
    user, at = wire.take_str16(payload, 8)
    cwd, at = wire.take_str16(payload, at)
    argc, envc, rlimits = struct.unpack_from("<III", payload, at)
    at += 12 + 20 * rlimits
    strings = []
    for _ in range(argc + envc):
        one, at = wire.take_str16(payload, at)
        strings.append(one.decode())
    assert at == len(payload)
    return [tuple(s.split("=", 1)) for s in strings[argc:]]


def test_programs_are_told_of_the_certificate(gated):
    where = wire.str16("/a/one.crt") + wire.str16("/b/all.pem")
    with start(gated, guest("exec", where), f"ready({CERT!r}, 1)\n",
               env=["CURL_CA_BUNDLE=/mine", "PIP_CERT="]) as s:
        result, out = s.finish()
    assert result["reason"] == "exited", result
    got = environment(out)
    assert len(got) == len(dict(got)) and VARIABLES.items() <= dict(got).items(), got


@pytest.mark.parametrize("where", [b"", bytes(3), wire.str16("a/b") + bytes(2),
                                   wire.str16("/a") + wire.str16("/b"), bytes(4) + b"x"])
def test_an_agent_that_lies_about_it(gated, where):
    """The last but one: to a guest that was given none."""
    with start(gated, guest("exec", where), "ready()\n") as s:
        result, _ = s.finish()
    assert result["reason"] == "agent-lied", result


def test_no_variables_without_a_certificate(gated):
    with start(gated, guest(), "ready()\n") as s:
        result, out = s.finish()
    assert result["reason"] == "exited" and environment(out) == []
