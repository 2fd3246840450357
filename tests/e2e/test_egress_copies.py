"""Copies of a sandbox with a network: an authority, placeholders and a policy of their own, the same values."""

import contextlib
import copy

import pytest

KEY = "sk-ant-api03-Q29waWVzIGhhdmUgdGhlaXIgb3du-0123456789"
NEW_KEY = "sk-ant-api03-QW5vdGhlciB2YWx1ZSBhbHRvZ2V0aGVy-98765"
POLICY = """version: 1
network:
  default: deny
  rules:
    - { host: other.world.test, port: 443, inspect: true }
secrets:
  - { name: API_KEY, from: env, hosts: other.world.test, header: x-api-key }
"""
ENV = {"API_KEY": KEY}
SECRET = "API_KEY@other.world.test:header=x-api-key"
ASK = "say(get('https://other.world.test/echo', X_API_Key=sys.argv[1]).get('status'))"
FOUND = "say(addresses(sys.argv[1]))"


class Copy:
    """A fork or a restored sandbox, with the words of a Box."""

    def __new__(cls, parent, sandbox):
        made = copy.copy(parent)
        made.id = sandbox
        return made


@contextlib.contextmanager
def copies(box, *words, env=None, count=1):
    ids = box.berm.ok(*words, env=env or {}, timeout=300).split()[-count:]
    try:
        made = [Copy(box, i) for i in ids]
        yield made if count > 1 else made[0]
    finally:
        box.berm.run("rm", "-f", *ids)


@pytest.fixture(scope="module")
def saved(box, egress):
    """A snapshot of the sandbox of this module."""
    egress.ok("snapshot", box.id, "copies", timeout=300)
    yield "copies"
    egress.ok("snapshot", "rm", "copies")


def placeholder(box):
    return box.sh("printf %s \"$API_KEY\"")


def authority(box):
    return box.sh("cat \"$NODE_EXTRA_CA_CERTS\"")


def arrived(box, at):
    """The keys that the server was shown."""
    return [v for r in box.world.requests(at) for k, v in r["headers"] if k.lower() == "x-api-key"]


def asks(box, key):
    """(the status the guest got, the keys that the server was shown)"""
    at = box.world.mark()
    return box.py(ASK, key), arrived(box, at)


def test_each_fork_has_its_own_and_the_same_values(box):
    old, old_ca = placeholder(box), authority(box)
    with copies(box, "fork", "-n", "2", box.id, count=2) as forks:
        assert all(asks(f, placeholder(f)) == (200, [KEY]) for f in forks)
        assert len({old, KEY, *(placeholder(f) for f in forks)}) == 4
        assert len({old_ca, *(authority(f) for f in forks)}) == 3
        # another's placeholder is a text like any other
        assert asks(forks[0], old)[1] == [old]
        assert asks(forks[0], placeholder(forks[1]))[1] == [placeholder(forks[1])]
        # what is set in one is not set in another
        box.berm.ok("secret", "set", forks[0].id, "API_KEY", input=NEW_KEY)
        assert asks(forks[0], placeholder(forks[0])) == (200, [NEW_KEY])
        assert asks(forks[1], placeholder(forks[1])) == (200, [KEY])
        box.berm.ok("secret", "rm", forks[1].id, "API_KEY")
        assert KEY not in asks(forks[1], placeholder(forks[0]))[1]
    assert asks(box, old) == (200, [KEY])


def test_a_fork_has_the_policy_of_now(box, tmp_path):
    path = tmp_path / "now.yaml"
    path.write_text(POLICY.replace("secrets:", "    - { host: four.world.test, port: 443 }\nsecrets:"))
    box.berm.ok("policy", "set", box.id, path)
    try:
        with copies(box, "fork", box.id) as fork:
            assert fork.py(FOUND, "four.world.test") != "nxdomain"
            assert box.berm.json("policy", "show", "--json", fork.id)["generation"] == 1
            assert asks(fork, placeholder(fork)) == (200, [KEY])
    finally:
        path.write_text(POLICY)
        box.berm.ok("policy", "set", box.id, path)


def test_flags_of_a_fork_are_its_policy(box):
    flags = ["--allow", "other.world.test:443", "--secret", SECRET]
    with copies(box, "fork", *flags, box.id, env={"API_KEY": NEW_KEY}) as fork:
        assert asks(fork, placeholder(fork)) == (200, [NEW_KEY])
    with copies(box, "fork", "--preset", "none", box.id) as fork:
        assert fork.py(FOUND, "other.world.test") == "nxdomain"


def test_a_fork_of_a_fork(box):
    with copies(box, "fork", box.id) as child, copies(box, "fork", child.id) as grandchild:
        assert placeholder(grandchild) not in (placeholder(child), placeholder(box))
        assert asks(grandchild, placeholder(grandchild)) == (200, [KEY])


def test_a_restored_one_reaches_what_it_is_given(box, saved):
    with copies(box, "restore", "-d", saved) as bare:
        assert bare.sh("printf %s \"${API_KEY-none}\"") == "none"
        assert bare.py(FOUND, "other.world.test") == "nxdomain"
    flags = ["--allow", "other.world.test:443", "--secret", SECRET]
    with copies(box, "restore", "-d", *flags, saved, env={"API_KEY": NEW_KEY}) as given:
        assert placeholder(given) not in (NEW_KEY, KEY, placeholder(box))
        assert authority(given) != authority(box)
        assert asks(given, placeholder(given)) == (200, [NEW_KEY])
        assert asks(given, placeholder(box))[1] == [placeholder(box)]


def test_a_secret_that_is_missing_starts_nothing(box, saved):
    before = box.berm.sandboxes()
    for verb in (["fork"], ["restore", "-d"]):
        flags = ["--allow", "other.world.test:443", "--secret", "NO_SUCH_KEY@other.world.test"]
        said = box.berm.refused(125, *verb, *flags, box.id if verb == ["fork"] else saved)
        assert "the variable NO_SUCH_KEY is not set" in said
    assert box.berm.sandboxes() == before
