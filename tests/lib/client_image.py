"""Images of Debian packages, built with mmdebstrap once for each recipe, and then taken from a cache. CLIENTS has
what agents use: pip, requests, websockets, Node, npm, gRPC, openssl, besides what the default image has.
"""

import contextlib
import fcntl
import glob
import hashlib
import os
import shutil
import subprocess
import tempfile

import bermtest

PACKAGES = (
    "apt", "ca-certificates", "curl", "git", "iproute2", "nodejs", "npm", "openssl", "procps", "python3",
    "python3-grpcio", "python3-pip", "python3-requests", "python3-websockets", "util-linux",
)
LEFT_OUT = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/icons/*",
            "/usr/share/nodejs/typescript/*")
SUITE = "bookworm"
SECONDS_MAX = 1800  # some hundred packages, from a mirror that may be slow
# Where each client looks for packages: names of the test world. {bundle} comes from the sandbox.
CUSTOMIZE = r"""
set -e
rm -f "$1"/etc/apt/sources.list "$1"/etc/apt/sources.list.d/* "$1"/etc/hostname "$1"/etc/resolv.conf
printf '127.0.0.1\tlocalhost\n::1\tlocalhost\n' >"$1"/etc/hosts
printf '[global]\nindex-url = https://pypi.world.test/simple\nbreak-system-packages = true\n' >"$1"/etc/pip.conf
printf 'registry=https://npm.world.test/\nfund=false\naudit=false\nupdate-notifier=false\n' >"$1"/etc/npmrc
printf 'prefix=/usr/local\nglobalconfig=/etc/npmrc\n' >"$1"/root/.npmrc
cat "$1"/etc/npmrc >>"$1"/root/.npmrc
echo 'deb [trusted=yes] https://deb.world.test test main' >"$1"/etc/apt/sources.list
rm -rf "$1"/var/lib/apt/lists/* "$1"/var/cache/apt/*.bin "$1"/var/log/*
# to read all roots takes a software CPU longer than a request does
awk '/^#/ || n++ < 8' "$1"/etc/ca-certificates.conf >"$1"/tmp/roots && mv "$1"/tmp/roots "$1"/etc/ca-certificates.conf
chroot "$1" update-ca-certificates --fresh >/dev/null
chroot "$1" python3 -m compileall -q /usr/lib/python3.11 /usr/lib/python3 || true
"""


def sources():
    got = subprocess.run([f"{bermtest.TOP}/images/default/sources", SUITE], capture_output=True, text=True, check=False)
    return got.stdout


class Recipe:
    """Packages, patterns of files that are left out of them, and a script that is given the root at last. Each recipe
    has a folder of the cache by itself."""

    def __init__(self, folder, packages, left_out, customize):
        self.packages, self.left_out, self.customize = packages, left_out, customize
        home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        self.folder = os.path.join(home, "berm", folder)

    def path(self):
        h = hashlib.sha256(repr((self.packages, self.left_out, self.customize, SUITE)).encode())
        return os.path.join(self.folder, f"{h.hexdigest()[:16]}.tar")

    def missing(self):
        """Why there can be no such image, or ""."""
        if os.path.exists(self.path()):
            return ""
        if not shutil.which("mmdebstrap"):
            return "apt install mmdebstrap"
        return "" if sources() else f"this host's apt has no source for Debian {SUITE}"

    def build(self, path):
        with tempfile.TemporaryDirectory(dir=os.path.dirname(path)) as work:
            os.chmod(work, 0o755)
            hook = os.path.join(work, "customize")
            with open(hook, "w", encoding="utf-8") as f:
                f.write("#!/bin/sh\n" + self.customize)
            os.chmod(hook, 0o755)
            tar = os.path.join(work, "root.tar")
            argv = ["mmdebstrap", "--variant=essential", "--format=tar", "--architectures=amd64",
                    "--mode=" + ("auto" if os.geteuid() == 0 else "unshare"), f"--include={','.join(self.packages)}",
                    "--aptopt=APT::Install-Recommends \"false\"", "--aptopt=Acquire::Languages \"none\"",
                    *[f"--dpkgopt=path-exclude={p}" for p in self.left_out], f"--customize-hook={hook}"]
            config = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False).stdout
            for line in config.splitlines():
                if line.startswith(("Acquire::http", "Acquire::https", "Acquire::Retries")):
                    argv.append(f"--aptopt={line.rstrip(';')}")
            got = subprocess.run([*argv, SUITE, tar, "-"], input=sources(), capture_output=True, text=True,
                                 timeout=SECONDS_MAX, check=False)
            assert got.returncode == 0, f"mmdebstrap: {got.stderr[-3000:]}"
            os.rename(tar, path)

    def tar(self):
        """The path of its root file system as a tar."""
        os.makedirs(self.folder, exist_ok=True)
        with open(f"{self.folder}/.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not os.path.exists(self.path()):
                for old in glob.glob(f"{self.folder}/*.tar"):
                    with contextlib.suppress(OSError):
                        os.unlink(old)
                self.build(self.path())
        return self.path()


CLIENTS = Recipe("test-image", PACKAGES, LEFT_OUT, CUSTOMIZE)
