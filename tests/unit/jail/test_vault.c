/* berm-vault's profile both ways: which sockets there can be, and that nothing else can. */
#include "never.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/mman.h>

static struct jail_params params_now(void)
{
	struct jail_params p = { 0 };

	if (geteuid() == 0)
		p.uid = p.gid = JAIL_UID_NOBODY;
	return p;
}

TEST(vault_forbids)
{
	NEED_PLAIN_BUILD();
	check_never(&jail_profile_vault, NULL, "inet socket");
}

static const struct call forbidden[] = {
	{ "UNIX socket", SYS_socket, AF_UNIX, SOCK_STREAM, 0, 0 },
	{ "raw socket", SYS_socket, AF_INET, SOCK_RAW, IPPROTO_ICMP, 0 },
	{ "ping socket", SYS_socket, AF_INET, SOCK_DGRAM, IPPROTO_ICMP, 0 },
	{ "SCTP socket", SYS_socket, AF_INET6, SOCK_STREAM, IPPROTO_SCTP, 0 },
	{ "pair of sockets", SYS_socketpair, AF_UNIX, SOCK_STREAM, 0, 0 },
	{ "bind", SYS_bind, -1, 0, 0, 0 },
	{ "listen", SYS_listen, -1, 0, 0, 0 },
	{ "accept", SYS_accept4, -1, 0, 0, 0 },
	{ "mark packets", SYS_setsockopt, -1, SOL_SOCKET, SO_MARK, 0 },
	{ "choose a device", SYS_setsockopt, -1, SOL_SOCKET, SO_BINDTODEVICE, 0 },
	{ "open", SYS_openat, AT_FDCWD, (long)"/", 0, 0 },
	{ "open2", SYS_openat2, AT_FDCWD, (long)"/", 0, 0 },
	{ "stat", SYS_newfstatat, AT_FDCWD, (long)"/", 0, 0 },
	{ "readlink", SYS_readlink, (long)"/", 0, 0, 0 },
	{ "thread", SYS_clone, CLONE_VM | CLONE_SIGHAND, 0, 0, 0 },
	{ "kill", SYS_kill, 1, 0, 0, 0 },
	{ "map a file", SYS_mmap, 0, 4096, PROT_READ, MAP_SHARED },
	{ "ring", SYS_io_uring_setup, 1, 0, 0, 0 },
	{ "terminal's ioctl", SYS_ioctl, 0, 0x5401, 0, 0 },
	{ "huge memory file", SYS_memfd_create, (long)"x", MFD_HUGETLB, 0, 0 },
};

TEST(no_way_in_and_no_file)
{
	struct jail_params params = params_now();

	NEED_PLAIN_BUILD();
	for (size_t i = 0; i < sizeof(forbidden) / sizeof(forbidden[0]); i++) {
		struct call k = forbidden[i];
		int got = jailed_run(&jail_profile_vault, &params, make_call, &k);

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
	CHECK_EQ(jailed_run(&jail_profile_vault, &params, code, NULL), JAILED_KILLED);
}

/* Sends a word over a loopback connection that waits for it outside. */
static int say_hello(void *ctx)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = *(in_port_t *)ctx };
	int type = SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK;
	int fd = socket(AF_INET, type, 0);
	int on = 1, error = 0;
	socklen_t len = sizeof(error);
	struct pollfd p = { .fd = fd, .events = POLLOUT };

	to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) < 0)
		return errno;
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno != EINPROGRESS)
		return errno;
	if (poll(&p, 1, 20000) != 1 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return 199;
	if (error)
		return error;
	return send(fd, "hello", 5, MSG_NOSIGNAL) == 5 ? 0 : errno;
}

TEST(it_may_connect)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	struct jail_params params = params_now();
	socklen_t len = sizeof(at);
	_own_fd_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	_own_fd_ int peer = -1;
	char got[8] = { 0 };

	NEED_PLAIN_BUILD();
	at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	CHECK(bind(fd, (struct sockaddr *)&at, sizeof(at)) == 0 && listen(fd, 1) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&at, &len) == 0);
	CHECK_EQ(jailed_run(&jail_profile_vault, &params, say_hello, &at.sin_port), 0);
	peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	CHECK(peer >= 0);
	CHECK_EQ(recv(peer, got, sizeof(got), MSG_WAITALL), 5);
	CHECK_STR(got, "hello");
}

TEST(table_has_reasons_and_no_dead_rules)
{
	check_table(&jail_profile_vault);
}

TEST_MAIN()
