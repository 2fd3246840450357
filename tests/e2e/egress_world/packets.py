"""Sees every attempt that leaves the berm side, whoever it is for: TCP SYNs, UDP, ICMP and all else.

Packets of open TCP connections are left out by a filter in the kernel, so that bulk costs nothing.
"""

import ctypes
import ipaddress
import socket
import struct
import threading

ETH_P_ALL = 3
SO_ATTACH_FILTER = 26
PACKET_OUTGOING = 4
# classic BPF: (code, jump if true, if false, k). TCP is taken only with SYN and without ACK.
FILTER = [
    (0x28, 0, 0, 12),  # ethertype
    (0x15, 0, 6, 0x0800),
    (0x30, 0, 0, 23),  # IPv4 protocol
    (0x15, 0, 9, 6),
    (0xB1, 0, 0, 14),  # x = header length
    (0x50, 0, 0, 27),  # flags of TCP
    (0x54, 0, 0, 0x12),
    (0x15, 5, 6, 0x02),
    (0x15, 0, 4, 0x86DD),
    (0x30, 0, 0, 20),  # IPv6 next header
    (0x15, 0, 2, 6),
    (0x30, 0, 0, 67),
    (0x05, 0, 0, 2),  # to the mask below
    (0x06, 0, 0, 256),
    (0x06, 0, 0, 0),
    (0x54, 0, 0, 0x12),
    (0x15, 0, 1, 0x02),
    (0x06, 0, 0, 256),
    (0x06, 0, 0, 0),
]
NEIGHBOUR = range(133, 138)


def attach(sock):
    code = b"".join(struct.pack("HBBI", *step) for step in FILTER)
    room = ctypes.create_string_buffer(code)
    program = struct.pack("HL", len(FILTER), ctypes.addressof(room))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def describe(frame):
    """What arrived, or None if it belongs to the link itself (ARP, neighbour and listener messages)."""
    kind = struct.unpack_from(">H", frame, 12)[0]
    if kind == 0x0800:
        at = 14 + (frame[14] & 15) * 4
        protocol, to, source = frame[23], frame[30:34], frame[26:30]
    elif kind == 0x86DD:
        at, protocol, to, source = 54, frame[20], frame[38:54], frame[22:38]
        if protocol == 58 and len(frame) > at and frame[at] in NEIGHBOUR or protocol == 0:
            return None
    else:
        return None if kind == 0x0806 else {"kind": "packet", "what": f"ethertype {kind:#x}"}
    told = {"kind": "packet", "what": {6: "tcp", 17: "udp", 1: "icmp", 58: "icmp6"}.get(protocol, str(protocol)),
            "from": str(ipaddress.ip_address(source)), "to": str(ipaddress.ip_address(to))}
    if protocol in (6, 17) and len(frame) >= at + 4:
        told["port"] = struct.unpack_from(">H", frame, at + 2)[0]
    return told


def watch(interface, log):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    attach(sock)
    sock.bind((interface, ETH_P_ALL))

    def run():
        while True:
            frame, (_, _, direction, *_) = sock.recvfrom(2048)
            told = describe(frame) if direction != PACKET_OUTGOING and len(frame) >= 34 else None
            if told:
                log.add(told)

    threading.Thread(target=run, daemon=True).start()
