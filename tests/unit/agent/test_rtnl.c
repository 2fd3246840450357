#include "agent/rtnl.h"
#include "guardpage.h"
#include "test.h"

#include <errno.h>
#include <linux/if_addr.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FIRST = 7 };

static const uint8_t four[4] = { 100, 96, 0, 2 };
static const uint8_t six[16] = { 0xfd, [15] = 2 };

/* All kinds of message, as a card with both families gets them. */
static void put_all(struct rtnl *r, uint8_t *room, uint32_t index)
{
	rtnl_init(r, room, FIRST);
	rtnl_link_up(r, index, 65520);
	rtnl_address(r, index, span_of(four, 4), 30, false);
	rtnl_address(r, index, span_of(four, 4), 30, true);
	rtnl_default_route(r, index, span_of(four, 4));
	rtnl_address(r, index, span_of(six, 16), 64, true);
	rtnl_default_route(r, index, span_of(six, 16));
}

TEST(messages_follow_one_another)
{
	static const uint16_t types[] = { RTM_NEWLINK,  RTM_DELADDR, RTM_NEWADDR,
		                          RTM_NEWROUTE, RTM_NEWADDR, RTM_NEWROUTE };
	uint8_t room[RTNL_BYTES_MAX];
	struct rtnl r;
	struct span in;

	put_all(&r, room, 2);
	CHECK(buf_ok(&r.out));
	in = buf_span(&r.out);
	for (uint32_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct nlmsghdr head;
		struct span body = in;

		CHECK(take_bytes(&body, &head, sizeof(head)));
		CHECK_EQ(head.nlmsg_type, types[i]);
		CHECK_EQ(head.nlmsg_seq, FIRST + i);
		CHECK_EQ(head.nlmsg_flags & (NLM_F_REQUEST | NLM_F_ACK), NLM_F_REQUEST | NLM_F_ACK);
		CHECK(take_span(&in, NLMSG_ALIGN(head.nlmsg_len), &body));
	}
	CHECK_EQ(in.len, 0);
	CHECK_EQ(r.optional, 2);
}

TEST(two_cards_of_messages_fit)
{
	uint8_t room[RTNL_BYTES_MAX];
	struct rtnl r;

	put_all(&r, room, UINT32_MAX);
	CHECK(r.out.len * 2 < sizeof(room));
}

/* An answer to message n. */
static void put_answer(struct buf *out, uint32_t n, int32_t code)
{
	const struct nlmsghdr head = { .nlmsg_len = sizeof(head) + sizeof(code) + sizeof(head),
		                       .nlmsg_type = NLMSG_ERROR,
		                       .nlmsg_seq = FIRST + n };
	const struct nlmsghdr echo = { .nlmsg_len = sizeof(echo) };

	buf_put(out, &head, sizeof(head));
	buf_put(out, &code, sizeof(code));
	buf_put(out, &echo, sizeof(echo));
}

TEST(answers_are_counted_and_judged)
{
	uint8_t room[RTNL_BYTES_MAX];
	uint8_t bytes[RTNL_ANSWER_MAX];
	struct rtnl r;
	struct buf b;
	uint32_t count = 0;
	int error = 1;

	put_all(&r, room, 2);
	buf_init(&b, bytes, sizeof(bytes));
	put_answer(&b, 0, 0);
	put_answer(&b, 1, -EADDRNOTAVAIL); /* to take away what is not there is no error */
	put_answer(&b, 6, -EPERM);         /* nobody's */
	CHECK_EQ(rtnl_parse_answers(&r, buf_span(&b), &count, &error), 0);
	CHECK_EQ(count, 2);
	CHECK_EQ(error, 0);
	put_answer(&b, 3, -ENETUNREACH);
	put_answer(&b, 4, -EINVAL);
	CHECK_EQ(rtnl_parse_answers(&r, buf_span(&b), &count, &error), 0);
	CHECK_EQ(count, 4);
	CHECK_EQ(error, -ENETUNREACH);
}

TEST(what_is_no_answer)
{
	uint8_t room[RTNL_BYTES_MAX];
	uint8_t bytes[RTNL_ANSWER_MAX];
	struct nlmsghdr head;
	struct rtnl r;
	struct buf b;
	uint32_t count = 99;
	int error = 99;

	put_all(&r, room, 2);
	buf_init(&b, bytes, sizeof(bytes));
	put_answer(&b, 2, 0);
	for (size_t len = 1; len < b.len; len++)
		CHECK_EQ(rtnl_parse_answers(&r, guard_span(bytes, len), &count, &error), -EBADMSG);
	CHECK_EQ(count + (uint32_t)error, 198);
	memcpy(&head, bytes, sizeof(head));
	head.nlmsg_len = 4;
	memcpy(bytes, &head, sizeof(head));
	CHECK_EQ(rtnl_parse_answers(&r, buf_span(&b), &count, &error), -EBADMSG);
	buf_reset(&b);
	put_answer(&b, 2, 1);
	CHECK_EQ(rtnl_parse_answers(&r, buf_span(&b), &count, &error), -EBADMSG);
	buf_reset(&b);
	put_answer(&b, 2, INT32_MIN);
	CHECK_EQ(rtnl_parse_answers(&r, buf_span(&b), &count, &error), -EBADMSG);
	CHECK_EQ(rtnl_parse_answers(&r, span_of(NULL, 0), &count, &error), 0);
	CHECK_EQ(count, 0);
}

/* The kernel reads them as they are meant: it knows no card of that number, and nothing else. */
TEST(the_kernel_understands)
{
	uint8_t room[RTNL_BYTES_MAX];
	uint8_t answer[RTNL_ANSWER_MAX];
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	uint32_t heard = 0;
	struct rtnl r;

	CHECK(fd >= 0);
	put_all(&r, room, INT32_MAX);
	CHECK_EQ(send(fd, r.out.at, r.out.len, 0), (ssize_t)r.out.len);
	while (heard < r.count) {
		ssize_t n = recv(fd, answer, sizeof(answer), 0);
		uint32_t count = 0;
		int error = 0;

		CHECK(n > 0);
		CHECK_EQ(rtnl_parse_answers(&r, span_of(answer, (size_t)n), &count, &error), 0);
		/* not root: it does not even look */
		CHECK_EQ(error == 0 || error == -ENODEV || error == -ENETUNREACH || error == -EPERM
		                 ? 0
		                 : error,
		         0);
		heard += count;
	}
	(void)close(fd);
}

TEST_MAIN()
