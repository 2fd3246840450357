"""The whole way out in one guest and its fork: what of egress has to do with the engine. All the rest is the same gate
and vault and is tested by the other files. Its image is busybox and curl, so this runs on the kvm engine in the test
host as well (kvm.txt), where those of the others take too long to import."""

import images
import leaks
import pytest
import sandboxes
from bermtest import wait_for
from egress import Box
from egress_world import plan
from searching import arguments, in_memory, seen_in

KEY = "sk-ant-api03-Qm9nVHZ0c1hLZWJ3R2xpT0ZyYVpwTnlDdQ-AA"
ENV = {"API_KEY": KEY}
RULES = """
version: 1
network:
  rules:
    - { host: api.world.test, port: 443 }
    - { host: plain.world.test, port: 7, protocol: tcp }
    - { host: files.world.test, port: [80, 443] }
"""
SECRETS = "secrets: [ { name: API_KEY, from: env, hosts: api.world.test, header: x-api-key } ]\n"
CURL = "curl -sS -m 250"
CODE = f"{CURL} -o /dev/null -w '%{{http_code}}\\n'"
SECRET = f'{CURL} -w "%{{http_code}}" -H "x-api-key: $API_KEY" "https://api.world.test/reflect?of=x-api-key"'


@pytest.fixture(scope="module")
def small(stage, shared_state, rootfs, tmp_path_factory):
    """The name of that image."""
    if not images.curl():
        pytest.skip("curl is missing: apt install curl")
    path = images.curl_tar(tmp_path_factory.mktemp("image") / "curl.tar", rootfs)
    return images.import_image(sandboxes.Berm(shared_state, stage), path, "curl")


@pytest.fixture(scope="module")
def job(egress, small, tmp_path_factory):
    with Box(egress, small, RULES + SECRETS, env=ENV, files=tmp_path_factory.mktemp("policy")) as b:
        yield b


def keys(mark):
    """What x-api-key was, in each request that arrived since."""
    return [v for r in mark.requests() for k, v in r["headers"] if k.lower() == "x-api-key"]


def test_without_rules_there_is_no_card(egress, small):
    got = egress.run("run", small, "ls", "/sys/class/net")
    assert (got.returncode, got.stdout) == (0, "lo\n"), got.stderr


def test_each_road_that_is_allowed(job):
    assert job.sh(f"{CODE} https://api.world.test/status/200; {CODE} http://files.world.test/small") == "200\n200\n"
    assert job.sh(f"{CURL} 'https://api.world.test/bytes?n=2000000' | wc -c").strip() == "2000000"
    assert "berm sandbox authority" in job.sh(f"{CURL} -v https://api.world.test/none 2>&1")
    # what is passed through has the origin's own certificate, which this image does not trust
    job.sh(f"{CURL} https://files.world.test/small", code=60)
    assert job.sh(f"{CURL} -k https://files.world.test/small | wc -c").strip() == "512"
    assert job.sh("echo hello | nc -w 60 plain.world.test 7") == "hello\n"


def test_what_is_denied_is_told(job):
    mark = job.mark()
    for url, code in ((f"http://{plan.B4}/", 7), ("http://169.254.169.254/latest/", 7), ("https://evil.world.test/", 6),
                      ("https://api.world.test:8443/", 7), ("http://metadata.google.internal/", 6)):
        job.sh(f"{CURL} {url}", code=code)
    mark.nothing_arrived(("api.world.test",))
    assert {"no-rule", "metadata-address"} <= {e["reason"] for e in mark.events(event="refused")}
    assert job.sh(f"{CODE} -H 'Host: evil.world.test' https://api.world.test/") == "421\n"


def test_the_value_goes_out_and_does_not_come_in(job):
    mark = job.mark()
    got = job.sh(SECRET)
    assert got.endswith("200") and not seen_in(got.encode(), KEY)
    assert keys(mark) == [KEY] and mark.event(event="scrubbed")["secret"] == "API_KEY"
    placeholder = job.sh("printf %s $API_KEY")
    assert placeholder != KEY and [p for p in job.berm.alive() if in_memory(p, placeholder)]
    for pid in job.berm.alive():
        assert KEY.encode() not in arguments(pid)
        assert leaks.comm(pid) == "berm-vault" or not in_memory(pid, KEY), leaks.comm(pid)
    seen = job.mark()
    assert job.sh(f"{CODE} -H \"x-other: $API_KEY\" https://api.world.test/x") == "403\n"
    assert seen.event(event="violation")["secret"] == "API_KEY" and not seen.requests()


def test_a_fork_and_a_policy_of_its_own(job):
    """Of two guests that were one each has its own authority and placeholders, and rules."""
    child = job.berm.ok("fork", job.id, timeout=300).split()[-1]
    try:
        def there(words):
            return job.berm.run("exec", child, "sh", "-c", words, timeout=300).stdout

        mark = job.mark()
        words = "cat $NODE_EXTRA_CA_CERTS; printf '=> %s' $API_KEY"
        (mine, key), (theirs, other) = (said.split("=> ") for said in (job.sh(words), there(words)))
        assert "BEGIN CERT" in mine and mine != theirs and len({key, other, KEY}) == 3
        assert there(SECRET).endswith("200") and keys(mark) == [KEY]
        job.berm.ok("policy", "set", child, "--preset", "none")
        assert there(f"{CURL} https://api.world.test/ || echo $?") == "6\n"
        assert job.sh(SECRET).endswith("200")
    finally:
        job.berm.run("rm", "-f", child)


def test_a_policy_that_changes(job):
    held = job.start("sh", "-c", "(echo x; sleep 1000) | nc plain.world.test 7; echo over")
    try:
        assert held.stdout.readline() == b"x\n"
        less = job.write("less.yaml", RULES.replace("plain.", "four.") + SECRETS)
        job.berm.ok("policy", "set", job.id, less, env=ENV)
        wait_for("it is ended", lambda: job.events(reason="revoked"), 30)
    finally:
        held.kill()
        held.communicate()
    assert job.sh("echo hello | nc -w 60 four.world.test 7") == "hello\n"
    job.sh("nc -w 60 plain.world.test 7 </dev/null", code=1)


def test_a_port_of_the_guest(job, world):
    server = job.start("busybox", "httpd", "-f", "-p", "8000", "-h", "/etc")
    forward = job.berm.start("forward", job.id, "18090:8000")
    try:
        wait_for("the guest's server answers", lambda: "root:x:0:0" in world.host(
            "curl", "-sS", "-m", "20", "http://127.0.0.1:18090/passwd").stdout, 60)
    finally:
        for p in (forward, server):
            p.kill()
            p.communicate()
