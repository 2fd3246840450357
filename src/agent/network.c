#include "agent/network.h"

#include "agent/rtnl.h"
#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <net/if.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RESOLV_MAX = 64, MESSAGES_FIRST = 1 };

static const char card[] = "eth0"; /* there is one, and nothing renames it before we run */
static const char resolv_name[] = "resolv.conf";
static const char resolv_new[] = ".resolv.conf.berm";

void network_init(struct network *n)
{
	*n = (struct network){ .netlink_fd = -1, .resolv_fd = -1 };
}

/* Neither another's advertisement nor a redirect changes what the host said. */
static void refuse_advice(void)
{
	static const char *const places[] = {
		"/proc/sys/net/ipv6/conf/eth0/accept_ra",
		"/proc/sys/net/ipv6/conf/eth0/accept_redirects",
		"/proc/sys/net/ipv4/conf/eth0/accept_redirects",
	};

	for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
		_own_fd_ int fd = -1;

		if (fd_open(places[i], O_WRONLY, 0, &fd, NULL) < 0 || write(fd, "0", 1) != 1)
			log_warn("cannot set %s", places[i]);
	}
}

/* Only below an /etc that is a directory of the root's own mount. */
static int open_etc(int *ret_fd)
{
	_own_fd_ int root = -1;
	int r = fd_open("/", O_RDONLY | O_DIRECTORY, 0, &root, NULL);

	if (r < 0)
		return r;
	return fd_open_beneath(root, "etc", O_RDONLY | O_DIRECTORY, 0,
	                       RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV, ret_fd, NULL);
}

static int open_plain(int etc)
{
	_own_fd_ int fd = -1;
	struct stat st;

	if (fd_open_beneath(etc, resolv_name, O_RDWR | O_NONBLOCK, 0,
	                    RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV, &fd, NULL) < 0 ||
	    fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	return steal_fd(&fd);
}

/* Something else has the name, or nothing: an empty file takes it. */
static int make_plain(int etc)
{
	_own_fd_ int fd = -1;

	(void)unlinkat(etc, resolv_new, 0);
	if (fd_openat(etc, resolv_new, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0644, &fd, NULL) < 0)
		return -1;
	if (renameat(etc, resolv_new, etc, resolv_name) < 0) {
		(void)unlinkat(etc, resolv_new, 0); /* a directory has the name, or a mount */
		return -1;
	}
	return steal_fd(&fd);
}

void network_open_files(struct network *n)
{
	_own_fd_ int etc = -1;

	if (n->netlink_fd < 0)
		return;
	own_close_fd(&n->resolv_fd);
	n->resolv_fd = -1;
	if (open_etc(&etc) < 0)
		return;
	n->resolv_fd = open_plain(etc);
	if (n->resolv_fd < 0 && !n->set) /* later it is the guest's own business */
		n->resolv_fd = make_plain(etc);
}

/* The kernel answers every message before send() returns. */
static int await_answers(const struct network *n, const struct rtnl *r, struct err *e)
{
	uint64_t until_ms = clock_mono_ms() + NETWORK_ANSWER_MS;
	uint8_t answer[RTNL_ANSWER_MAX];
	uint32_t heard = 0;
	int first = 0;

	while (heard < r->count) {
		struct pollfd p = { .fd = n->netlink_fd, .events = POLLIN };
		ssize_t got = recv(n->netlink_fd, answer, sizeof(answer), MSG_DONTWAIT);
		uint32_t count = 0;
		int error = 0;

		if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
			uint64_t now_ms = clock_mono_ms();

			if (now_ms >= until_ms)
				return err_set(e, -ETIMEDOUT, "the kernel does not answer");
			(void)poll(&p, 1, (int)(until_ms - now_ms));
			continue;
		}
		if (got < 0)
			return err_sys(e, "hear from the kernel");
		if (rtnl_parse_answers(r, span_of(answer, (size_t)got), &count, &error) < 0)
			return err_set(e, -EBADMSG, "the kernel's answer is none");
		heard += count;
		first = first ? first : error;
	}
	return first < 0 ? err_set(e, first, "%s", strerror(-first)) : 0;
}

