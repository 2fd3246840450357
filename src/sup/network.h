/*
 * network: what every guest's network is called. All sandboxes have the same addresses, as none can
 * reach another; and the template's guest has them already, so a start need not set them.
 */
#pragma once

#include "wire/wire.h"

/* Of the name of a first life's certificate authority: gate/ca.c. A copy's has another name. */
static const uint32_t network_trust_hash = 0xf50fa66d;

/* The fd62:6572:6d00:: spells "berm". The router is the DNS server as well. */
static const struct wire_network network_default = {
	.ip4 = { 100, 96, 0, 2 },
	.router4 = { 100, 96, 0, 1 },
	.dns4 = { 100, 96, 0, 1 },
	.prefix4 = 30,
	.prefix6 = 64,
	.ip6 = { 0xfd, 0x62, 0x65, 0x72, 0x6d, 0x00, [15] = 2 },
	.router6 = { 0xfd, 0x62, 0x65, 0x72, 0x6d, 0x00, [15] = 1 },
	.mtu = WIRE_MTU_MAX,
};
