"""`berm agent build` from start to end, with package managers of the test's own: no registry is asked. The real ones
are in test_agents_real.py."""

import json
import os
import shutil
import signal
import subprocess
import tarfile

import images
import pytest
import sandboxes

AGENT = """#!/bin/sh
[ "$1" = --version ] || exit 9
echo; printf 'toy 1.2.3 \\033[31mred\\n'
"""
# Says where packages come from, and "installs": a file, a set of names, and much to read.
NPM = """#!/bin/sh
case "$1 $2" in
"config get") echo "${NPM_CONFIG_REGISTRY:-https://npm.example.net/}" ;;
"install --global")
    for word; do case $word in -*|install) ;; *) echo "$word" >>/npm-got ;; esac; done
    grep -q wrong /npm-got && { printf 'npm ERR! \\033[2J404 wrong\\n' >&2; exit 1; }
    grep -q slow /npm-got && { echo waiting; sleep 1000; }
    grep -q fill /npm-got && { dd if=/dev/zero of=/full bs=1M || exit 28; }
    grep -q flood /npm-got && i=0 && while [ $i -lt 3000 ]; do echo "line $i"; i=$((i+1)); done
    mkdir -p /usr/local/bin; cp /agent /usr/local/bin/toy
    grep -q mute /npm-got && printf '#!/bin/sh\nsleep 1000\n' >/usr/local/bin/toy
    grep -q large /npm-got && dd if=/dev/urandom of=/large bs=1M count=100
    grep -q dumb /npm-got && printf '#!/bin/sh\\nexit 3\\n' >/usr/local/bin/toy
    echo token >/root/.cache; mkdir /tmp/left; ln -s /etc/passwd /usr/local/link ;;
"ls --global") printf '/lib\\n'; while read -r l; do echo "/lib/$l:$l@9.9.9:undefined"; done </npm-got ;;
*) exit 5 ;;
esac
"""
PROFILE = """version: 1
description: a toy
image: {{ base: {base}, packages: {{ npm: [{names}] }} }}
command: [{command}]
resources: {{ cpus: 1, memory: 192MiB, disk: 256MiB }}
"""


@pytest.fixture(scope="module")
def base(stage, shared_state, rootfs, tmp_path_factory):
    path = tmp_path_factory.mktemp("build") / "base.tar"
    path.write_bytes(open(rootfs, "rb").read())
    with tarfile.open(path, "a", format=tarfile.PAX_FORMAT) as tar:
        images.add(tar, "bin/npm", NPM.encode(), 0o755)
        images.add(tar, "agent", AGENT.encode(), 0o755)
        images.add(tar, "root/.secret", b"x", 0o600, owner=1000)
    return images.import_image(sandboxes.Berm(shared_state, stage), path, "build-base")


@pytest.fixture(scope="module")
def no_mount(stage, shared_state, rootfs, tmp_path_factory):
    """That base without a mount. Its shell is dash: busybox's has mount in itself."""
    path = tmp_path_factory.mktemp("build") / "no-mount.tar"
    with tarfile.open(rootfs) as whole, tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for entry in whole:
            if entry.name not in ("bin/mount", "bin/sh"):
                tar.addfile(entry, whole.extractfile(entry) if entry.isreg() else None)
        images.add_host_files(tar, images.libraries("/bin/dash"))
        images.add(tar, "bin/sh", open("/bin/dash", "rb").read(), 0o755)
        images.add(tar, "bin/npm", NPM.encode(), 0o755)
        images.add(tar, "agent", AGENT.encode(), 0o755)
    return images.import_image(sandboxes.Berm(shared_state, stage), path, "no-mount")


