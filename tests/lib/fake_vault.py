#!/usr/bin/python3 -ISu
"""Stands in for berm-vault (src/lib/companion.h): it takes every policy and secret, and its
placeholders begin with "ph-". What else to play is Python in `vault.py` beside this file, which finds
the names below and says when it is ready.
"""

import os
import socket
import struct
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import fake_control as say  # noqa: E402

control = say.Control()
gate = socket.socket(fileno=4)
ready = control.ready
mark = say.marker(here)
values = {}
policies = []


def on_policy(payload, fds):
    with os.fdopen(os.dup(fds[0]), "rb") as f:
        policies.append(f.read())
    control.say(say.POLICY_OK, payload)


def take(serial, name, fd):
    # a place of its own: the file's may be anywhere, and is everybody's
    values[name] = os.pread(fd, 1 << 15, 0)
    control.say(say.SECRET_OK, serial + say.str16(name) + say.str16(b"ph-" + name))


def on_secret(payload, fds):
    take(payload[:4], say.take_str16(payload, 4)[0], fds[0])


def on_secret_rm(payload, fds):
    name = say.take_str16(payload, 4)[0]
    if values.pop(name, None) is None:
        control.say(say.SECRET_BAD, payload[:4] + say.str16("there is no such secret"))
    else:
        control.say(say.SECRET_OK, payload + say.str16(""))


def done(payload, fds):
    control.say(say.SECRET_OK, payload + say.str16("") + say.str16(""))


def on_export(payload, fds):
    with socket.socket(fileno=os.dup(fds[0])) as out:
        for name, value in values.items():
            fd = os.memfd_create("value")
            os.write(fd, value)
            os.lseek(fd, 0, os.SEEK_SET)
            socket.send_fds(out, [say.packet(say.SECRET, bytes(4) + say.str16(name))], [fd])
            os.close(fd)
    os.close(fds.pop())
    done(payload, ())


def on_import(payload, fds):
    with socket.socket(fileno=os.dup(fds[0])) as given:
        while True:
            data, got, _, _ = socket.recv_fds(given, 4096, 1)
            if not data:
                break
            take(payload, say.take_str16(data, 8)[0], got[0])
            os.close(got[0])
    done(payload, ())


control.on.update({say.POLICY: on_policy, say.SECRET: on_secret, say.SECRET_RM: on_secret_rm,
                   say.ROOTS: done, say.EXPORT: on_export, say.IMPORT: on_import})
exec(compile(open(os.path.join(here, "vault.py")).read(), "vault.py", "exec"))
control.over.wait()
