"""What a guest can see and reach: itself, and nothing of the host."""

import os

import pytest
from sandboxes import Stopwatch

RUN = ["run", "--time", "60s"]


def test_only_loopback(berm, bb):
    assert berm.ok(*RUN, bb, "ls", "/sys/class/net").split() == ["lo"]


def test_loopback_works(berm, bb):
    script = "nc -l -p 80 -e echo reply & sleep 0.5; nc 127.0.0.1 80 </dev/null; "
    script += "ping -c 1 -W 2 ::1 >/dev/null && echo v6"
    assert "reply" in berm.ok(*RUN, bb, "sh", "-c", script)


def test_no_route(berm, bb):
    script = "tail -n +2 /proc/net/route | wc -l; grep -v ' lo$' /proc/net/ipv6_route | wc -l"
    assert berm.ok(*RUN, bb, "sh", "-c", script).split() == ["0", "0"]


@pytest.mark.parametrize("address", ["1.1.1.1", "10.0.0.1", "169.254.169.254", "192.168.0.1"])
def test_connecting_anywhere_fails_at_once(berm, bb, address):
    watch = Stopwatch()
    got = berm.run(*RUN, bb, "nc", "-w", "20", address, "80")
    assert got.returncode != 0
    assert "nreachable" in got.stderr, got.stderr
    assert watch.seconds() < 15


def test_names_do_not_resolve(berm, bb):
    watch = Stopwatch()
    got = berm.run(*RUN, bb, "wget", "-q", "-T", "5", "-O", "-", "http://example.com/")
    assert got.returncode != 0
    assert watch.seconds() < 30


def test_no_kvm_and_no_disks_but_its_own(berm, bb):
    got = berm.ok(*RUN, bb, "sh", "-c", "ls /dev/kvm 2>&1; ls /sys/block")
    disks = [d for d in got.split() if d.startswith(("vd", "sd", "nvme"))]
    assert disks == ["vda", "vdb"]
    assert "No such file" in got


def test_image_disk_is_read_only(berm, bb):
    """As root in the guest: the host's copy of the image does not change."""
    script = "dd if=/dev/zero of=/dev/vda bs=4096 count=1 conv=fsync 2>&1; cat /sys/block/vda/ro; true"
    assert berm.ok(*RUN, bb, "sh", "-c", script).split()[-1] == "1"
    assert berm.ok(*RUN, "--cold", bb, "echo", "fine") == "fine\n"


def test_no_file_of_the_host(berm, bb, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    got = berm.run(*RUN, bb, "cat", str(secret))
    assert got.returncode == 1
    mounts = berm.ok(*RUN, bb, "cat", "/proc/mounts")
    assert not {line.split()[2] for line in mounts.splitlines()} & {"9p", "virtiofs", "nfs", "fuse"}


def test_environment_of_every_process_is_the_guests(berm, bb):
    script = "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline /proc/cmdline | tr '\\0' '\\n'"
    text = berm.ok(*RUN, bb, "sh", "-c", script, env={"BERM_TEST_MARK": "kept on the host"})
    assert "kept on the host" not in text
    assert berm.state_dir not in text
    assert os.uname().nodename not in text.split()


def test_console_is_not_the_commands(berm, bb):
    """What the guest's kernel says does not come out as the command's output."""
    got = berm.run(*RUN, bb, "sh", "-c", "echo to the log > /dev/kmsg; echo out")
    assert (got.stdout, got.stderr) == ("out\n", "")


@pytest.mark.parametrize("how", ["poweroff -f", "halt -f", "reboot -f"])
def test_power_is_not_the_commands(berm, bb, how):
    """This machine would only stop its CPU, and nobody would know."""
    got = berm.run(*RUN, bb, "sh", "-c", f"{how}; echo still here")
    assert got.stdout == "still here\n"
    assert "not permitted" in got.stderr


def test_agent_cannot_be_killed_from_inside(berm, bb):
    script = "kill -9 1; kill -STOP 1; kill -SEGV 1; echo alive; cat /proc/1/comm"
    assert berm.ok(*RUN, bb, "sh", "-c", script).startswith("alive\n")


def test_agents_port_is_not_for_others(berm, bb):
    """Root in the guest may reach for it; the protocol is not disturbed by that, or the guest ends."""
    script = "for p in /dev/vport*; do (echo garbage > $p) 2>/dev/null; done; echo done"
    code, said = berm.judged("--time", "30s", bb, "sh", "-c", script)
    assert (code, said["stdout"]) == (0, "done\n") or said["result"]["reason"] == "agent-lied"
