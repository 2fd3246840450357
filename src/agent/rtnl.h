/*
 * rtnl: the few rtnetlink messages by which the agent sets up its network card, and the kernel's
 * answers to them. Pure: bytes in, bytes out.
 *
 * Shape     messages one behind the other, each padded to 4 bytes, in the host's byte order; each
 *           asks for an answer, and bears a number one above that of the message before it
 * Limits    RTNL_BYTES_MAX suffices for all messages of one card
 * Source    Linux, include/uapi/linux/{netlink,rtnetlink,if_link,if_addr}.h
 */
#pragma once

#include "base/buf.h"
#include "base/span.h"

#include <stdbool.h>
#include <stdint.h>

enum {
	RTNL_BYTES_MAX = 1024,  /* eight messages of under 100 bytes each */
	RTNL_ANSWER_MAX = 4096, /* of the kernel's answers, read at once: one is under 200 bytes */
};

/* The messages of one call: `first` is the number of its first one. */
struct rtnl {
	struct buf out;
	uint32_t first, count;
	uint32_t optional; /* bit n: an error to message n, from 0, does not matter */
};

void rtnl_init(struct rtnl *r, void *storage, uint32_t first);

/*
 * The card comes up with this MTU, makes no IPv6 address of its own, and so asks for no router.
 */
void rtnl_link_up(struct rtnl *r, uint32_t index, uint32_t mtu);

/* An address of 4 or 16 bytes; there at once: no check whether another has it. Or takes it away. */
void rtnl_address(struct rtnl *r, uint32_t index, struct span address, uint8_t prefix, bool add);

/* Everything else goes by the router at this address, of 4 or 16 bytes. */
void rtnl_default_route(struct rtnl *r, uint32_t index, struct span router);

/*
 * The answers in one datagram: how many of ours they are, in ret_count, and the first error among
 * them that matters, 0 or -errno, in ret_error. -EBADMSG: that is no answer.
 */
_must_ int rtnl_parse_answers(const struct rtnl *r, struct span in, uint32_t *ret_count,
                              int *ret_error);
