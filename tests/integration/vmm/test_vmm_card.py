"""berm-vmm with a network card: there only with --net, and a saved machine fits one that has the same."""

import os
import socket
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "jail"))

import test_vmm_jail as vmm  # noqa: E402
from test_vmm_jail import machines  # noqa: E402, F401

NET = 12  # engine/kvm.h


@pytest.fixture
def gate():
    """Both ends of a card's socket."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def with_card(gate):
    return {"options": ("--net",), "files": {NET: gate[1].fileno()}}


def saved(machines, **more):  # noqa: F811
    """(memory, state) of a machine that ran."""
    m = machines(**more)
    m.wait_for_rounds()
    m.ask(vmm.PAUSE)
    state, memory = vmm.file_of(b""), vmm.file_of(b"")
    m.ask(vmm.SAVE, state, memory)
    m.quit()
    return memory, state


def test_a_card_is_saved_and_restored(machines, gate):  # noqa: F811
    memory, state = saved(machines, **with_card(gate))
    child = machines(ram=memory, incoming=state, restore=True, **with_card(gate))
    child.ask(vmm.RESUME)
    child.wait_for_rounds()
    child.quit()
    gate[0].setblocking(False)
    with pytest.raises(BlockingIOError):
        gate[0].recv(1)  # a guest without a driver sends nothing


@pytest.mark.parametrize("before", [True, False])
def test_a_machine_with_another_card(machines, gate, before):  # noqa: F811
    memory, state = saved(machines, **(with_card(gate) if before else {}))
    log, writer = os.pipe()
    child = machines(ram=memory, incoming=state, restore=True, log=writer,
                     **({} if before else with_card(gate)))
    os.close(writer)
    assert child.process.wait(vmm.SECONDS_MAX) == 125
    words = os.read(log, 65536).decode()
    os.close(log)
    assert ("it has a device in slot 5" if before else "it lacks the device of slot 5") in words

