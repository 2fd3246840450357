"""Sandboxes from one template share its memory, but nothing that must not be shared."""

import concurrent.futures
import json
import time
import uuid

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
    "hostname", "boot_id",
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


def test_boot_ids_are_well_formed(clones):
    for c in clones:
        assert uuid.UUID(c["boot_id"]).version == 4


BOOT_ID = "cat /proc/sys/kernel/random/boot_id"


def test_boot_id_is_one_in_a_clone(berm):
    """Wherever it is read: later, in another mount namespace, in a /proc of one's own."""
    script = f"""
        {BOOT_ID}; sleep 0.1; {BOOT_ID}
        unshare -m {BOOT_ID}
        unshare -fp --mount-proc {BOOT_ID}
        setpriv --reuid 1000 --regid 1000 --clear-groups unshare -Urmfp --mount-proc {BOOT_ID}
    """
    got = berm.ok("run", "--", "sh", "-e", "-c", script).split()
    assert len(got) == 5 and len(set(got)) == 1, got


def test_boot_id_is_no_template_s_even_if_its_warm_up_reads_it(berm, bb):
    command = f"{BOOT_ID}; echo warm > /warmed"
    got = [berm.ok("run", "--warm", command, bb, "sh", "-c", f"cat /warmed; {BOOT_ID}").split()
           for _ in range(3)]
    assert [g[0] for g in got] == ["warm"] * 3
    assert len({g[1] for g in got}) == 3, got


def test_boot_id_after_a_cold_start(berm, bb):
    got = {berm.ok("run", "--cold", bb, "sh", "-c", BOOT_ID) for _ in range(2)}
    assert len(got) == 2


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
