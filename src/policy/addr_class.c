/*
 * Which addresses are not the public internet.
 *
 * Theory of operation: one table for IPv4, one for IPv6, from the registries; the first row that
 * covers an address names it, so exact rows stand above wide ones. Then the IPv4 address inside an
 * IPv6 one is judged: the way in may be an embedding that a rule opened, the target may not be
 * metadata or link-local all the same. Last, what is outside 2000::/3 is not assigned to anybody.
 */
#include "policy/addr.h"

#include <string.h>

struct row {
	enum addr_class class_;
	uint8_t bits;
	uint8_t at[16]; /* IPv4: the first four */
	const char *what;
};

/* clang-format off: one range a line */

/* IANA IPv4 Special-Purpose Address Registry; multicast is RFC 5771. */
static const struct row rows4[] = {
	{ ADDR_METADATA, 32, { 169, 254, 169, 254 }, "cloud metadata" }, /* most clouds */
	{ ADDR_METADATA, 32, { 169, 254, 170, 2 }, "cloud metadata" }, /* Amazon ECS credentials */
	{ ADDR_METADATA,
	  32,
	  { 169, 254, 170, 23 },
	  "cloud metadata" },                                          /* Amazon EKS pod identity */
	{ ADDR_METADATA, 32, { 169, 254, 0, 23 }, "cloud metadata" },  /* Tencent */
	{ ADDR_METADATA, 32, { 169, 254, 42, 42 }, "cloud metadata" }, /* Scaleway */
	{ ADDR_METADATA, 32, { 168, 63, 129, 16 }, "cloud metadata" }, /* Azure host agent */
	{ ADDR_METADATA, 32, { 100, 100, 100, 200 }, "cloud metadata" }, /* Alibaba */
	{ ADDR_METADATA, 32, { 192, 0, 0, 192 }, "cloud metadata" },     /* Oracle classic */
	{ ADDR_LINK_LOCAL, 16, { 169, 254 }, "link-local" },             /* RFC 3927 */
	{ ADDR_SPECIAL, 8, { 0 }, "this network" },                      /* RFC 791, 1122 */
	{ ADDR_SPECIAL, 8, { 10 }, "private" },                          /* RFC 1918 */
	{ ADDR_SPECIAL, 10, { 100, 64 }, "shared address space" },       /* RFC 6598 */
	{ ADDR_SPECIAL, 8, { 127 }, "loopback" },                        /* RFC 1122 */
	{ ADDR_SPECIAL, 12, { 172, 16 }, "private" },                    /* RFC 1918 */
	{ ADDR_SPECIAL,
	  24,
	  { 192, 0, 0 },
	  "IETF protocol assignments" },                      /* RFC 6890: all /29 and /32 in it */
	{ ADDR_SPECIAL, 24, { 192, 0, 2 }, "documentation" }, /* RFC 5737 */
	{ ADDR_SPECIAL, 24, { 192, 31, 196 }, "AS112" },      /* RFC 7535 */
	{ ADDR_SPECIAL, 24, { 192, 52, 193 }, "AMT" },        /* RFC 7450 */
	{ ADDR_SPECIAL,
	  24,
	  { 192, 88, 99 },
	  "6to4 relay anycast" },                                /* RFC 7526; with 6a44, RFC 6751 */
	{ ADDR_SPECIAL, 16, { 192, 168 }, "private" },           /* RFC 1918 */
	{ ADDR_SPECIAL, 24, { 192, 175, 48 }, "AS112" },         /* RFC 7534 */
	{ ADDR_SPECIAL, 15, { 198, 18 }, "benchmarking" },       /* RFC 2544 */
	{ ADDR_SPECIAL, 24, { 198, 51, 100 }, "documentation" }, /* RFC 5737 */
	{ ADDR_SPECIAL, 24, { 203, 0, 113 }, "documentation" },  /* RFC 5737 */
	{ ADDR_SPECIAL, 4, { 224 }, "multicast" },               /* RFC 5771 */
	{ ADDR_SPECIAL, 32, { 255, 255, 255, 255 }, "broadcast" }, /* RFC 919 */
	{ ADDR_SPECIAL, 4, { 240 }, "reserved" },                  /* RFC 1112 */
};

