"""libberm's calls about the network, on real guests with a real gate and vault. No packet leaves the machine."""

import errno
import json
import socket

import apitest
import pytest
from bermtest import stretched, wait_for
from sandboxes import Berm
from test_api_guest import fails

VALUE = b"sk-ant-api03-TGliYmVybSBrZWVwcyBpdCB0b28-0123456789"
OTHER = b"another-value-of-some-length"
DENY = [("preset", "none")]


def lookup(sb, name):
    """Asks for an address, which nobody has: what matters is what the record says."""
    p = sb.exec("nslookup", name)
    p.read_all()
    p.wait()
    p.free()
    return name


def reasons(sb, name, seen):
    """What the record says of that name, once it says something. seen: what was read before."""
    def found():
        seen.extend(sb.records())
        return {r["reason"] for r in seen if r["host"] == name and r["layer"] == "dns"}
    return wait_for(f"a record of {name}", found)


def variable(sb, name):
    return sb.output("sh", "-c", f'printf %s "${{{name}-}}"')


def test_a_policy_is_replaced_and_counted(lib, bb):
    with lib.start(image=bb, network=DENY) as sb:
        sb.started()
        seen = []
        assert reasons(sb, lookup(sb, "one.example.com"), seen) == {"no-rule"}
        assert all(r["sandbox"] == sb.id and r["generation"] == 1 for r in seen)
        assert sb.set_policy([("allow", "two.example.com:443")]) == 2
        assert "no-rule" not in reasons(sb, lookup(sb, "two.example.com"), seen)
        fails(errno.ESTALE, "generation 2", sb.set_policy, DENY, expect=1)
        assert sb.set_policy(DENY, expect=2) == 3
        assert reasons(sb, lookup(sb, "three.example.com"), seen) == {"no-rule"}
        sb.pause()
        assert sb.set_policy([("allow", "four.example.com"), ("deny", "five.example.com")]) == 4
        sb.resume()
        assert reasons(sb, lookup(sb, "five.example.com"), seen) == {"denied-by-rule"}


def test_secrets_are_placeholders(lib, bb):
    secrets = [("KEY@a.example.com", VALUE)]
    with lib.start(image=bb, network=[("allow", "a.example.com:443")], secrets=secrets) as sb:
        sb.started()
        first = variable(sb, "KEY")
        assert first.startswith(b"sk-ant-") and first != VALUE
        sb.set_secret("KEY", OTHER)
        sb.set_secret("SECOND", OTHER)
        assert variable(sb, "SECOND") not in (b"", OTHER)
        assert VALUE not in sb.output("env") and OTHER not in sb.output("env")
        fails(errno.EINVAL, "8 bytes", sb.set_secret, "KEY", b"short")
        fails(errno.EINVAL, "", sb.set_secret, "NO-NAME", OTHER)
        assert variable(sb, "KEY")
        sb.remove_secret("KEY")
        assert variable(sb, "KEY") == b""
        fails(errno.EINVAL, "no such secret", sb.remove_secret, "KEY")
        (child,) = sb.fork(1)
        with child:
            assert variable(child, "SECOND") not in (b"", OTHER, variable(sb, "SECOND"))
            assert child.set_policy(DENY) == 2


def test_a_limit_of_time_is_the_callers(lib, bb):
    """0 hands it over and does not wait; the next one waits for it to be done with, and comes after it."""
    with lib.start(image=bb, network=DENY) as sb:
        sb.started()
        try:
            sb.set_policy([("allow", "a.example.com")], timeout_ms=0)
        except apitest.Failed as e:
            assert e.code == -errno.ETIMEDOUT
        try:
            sb.set_secret("KEY", VALUE, timeout_ms=0)
        except apitest.Failed as e:
            assert e.code == -errno.ETIMEDOUT
        assert wait_for("both are done", lambda: variable(sb, "KEY") and sb.set_policy(DENY, timeout_ms=-1)) >= 3


def test_ports_let_connections_in(lib, bb):
    serve = apitest.command("sh", "-c", "while :; do echo hello | nc -l -p 8000; done")
    with lib.start(serve, image=bb, network=[("port", "0:8000"), ("port", "[::1]:0:8000")]) as sb:
        sb.started()

        def said(where):
            try:
                with socket.create_connection(where, timeout=stretched(10)) as s:
                    return s.recv(100)
            except OSError:
                return b""

        wait_for("the guest's server", lambda: said(("127.0.0.1", sb.port(0))) == b"hello\n")
        wait_for("the same by IPv6", lambda: said(("::1", sb.port(1))) == b"hello\n")
        fails(errno.EINVAL, "2 ports", sb.port, 2)
        seen = []
        assert reasons(sb, lookup(sb, "one.example.com"), seen) == {"no-rule"}


def test_presets_know_the_registries(lib, bb, stage, berm):
    env = ["PIP_INDEX_URL=https://pip.example.com/simple/"]
    with lib.start(image=bb, network=[("preset", "registries")], env=env) as sb:
        sb.started()
        shown = json.loads(Berm(berm.state_dir, stage).ok("policy", "show", "--json", sb.id))
        assert [r["host"] for r in shown["rules"]] == ["pip.example.com"]
        assert sb.set_policy([("preset", "locked")]) == 2
        shown = json.loads(Berm(berm.state_dir, stage).ok("policy", "show", "--json", sb.id))
        assert "pip.example.com" in [r["host"] for r in shown["rules"]]


@pytest.mark.parametrize("call", ["policy", "secret", "removal"])
def test_of_one_without_a_network_and_one_that_ended(lib, bb, call):
    def ask(sb):
        if call == "policy":
            sb.set_policy(DENY)
        elif call == "secret":
            sb.set_secret("KEY", VALUE)
        else:
            sb.remove_secret("KEY")

    with lib.start(image=bb) as sb:
        sb.started()
        fails(errno.ENODEV, "without a network", ask, sb)
        sb.stop()
        fails(errno.ESHUTDOWN, "", ask, sb)
