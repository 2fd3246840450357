#include "vault/resolver.h"

#include "vault/answer_parse.h"
#include "vault/limits.h"

#include <ares.h>
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

/*
 * Theory of operation
 *
 * A lookup is one name with one or two questions, A and AAAA, and those who wait for it. It is over
 * when both are answered or its time is up, whichever is first; c-ares may still be asking then,
 * and the lookup's place stays taken until it has told of both (`asking`), which it does in bounded
 * time. Lookups that are over are told from the loop and never from within resolver_ask(), although
 * c-ares may answer at once: `idle` is set off for that.
 */

enum { CLASS_IN = 1 };

struct waiter {
	uint32_t stream;
	uint8_t want;
};

struct lookup {
	struct resolver *r;
	bool used, told;
	uint8_t want, asking; /* questions: all, and those c-ares has not told of */
	struct host_name name;
	struct answer answer[2]; /* A, AAAA */
	int error[2];            /* ARES_*; of those answered */
	struct alarm *limit;
	unsigned waiter_count;
	struct waiter waiters[VAULT_WAITERS_MAX];
};

struct sock {
	int fd; /* -1: free */
	struct resolver *r;
	struct watch *watch;
};

struct resolver {
	uv_loop_t *loop;
	resolver_fn *tell;
	void *user;
	ares_channel channel;
	struct alarm *tick; /* when c-ares wants to look at its times */
	struct alarm *idle; /* tells of what is over */
	bool closing;
	struct sock socks[VAULT_RESOLVER_SOCKETS];
	struct lookup lookups[VAULT_LOOKUPS_MAX];
};

/* --- sockets of our own making: what a new one may be is seen here alone --- */

static ares_socket_t open_socket(int family, int type, int protocol, void *user)
{
	struct resolver *r = user;
	int on = 1;
	int fd;

	for (unsigned i = 0; i < VAULT_RESOLVER_SOCKETS; i++) {
		if (r->socks[i].fd >= 0)
			continue;
		fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol);
		if (fd < 0)
			return -1;
		if (type == SOCK_STREAM)
			(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		r->socks[i].fd = fd;
		return fd;
	}
	errno = EMFILE;
	return -1;
}

static struct sock *sock_of(struct resolver *r, int fd)
{
	for (unsigned i = 0; i < VAULT_RESOLVER_SOCKETS; i++)
		if (r->socks[i].fd == fd)
			return &r->socks[i];
	return NULL;
}

static int close_socket(ares_socket_t fd, void *user)
{
	struct sock *s = sock_of(user, fd);

	if (s) {
		watch_free(s->watch);
		s->watch = NULL;
		s->fd = -1;
	}
	return close(fd);
}

static int connect_socket(ares_socket_t fd, const struct sockaddr *to, ares_socklen_t len,
                          void *user)
{
	(void)user;
	return connect(fd, to, len);
}

static ares_ssize_t receive(ares_socket_t fd, void *ret, size_t len, int flags,
                            struct sockaddr *from, ares_socklen_t *from_len, void *user)
{
	(void)user;
	return recvfrom(fd, ret, len, flags, from, from_len);
}

static ares_ssize_t send_out(ares_socket_t fd, const struct iovec *bytes, int count, void *user)
{
	struct msghdr msg = { .msg_iov = (struct iovec *)(uintptr_t)bytes,
		              .msg_iovlen = (size_t)count };

	(void)user;
	return sendmsg(fd, &msg, MSG_NOSIGNAL);
}

static const struct ares_socket_functions socket_calls = {
	.asocket = open_socket,
	.aclose = close_socket,
	.aconnect = connect_socket,
	.arecvfrom = receive,
	.asendv = send_out,
};

/* --- the loop --- */

static void set_tick(struct resolver *r)
{
	struct timeval room, *next = ares_timeout(r->channel, NULL, &room);

	if (next)
		alarm_set(r->tick,
		          (uint64_t)next->tv_sec * 1000 + (uint64_t)next->tv_usec / 1000 + 1);
	else
		alarm_stop(r->tick);
}

static void on_tick(void *user)
{
	struct resolver *r = user;

	ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	set_tick(r);
}

static void on_socket(void *user, bool readable, bool writable)
{
	struct sock *s = user;
	struct resolver *r = s->r;

	ares_process_fd(r->channel, readable ? s->fd : ARES_SOCKET_BAD,
	                writable ? s->fd : ARES_SOCKET_BAD);
	set_tick(r);
}

