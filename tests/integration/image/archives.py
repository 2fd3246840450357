"""Image archives of any shape, good and hostile, and what a disk of the store holds."""

import gzip
import hashlib
import io
import json
import os
import stat
import subprocess
import tarfile

EPOCH = 1_700_000_000
WHITEOUT, OPAQUE = ".wh.", ".wh..wh..opq"


def sha(data):
    return hashlib.sha256(data).hexdigest()


class Layer:
    """One layer tar, entry by entry."""

    def __init__(self, fmt=tarfile.PAX_FORMAT):
        self.out = io.BytesIO()
        self.tar = tarfile.open(fileobj=self.out, mode="w", format=fmt)

    def add(self, name, data=None, kind=tarfile.REGTYPE, mode=0o644, uid=0, gid=0, mtime=EPOCH,
            link="", dev=(0, 0), xattrs=None, pax=None, size=None):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.uid, info.gid, info.mtime = kind, mode, uid, gid, mtime
        info.linkname = link
        info.devmajor, info.devminor = dev
        info.size = len(data or b"") if size is None else size
        info.pax_headers = dict(pax or {})
        for key, value in (xattrs or {}).items():
            info.pax_headers["SCHILY.xattr." + key] = value
        self.tar.addfile(info, io.BytesIO(data or b"") if size is None else None)
        return self

    def file(self, name, text="", **more):
        return self.add(name, text.encode() if isinstance(text, str) else text, **more)

    def dir(self, name, mode=0o755, **more):
        return self.add(name, kind=tarfile.DIRTYPE, mode=mode, **more)

    def symlink(self, name, to, **more):
        return self.add(name, kind=tarfile.SYMTYPE, link=to, mode=0o777, **more)

    def hard(self, name, to, **more):
        return self.add(name, kind=tarfile.LNKTYPE, link=to, **more)

    def gone(self, name):
        folder, _, base = name.rpartition("/")
        return self.file((folder + "/" if folder else "") + WHITEOUT + base)

    def opaque(self, folder):
        return self.file(folder + "/" + OPAQUE)

    def bytes(self):
        self.tar.close()
        return self.out.getvalue()


def config_of(layers, arch="amd64", system="linux", **run):
    return {"architecture": arch, "os": system, "created": "2026-01-01T00:00:00Z", "config": run,
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + sha(x) for x in layers]}}


def put(tar, name, data, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname, info.mtime = len(data), kind, link, EPOCH
    tar.addfile(info, io.BytesIO(data))


def docker(path, layers, tags=("test:1",), config=None, change=None, packer=None):
    """What `docker save` writes. change(members) may spoil the list of (name, bytes)."""
    text = json.dumps(config or config_of(layers, Env=["A=b"], Cmd=["sh"])).encode()
    names = [f"{sha(b'%d' % i + x)}/layer.tar" for i, x in enumerate(layers)]
    manifest = [{"Config": sha(text) + ".json", "RepoTags": list(tags), "Layers": names}]
    members = [(sha(text) + ".json", text)]
    members += [(n, packer(x) if packer else x) for n, x in zip(names, layers)]
    members += [("manifest.json", json.dumps(manifest).encode())]
    if change:
        members = change(members) or members
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            put(tar, name, data)
    return path


def oci_blobs(layers, config=None, packer=gzip.compress, platform=None, notes=None, media=None):
    """Blobs by digest, and the row of an index that names the image."""
    blobs = {}

    def blob(data, media_type):
        blobs[sha(data)] = data
        return {"mediaType": media_type, "digest": "sha256:" + sha(data), "size": len(data)}

    base = "application/vnd.oci.image."
    manifest = {
        "schemaVersion": 2,
        "config": blob(json.dumps(config or config_of(layers)).encode(), base + "config.v1+json"),
        "layers": [blob(packer(x), media or base + "layer.v1.tar+gzip") for x in layers]}
    row = blob(json.dumps(manifest).encode(), base + "manifest.v1+json")
    if platform:
        row["platform"] = dict(zip(("os", "architecture"), platform))
    if notes:
        row["annotations"] = notes
    return blobs, row


def oci_dir(path, rows_and_blobs, index=None):
    """An OCI layout directory of images made by oci_blobs()."""
    os.makedirs(os.path.join(path, "blobs/sha256"))
    for blobs, _ in rows_and_blobs:
        for digest, data in blobs.items():
            with open(os.path.join(path, "blobs/sha256", digest), "wb") as f:
                f.write(data)
    index = index or {"schemaVersion": 2, "manifests": [row for _, row in rows_and_blobs]}
    for name, text in (("oci-layout", {"imageLayoutVersion": "1.0.0"}), ("index.json", index)):
        with open(os.path.join(path, name), "w", encoding="utf-8") as f:
            json.dump(text, f)
    return path


def listing(folder):
    """All that tells one tree from another: kinds, owners, modes, times, contents, links, attributes."""
    found, inodes = {}, {}
    for base, dirs, files in os.walk(folder):
        for name in [".", *files, *dirs] if base == folder else files + dirs:
            path = os.path.join(base, name)
            st = os.lstat(path)
            rel = os.path.relpath(path, folder)
            kind = stat.S_IFMT(st.st_mode)
            content = None
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    content = sha(f.read())
                inodes.setdefault(st.st_ino, []).append(rel)
            elif stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            elif kind in (stat.S_IFCHR, stat.S_IFBLK):
                content = (os.major(st.st_rdev), os.minor(st.st_rdev))
            xattrs = {k: os.getxattr(path, k, follow_symlinks=False)
                      for k in os.listxattr(path, follow_symlinks=False)}
            found[rel] = (kind, stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid, int(st.st_mtime),
                          content, tuple(sorted(xattrs.items())))
    links = sorted(sorted(x) for x in inodes.values() if len(x) > 1)
    return found, links


def unsquash(disk, into):
    subprocess.run(["unsquashfs", "-no-progress", "-quiet", "-xattrs", "-d", into, disk], check=True,
                   capture_output=True)
    return listing(into)
