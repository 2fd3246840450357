"""Packing a workspace, against tar to a file and libsquashfs (uncompressed) of the same tree.

Trees: BENCH_PACK_FILES (100,000) files made here, sizes as projects have them, and the kernel's
source if linux-source is installed. All run in turn with a warm cache on the disk that BENCH_DIR (or
/var/tmp) lies on; a second pack has 1 % of the files changed. Beside the time, which carries what
else the machine does, stands the processor's (user and system). What reaches the disk later is not
waited for, of anyone. With BENCH_PACK_XFS=1 (root) the same once more on an XFS of its own, where
blocks are shared.
"""

import contextlib
import glob
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import bench

RUNS = int(os.environ.get("BENCH_RUNS", "5"))
FILES = int(os.environ.get("BENCH_PACK_FILES", "100000"))
WHERE = os.environ.get("BENCH_DIR", "/var/tmp")
BUILD = os.path.join(bench.TOP, "build/main")
TOOL = os.path.join(BUILD, "tests/integration/work/basetool")
SQUASH = os.path.join(BUILD, "tests/bench/squash_tree")
GIB = 1 << 30


def synthetic(root):
    """Files of 2 KiB in the median and 9 KiB in the mean, thirty in a directory."""
    rng = random.Random(5)
    text = rng.randbytes(1 << 20)
    for i in range(FILES):
        folder = os.path.join(root, f"p{i // 3000}", f"d{i // 30 % 100}")
        if i % 30 == 0:
            os.makedirs(folder)
        size = min(int(rng.lognormvariate(7.6, 1.7)), len(text) - 100)
        with open(os.path.join(folder, f"file-{i}.c"), "wb") as f:
            f.write(text[i % 100:i % 100 + size])


def timed(*command):
    """Milliseconds on the clock and of the processor, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    got = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took * 1000, cpu * 1000, got.stdout


def change_some(root):
    paths = sorted(glob.glob(f"{root}/**/*.c", recursive=True))
    for path in random.Random(6).sample(paths, len(paths) // 100):
        with open(path, "ab") as f:
            f.write(b"/* changed */\n")


def clear(work):
    for name in os.listdir(work):
        if name != "tree":
            path = os.path.join(work, name)
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def one_tree(name, work):
    tree, out = os.path.join(work, "tree"), os.path.join(work, "out")
    kinds = {
        "tar": ["tar", "cf", os.path.join(work, "tree.tar"), "-C", tree, "."],
        "squash": [SQUASH, tree, os.path.join(work, "tree.sqfs")],
        "pack": [TOOL, "pack", tree, out],
        "again": [TOOL, "pack", tree, out + "2", "--earlier", out],
    }
    wall, cpu, said = {k: [] for k in kinds}, {k: [] for k in kinds}, {}
    for run in range(RUNS + 1):
        for kind, command in kinds.items():
            if kind == "again":
                change_some(tree)
                time.sleep(0.1)  # what changed this instant is no fair second pack
            ms, cpu_ms, text = timed(*command)
            if run > 0:
                wall[kind].append(ms)
                cpu[kind].append(cpu_ms)
                said[kind] = text
        clear(work)
        os.sync()
    totals = json.loads(said["pack"])
    for kind in kinds:
        more = {"files": totals["files"], "file_bytes": totals["file_bytes"]}
        if kind in ("pack", "squash"):
            more["image_bytes"] = json.loads(said[kind])["image_bytes"]
        bench.report(f"pack_{name}_{kind}_ms", wall[kind], **more)
        bench.report(f"pack_{name}_{kind}_cpu_ms", cpu[kind])
    bench.ratio(f"pack_{name}_ratio_tar", wall["pack"], wall["tar"], budget=1 / 0.7)
    bench.ratio(f"pack_{name}_ratio_squash", wall["pack"], wall["squash"])
    bench.ratio(f"pack_{name}_again_ratio", wall["again"], wall["pack"], budget=0.2)
    bench.ratio(f"pack_{name}_cpu_ratio_tar", cpu["pack"], cpu["tar"])
    bench.ratio(f"pack_{name}_cpu_again_ratio", cpu["again"], cpu["pack"])


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="berm-bench-", dir=WHERE) as work:
        yield work


@contextlib.contextmanager
def xfs():
    with folder() as around:
        disk, mount = os.path.join(around, "disk"), os.path.join(around, "mount")
        with open(disk, "wb") as f:
            os.truncate(f.fileno(), 16 * GIB)
        os.mkdir(mount)
        subprocess.run(["mkfs.xfs", "-q", disk], check=True)
        subprocess.run(["mount", "-o", "loop", disk, mount], check=True)
        try:
            yield mount
        finally:
            subprocess.run(["umount", "-l", mount], check=True)


def source_tree(work):
    package = sorted(glob.glob("/usr/src/linux-source-*.tar.xz"))
    if not package:
        return False
    os.mkdir(os.path.join(work, "tree"))
    subprocess.run(["tar", "xJf", package[-1], "-C", os.path.join(work, "tree")], check=True)
    return True


def main():
    for program in (TOOL, SQUASH):
        if not os.path.exists(program):
            sys.exit(f"bench_pack: no {program}: ninja -C build/main tests/integration/work/basetool "
                     "tests/bench/squash_tree")
    places = {"": folder}
    if os.environ.get("BENCH_PACK_XFS"):
        places["xfs_"] = xfs
    for prefix, place in places.items():
        with place() as work:
            os.mkdir(os.path.join(work, "tree"))
            synthetic(os.path.join(work, "tree"))
            one_tree(f"{prefix}synthetic", work)
        with place() as work:
            if source_tree(work):
                one_tree(f"{prefix}kernel", work)
            else:
                bench.note("pack: no linux-source here: only the tree made for this was measured")


if __name__ == "__main__":
    main()