class Builder:
    def __init__(self, berm, home, base):
        self.berm, self.home, self.base = berm, home, base
        self.folder = home / ".config/berm/agents"
        self.folder.mkdir(parents=True)
        self.env = {"HOME": str(home), "XDG_CONFIG_HOME": ""}
        self.before = self.images()

    def profile(self, names, name="toy", base=None, command="/usr/local/bin/toy"):
        text = PROFILE.format(base=base or self.base, names=names, command=command)
        (self.folder / f"{name}.yaml").write_text(text)

    def run(self, *args, **more):
        return self.berm.run("agent", *args, env={**self.env, **more.pop("env", {})}, **more)

    def json(self, *args):
        got = self.run(*args, "--json")
        assert got.returncode == 0, got.stderr
        return json.loads(got.stdout)

    def images(self):
        return {row["id"] for row in self.berm.json("image", "ls", "--json")}

    def row(self, name="toy"):
        return {r["name"]: r for r in self.json("ls")}[name]["image"]

    def nothing_kept(self):
        assert self.images() == self.before and self.row()["state"] == "missing"
        assert not self.berm.alive() and not os.listdir(os.path.join(self.berm.state_dir, "sandboxes"))


@pytest.fixture
def builder(berm, base, tmp_path):
    made = Builder(berm, tmp_path, base)
    yield made
    for image in made.images() - made.before:
        berm.run("image", "rm", "-f", image)


def test_an_image_says_what_it_was_made_of(builder, berm):
    builder.profile("one, flood")
    assert builder.row() | {"state": "missing", "id": None} == builder.row()
    got = builder.json("build", "toy")
    assert got["version"] == "toy 1.2.3 ?[31mred" and got["image"] == "agent/toy"
    assert got["packages"] == {"apt": [], "npm": ["one@9.9.9", "flood@9.9.9"], "pip": []}
    assert got["registries"] == ["npm.example.net"]
    # what the package managers left for themselves is not in it, what they made is
    look = "ls -A /tmp /root; cat /npm-got; readlink /usr/local/link; ls -ln /root/.secret; cat /etc/hosts"
    told = berm.ok("run", "agent/toy", "sh", "-c", look)
    assert "left" not in told and ".cache" not in told and "/etc/passwd" in told and "1000" in told
    # ls, inspect and doctor tell of it; the recipe's change is seen
    row = builder.row()
    assert row["state"] == "built" and row["version"] == got["version"] and row["id"] == got["id"]
    assert row["recipe"] == row["built_recipe"] == got["recipe"] and row["base_id"] == got["base"]
    labels = berm.json("image", "inspect", "agent/toy")["config"]["labels"]
    assert labels["berm.agent"] == "toy" and json.loads(labels["berm.agent.packages"])["npm"][0] == "one@9.9.9"
    assert "agent/toy" in builder.run("inspect", "toy").stdout.splitlines()[1]
    assert builder.run("doctor", "toy").returncode == 0
    builder.profile("two")
    assert builder.row()["state"] == "recipe changed" and "agent build toy" in builder.run("doctor", "toy").stdout
    builder.profile("one, flood", base="agent/toy")
    assert builder.row()["state"] == "recipe changed"
    builder.profile("one, flood")
    assert builder.row()["state"] == "built"


def test_all_of_the_command_is_asked(builder):
    """Its first word may be an interpreter, whose version is of no use."""
    builder.profile("one", command="sh, /usr/local/bin/toy")
    assert builder.json("build", "toy")["version"] == "toy 1.2.3 ?[31mred"
    builder.profile("one", command="sh, /usr/local/bin/another")
    got = builder.run("build", "toy")
    assert got.returncode == 125 and "'sh /usr/local/bin/another --version' ended with status" in got.stderr
    assert builder.row()["version"] == "toy 1.2.3 ?[31mred"  # what there was is still there


def test_another_name_and_another_registry(builder):
    builder.profile("one")
    mirror = "NPM_CONFIG_REGISTRY=https://mirror.example.net:8443/"
    got = builder.json("build", "toy", "--image", "toy-next", "-e", mirror)
    assert got["image"] == "toy-next" and got["registries"] == ["mirror.example.net:8443"]
    assert builder.row()["state"] == "missing"


