"""An installation whose gate is fake_gate.py, and its vault fake_vault.py."""

import contextlib
import os
import shutil

import sandboxes

HERE = os.path.dirname(os.path.abspath(__file__))
PROGRAMS = {"fake_gate.py": "berm-gate", "fake_vault.py": "berm-vault"}
MODULES = ("fake_control.py", "netpeer.py")
installed = set()
# the gate serves, and tells of each frame before it answers: once a guest has its answer, all may end
COUNTS = """
import json

def tell():
    mark('mark-counts', json.dumps([router.counts, router.wrong]))

def take(frame):
    netpeer.Router.frame(router, frame)
    tell()

def answer(frame):
    tell()
    netpeer.Router.send(router, frame)

tell()
router.frame, router.send = take, answer
serve()
"""


def install(libexec):
    installed.add(os.fspath(libexec))
    for fake, program in PROGRAMS.items():
        shutil.copy(os.path.join(HERE, fake), os.path.join(libexec, program))
        os.chmod(os.path.join(libexec, program), 0o755)
    for name in MODULES:
        shutil.copy(os.path.join(HERE, name), libexec)
    play(libexec, "ready()\n" + COUNTS)


def remove(libexec):
    for name in (*PROGRAMS.values(), *MODULES, "gate.py", "vault.py"):
        os.unlink(os.path.join(libexec, name))


def play(libexec, script, vault="ready()\n"):
    """What the next gates and vaults do."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(libexec, "mark-counts"))
    for name, text in (("gate.py", script), ("vault.py", vault)):
        with open(os.path.join(libexec, name), "w") as f:
            f.write(text)


def command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
            return f.read()
    except OSError:
        return ""


def processes(*programs):
    """The gates and vaults that run, of whatever test of ours; there may be other people's."""
    wanted = programs or tuple(PROGRAMS.values())
    paths = [os.path.join(folder, name) for folder in installed for name in wanted]
    return {int(pid) for pid in os.listdir("/proc") if pid.isdigit()
            and any(path in command_line(pid).split("\0") for path in paths)}


def marked(libexec, name):
    path = os.path.join(libexec, name)
    sandboxes.wait_for(f"the gate came to {name}", lambda: os.path.exists(path))
    with open(path) as f:
        return f.read()
