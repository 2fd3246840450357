#include "lib/egress_plan.h"

#include "guardpage.h"
#include "policy/policy.h"
#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

static int publish(struct egress_plan *p, const char *word, struct err *e)
{
	struct publish what;

	CHECK_OK(publish_parse(word, &what, e), e);
	return egress_plan_publish(p, &what, e);
}

static int value(const char *text)
{
	int fd = memfd_create("value", MFD_CLOEXEC);

	CHECK(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	CHECK(lseek(fd, 0, SEEK_SET) == 0);
	return fd;
}

static bool same_file(int fd, const char *text)
{
	char got[64] = "";

	return pread(fd, got, sizeof(got) - 1, 0) == (ssize_t)strlen(text) &&
	       strcmp(got, text) == 0;
}

struct got {
	struct control_packet p;
	uint8_t room[CONTROL_PACKET_MAX];
	int fd;
};

static int next(int sock, struct got *ret)
{
	struct span packet;
	int r = control_recv(sock, ret->room, &packet, &ret->fd);

	return r < 0 ? r : control_parse_packet(packet, CONTROL_FROM_COMMAND, &ret->p);
}

TEST(all_of_a_plan_lies_in_the_socket)
{
	_own_(egress_plan_fini) struct egress_plan p;
	_own_fd_ int sock = -1;
	struct control_secret secret;
	struct control_accepted at;
	struct err e = { 0 };
	struct got got;

	egress_plan_init(&p);
	CHECK_EQ(egress_plan_send(&p, &sock, &e), -EINVAL);
	CHECK_OK(egress_plan_deny(&p, &e), &e);
	CHECK_OK(egress_plan_roots(&p, span_str("roots"), &e), &e);
	CHECK_OK(egress_plan_secret(&p, "A", value("old"), &e), &e);
	CHECK_OK(egress_plan_secret(&p, "B", value("two"), &e), &e);
	CHECK_OK(egress_plan_secret(&p, "A", value("new"), &e), &e);
	CHECK_OK(publish(&p, "0:80", &e), &e);
	CHECK_OK(egress_plan_send(&p, &sock, &e), &e);

	CHECK(next(sock, &got) == 0 && got.p.kind == CONTROL_POLICY);
	CHECK_EQ(fcntl(got.fd, F_GET_SEALS) & SEALS, SEALS);
	CHECK_EQ(close(got.fd), 0);
	CHECK(next(sock, &got) == 0 && got.p.kind == CONTROL_ROOTS && same_file(got.fd, "roots"));
	CHECK_EQ(close(got.fd), 0);
	CHECK(next(sock, &got) == 0 && got.p.kind == CONTROL_SECRET && same_file(got.fd, "new"));
	CHECK_EQ(control_parse_secret(got.p.kind, got.p.payload, &secret), 0);
	CHECK_SPAN(secret.name, "A");
	CHECK_EQ(close(got.fd), 0);
	CHECK(next(sock, &got) == 0 && got.p.kind == CONTROL_SECRET && same_file(got.fd, "two"));
	CHECK_EQ(close(got.fd), 0);
	CHECK(next(sock, &got) == 0 && got.p.kind == CONTROL_LISTEN);
	CHECK_EQ(control_parse_accepted(got.p.payload, &at), 0);
	CHECK(at.port != 0 && at.guest_port == 80 && at.family == 4);
	CHECK_EQ(close(got.fd), 0);
	CHECK_EQ(next(sock, &got), -EPIPE);
}

TEST(the_largest_plan_fits)
{
	_own_(egress_plan_fini) struct egress_plan p;
	_own_fd_ int sock = -1;
	struct err e = { 0 };
	struct got got;
	unsigned packets = 0;

	egress_plan_init(&p);
	CHECK_OK(egress_plan_deny(&p, &e), &e);
	CHECK_OK(egress_plan_roots(&p, span_str("roots"), &e), &e);
	for (unsigned i = 0; i < CONTROL_SECRETS_MAX; i++) {
		char name[CONTROL_SECRET_NAME_MAX + 1];

		(void)snprintf(name, sizeof(name), "S%063u", i);
		CHECK_OK(egress_plan_secret(&p, name, value("x"), &e), &e);
	}
	CHECK_EQ(egress_plan_secret(&p, "ONE_MORE", value("x"), &e), -E2BIG);
	CHECK_EQ(egress_plan_secret(&p, "1ST", value("x"), &e), -EINVAL);
	for (unsigned i = 0; i < EGRESS_PORTS_MAX; i++)
		CHECK_OK(publish(&p, i % 2 ? "0:1" : "127.0.0.2:0:1", &e), &e);
	CHECK_EQ(publish(&p, "0:1", &e), -E2BIG);
	CHECK_OK(egress_plan_send(&p, &sock, &e), &e);
	for (; next(sock, &got) == 0; packets++)
		CHECK_EQ(close(got.fd), 0);
	CHECK_EQ(packets, 2 + CONTROL_SECRETS_MAX + EGRESS_PORTS_MAX);
}

TEST(a_port_that_is_taken_is_said)
{
	_own_(egress_plan_fini) struct egress_plan p;
	struct err e = { 0 };
	char word[32];

	egress_plan_init(&p);
	CHECK_OK(publish(&p, "0:80", &e), &e);
	(void)snprintf(word, sizeof(word), "%u:81", p.ports[0].at.port);
	CHECK_EQ(publish(&p, word, &e), -EADDRINUSE);
	CHECK(strstr(e.text, word) != NULL);
	CHECK_EQ(p.port_count, 1);
}

TEST(only_a_policy_is_one)
{
	_own_(egress_plan_fini) struct egress_plan p;
	static uint8_t large[EGRESS_PLAN_POLICY + 1];
	struct err e = { 0 };

	egress_plan_init(&p);
	CHECK_EQ(egress_plan_policy(&p, span_str("allow: all"), &e), -EBADMSG);
	CHECK_EQ(egress_plan_policy(&p, span_of(large, sizeof(large)), &e), -EFBIG);
	CHECK_EQ(p.policy_fd, -1);
}

TEST_MAIN()