@pytest.mark.parametrize("names, why, seen", [
    ("wrong", "'npm' ended with status 1", "  | npm ERR! \\x1b[2J404 wrong"),
    ("dumb", "'/usr/local/bin/toy --version' ended with status 3", ""),
])
def test_a_failure_says_the_step_and_keeps_nothing(builder, names, why, seen):
    builder.profile(names)
    got = builder.run("build", "toy")
    assert got.returncode == 125 and why in got.stderr and "step " in got.stderr and seen in got.stderr
    assert "\x1b" not in got.stderr and "nothing was kept" in got.stderr
    builder.nothing_kept()


def test_what_the_base_lacks(builder, bb):
    builder.profile("one", base=bb)
    got = builder.run("build", "toy")
    assert got.returncode == 125 and "the image has no 'npm' (image.packages.apt: [nodejs, npm])" in got.stderr
    builder.nothing_kept()


def test_a_base_without_mount(builder, berm, no_mount, tmp_path):
    """Its files cannot be taken with a tar that knows no file systems; a session needs neither."""
    builder.profile("one", base=no_mount)
    got = builder.run("build", "toy")
    assert got.returncode == 125 and "step 5, taking the files out of the guest" in got.stderr, got.stderr
    assert "no 'mount'" in got.stderr and "image.packages.apt: [mount] or [tar]" in got.stderr, got.stderr
    builder.nothing_kept()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/a.txt").write_text("as it was\n")
    size = ["--memory", "192MiB", "--disk", "256MiB"]
    got = berm.run("code", "--image", no_mount, *size, "--json", "-C", tmp_path / "tree", "--", "sh", "-c",
                   "command -v mount || echo more >>a.txt", env=builder.env)
    said = json.loads(got.stdout)
    assert got.returncode == 0 and said["exit_code"] == 0, (got.stdout, got.stderr)
    assert "a.txt" in berm.ok("diff", said["session"], env=builder.env)
    berm.ok("discard", "--yes", said["session"], env=builder.env)


