/* berm-gate's profile both ways: it works with the sockets it was given, and makes none. */
#include "base/fdio.h"
#include "never.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/uio.h>

static struct jail_params params_now(void)
{
	struct jail_params p = { .keep_all_fds = true };

	if (geteuid() == 0)
		p.uid = p.gid = JAIL_UID_NOBODY;
	return p;
}

TEST(gate_forbids)
{
	NEED_PLAIN_BUILD();
	check_never(&jail_profile_gate, NULL, NULL);
}

/* An address to send to, which nobody may say. */
static const struct sockaddr_in elsewhere = { .sin_family = AF_INET };

static const struct call forbidden[] = {
	{ "UNIX socket", SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0 },
	{ "datagram socket", SYS_socket, AF_INET, SOCK_DGRAM, 0, 0 },
	{ "raw socket", SYS_socket, AF_INET6, SOCK_RAW, IPPROTO_ICMPV6, 0 },
	{ "pair of sockets", SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0 },
	{ "connect", SYS_connect, -1, 0, 0, 0 },
	{ "bind", SYS_bind, -1, 0, 0, 0 },
	{ "listen", SYS_listen, -1, 0, 0, 0 },
	{ "accept", SYS_accept, -1, 0, 0, 0 },
	{ "accept with flags", SYS_accept4, -1, 0, 0, 0 },
	{ "name a peer", SYS_sendmsg, -1, 0, 0, 0 },
	{ "name many", SYS_sendmmsg, -1, 0, 0, 0 },
	{ "mark packets", SYS_setsockopt, -1, SOL_SOCKET, SO_MARK, 0 },
	{ "choose a device", SYS_setsockopt, -1, SOL_SOCKET, SO_BINDTODEVICE, 0 },
	{ "choose TCP's ways", SYS_setsockopt, -1, IPPROTO_TCP, TCP_ULP, 0 },
	{ "open", SYS_openat, AT_FDCWD, (long)"/", 0, 0 },
	{ "open2", SYS_openat2, AT_FDCWD, (long)"/", 0, 0 },
	{ "stat", SYS_newfstatat, AT_FDCWD, (long)"/", 0, 0 },
	{ "readlink", SYS_readlink, (long)"/", 0, 0, 0 },
	{ "memory file", SYS_memfd_create, (long)"x", 0, 0, 0 },
	{ "pipe", SYS_pipe2, 0, 0, 0, 0 },
	{ "duplicate", SYS_fcntl, 0, F_DUPFD, 0, 0 },
	{ "signals of a socket", SYS_fcntl, 0, F_SETOWN, 0, 0 },
	{ "kill", SYS_kill, 1, 0, 0, 0 },
	{ "ring", SYS_io_uring_setup, 1, 0, 0, 0 },
	{ "terminal's ioctl", SYS_ioctl, 0, 0x5401, 0, 0 },
	{ "splice", SYS_splice, 0, 0, 1, 0 },
};

TEST(no_way_out_and_no_file)
{
	struct jail_params params = params_now();

	NEED_PLAIN_BUILD();
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		struct call k = forbidden[i];
		int got = jailed_run(&jail_profile_gate, &params, make_call, &k);

		if (got != JAILED_KILLED)
			test_fail(__FILE__, __LINE__, "may %s: %d", k.what, got);
	}
}

static int code(void *ctx)
{
	void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)ctx;
	return at == MAP_FAILED || mprotect(at, 4096, PROT_READ | PROT_EXEC) < 0 ? errno : 0;
}

TEST(no_new_code)
{
	struct jail_params params = params_now();

	NEED_PLAIN_BUILD();
	CHECK_EQ(jailed_run(&jail_profile_gate, &params, code, NULL), JAILED_KILLED);
}

static int send_elsewhere(void *ctx)
{
	ssize_t n = sendto(*(int *)ctx, "x", 1, 0, (const struct sockaddr *)&elsewhere,
	                   sizeof(elsewhere));

	return n < 0 ? errno : 0;
}

static int send_there(void *ctx)
{
	return send(*(int *)ctx, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT) == 1 ? 0 : errno;
}

TEST(a_connected_socket_reaches_nobody_else)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	struct jail_params params = params_now();
	socklen_t len = sizeof(at);
	_own_fd_ int there = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	_own_fd_ int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	NEED_PLAIN_BUILD();
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(there, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK(getsockname(there, (struct sockaddr *)&at, &len) == 0);
	CHECK(connect(fd, (struct sockaddr *)&at, sizeof(at)) == 0);
	CHECK_EQ(jailed_run(&jail_profile_gate, &params, send_there, &fd), 0);
	CHECK_EQ(jailed_run(&jail_profile_gate, &params, send_elsewhere, &fd), JAILED_KILLED);
}

struct work {
	int epoll, a, b, passer;
};

/* Takes a descriptor from the passer. */
static int take_fd(int from)
{
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} room;
	char one;
	struct iovec iov = { &one, 1 };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = room.bytes,
		            .msg_controllen = sizeof(room.bytes) };
	int fd;

	if (recvmsg(from, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != 1 || !CMSG_FIRSTHDR(&m))
		return -1;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return fd;
}

/* What a turn of the gate does, with a socket that came. */
static int do_gate_work(void *ctx)
{
	const struct work *w = ctx;
	const struct linger l = { .l_onoff = 1 };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	char room[2][4];
	struct iovec in[2] = { { room[0], 4 }, { room[1], 4 } };
	char words[] = "frame";
	struct iovec out[2] = { { words, 3 }, { words + 3, 2 } };
	int fd = take_fd(w->passer);

	if (fd < 0 || fd_set_nonblock(fd) < 0)
		return 190;
	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return 191;
	if (writev(w->a, out, 2) != 5 || send(w->a, "x", 1, MSG_NOSIGNAL) != 1)
		return 192;
	if (epoll_wait(w->epoll, &ev, 1, 20000) != 1 || readv(fd, in, 2) != 6)
		return 193;
	if (recv(fd, room, 1, MSG_DONTWAIT) != -1 || errno != EAGAIN)
		return 194;
	if (shutdown(fd, SHUT_WR) < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &l, sizeof(l)) < 0)
		return 195;
	free(malloc(1 << 20));
	(void)!write(2, "", 0);
	return close(fd) < 0 ? errno : 0;
}

TEST(it_does_its_work)
{
	struct jail_params params = params_now();
	struct work w = { .epoll = epoll_create1(EPOLL_CLOEXEC) };
	struct err e = { 0 };
	int pair[2], pass[2];
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} room = { .head = { .cmsg_level = SOL_SOCKET,
		             .cmsg_type = SCM_RIGHTS,
		             .cmsg_len = CMSG_LEN(sizeof(int)) } };
	char one = 'f';
	struct iovec iov = { &one, 1 };
	struct msghdr m = { .msg_iov = &iov,
		            .msg_iovlen = 1,
		            .msg_control = room.bytes,
		            .msg_controllen = sizeof(room.bytes) };

	NEED_PLAIN_BUILD();
	CHECK(w.epoll >= 0);
	CHECK_OK(fd_socketpair(pair, &e), &e);
	CHECK_OK(fd_socketpair(pass, &e), &e);
	memcpy(CMSG_DATA(&room.head), &pair[1], sizeof(int));
	CHECK_EQ(sendmsg(pass[0], &m, 0), 1);
	w.a = pair[0];
	w.passer = pass[1];
	CHECK_EQ(jailed_run(&jail_profile_gate, &params, do_gate_work, &w), 0);
}

TEST(table_has_reasons_and_no_dead_rules)
{
	check_table(&jail_profile_gate);
}

TEST_MAIN()
