"""Where everything is in the test world: addresses that look public and names below world.test.

Two namespaces are joined by a pair of interfaces. On the berm side berm runs, with a resolv.conf and
root certificates of its own. The far side is everybody's router: whatever leaves the berm side arrives
there and is seen, also what goes to addresses nobody has. No packet leaves the two.
"""

BERM4, FAR4 = "45.90.28.2", "45.90.28.1"
BERM6, FAR6 = "2a0a:45:28::2", "2a0a:45:28::1"
DNS1, DNS2 = "45.90.28.53", "45.90.28.54"
WITNESS4 = ("45.90.30.10", "45.90.30.11", "45.90.30.12", "45.90.30.13", "45.90.30.14", "45.90.30.15")
WITNESS6 = ("2a0a:45:30::10", "2a0a:45:30::11")
NGINX4, NGINX6 = "45.90.30.20", "2a0a:45:30::20"
GRPC4 = "45.90.30.30"
REFUSES4 = "45.90.30.40"  # nobody listens there, and that is said at once
NOBODY4 = "45.90.99.99"  # no answer ever comes
# Far addresses that no sandbox may reach: what arrives there is seen even if all else fails.
TRAPS4 = ("169.254.169.254", "100.100.100.200", "10.0.0.1", "172.16.0.1", "192.168.1.1", "45.90.31.1")
TRAPS6 = ("fd00:ec2::254", "fd00::1")
TRAP_PORTS = (80, 443, 8080)

FAR_ADDRESSES4 = (DNS1, DNS2, *WITNESS4, NGINX4, GRPC4, REFUSES4, *TRAPS4)
FAR_ADDRESSES6 = (*WITNESS6, NGINX6, *TRAPS6)

HTTP_PORT, TLS_PORT, OTHER_TLS_PORT = 80, 443, 8443
# of the witness: what a server there does with a connection
RAW = {7: "echo", 9: "discard", 7002: "garbage", 7003: "reset", 7004: "stall", 7005: "close", 7006: "hello"}
ECHO, DISCARD, GARBAGE, RESET, STALL, CLOSE, HELLO = RAW
UDP_ECHO = 7

TOKEN = "ghp_3v1Yq8ZkT0sLw7Nc5RbXeGm2HdAfJ9uP4oKi"  # of the git server; the value of a secret
USER = "berm"

A4, B4, C4, D4, E4, F4 = WITNESS4
A6, B6 = WITNESS6
MINUTE = 300

# What the DNS server says; a test may change it (dns_server.py has the words).
NAMES = {
    "api.world.test": {"A": [A4]},
    "other.world.test": {"A": [A4]},  # at the same address
    "dual.world.test": {"A": [A4], "AAAA": [A6]},
    "denied.world.test": {"A": [B4], "AAAA": [B6]},
    "h2.world.test": {"A": [A4]},
    "plain.world.test": {"A": [A4]},
    "away.world.test": {"A": [B4]},
    "git.world.test": {"A": [A4]},
    "pypi.world.test": {"A": [A4]},
    "npm.world.test": {"A": [A4]},
    "deb.world.test": {"A": [A4]},
    "github.com": {"A": [C4]},
    "files.world.test": {"A": [NGINX4], "AAAA": [NGINX6]},
    "grpc.world.test": {"A": [GRPC4]},
    "expired.world.test": {"A": [A4]},
    "self-signed.world.test": {"A": [A4]},
    "wrong-name.world.test": {"A": [A4]},
    "old-tls.world.test": {"A": [A4]},
    "six.world.test": {"AAAA": [A6]},
    "four.world.test": {"A": [A4]},
    "refuses.world.test": {"A": [REFUSES4]},
    "nobody.world.test": {"A": [NOBODY4]},
    "*.wild.world.test": {"A": [A4]},
    "wild.world.test": {"A": [A4]},
    "evilwild.world.test": {"A": [A4]},
}
# Certificates that are not simply good; all other names are in the good one.
BAD_CERTIFICATES = ("expired.world.test", "self-signed.world.test", "wrong-name.world.test")
GOOD_NAMES = [*(n for n in NAMES if n not in BAD_CERTIFICATES), "*.world.test", "*.deep.wild.world.test"]
GOOD_ADDRESSES = [*WITNESS4, *WITNESS6]
