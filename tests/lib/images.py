"""Images for the tests, made without any tool of containers."""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile

PASSWD = "root:x:0:0:root:/root:/bin/sh\ndev:x:1000:1000:Dev:/home/dev:/bin/sh\n"
GROUP = "root:x:0:\ndev:x:1000:\n"
EPOCH = 1700000000


def busybox():
    return shutil.which("busybox", path="/bin:/usr/bin")


def add(tar, name, data=b"", mode=0o644, kind=tarfile.REGTYPE, link="", owner=0):
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.type, info.linkname = len(data), mode, kind, link
    info.uid = info.gid = owner
    info.mtime = EPOCH
    tar.addfile(info, io.BytesIO(data))


def rootfs_tar(path):
    """A root file system of busybox with two users, as a tar."""
    names = subprocess.run([busybox(), "--list"], capture_output=True, text=True, check=True)
    with open(busybox(), "rb") as f:
        program = f.read()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for folder in ("bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var"):
            add(tar, folder, mode=0o755, kind=tarfile.DIRTYPE)
        add(tar, "tmp", mode=0o1777, kind=tarfile.DIRTYPE)
        add(tar, "home/dev", mode=0o755, kind=tarfile.DIRTYPE, owner=1000)
        add(tar, "bin/busybox", program, 0o755)
        for name in names.stdout.split():
            if name != "busybox":
                add(tar, f"bin/{name}", kind=tarfile.SYMTYPE, link="busybox")
        add(tar, "etc/passwd", PASSWD.encode())
        add(tar, "etc/group", GROUP.encode())
        add(tar, "etc/not-executable", b"#!/bin/sh\n", 0o644)
    return path


def curl():
    return shutil.which("curl", path="/usr/bin")


def libraries(program):
    told = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return [w for line in told.splitlines() for w in line.split() if w.startswith("/")]


def add_host_files(tar, names):
    """Files of this host's, to where they are here, into a tar that begins as rootfs_tar() does."""
    made = {"bin", "dev", "etc", "home", "proc", "root", "sys", "usr", "usr/bin", "var", "tmp"}
    for name in sorted(set(names)):
        parts = name.strip("/").split("/")
        for folder in ("/".join(parts[:n]) for n in range(1, len(parts))):
            if folder not in made:
                add(tar, folder, mode=0o755, kind=tarfile.DIRTYPE)
                made.add(folder)
        with open(name, "rb") as f:
            add(tar, name.strip("/"), f.read(), 0o755)


def curl_tar(path, rootfs):
    """That root file system with this host's curl, its libraries and the roots it trusts."""
    shutil.copy(rootfs, path)
    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT) as tar:
        add_host_files(tar, [curl(), "/etc/ssl/certs/ca-certificates.crt", *libraries(curl())])
    return path


def docker_archive(path, rootfs, tag, config):
    """What `docker save` writes for an image of one layer. `config` is its "config" object."""
    with open(rootfs, "rb") as f:
        layer = f.read()
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
    }
    text = json.dumps(document).encode()
    name = hashlib.sha256(text).hexdigest() + ".json"
    manifest = [{"Config": name, "RepoTags": [tag], "Layers": ["layer/layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        add(tar, name, text)
        add(tar, "layer/layer.tar", layer)
        add(tar, "manifest.json", json.dumps(manifest).encode())
    return path


def import_image(berm, archive, name):
    berm.ok("image", "import", "--name", name, os.fspath(archive))
    return name