/* IANA IPv6 Special-Purpose Address Registry; multicast and site-local are RFC 4291. */
static const struct row rows6[] = {
	{ ADDR_METADATA,
	  32,
	  { 0xfd, 0x00, 0x0e, 0xc2 },
	  "cloud metadata" }, /* Amazon: metadata, credentials, DNS, time */
	{ ADDR_METADATA,
	  128,
	  { 0xfd, 0x20, 0x00, 0xce, [14] = 0x02, [15] = 0x54 },
	  "cloud metadata" }, /* Google */
	{ ADDR_METADATA,
	  128,
	  { 0xfd, 0x00, 0x00, 0xc1, [12] = 0xa9, [13] = 0xfe, [14] = 0xa9, [15] = 0xfe },
	  "cloud metadata" }, /* Oracle */
	{ ADDR_METADATA,
	  128,
	  { 0xfd, 0x00, 0x00, 0x42, [15] = 0x42 },
	  "cloud metadata" }, /* Scaleway */
	{ ADDR_METADATA,
	  128,
	  { 0xfd, 0x00, 0xa9, 0xfe, 0xa9, 0xfe, [15] = 0x01 },
	  "cloud metadata" }, /* Linode */
	{ ADDR_METADATA,
	  128,
	  { 0xfd, 0x00, 0x01, 0x00, [12] = 0x01, [13] = 0x00, [14] = 0x02, [15] = 0x00 },
	  "cloud metadata" },                                                         /* Alibaba */
	{ ADDR_LINK_LOCAL, 10, { 0xfe, 0x80 }, "link-local" },                        /* RFC 4291 */
	{ ADDR_SPECIAL, 128, { 0 }, "unspecified" },                                  /* RFC 4291 */
	{ ADDR_SPECIAL, 128, { [15] = 1 }, "loopback" },                              /* RFC 4291 */
	{ ADDR_SPECIAL, 96, { [10] = 0xff, [11] = 0xff }, "IPv4-mapped" },            /* RFC 4291 */
	{ ADDR_SPECIAL, 96, { [8] = 0xff, [9] = 0xff }, "IPv4-translated" },          /* RFC 2765 */
	{ ADDR_SPECIAL, 96, { 0 }, "IPv4-compatible" },                               /* RFC 4291 */
	{ ADDR_SPECIAL, 96, { 0x00, 0x64, 0xff, 0x9b }, "NAT64" },                    /* RFC 6052 */
	{ ADDR_SPECIAL, 48, { 0x00, 0x64, 0xff, 0x9b, 0x00, 0x01 }, "local NAT64" },  /* RFC 8215 */
	{ ADDR_SPECIAL, 64, { 0x01, 0x00 }, "discard-only" },                         /* RFC 6666 */
	{ ADDR_SPECIAL, 64, { 0x01, 0x00, [7] = 0x01 }, "dummy prefix" },             /* RFC 9780 */
	{ ADDR_SPECIAL, 32, { 0x20, 0x01, 0x00, 0x00 }, "Teredo" },                   /* RFC 4380 */
	{ ADDR_SPECIAL, 48, { 0x20, 0x01, 0x00, 0x02, 0x00, 0x00 }, "benchmarking" }, /* RFC 5180 */
	{ ADDR_SPECIAL, 23, { 0x20, 0x01 }, "IETF protocol assignments" }, /* RFC 2928: all of it */
	{ ADDR_SPECIAL, 32, { 0x20, 0x01, 0x0d, 0xb8 }, "documentation" }, /* RFC 3849 */
	{ ADDR_SPECIAL, 16, { 0x20, 0x02 }, "6to4" },                      /* RFC 3056 */
	{ ADDR_SPECIAL, 48, { 0x26, 0x20, 0x00, 0x4f, 0x80, 0x00 }, "AS112" }, /* RFC 7534 */
	{ ADDR_SPECIAL, 20, { 0x3f, 0xff }, "documentation" },                 /* RFC 9637 */
	{ ADDR_SPECIAL, 16, { 0x5f, 0x00 }, "segment routing" },               /* RFC 9602 */
	{ ADDR_SPECIAL, 7, { 0xfc }, "private" },                              /* RFC 4193 */
	{ ADDR_SPECIAL, 10, { 0xfe, 0xc0 }, "site-local" },                    /* RFC 3879 */
	{ ADDR_SPECIAL, 8, { 0xff }, "multicast" },                            /* RFC 4291 */
};

/* clang-format on */

static bool covers(const struct row *r, const uint8_t *at)
{
	unsigned bytes = r->bits / 8;
	unsigned rest = r->bits % 8;

	return memcmp(r->at, at, bytes) == 0 &&
	       (rest == 0 || (r->at[bytes] ^ at[bytes]) >> (8 - rest) == 0);
}

