/*
 * network: the guest's card, as the host's IDENTITY says it is to be: up, with its addresses and
 * routes, and the DNS server in /etc/resolv.conf. No DHCP, no router advertisement, no wait.
 *
 * Theory of operation: bringing a card up takes the kernel long under a software CPU, so it is done
 * before a template is saved (network_prepare); without an address nothing goes over it. All guests
 * of a host have the same addresses, so its builder sets them as well, once the warm-up commands
 * have run. What a new identity has in common with the one before costs nothing: as a rule that is
 * all of it. Else the addresses of the one before go, and the rest is replaced. What root in the
 * guest made of its card meanwhile is not put right.
 *
 * /etc/resolv.conf: whatever is there and no plain file (mostly a symbolic link to what a daemon
 * would have made, which does not run here; or nothing) is replaced by one, by a rename, beneath
 * the root's own mount. Nothing is ever written through a link. Without a network the image's own
 * is left alone.
 */
#pragma once

#include "base/err.h"
#include "wire/wire.h"

enum { NETWORK_ANSWER_MS = 2000 }; /* of the kernel, which answers at once */

struct network {
	int netlink_fd; /* -1: this machine has no card */
	uint32_t index;
	uint32_t seq;
	uint16_t mtu;  /* of the card, which is up; 0: it is down */
	int resolv_fd; /* -1: cannot be written to */
	bool set;      /* `now` is what the card has */
	struct wire_network now;
};

void network_init(struct network *n);

/* Looks whether there is a card; never fails, as a machine without one has no network. */
void network_prepare(struct network *n);

/* Opens /etc/resolv.conf anew, in case somebody replaced it: before each save, as identity_open().
 */
void network_open_files(struct network *n);

/* -ENODEV: the machine has no card. */
_must_ int network_adopt(struct network *n, const struct wire_network *want, struct err *e);
