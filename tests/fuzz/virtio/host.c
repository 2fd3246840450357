#include "host.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum { IOVS_MAX = 1024, FEED_MAX = 1 << 18, MISCHIEF_BYTES = 10 };

struct host host; /* of the one input that is played */

/* -- the loop -------------------------------------------------------------------------------------
 */

struct watch {
	loop_fn fn; /* NULL: free */
	void *arg;
	int fd;
	uint32_t events;
};

struct loop {
	struct watch watches[LOOP_WATCHES_MAX];
};

int loop_new(struct loop **ret, struct err *e)
{
	static struct loop one;

	(void)e;
	*ret = &one;
	return 0;
}

void loop_free(struct loop *l)
{
	(void)l;
}

int loop_watch(struct loop *l, int fd, uint32_t events, loop_fn fn, void *arg, unsigned *ret_id,
               struct err *e)
{
	(void)e;
	for (unsigned i = 1; i < LOOP_WATCHES_MAX; i++) {
		if (l->watches[i].fn)
			continue;
		l->watches[i] = (struct watch){ .fn = fn, .arg = arg, .fd = fd, .events = events };
		*ret_id = i;
		return 0;
	}
	assert(false); /* the table is far larger than one device's needs */
	return -ENOSPC;
}

void loop_set(struct loop *l, unsigned id, uint32_t events)
{
	assert(id < LOOP_WATCHES_MAX && l->watches[id].fn);
	l->watches[id].events = events;
}

void loop_drop(struct loop *l, unsigned id)
{
	assert(id < LOOP_WATCHES_MAX && l->watches[id].fn);
	l->watches[id].fn = NULL;
}

int loop_run(struct loop *l, struct err *e)
{
	(void)l;
	(void)e;
	return 0;
}

void loop_stop(struct loop *l)
{
	(void)l;
}

void loop_call(struct loop *l, void (*fn)(void *arg), void *arg)
{
	(void)l;
	fn(arg);
}

static struct loop *the_loop(void)
{
	struct loop *l;
	int r = loop_new(&l, NULL);

	assert(r == 0);
	return l;
}

unsigned host_watches(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < LOOP_WATCHES_MAX; i++)
		n += the_loop()->watches[i].fn != NULL;
	return n;
}

void host_turn(void)
{
	struct loop *l = the_loop();

	for (unsigned i = 0; i < LOOP_WATCHES_MAX; i++) {
		const struct watch *w = &l->watches[i];
		uint32_t got = host.pending > 0 || host.ended ? EPOLLIN : 0u;

		if (!w->fn || w->fd != HOST_FD || w->events == 0)
			continue;
		got |= host.room > 0 ? EPOLLOUT : 0u;
		got &= w->events;
		got |= host.ended ? EPOLLHUP : 0u;
		if (got != 0)
			w->fn(w->arg, got);
	}
}

/* -- the calls ------------------------------------------------------------------------------------
 */

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags);
ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags);
ssize_t __wrap_recv(int fd, void *to, size_t len, int flags);
ssize_t __wrap_writev(int fd, const struct iovec *iov, int count);

/* What comes before each call; 0, or -1 with errno. */
static int begin(void)
{
	uint16_t at;
	uint64_t value;
	struct span m;

	assert(!host.gone);
	host.calls++;
	if (host.v && take_span(&host.mischief, MISCHIEF_BYTES, &m) && take_le16(&m, &at) &&
	    take_le64(&m, &value))
		(void)!guest_mem_write(&host.v->mem, gpa_of(at), &value, sizeof(value));
	if (host.fail == 0)
		return 0;
	errno = host.fail;
	host.fail = 0;
	return -1;
}

static size_t check_iov(const struct iovec *iov, size_t count)
{
	size_t total = 0;

	assert(count > 0 && count <= IOVS_MAX);
	for (size_t i = 0; i < count; i++) {
		assert(iov[i].iov_len > 0);
		total += iov[i].iov_len;
	}
	return total;
}