static void on_state(void *user, ares_socket_t fd, int readable, int writable)
{
	struct resolver *r = user;
	struct sock *s = sock_of(r, fd);

	if (!s || r->closing)
		return;
	if (!s->watch && watch_new(r->loop, fd, on_socket, s, &s->watch, NULL) < 0)
		return; /* it will be as if it did not answer */
	watch_set(s->watch, readable != 0, writable != 0);
}

/* --- lookups --- */

static uint32_t clamp(uint32_t v, uint32_t lo, uint32_t hi)
{
	return v < lo ? lo : v > hi ? hi : v;
}

static enum egress_fail why_none(const struct lookup *l, uint8_t want)
{
	bool none = false, no_name = false;

	for (unsigned i = 0; i < 2; i++) {
		if (!(want >> i & 1))
			continue;
		if ((l->asking >> i & 1) || l->error[i] != ARES_SUCCESS)
			return EGRESS_DNS;
		no_name |= l->answer[i].rcode == ANSWER_NXDOMAIN;
		none |= l->answer[i].rcode == ANSWER_NOERROR;
	}
	if (no_name)
		return EGRESS_NO_NAME;
	return none ? EGRESS_NO_ADDRESS : EGRESS_DNS;
}

static void take(struct resolver_found *f, const struct answer *a)
{
	for (unsigned i = 0; i < a->count && f->count < EGRESS_ADDRESSES_MAX; i++)
		f->addr[f->count++] = a->addr[i];
	if (a->count > 0 && a->ttl_s < f->ttl_s)
		f->ttl_s = a->ttl_s;
	if (f->chain_count == 0) {
		f->chain_count = a->chain_count;
		memcpy(f->chain, a->chain, a->chain_count * sizeof(a->chain[0]));
	}
}

/*
 * Where one family failed and the other answered, that one is the answer: half of the resolvers in
 * this world have trouble with AAAA.
 */
static void sum_up(const struct lookup *l, uint8_t want, struct resolver_found *ret)
{
	uint32_t negative = VAULT_NEGATIVE_TTL_MAX_S;

	*ret = (struct resolver_found){ .ttl_s = UINT32_MAX };
	for (unsigned i = 0; i < 2; i++) {
		if (!(want >> i & 1) || (l->asking >> i & 1) || l->error[i] != ARES_SUCCESS)
			continue;
		take(ret, &l->answer[i]);
		if (l->answer[i].count == 0)
			negative = clamp(l->answer[i].negative_ttl_s, 1, negative);
	}
	if (ret->count > 0) {
		ret->ttl_s = clamp(ret->ttl_s, VAULT_TTL_MIN_S, VAULT_TTL_MAX_S);
		return;
	}
	ret->chain_count = 0;
	ret->fail = (uint8_t)why_none(l, want);
	ret->ttl_s = ret->fail == EGRESS_DNS ? 1 : negative;
}

static void tell_all(struct lookup *l)
{
	for (unsigned i = 0; i < l->waiter_count; i++) {
		struct resolver_found found;

		sum_up(l, l->waiters[i].want, &found);
		l->r->tell(l->r->user, l->waiters[i].stream, &l->name, &found);
	}
	l->told = true;
	l->waiter_count = 0;
	alarm_free(l->limit);
	l->limit = NULL;
}

static void on_idle(void *user)
{
	struct resolver *r = user;

	for (unsigned i = 0; i < VAULT_LOOKUPS_MAX; i++) {
		struct lookup *l = &r->lookups[i];

		if (!l->used || l->asking)
			continue;
		if (!l->told)
			tell_all(l);
		l->used = false;
	}
}

static void on_limit(void *user)
{
	struct lookup *l = user;

	if (!l->told)
		tell_all(l);
}

static void answered(struct lookup *l, unsigned i, int status, const unsigned char *bytes, int len)
{
	struct span message = span_of(bytes, len > 0 ? (size_t)len : 0);

	l->asking &= (uint8_t) ~(1u << i);
	if (l->r->closing)
		return;
	l->answer[i] = (struct answer){ 0 };
	/* the library names what the code of an answer says: of those two there is an answer */
	if (status == ARES_ENODATA || status == ARES_ENOTFOUND)
		status = ARES_SUCCESS;
	if (status == ARES_SUCCESS &&
	    answer_parse(message, &l->name, i == 0 ? ANSWER_A : ANSWER_AAAA, &l->answer[i]) < 0)
		status = ARES_EBADRESP;
	l->error[i] = status;
	if (!l->asking)
		alarm_set(l->r->idle, 0);
}

static void on_a(void *user, int status, int timeouts, unsigned char *bytes, int len)
{
	(void)timeouts;
	answered(user, 0, status, bytes, len);
}

