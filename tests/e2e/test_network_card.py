"""A sandbox with a network card on a real engine, joined to a gate that the test plays: from a booted
guest, a template, a snapshot and a fork. The command line has no word for it yet."""

import json
import os
import re
import shutil

import bermtest
import gates
import images
import leaks
import pytest
import sandboxes
import starts

CERT = "-----BEGIN CERTIFICATE-----\nMIIBdGVzdA==\n-----END CERTIFICATE-----\n"
PING = "ping -c 1 -W 10 100.96.0.1 >/dev/null && ping -c 1 -W 10 fd62:6572:6d00::1 >/dev/null"
ENGINES = {"qemu": starts.QEMU, "kvm": starts.KVM, "": 0}


@pytest.fixture(scope="module")
def gated_stage(stage, tmp_path_factory):
    """The installation under test, with the test's gate."""
    folder = tmp_path_factory.mktemp("gated")
    for part in ("bin", "libexec"):
        shutil.copytree(os.path.join(stage, part), folder / part)
    (folder / "share").mkdir()
    (folder / "share/berm").symlink_to(os.path.join(stage, "share", "berm"))
    gates.install(folder / "libexec/berm")
    return str(folder)


@pytest.fixture(scope="module")
def gated_state(gated_stage, rootfs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("gated-state")
    images.import_image(sandboxes.Berm(folder, gated_stage), rootfs, "busybox")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def gated(gated_stage, gated_state):
    berm = sandboxes.Berm(gated_state, gated_stage)
    before, running = leaks.Leaks(gated_state, gated_stage), gates.processes()
    yield berm
    try:
        before.check()
        sandboxes.wait_for("no gate is left", lambda: not gates.processes() - running)
    finally:
        before.close()
        berm.clean_up()


def start(berm, *argv, gate="ready()\n" + gates.COUNTS, **more):
    gates.play(berm.libexec(), gate)
    return starts.Sandbox(berm, "busybox", list(argv), engine=ENGINES[bermtest.ENGINE], **more)


def sh(berm, script, **more):
    """(result, output) of a script in a guest with a network."""
    with start(berm, "sh", "-c", script, **more) as s:
        result, out = s.finish()
    return result, out.decode()


def counts(berm):
    """What the last gate got: ({kind: frames}, what it should not have got)."""
    return json.loads(gates.marked(berm.libexec(), "mark-counts"))


def check_network(berm, **more):
    result, out = sh(berm, f"{PING} && echo through; cat /etc/resolv.conf", **more)
    assert (result["reason"], out) == ("exited", "through\nnameserver 100.96.0.1\n"), (result, out)
    got, wrong = counts(berm)
    assert (got["ping"], got["ping6"]) == (1, 1) and not wrong, (got, wrong)
    return result


def test_a_booted_guest_reaches_its_gate(gated):
    assert check_network(gated, cold=True)["start"] == "cold"


def templates(berm):
    return sorted(n for n in os.listdir(os.path.join(berm.state_dir, "templates"))
                  if re.fullmatch("[0-9a-f]+", n))


def test_a_template_of_its_own_only_when_asked_for(gated):
    """Built with a peer that says nothing, restored with one that answers."""
    size = dict(memory=128 << 20)
    assert check_network(gated, **size)["start"] == "built"
    with_card = templates(gated)
    assert check_network(gated, **size)["start"] == "restored"
    assert templates(gated) == with_card
    result, out = sh(gated, "ls /sys/class/net", network=False, **size)
    assert (result["start"], out) == ("built", "lo\n")
    assert len(templates(gated)) == len(with_card) + 1
    assert check_network(gated, **size)["start"] == "restored"
    assert sh(gated, "ls /sys/class/net", network=False, **size)[0]["start"] == "restored"


def test_a_gate_that_nobody_speaks_to_hears_nothing(gated):
    """A restored guest announces itself to nobody. Its kernel may only say, a while after it got its
    address, which groups it listens to (RFC 3810)."""
    for _ in range(2):
        result, out = sh(gated, "sleep 1; echo done")
        assert (result["reason"], out) == ("exited", "done\n")
    got, wrong = counts(gated)
    assert not wrong and set(got) <= {"0x86dd", "icmp6 143"}, (got, wrong)


def test_trust_and_variables_in_the_guest(gated):
    script = "cat /usr/local/share/ca-certificates/berm.crt $SSL_CERT_FILE; echo $NODE_EXTRA_CA_CERTS"
    result, out = sh(gated, script, gate=f"ready({CERT!r}, 7)\nserve()\n")
    assert result["reason"] == "exited"
    assert out.count(CERT) == 2 and out.endswith("/usr/local/share/ca-certificates/berm.crt\n")
    # and none of it in the next guest of that template
    result, out = sh(gated, "cat /etc/ssl/certs/*; env; ls /usr/local/share/ca-certificates")
    assert "CERTIFICATE" not in out and "CERT" not in out and "berm" not in out, out


def test_the_end_of_the_gate_is_the_sandboxs(gated):
    gate = "ready()\nserve_one = router.frame\n"
    gate += "router.frame = lambda f: (os.write(2, b'as the test wants\\n'), os._exit(1))\nserve()\n"
    with start(gated, "sh", "-c", PING + "; sleep 100", gate=gate) as s:
        result, _ = s.finish()
    assert (result["reason"], result["exit_code"]) == ("gate-ended", 125), result
    assert result["message"] == "the gate ended: as the test wants"


def test_a_gate_that_lets_go_of_the_link(gated):
    """It lives on, and the guest would wait for ever: the engine tells."""
    gate = "ready()\nlink.recv(1)\nlink.shutdown(socket.SHUT_RDWR)\nlink.close()\n"
    with start(gated, "sh", "-c", PING + "; sleep 100", gate=gate) as s:
        result, _ = s.finish()
    assert (result["reason"], result["exit_code"]) == ("gate-ended", 125), result
    assert result["message"] == "the gate broke off its link to the guest"


WATCH = f"cat /etc/hostname; while read word; do {PING} && echo $word; done; echo end"


def test_a_fork_has_a_gate_of_its_own(gated):
    """Its workload goes on, and its frames go to another gate; the parent's link is untouched."""
    cert = CERT.replace("MII", "MIX")
    script = f"{PING} && echo ready; while [ ! -e /tmp/go ]; do sleep 0.1; done; {PING} && echo through"
    with start(gated, "sh", "-c", script, gate=f"ready({CERT!r}, 7)\nserve()\n") as parent:
        parent.until(lambda s: b"ready" in s.out[1])
        running = gates.processes()
        gates.play(gated.libexec(), f"ready({cert!r}, 9)\nserve()\n")
        child = gated.ok("fork", parent.id).strip()
        try:
            assert len(gates.processes() - running) >= 1
            look = ["sh", "-c", f"{PING} && echo there; cat $SSL_CERT_FILE; ls /etc/ssl/certs"]
            out = gated.ok("exec", child, *look)
            assert out.startswith("there\n") and cert in out and CERT not in out
            assert "00000009.0" in out and "00000007.0" not in out
            out = gated.ok("exec", parent.id, *look)
            assert out.startswith("there\n") and CERT in out and cert not in out
            for sandbox in (parent.id, child):
                gated.ok("exec", sandbox, "touch", "/tmp/go")
            sandboxes.wait_for("the copy went on",
                               lambda: gated.run("logs", child).stdout.endswith("through\n"))
            result, out = parent.finish()
            assert (result["reason"], out) == ("exited", b"ready\nthrough\n")
        finally:
            gated.run("rm", "-f", child)


def test_a_snapshot_is_restored_with_a_gate_of_its_own(gated):
    script = f"{PING} && echo ready; while [ ! -e /tmp/go ]; do sleep 0.1; done; {PING} && echo through"
    with start(gated, "sh", "-c", script, gate="ready()\nserve()\n") as s:
        s.until(lambda s: b"ready" in s.out[1])
        gated.ok("snapshot", s.id, "with-card")
    try:
        gates.play(gated.libexec(), "ready()\n" + gates.COUNTS)
        child = gated.ok("restore", "-d", "with-card").strip()
        try:
            gated.ok("exec", child, "touch", "/tmp/go")
            sandboxes.wait_for("it went on",
                               lambda: gated.run("logs", child).stdout.endswith("through\n"))
        finally:
            gated.run("rm", "-f", child)
    finally:
        gated.run("snapshot", "rm", "with-card")
