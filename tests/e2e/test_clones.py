"""Sandboxes from one template share its memory, but nothing that must not be shared."""

import concurrent.futures
import json
import time

import pytest

CLONES = 10
PROGRAM = """
import os, random, json, time, uuid, secrets, tempfile
print(json.dumps({
    "now": time.time(),
    "kernel_uuid": open("/proc/sys/kernel/random/uuid").read().strip(),
    "urandom": os.urandom(16).hex(),
    "getrandom": os.getrandom(16).hex(),
    "random": random.random(),
    "uuid4": str(uuid.uuid4()),
    "token": secrets.token_hex(16),
    "temporary": tempfile.mktemp(),
    "machine_id": open("/etc/machine-id").read().strip(),
    "hostname": os.uname().nodename,
    "boot_id": open("/proc/sys/kernel/random/boot_id").read().strip(),
    "stack": hex(id(object())),
    "library": next(l for l in open("/proc/self/maps") if "libc" in l).split("-")[0],
    "uptime": float(open("/proc/uptime").read().split()[0]),
}))
"""
DIFFER = [
    "kernel_uuid", "urandom", "getrandom", "random", "uuid4", "token", "temporary", "machine_id",
    "hostname",
]


def clone(berm):
    before = time.time()
    code, said = berm.judged("--", "python3", "-c", PROGRAM)
    assert code == 0, said
    got = json.loads(said["stdout"])
    got["early"], got["late"] = before - got["now"], got["now"] - time.time()
    got["start"] = said["result"]["start"]
    return got


@pytest.fixture(scope="module")
def clones(stage, shared_state):
    """What each clone saw of itself; two at a time."""
    import sandboxes

    berm = sandboxes.Berm(shared_state, stage)
    berm.ok("run", "--", "true")  # the template is there from here on
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        return list(pool.map(clone, [berm] * CLONES))


def test_all_come_from_the_template(clones):
    assert [c["start"] for c in clones] == ["restored"] * CLONES


@pytest.mark.parametrize("what", DIFFER)
def test_no_two_are_alike(clones, what):
    values = [c[what] for c in clones]
    assert len(set(values)) == CLONES, values


def test_address_spaces_differ(clones):
    assert len({c["library"] for c in clones}) >= CLONES - 1  # 28 bits: two alike are an accident
    assert len({c["stack"] for c in clones}) >= CLONES - 1


def test_machine_ids_are_well_formed(clones):
    for c in clones:
        assert len(c["machine_id"]) == 32 and int(c["machine_id"], 16)


def test_clocks_are_the_hosts(clones):
    for c in clones:
        assert c["early"] < 2 and c["late"] < 2, (c["early"], c["late"])


def test_boot_id_is_of_the_template(clones):
    """A known limit: the kernel makes it once per boot and offers no way to renew it."""
    assert {len(c["boot_id"]) for c in clones} == {36}


def test_hostname_is_the_id(berm, bb):
    code, said = berm.judged(bb, "hostname")
    assert (code, said["stdout"].strip()) == (0, said["result"]["id"])


def test_hostname_is_the_name(berm, bb):
    assert berm.ok("run", "--name", "earth", bb, "hostname") == "earth\n"


def test_what_a_clone_writes_no_other_sees(berm, bb):
    assert berm.ok("run", bb, "sh", "-c", "echo mine > /root/file; cat /root/file") == "mine\n"
    assert berm.ok("run", bb, "sh", "-c", "ls -A /root /tmp /home") == "/home:\ndev\n\n/root:\n\n/tmp:\n"


def test_memory_of_a_clone_is_its_own(berm, bb):
    """Two at once write the same addresses of the same template."""
    script = "x=$(head -c 3000000 /dev/zero | tr '\\0' %s); sleep 1; echo ${#x} $(echo $x | tr -d %s | wc -c)"
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        texts = pool.map(lambda c: berm.ok("run", bb, "sh", "-c", script % (c, c)), "ab")
    assert list(texts) == ["3000000 1\n"] * 2
