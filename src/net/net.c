#include "net/net.h"

static const char *const words[NET_DROP_COUNT] = {
	[NET_OK] = "ok",
	[NET_RUNT] = "runt",
	[NET_GIANT] = "giant",
	[NET_VLAN] = "vlan",
	[NET_ETHERTYPE] = "ethertype",
	[NET_NOT_FOR_ROUTER] = "not-for-router",
	[NET_SPOOFED_MAC] = "spoofed-mac",
	[NET_SPOOFED_ADDRESS] = "spoofed-address",
	[NET_MALFORMED] = "malformed",
	[NET_CHECKSUM] = "checksum",
	[NET_IP_OPTIONS] = "ip-options",
	[NET_EXTENSION] = "extension-header",
	[NET_FRAGMENT] = "fragment",
	[NET_MULTICAST] = "multicast",
	[NET_V6_OFF] = "ipv6-off",
	[NET_CLAIM] = "address-claim",
	[NET_ARP_OTHER] = "arp-other",
	[NET_ND_OTHER] = "nd-other",
	[NET_ICMP_OTHER] = "icmp-other",
	[NET_PROTOCOL] = "protocol",
	[NET_NO_ROOM] = "no-room",
	[NET_ERROR_RATE] = "error-rate",
};

const char *net_drop_word(enum net_drop why)
{
	if ((unsigned)why >= NET_DROP_COUNT)
		return "unknown";
	return words[why];
}
