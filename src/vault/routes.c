#include "vault/routes.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

enum {
	ANSWER_BYTES = 4096, /* one route with its attributes has about 150 */
	ANSWER_S = 5, /* it is there at once; a kernel that does not answer is no reason to hang */
	STALE_MAX = 8,
};

struct routes {
	int fd;
	uint32_t serial;
};

struct question {
	struct nlmsghdr head;
	struct rtmsg route;
	struct rtattr attr;
	uint8_t addr[16];
};

int routes_new(struct routes **ret, struct err *e)
{
	const uint8_t loopback[4] = { 127, 0, 0, 1 };
	const struct timeval wait = { .tv_sec = ANSWER_S };
	struct policy_addr a = addr_of_v4(loopback);
	_own_(routes_free) struct routes *r = calloc(1, sizeof(*r));
	enum route_kind kind;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (r->fd < 0 || setsockopt(r->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait)) < 0)
		return err_sys(e, "ask the kernel for its routes");
	if (routes_ask(r, &a, &kind) < 0)
		return err_set(e, -EIO, "the kernel does not tell its routes");
	*ret = steal_ptr(&r);
	return 0;
}

void routes_free(struct routes *r)
{
	if (!r)
		return;
	own_close_fd(&r->fd);
	free(r);
}

static void fill(struct question *q, uint32_t serial, const struct policy_addr *a)
{
	unsigned bytes = a->v4 ? 4 : 16;

	*q = (struct question){ 0 };
	q->head.nlmsg_type = RTM_GETROUTE;
	q->head.nlmsg_flags = NLM_F_REQUEST;
	q->head.nlmsg_seq = serial;
	q->head.nlmsg_len = (uint32_t)(offsetof(struct question, addr) + bytes);
	q->route.rtm_family = a->v4 ? AF_INET : AF_INET6;
	q->route.rtm_dst_len = (uint8_t)(bytes * 8);
	q->attr.rta_type = RTA_DST;
	q->attr.rta_len = (uint16_t)(sizeof(q->attr) + bytes);
	memcpy(q->addr, a->v4 ? a->at + 12 : a->at, bytes);
}

static int judge(const void *bytes, size_t len, uint32_t serial, enum route_kind *ret)
{
	struct nlmsghdr head;
	struct rtmsg route;

	if (len < sizeof(head))
		return -EIO;
	memcpy(&head, bytes, sizeof(head));
	if (head.nlmsg_seq != serial)
		return -EAGAIN; /* of a question that was given up */
	if (head.nlmsg_type == NLMSG_ERROR) {
		*ret = ROUTE_NONE;
		return 0;
	}
	if (head.nlmsg_type != RTM_NEWROUTE || len < NLMSG_LENGTH(sizeof(route)))
		return -EIO;
	memcpy(&route, (const uint8_t *)bytes + NLMSG_HDRLEN, sizeof(route));
	*ret = route.rtm_type == RTN_UNICAST ? ROUTE_OUT : ROUTE_HOST;
	return 0;
}

int routes_ask(struct routes *r, const struct policy_addr *a, enum route_kind *ret)
{
	uint8_t answer[ANSWER_BYTES];
	struct question q;

	fill(&q, ++r->serial, a);
	if (send(r->fd, &q, q.head.nlmsg_len, 0) < 0)
		return -EIO;
	for (unsigned i = 0; i < STALE_MAX; i++) {
		ssize_t n = recv(r->fd, answer, sizeof(answer), 0);
		int got;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -EIO;
		got = judge(answer, (size_t)n, r->serial, ret);
		if (got != -EAGAIN)
			return got;
	}
	return -EIO;
}