static int tell_kernel(struct network *n, const struct rtnl *r, struct err *e)
{
	n->seq += r->count;
	if (!buf_ok(&r->out))
		return err_set(e, -EMSGSIZE, "its messages do not fit");
	if (send(n->netlink_fd, r->out.at, r->out.len, 0) < 0)
		return err_sys(e, "tell the kernel");
	return await_answers(n, r, e);
}

/* With the MTU that the machine gave it. */
static int raise_card(struct network *n, struct err *e)
{
	uint8_t bytes[RTNL_BYTES_MAX];
	struct rtnl r;
	int code;

	rtnl_init(&r, bytes, n->seq);
	rtnl_link_up(&r, n->index, WIRE_MTU_MAX);
	code = tell_kernel(n, &r, e);
	n->mtu = code == 0 ? WIRE_MTU_MAX : 0;
	return code;
}

void network_prepare(struct network *n)
{
	unsigned index = if_nametoindex(card);
	struct err e = { 0 };

	network_init(n);
	if (index == 0)
		return;
	n->netlink_fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (n->netlink_fd < 0) {
		log_warn("no rtnetlink: %s", strerror(errno));
		return;
	}
	n->index = index;
	n->seq = MESSAGES_FIRST;
	refuse_advice();
	network_open_files(n);
	if (raise_card(n, &e) < 0)
		log_warn("%s comes up later: %s", card, e.text);
}

static void put_family(struct rtnl *r, uint32_t index, struct span now, uint8_t now_prefix,
                       struct span want, uint8_t prefix, struct span router)
{
	bool same = span_equal(now, want) && now_prefix == prefix;

	if (now_prefix > 0 && !same)
		rtnl_address(r, index, now, now_prefix, false);
	if (prefix == 0)
		return;
	rtnl_address(r, index, want, prefix, true);
	rtnl_default_route(r, index, router);
}

static int set_card(struct network *n, const struct wire_network *want, struct err *e)
{
	const struct wire_network *now = &n->now;
	uint8_t bytes[RTNL_BYTES_MAX];
	struct rtnl r;

	rtnl_init(&r, bytes, n->seq);
	if (n->mtu != want->mtu)
		rtnl_link_up(&r, n->index, want->mtu);
	put_family(&r, n->index, span_of(now->ip4, sizeof(now->ip4)), n->set ? now->prefix4 : 0,
	           span_of(want->ip4, sizeof(want->ip4)), want->prefix4,
	           span_of(want->router4, sizeof(want->router4)));
	put_family(&r, n->index, span_of(now->ip6, sizeof(now->ip6)), n->set ? now->prefix6 : 0,
	           span_of(want->ip6, sizeof(want->ip6)), want->prefix6,
	           span_of(want->router6, sizeof(want->router6)));
	return tell_kernel(n, &r, e);
}

/*
 * What a program in the guest wrote there is its own: a copy keeps it, unless the server is another
 * one now. A full disk is no reason to refuse a guest its network.
 */
static void set_resolv(const struct network *n, const struct wire_network *want)
{
	const uint8_t *d = want->dns4;
	char text[RESOLV_MAX];
	struct stat st;
	int len = snprintf(text, sizeof(text), "nameserver %u.%u.%u.%u\n", d[0], d[1], d[2], d[3]);

	if (n->resolv_fd < 0 || fstat(n->resolv_fd, &st) < 0 || st.st_nlink == 0) {
		log_warn("/etc/resolv.conf cannot be written to: names will not resolve");
		return;
	}
	if (n->set && memcmp(n->now.dns4, d, sizeof(want->dns4)) == 0)
		return;
	if (pwrite(n->resolv_fd, text, (size_t)len, 0) == len && st.st_size != (off_t)len &&
	    ftruncate(n->resolv_fd, (off_t)len) < 0)
		log_warn("/etc/resolv.conf: %s", strerror(errno));
}

int network_adopt(struct network *n, const struct wire_network *want, struct err *e)
{
	int r;

	if (n->netlink_fd < 0)
		return err_set(e, -ENODEV, "the machine has no network card");
	if (n->set && memcmp(&n->now, want, sizeof(*want)) == 0)
		return 0;
	r = set_card(n, want, e);
	if (r < 0)
		return err_wrap(e, "set up the network card");
	set_resolv(n, want);
	n->now = *want;
	n->mtu = want->mtu;
	n->set = true;
	return 0;
}
