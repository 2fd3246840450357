#include "frames.h"
#include "net/udp_flows.h"
#include "test.h"

#include <errno.h>

static const struct siphash_key key = { { 1, 2, 3 } };

static struct net_tuple tuple_of(uint32_t i)
{
	struct net_tuple t = frame_tuple(i % 2);

	t.guest_port = (uint16_t)(1 + i / 2);
	return t;
}

TEST(limits_of_the_table)
{
	struct udp_flows *u = NULL;
	struct err e = { 0 };

	CHECK_EQ(udp_flows_new(0, &key, &u, &e), -EINVAL);
	CHECK_EQ(udp_flows_new(UDP_FLOWS_MAX + 1, &key, &u, &e), -EINVAL);
	CHECK(u == NULL);
}

TEST(a_full_table_refuses_and_keeps)
{
	_own_(udp_flows_free) struct udp_flows *u = NULL;
	struct net_tuple t;

	CHECK_OK(udp_flows_new(1000, &key, &u, NULL), NULL);
	for (uint32_t i = 0; i < 1000; i++) {
		t = tuple_of(i);
		CHECK(!udp_flows_find(u, &t));
		CHECK(udp_flows_add(u, &t, i));
	}
	t = tuple_of(1000);
	CHECK(!udp_flows_add(u, &t, 1000));
	CHECK_EQ(udp_flows_count(u), 1000);
	for (uint32_t i = 0; i < 1000; i++) {
		t = tuple_of(i);
		CHECK(net_tuple_equal(&udp_flows_find(u, &t)->tuple, &t));
	}
	for (uint32_t i = 0; i < 1000; i += 3) {
		t = tuple_of(i);
		udp_flows_drop(u, udp_flows_find(u, &t));
		CHECK(!udp_flows_find(u, &t));
	}
	CHECK_EQ(udp_flows_count(u), 666);
	t = tuple_of(1000);
	CHECK(udp_flows_add(u, &t, 1000));
}

TEST(the_longest_idle_goes_first)
{
	_own_(udp_flows_free) struct udp_flows *u = NULL;
	struct udp_flow *f[3];

	CHECK_OK(udp_flows_new(3, &key, &u, NULL), NULL);
	CHECK(!udp_flows_idle(u, 0, 0));
	for (uint32_t i = 0; i < 3; i++) {
		struct net_tuple t = tuple_of(i);

		f[i] = udp_flows_add(u, &t, i);
	}
	udp_flows_used(u, f[0], true, 100, 50);
	udp_flows_used(u, f[0], false, 7, 51);
	CHECK(f[0]->bytes_in == 100 && f[0]->bytes_out == 7);
	CHECK(!udp_flows_idle(u, 100, 100));
	CHECK(udp_flows_idle(u, 100, 101) == f[1]);
	udp_flows_drop(u, f[1]);
	CHECK(!udp_flows_idle(u, 100, 101));
	CHECK(udp_flows_idle(u, 100, 102) == f[2]);
	udp_flows_drop(u, f[2]);
	CHECK(!udp_flows_idle(u, 100, 150));
	CHECK(udp_flows_idle(u, 100, 151) == f[0]);
	udp_flows_drop(u, f[0]);
	CHECK(!udp_flows_idle(u, 0, 1000));
}

TEST_MAIN()
