"""Where KVM is tested: on this machine itself if its /dev/kvm runs kernels, else in the test host.

The one place that decides: `berm doctor` is asked, whose probe runs instructions on /dev/kvm.
"""

import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile

import client
from fault import Fault

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
DOCTOR_SECONDS = 60
TERM_SECONDS = 5
MARK = "direct"


def find_berm():
    given = os.environ.get("BERM")
    staged = os.path.join(os.environ.get("BERM_STAGE", f"{TOP}/build/stage"), "bin", "berm")
    for path in (given, staged):
        if path and os.access(path, os.X_OK):
            return path
    return None


def judge():
    """(whether the machine's own KVM will do, a sentence that says why)"""
    host = "KVM is tested in the test host: "
    berm = find_berm()
    if not berm:
        return False, host + "berm is not built, and its doctor knows what /dev/kvm is worth"
    try:
        got = subprocess.run(
            [berm, "doctor", "--json"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DOCTOR_SECONDS,
            check=False,
        )
        report = json.loads(got.stdout)
        kvm = next(f for f in report["findings"] if f["id"] == "kvm")
    except (OSError, ValueError, KeyError, StopIteration, subprocess.TimeoutExpired) as why:
        raise Fault(f"{berm} doctor --json gives no answer ({type(why).__name__})") from None
    if report["level"] == "microvm":
        return True, "KVM is tested on this machine itself: " + kvm["text"]
    return False, host + kvm["text"]


def is_direct(folder):
    return os.path.exists(os.path.join(folder, MARK))


def scratch(folder):
    return os.path.join(folder, "scratch")


def start(folder):
    os.mkdir(scratch(folder))
    with open(os.path.join(folder, MARK), "wb"):
        pass


def stop(folder):
    shutil.rmtree(scratch(folder), ignore_errors=True)
    os.unlink(os.path.join(folder, MARK))
    return 0


def account_of(user):
    """What subprocess needs to run as them."""
    try:
        entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
        groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}
    except KeyError:
        if not user.isdigit():
            raise Fault(f"there is no user {user}") from None
        return {"user": int(user), "group": int(user), "extra_groups": []}


def end(proc):
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(proc.pid, number)
            proc.wait(TERM_SECONDS)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            pass
    proc.wait()


def run(wish, timeout, folder):
    """As client.run(), without a host. folder: TMPDIR."""
    more = account_of(wish["user"]) if wish["user"] else {}
    if more:
        os.chmod(os.path.dirname(folder), 0o711)
        os.chmod(folder, 0o1777)
    env = {**os.environ, "TMPDIR": folder, **wish["env"]}
    try:
        proc = subprocess.Popen(
            wish["argv"], stdin=subprocess.DEVNULL, env=env, start_new_session=True, **more
        )
    except OSError as why:
        print(f"kvmhost: {wish['argv'][0]}: {why.strerror}", file=sys.stderr, flush=True)
        return 127 if isinstance(why, FileNotFoundError) else 126
    signals = client.Signals()
    try:
        code = wait(proc, timeout, signals.fd)
        if code is None:
            end(proc)
            return 128 + signals.got if signals.got else client.TIME_LIMIT
        return code if code >= 0 else 128 - code
    finally:
        signals.close()


def wait(proc, timeout, wake):
    """Its exit code; None: it still runs, and wake has woken or the time is over."""
    fd = os.pidfd_open(proc.pid)
    try:
        ready = select.select([fd, wake], [], [], timeout)[0]
        return proc.wait() if fd in ready else None
    finally:
        os.close(fd)


def once(wish, timeout):
    folder = tempfile.mkdtemp(prefix="kvmhost-", dir="/var/tmp")
    try:
        os.mkdir(scratch(folder))
        return run(wish, timeout, scratch(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
