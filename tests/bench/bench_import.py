"""Importing an image, against skopeo copy and umoci unpack of the same archive.

The archive is what `docker save` writes for three layers: this machine's /usr/lib/python3* and
/usr/share as a base, a second with a part of it changed and removed, and a small one. Peers run in
turn with berm, on the same disk, each with a warm cache. berm puts its image safely on disk; the
peers do not, and `sync_ms` says what that costs them.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time

import bench

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
BASE = ("/usr/lib/python3", "/usr/lib/python3.11", "/usr/share/perl", "/usr/lib/git-core", "/usr/bin",
        "/usr/lib/x86_64-linux-gnu/perl", "/usr/share/doc")
BYTES_MAX = 250 << 20


def base_layer():
    out, left, names = io.BytesIO(), BYTES_MAX, []
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for top in BASE:
            for folder, dirs, files in os.walk(top):
                dirs.sort()
                tar.add(folder, recursive=False)
                for name in sorted(files):
                    path = os.path.join(folder, name)
                    size = os.lstat(path).st_size
                    if os.path.islink(path) or size > left or not os.access(path, os.R_OK):
                        continue
                    left -= size
                    tar.add(path, recursive=False)
                    names.append(path.lstrip("/"))
    return out.getvalue(), names


def upper_layer(names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for i, name in enumerate(names):
            if i % 20 == 0:
                info = tarfile.TarInfo(name)
                data = (name * 50).encode()
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
            elif i % 20 == 1:
                folder, base = os.path.split(name)
                tar.addfile(tarfile.TarInfo(f"{folder}/.wh.{base}"))
    return out.getvalue()


def small_layer():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("etc/motd")
        tar.addfile(info)
    return out.getvalue()


def archive(path):
    base, names = base_layer()
    layers = [base, upper_layer(names), small_layer()]
    config = json.dumps({
        "architecture": "amd64", "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers",
                   "diff_ids": ["sha256:" + hashlib.sha256(x).hexdigest() for x in layers]}}).encode()
    name = hashlib.sha256(config).hexdigest() + ".json"
    rows = [{"Config": name, "RepoTags": ["bench:1"],
             "Layers": [f"{i}/layer.tar" for i in range(len(layers))]}]
    with tarfile.open(path, "w") as tar:
        for member, data in [(name, config), *((f"{i}/layer.tar", x) for i, x in enumerate(layers)),
                             ("manifest.json", json.dumps(rows).encode())]:
            info = tarfile.TarInfo(member)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return len(names)


def timed(*commands, env=None):
    began = time.monotonic()
    for command in commands:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    return (time.monotonic() - began) * 1000


def settle():
    began = time.monotonic()
    os.sync()
    return (time.monotonic() - began) * 1000


def one_kind(kind, source, from_ref, work):
    """berm and its peers on one archive, in turn."""
    ours, theirs, both, syncs = [], [], [], []
    berm = os.path.join(bench.STAGE, "bin", "berm")
    for i in range(RUNS + 1):
        state = os.path.join(work, "state")
        env = {**os.environ, "BERM_STATE_DIR": state}
        settle()
        mine = timed([berm, "image", "import", "-q", source], env=env)
        settle()
        oci, bundle = os.path.join(work, "oci"), os.path.join(work, "bundle")
        unpack = ["umoci", "unpack", "--image", f"{oci}:t", bundle]
        if os.geteuid() != 0:
            unpack.insert(2, "--rootless")
        copy = timed(["skopeo", "copy", "-q", from_ref, f"oci:{oci}:t"])
        alone = timed(unpack)
        sync = settle()
        if i > 0:  # the first of each warms the cache
            ours.append(mine)
            theirs.append(alone)
            both.append(copy + alone)
            syncs.append(sync)
        listed = subprocess.run([berm, "image", "ls", "--json"], env=env, capture_output=True, check=True)
        size = sum(x.get("disk_bytes", 0) for x in json.loads(listed.stdout) if not x["installed"])
        for folder in (state, oci, bundle):
            shutil.rmtree(folder, ignore_errors=True)
    bench.report(f"import_{kind}_ms", ours, disk_bytes=size, archive_bytes=os.stat(source).st_size)
    bench.report(f"import_{kind}_skopeo_umoci_ms", both)
    bench.report(f"import_{kind}_umoci_alone_ms", theirs)
    bench.report(f"import_{kind}_peers_sync_ms", syncs)
    bench.ratio(f"import_{kind}_ratio", ours, both, budget=0.7)
    bench.ratio(f"import_{kind}_ratio_umoci_alone", ours, theirs)


def main():
    for tool in ("skopeo", "umoci"):
        if not shutil.which(tool):
            sys.exit(f"bench_import: {tool} is missing: apt install skopeo umoci")
    with bench.State() as holder:
        work = holder.dir
        plain = os.path.join(work, "image.tar")
        files = archive(plain)
        bench.note(f"import: {files} files in three layers")
        one_kind("docker", plain, f"docker-archive:{plain}", work)
        packed = os.path.join(work, "image.oci.tar")
        subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{plain}", f"oci-archive:{packed}:t"],
                       check=True)
        one_kind("gzip", packed, f"oci-archive:{packed}:t", work)


if __name__ == "__main__":
    main()
