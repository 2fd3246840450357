#include "agent/rtnl.h"

#include <assert.h>
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

/* The kernel's headers and the C library's disagree about who defines these. */
enum { FLAG_UP = 1, GEN_MODE_NONE = 1, ERRNO_MAX = 4095, OPTIONAL_MAX = 32 };

void rtnl_init(struct rtnl *r, void *storage, uint32_t first)
{
	*r = (struct rtnl){ .first = first };
	buf_init(&r->out, storage, RTNL_BYTES_MAX);
}

static void put_padding(struct buf *out)
{
	static const uint8_t zeros[NLMSG_ALIGNTO];

	buf_put(out, zeros, NLMSG_ALIGN(out->len) - out->len);
}

/* Returns where it begins: its length is set by end(). */
static size_t begin(struct rtnl *r, uint16_t type, uint16_t flags, const void *body, size_t len)
{
	const struct nlmsghdr head = {
		.nlmsg_type = type,
		.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
		.nlmsg_seq = r->first + r->count++,
	};
	size_t at = r->out.len;

	assert(r->count <= OPTIONAL_MAX);
	buf_put(&r->out, &head, sizeof(head));
	buf_put(&r->out, body, len);
	put_padding(&r->out);
	return at;
}

static void set_length(struct buf *out, size_t at, size_t field_bytes)
{
	uint32_t len = (uint32_t)(out->len - at);
	uint16_t short_len = (uint16_t)len;

	if (!buf_ok(out))
		return;
	if (field_bytes == sizeof(len))
		memcpy(out->at + at, &len, sizeof(len));
	else
		memcpy(out->at + at, &short_len, sizeof(short_len));
}

static void end(struct rtnl *r, size_t at)
{
	set_length(&r->out, at, sizeof(uint32_t));
}

static void put_attr(struct buf *out, uint16_t type, const void *value, size_t len)
{
	const struct nlattr head = { .nla_len = (uint16_t)(sizeof(head) + len), .nla_type = type };

	buf_put(out, &head, sizeof(head));
	buf_put(out, value, len);
	put_padding(out);
}

/* Holds other attributes. */
static size_t begin_attr(struct buf *out, uint16_t type)
{
	const struct nlattr head = { .nla_type = type };
	size_t at = out->len;

	buf_put(out, &head, sizeof(head));
	return at;
}

static void end_attr(struct buf *out, size_t at)
{
	set_length(out, at, sizeof(uint16_t));
}

static void put_u32(struct buf *out, uint16_t type, uint32_t value)
{
	put_attr(out, type, &value, sizeof(value));
}

void rtnl_link_up(struct rtnl *r, uint32_t index, uint32_t mtu)
{
	const struct ifinfomsg link = {
		.ifi_family = AF_UNSPEC,
		.ifi_index = (int)index,
		.ifi_flags = FLAG_UP,
		.ifi_change = FLAG_UP,
	};
	const uint8_t none = GEN_MODE_NONE;
	size_t at = begin(r, RTM_NEWLINK, 0, &link, sizeof(link));
	size_t families;
	size_t six;

	put_u32(&r->out, IFLA_MTU, mtu);
	families = begin_attr(&r->out, IFLA_AF_SPEC);
	six = begin_attr(&r->out, AF_INET6);
	put_attr(&r->out, IFLA_INET6_ADDR_GEN_MODE, &none, sizeof(none));
	end_attr(&r->out, six);
	end_attr(&r->out, families);
	end(r, at);
}

static uint8_t family_of(struct span address)
{
	assert(address.len == 4 || address.len == 16);
	return address.len == 4 ? AF_INET : AF_INET6;
}

void rtnl_address(struct rtnl *r, uint32_t index, struct span address, uint8_t prefix, bool add)
{
	const struct ifaddrmsg a = {
		.ifa_family = family_of(address),
		.ifa_prefixlen = prefix,
		.ifa_flags = IFA_F_PERMANENT | IFA_F_NODAD,
		.ifa_scope = RT_SCOPE_UNIVERSE,
		.ifa_index = index,
	};
	size_t at;

	if (!add)
		r->optional |= 1U << r->count;
	at = begin(r, add ? RTM_NEWADDR : RTM_DELADDR, add ? NLM_F_CREATE | NLM_F_REPLACE : 0, &a,
	           sizeof(a));
	put_attr(&r->out, IFA_LOCAL, address.at, address.len);
	put_attr(&r->out, IFA_ADDRESS, address.at, address.len);
	end(r, at);
}

void rtnl_default_route(struct rtnl *r, uint32_t index, struct span router)
{
	const struct rtmsg route = {
		.rtm_family = family_of(router),
		.rtm_table = RT_TABLE_MAIN,
		.rtm_protocol = RTPROT_STATIC,
		.rtm_scope = RT_SCOPE_UNIVERSE,
		.rtm_type = RTN_UNICAST,
	};
	size_t at = begin(r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE, &route, sizeof(route));

	put_attr(&r->out, RTA_GATEWAY, router.at, router.len);
	put_u32(&r->out, RTA_OIF, index);
	end(r, at);
}

static bool matters(const struct rtnl *r, uint32_t seq)
{
	return (r->optional >> (seq - r->first) & 1) == 0;
}

int rtnl_parse_answers(const struct rtnl *r, struct span in, uint32_t *ret_count, int *ret_error)
{
	uint32_t count = 0;
	int error = 0;

	while (in.len > 0) {
		struct nlmsghdr head;
		struct span body = in;
		int32_t code;

		if (!take_bytes(&body, &head, sizeof(head)) || head.nlmsg_len < sizeof(head) ||
		    head.nlmsg_len > in.len)
			return -EBADMSG;
		if (head.nlmsg_type == NLMSG_ERROR && head.nlmsg_seq - r->first < r->count) {
			if (head.nlmsg_len < sizeof(head) + sizeof(code) ||
			    !take_bytes(&body, &code, sizeof(code)) || code > 0 ||
			    code < -ERRNO_MAX)
				return -EBADMSG;
			if (code < 0 && error == 0 && matters(r, head.nlmsg_seq))
				error = code;
			count++;
		}
		/* the last one may lack its padding */
		if (!take_span(&in,
		               NLMSG_ALIGN(head.nlmsg_len) < in.len ? NLMSG_ALIGN(head.nlmsg_len)
		                                                    : in.len,
		               &body))
			return -EBADMSG;
	}
	*ret_count = count;
	*ret_error = error;
	return 0;
}