def test_an_interrupt_leaves_nothing(builder, berm):
    builder.profile("slow")
    p = subprocess.Popen(berm.argv(["agent", "build", "toy"]), env={**berm.env, **builder.env},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in p.stderr:
        if "npm: 1 package" in line:
            break
    p.send_signal(signal.SIGINT)
    code, _, err = sandboxes.finish(p, 60)
    assert code == 130 and "interrupted; nothing was kept" in err
    builder.nothing_kept()


@pytest.fixture
def earlier(builder, berm):
    """Says that the image there was is still the one, that nothing else is, and that nothing runs."""
    builder.profile("one")
    first = builder.json("build", "toy")
    berm.ok("image", "prune")  # what that took the name from
    images = builder.images()
    left = set()

    def holds(unnamed=0):
        sandboxes.wait_for("all of it to end", lambda: not berm.alive())
        berm.ok("ps", "--all")
        assert not os.listdir(os.path.join(berm.state_dir, "sandboxes"))
        row = builder.row()
        assert (row["id"], row["version"]) == (first["id"], first["version"]), row
        more = builder.images() - images
        assert len(more) == unnamed and images <= builder.images()
        store = os.listdir(os.path.join(berm.state_dir, "images"))
        assert not [f for f in store if f.startswith(".staging")] or unnamed == 0
        assert "toy 1.2.3" in berm.ok("run", "agent/toy", "/usr/local/bin/toy", "--version")
        left.update(more)

    yield holds
    builder.profile("one, two")
    made = builder.json("build", "toy")
    assert made["id"] != first["id"] and builder.row()["id"] == made["id"] and builder.row()["state"] == "built"
    assert not builder.images() & left


def test_a_build_that_fills_its_disk(builder, earlier):
    builder.profile("fill")
    got = builder.run("build", "toy")
    assert got.returncode == 125 and "'npm' ended with status 28" in got.stderr, got.stderr
    assert "  | dd: " in got.stderr and "o space left" in got.stderr, got.stderr
    earlier()


@pytest.mark.parametrize("names, limit, why", [
    ("slow", "8s", "time"),
    ("mute", "25s", "'/usr/local/bin/toy --version' did not answer in the new image"),
])
def test_a_build_that_never_ends(builder, earlier, names, limit, why):
    builder.profile(names)
    got = builder.run("build", "toy", "--time", limit)
    assert got.returncode == 125 and "nothing was kept" in got.stderr and why in got.stderr, got.stderr
    earlier()


@pytest.mark.parametrize("names, step, unnamed", [
    ("slow", "npm: 1 package", 0),
    ("large", "taking the files out of the guest", 0),
    ("large", "making the image", 0),
    ("mute", "asking the agent for its version", 1),
])
def test_a_build_that_is_killed(builder, berm, earlier, names, step, unnamed):
    """kill -9 asks nobody. At most an image without a name is left, which the next build removes."""
    builder.profile(names)
    p = subprocess.Popen(berm.argv(["agent", "build", "toy"]), env={**berm.env, **builder.env},
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in p.stderr:
        if step in line:
            break
    p.kill()
    sandboxes.finish(p, 60)
    for name in os.listdir(os.path.join(berm.state_dir, "sandboxes")):
        if name.startswith(".new-"):  # killed before it had its name; the sweep leaves such a one until it is old
            shutil.rmtree(os.path.join(berm.state_dir, "sandboxes", name))
    earlier(unnamed)


def test_a_full_disk_of_the_host(builder, berm):
    """The state directory is a file system that has no room for the guest's files."""
    builder.profile("large")
    script = "cp -r $1/images $STATE/ && rm -rf $STATE/images/.staging* && $BERM agent build toy; echo $?; "
    script += "$BERM agent ls; $BERM ps --all"
    room = sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(os.path.join(berm.state_dir, "images"))
               for f in files)
    full = sandboxes.Berm(berm.state_dir, os.path.dirname(os.path.dirname(berm.path)))
    full.env.update(builder.env)
    got = sandboxes.mounted(f"size={room // 1024 + 60000}k", script, full, berm.state_dir)
    assert "125\n" in got.stdout and "is full" in got.stderr, (got.stdout, got.stderr)
    assert "nothing was kept" in got.stderr, got.stderr
    assert "missing" in got.stdout and len(got.stdout.partition("ID ")[2].splitlines()) == 1, got.stdout


def test_at_a_terminal_one_line_says_how_far_it_is(builder, berm):
    """Ctrl-C there is an interrupt as well; what packages print never moves the cursor."""
    builder.profile("wrong, slow")
    with berm.terminal("agent", "build", "toy", env=builder.env) as t:
        shown = t.expect("nothing was kept", 60)
        assert t.wait() == 125
        assert "starting a guest of the base image" in shown and "npm: 2 packages" in shown
        assert "\x1b[2J" not in shown and "\\x1b[2J404 wrong" in shown
    builder.profile("slow")
    with berm.terminal("agent", "build", "toy", env=builder.env) as t:
        t.expect("npm: 1 package: waiting", 60)
        t.type("\x03")
        assert "interrupted; nothing was kept" in t.expect("nothing was kept", 60)
        assert t.wait() == 130
    builder.nothing_kept()


def test_wrong_words(builder):
    assert builder.run("build", "nobody").returncode == 3
    assert builder.run("build", "custom").returncode == 125
    assert builder.run("build", "codex", "--time", "0s").returncode == 125
    for name in ("../../x", "A B", "x" * 300, "-x", "a\x1b[2J"):
        got = builder.run("build", "codex", f"--image={name}")
        assert got.returncode == 125 and "is no image name" in got.stderr and "\x1b" not in got.stderr, got.stderr
    assert builder.run("forget", "Not-A-Name").returncode == 125
    assert builder.run("forget", "codex").stdout == "codex: there was nothing to forget\n"