static ssize_t send_all(const struct iovec *iov, size_t count)
{
	size_t total = check_iov(iov, count);
	size_t left;

	if (begin() < 0)
		return -1;
	if (host.ended || host.room == 0) {
		errno = host.ended ? EPIPE : EAGAIN;
		return -1;
	}
	left = total = total < host.room ? total : host.room;
	host.room -= total;
	for (size_t i = 0; left > 0; i++) {
		size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;

		if (host.sent)
			host.sent(iov[i].iov_base, n);
		left -= n;
	}
	return (ssize_t)total;
}

ssize_t __wrap_sendmsg(int fd, const struct msghdr *msg, int flags)
{
	assert(fd == HOST_FD && (flags & MSG_NOSIGNAL) && (flags & MSG_DONTWAIT));
	return send_all(msg->msg_iov, msg->msg_iovlen);
}

ssize_t __wrap_writev(int fd, const struct iovec *iov, int count)
{
	(void)fd;
	return (ssize_t)check_iov(iov, (size_t)count) / 2; /* a log that is ever full */
}

static ssize_t receive_into(const struct iovec *iov, size_t count)
{
	size_t total = check_iov(iov, count);
	size_t left;

	if (begin() < 0)
		return -1;
	if (host.pending == 0) {
		errno = EAGAIN;
		return host.ended ? 0 : -1;
	}
	left = total = total < host.pending ? total : host.pending;
	host.pending -= total;
	for (size_t i = 0; left > 0; i++) {
		size_t n = iov[i].iov_len < left ? iov[i].iov_len : left;
		struct span s;

		memset(iov[i].iov_base, 0, n);
		if (take_span(&host.bytes, n < host.bytes.len ? n : host.bytes.len, &s) && s.len)
			memcpy(iov[i].iov_base, s.at, s.len);
		left -= n;
	}
	return (ssize_t)total;
}

ssize_t __wrap_recvmsg(int fd, struct msghdr *msg, int flags)
{
	assert(fd == HOST_FD && (flags & MSG_DONTWAIT));
	return receive_into(msg->msg_iov, msg->msg_iovlen);
}

ssize_t __wrap_recv(int fd, void *to, size_t len, int flags)
{
	const struct iovec iov = { .iov_base = to, .iov_len = len };

	assert(fd == HOST_FD && (flags & MSG_DONTWAIT));
	return receive_into(&iov, 1);
}

/* -- the input ------------------------------------------------------------------------------------
 */

void host_reset(void)
{
	void (*sent)(const uint8_t *at, size_t len) = host.sent;

	host = (struct host){ .sent = sent };
}

static uint16_t in16(struct span *in)
{
	uint16_t v = 0;

	(void)!take_le16(in, &v);
	return v;
}

static struct span in_bytes(struct span *in)
{
	uint8_t n = 0;
	struct span s = { 0 };

	(void)!take_u8(in, &n);
	(void)!take_span(in, n < in->len ? n : in->len, &s);
	return s;
}

void host_play(struct vfuzz *v, struct span *in)
{
	static const int errors[] = { EAGAIN, EINTR, EPIPE, ENOBUFS, ECONNRESET };
	uint8_t what = 0;

	host.v = v;
	(void)!take_u8(in, &what);
	switch (what % 8) {
	case 0: /* u16: the far side takes so many more */
		host.room = (host.room + in16(in)) % FEED_MAX;
		break;
	case 1: /* u16: it has so many more, zeros */
		host.pending = (host.pending + in16(in)) % FEED_MAX;
		break;
	case 2: /* u8, then as many bytes: it has these */
		host.bytes = in_bytes(in);
		host.pending += host.bytes.len;
		break;
	case 3:
		host.ended = true;
		break;
	case 4: /* u8, then as many bytes: see struct host */
		host.mischief = in_bytes(in);
		break;
	case 5: /* u16 */
		host.fail = errors[in16(in) % (sizeof(errors) / sizeof(errors[0]))];
		break;
	default: /* plenty */
		host.room = FEED_MAX;
		break;
	}
	host_turn();
}