static void on_aaaa(void *user, int status, int timeouts, unsigned char *bytes, int len)
{
	(void)timeouts;
	answered(user, 1, status, bytes, len);
}

static bool join(struct resolver *r, const struct host_name *name, uint8_t want, uint32_t stream,
                 bool *ret_full)
{
	for (unsigned i = 0; i < VAULT_LOOKUPS_MAX; i++) {
		struct lookup *l = &r->lookups[i];

		if (!l->used || l->told || (l->want & want) != want ||
		    !span_equal(host_span(&l->name), host_span(name)))
			continue;
		*ret_full = l->waiter_count == VAULT_WAITERS_MAX;
		if (!*ret_full)
			l->waiters[l->waiter_count++] = (struct waiter){ stream, want };
		return true;
	}
	return false;
}

static struct lookup *free_lookup(struct resolver *r)
{
	for (unsigned i = 0; i < VAULT_LOOKUPS_MAX; i++)
		if (!r->lookups[i].used)
			return &r->lookups[i];
	return NULL;
}

int resolver_ask(struct resolver *r, const struct host_name *name, uint8_t want, uint32_t stream)
{
	char text[POLICY_NAME_MAX + 1];
	struct lookup *l;
	bool full;
	int rc;

	if (join(r, name, want, stream, &full))
		return full ? -EBUSY : 0;
	l = free_lookup(r);
	if (!l)
		return -EBUSY;
	*l = (struct lookup){ .r = r, .want = want, .asking = want, .name = *name };
	rc = alarm_new(r->loop, on_limit, l, &l->limit, NULL);
	if (rc < 0)
		return rc;
	l->used = true;
	l->waiters[l->waiter_count++] = (struct waiter){ stream, want };
	alarm_set(l->limit, VAULT_RESOLVE_MS);
	memcpy(text, name->at, name->len);
	text[name->len] = 0;
	if (want & EGRESS_WANT_IP4)
		ares_query(r->channel, text, CLASS_IN, ANSWER_A, on_a, l);
	if (want & EGRESS_WANT_IP6)
		ares_query(r->channel, text, CLASS_IN, ANSWER_AAAA, on_aaaa, l);
	set_tick(r);
	return 0;
}

/* --- the whole --- */

static int open_channel(struct resolver *r, struct err *e)
{
	char lookups[] = "b"; /* only the DNS */
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_EDNS,
		.timeout = VAULT_RESOLVER_TRY_MS,
		.tries = VAULT_RESOLVER_TRIES,
		.ednspsz = 1232, /* fits into one packet everywhere: DNS flag day 2020 */
		.lookups = lookups,
		.sock_state_cb = on_state,
		.sock_state_cb_data = r,
	};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ |
	           ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB | ARES_OPT_NOROTATE;
	int rc = ares_library_init(ARES_LIB_INIT_ALL);

	if (rc == ARES_SUCCESS)
		rc = ares_init_options(&r->channel, &o, mask);
	if (rc != ARES_SUCCESS)
		return err_set(e, -EIO, "the host's resolvers (/etc/resolv.conf): %s",
		               ares_strerror(rc));
	ares_set_socket_functions(r->channel, &socket_calls, r);
	return 0;
}

int resolver_new(uv_loop_t *loop, resolver_fn *tell, void *user, struct resolver **ret,
                 struct err *e)
{
	struct resolver *r = calloc(1, sizeof(*r));
	int rc;

	if (!r)
		return err_set(e, -ENOMEM, "out of memory");
	r->loop = loop;
	r->tell = tell;
	r->user = user;
	for (unsigned i = 0; i < VAULT_RESOLVER_SOCKETS; i++)
		r->socks[i] = (struct sock){ .fd = -1, .r = r };
	rc = open_channel(r, e);
	if (rc == 0)
		rc = alarm_new(loop, on_tick, r, &r->tick, e);
	if (rc == 0)
		rc = alarm_new(loop, on_idle, r, &r->idle, e);
	if (rc < 0) {
		resolver_free(r);
		return rc;
	}
	*ret = r;
	return 0;
}

void resolver_free(struct resolver *r)
{
	if (!r)
		return;
	r->closing = true;
	if (r->channel)
		ares_destroy(r->channel); /* tells all it still asks, and closes its sockets */
	for (unsigned i = 0; i < VAULT_LOOKUPS_MAX; i++)
		alarm_free(r->lookups[i].limit);
	alarm_free(r->tick);
	alarm_free(r->idle);
	free(r);
}