static struct addr_verdict look_up(const struct row *rows, size_t n, const uint8_t *at)
{
	for (size_t i = 0; i < n; i++)
		if (covers(&rows[i], at))
			return (struct addr_verdict){ rows[i].class_, rows[i].what };
	return (struct addr_verdict){ ADDR_PUBLIC, "public" };
}

static struct addr_verdict judge4(const uint8_t *at)
{
	return look_up(rows4, sizeof(rows4) / sizeof(rows4[0]), at);
}

/* The stronger of the two, with its words. */
static void worsen(struct addr_verdict *v, struct addr_verdict other)
{
	if (other.class_ > v->class_)
		*v = other;
}

/* RFC 6052, 2.2: byte 8 is always zero, so the address goes around it. */
static void judge_nat64(const uint8_t *at, struct addr_verdict *v)
{
	const uint8_t p48[4] = { at[6], at[7], at[9], at[10] };
	const uint8_t p56[4] = { at[7], at[9], at[10], at[11] };
	const uint8_t p64[4] = { at[9], at[10], at[11], at[12] };

	worsen(v, judge4(at + 12));
	worsen(v, judge4(p48));
	worsen(v, judge4(p56));
	worsen(v, judge4(p64));
}

/* Whatever IPv4 address an IPv6 one carries to a translator, a relay or a tunnel's end. */
static void judge_embedded(const uint8_t *at, struct addr_verdict *v)
{
	static const uint8_t zero[12] = { 0 };
	static const uint8_t nat64[4] = { 0x00, 0x64, 0xff, 0x9b };
	uint8_t client[4];

	if (memcmp(at, zero, 8) == 0) /* compatible, mapped, translated */
		worsen(v, judge4(at + 12));
	if (memcmp(at, nat64, 4) == 0)
		judge_nat64(at, v);
	if (at[0] == 0x20 && at[1] == 0x02) /* 6to4: behind the first 16 bits */
		worsen(v, judge4(at + 2));
	if (at[0] == 0x20 && at[1] == 0x01 && !at[2] &&
	    !at[3]) { /* Teredo: server, inverted client */
		for (int i = 0; i < 4; i++)
			client[i] = (uint8_t)~at[12 + i];
		worsen(v, judge4(at + 4));
		worsen(v, judge4(client));
	}
	/* ISATAP, RFC 5214 6.1: ::0:5efe:a.b.c.d or ::200:5efe:a.b.c.d below any prefix */
	if ((at[8] & 0xfc) == 0 && !at[9] && at[10] == 0x5e && at[11] == 0xfe) {
		worsen(v, (struct addr_verdict){ ADDR_SPECIAL, "ISATAP" });
		worsen(v, judge4(at + 12));
	}
}

struct addr_verdict policy_address_verdict(const struct policy_addr *a)
{
	struct addr_verdict v;

	if (a->v4)
		return judge4(a->at + 12);
	v = look_up(rows6, sizeof(rows6) / sizeof(rows6[0]), a->at);
	if (v.class_ == ADDR_PUBLIC && (a->at[0] & 0xe0) != 0x20)
		v = (struct addr_verdict){ ADDR_SPECIAL, "unassigned" };
	judge_embedded(a->at, &v);
	return v;
}

/* The last address of a range. */
static struct policy_addr last_of(const struct policy_cidr *net)
{
	struct policy_addr a = net->base;

	for (unsigned bit = (net->base.v4 ? 96u : 0u) + net->bits; bit < 128; bit++)
		a.at[bit / 8] |= (uint8_t)(0x80 >> bit % 8);
	return a;
}

enum cidr_fault addr_cidr_judge(const struct policy_cidr *net)
{
	struct policy_addr last = last_of(net);
	bool unique_local = !net->base.v4 && (net->base.at[0] & 0xfe) == 0xfc && net->bits >= 7;
	bool narrow = net->bits >= (net->base.v4 ? 8 : 16);

	/* both ends in ranges that stay closed: the range lies in one of them */
	if (policy_address_verdict(&net->base).class_ >= ADDR_LINK_LOCAL &&
	    policy_address_verdict(&last).class_ >= ADDR_LINK_LOCAL)
		return CIDR_NEVER;
	return narrow || unique_local ? CIDR_OK : CIDR_BROAD;
}
