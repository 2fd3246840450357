/*
 * What the parts of src/net cost, one JSON object a line. In nanoseconds: the checksum of 64 KiB,
 * beside memcpy of it; the link's work for a segment of 64 KiB from the guest (parse and checksum);
 * the endpoint's for it; a frame of 64 KiB from the application's ring to its iovecs (headers and
 * checksum), with the guest's ACK for it; a small request and its answer. And the memory that a
 * connection holds while nothing happens on it.
 *
 *	net_parts [RUNS]
 */
#include "../unit/net/frames.h"
#include "base/clock.h"
#include "net/sum.h"
#include "net/tcp.h"

#include <endian.h>
#include <stdio.h>

enum { RUNS_USUAL = 200, TIMES = 100, BYTES = 65536, SEGMENT = 65480, IDLE = 10000 };

static struct net_link link_;
static struct tcp_table *table;
static struct tcp_flow *flow;
static uint8_t frame[NET_FRAME_MAX + 64]; /* made with room in front of its end */
static size_t frame_bytes;
static uint8_t data[BYTES];
static uint8_t copy[BYTES];
static struct net_packet packet; /* the guest's next segment */
static volatile uint64_t sink;   /* so that nothing is left out */

/* Plays the guest's kernel: whatever comes is acknowledged with the next segment. */
static bool emit(void *ctx, const struct iovec *iov, unsigned count, size_t bytes)
{
	const uint8_t *tcp =
		(const uint8_t *)iov[0].iov_base + NET_PREFIX_BYTES + NET_ETH_BYTES + NET_IP4_BYTES;
	uint32_t seq;

	(void)ctx;
	memcpy(&seq, tcp + 4, sizeof(seq));
	packet.tcp.ack = be32toh(seq) + ((tcp[13] & (TCP_SYN | TCP_FIN)) != 0);
	for (unsigned i = 1; i < count; i++)
		packet.tcp.ack += (uint32_t)iov[i].iov_len;
	sink += bytes;
	return true;
}

static void event(void *ctx, struct tcp_flow *f, unsigned events, uint64_t now_ms)
{
	(void)ctx;
	flow = f;
	if (events & TCP_EV_SYN)
		tcp_accept(table, f, now_ms);
	if (events & TCP_EV_READABLE)
		tcp_consume(table, f, tcp_readable_bytes(f), now_ms);
}

static void input(uint8_t flags, struct span text)
{
	packet.tcp.flags = flags;
	packet.tcp.data = text;
	tcp_input(table, &packet, 1000);
	packet.tcp.seq += (uint32_t)text.len + (flags & TCP_SYN ? 1 : 0);
}

static void open_flow(uint16_t port)
{
	packet = (struct net_packet){ .proto = NET_PROTO_TCP, .tuple = frame_tuple(false) };
	packet.tuple.guest_port = port;
	packet.tcp = (struct tcp_segment){ .src_port = port,
		                           .dst_port = packet.tuple.remote_port,
		                           .window = 65535,
		                           .mss = SEGMENT,
		                           .has_scale = true,
		                           .scale = 3 };
	input(TCP_SYN, span_of(data, 0));
	input(TCP_ACK, span_of(data, 0));
}

static void part_sum(void)
{
	sink += span_sum(span_of(data, BYTES));
}

static void part_copy(void)
{
	memcpy(copy, data, BYTES);
	__asm__ volatile("" : : "r"(copy) : "memory");
}

static void part_link(void)
{
	struct net_packet p;

	sink += net_link_input(&link_, span_of(frame, frame_bytes), 1000, &p);
}

static void part_receive(void)
{
	input(TCP_ACK, span_of(data, SEGMENT));
}

static void part_send(void)
{
	struct iovec iov[TCP_WRITE_IOVS];

	if (tcp_room(table, flow, iov) > 0)
		tcp_commit(table, flow, SEGMENT, 1000);
	input(TCP_ACK, span_of(data, 0));
}

static void part_request(void)
{
	input(TCP_ACK, span_of(data, 100));
	sink += tcp_write(table, flow, span_of(data, 200), 1000);
	input(TCP_ACK, span_of(data, 0));
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a;
	double y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const char *name, void (*part)(void), unsigned runs)
{
	double *at = calloc(runs, sizeof(*at));

	if (!at)
		return;
	for (unsigned i = 0; i < runs; i++) {
		uint64_t began = clock_mono_ns();

		for (int k = 0; k < TIMES; k++)
			part();
		at[i] = (double)(clock_mono_ns() - began) / TIMES;
	}
	qsort(at, runs, sizeof(*at), by_size);
	(void)printf("{\"name\": \"net_%s_ns\", \"runs\": %u, \"p50\": %.0f, \"p99\": %.0f}\n",
	             name, runs, at[runs / 2], at[runs * 99 / 100]);
	free(at);
}

static long resident_bytes(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");
	char line[128] = "";
	struct span s;
	struct span word;
	uint64_t n = 0;

	if (f && fgets(line, sizeof(line), f)) {
		s = span_str(line);
		if (take_until(&s, ' ', &word) && take_until(&s, ' ', &word) &&
		    span_to_u64(word, &n))
			pages = (long)n;
	}
	if (f)
		(void)fclose(f);
	return pages * sysconf(_SC_PAGESIZE);
}

/* `before`: ahead of the table. The longest table is counted, with its empty places. */
static void measure_idle(long before)
{
	for (unsigned i = 0; i < IDLE; i++) {
		open_flow((uint16_t)(1000 + i));
		part_request();
	}
	(void)printf("{\"name\": \"net_idle_flow_bytes\", \"runs\": %d, \"p50\": %ld}\n", IDLE,
	             (resident_bytes() - before) / IDLE);
}

int main(int argc, char **argv)
{
	struct net_link_config c = net_link_config_usual(false);
	struct tcp_config config = { .flows_max = TCP_FLOWS_MAX,
		                     .half_open_max = 64,
		                     .blocks = 64,
		                     .link = &link_,
		                     .out = { .emit = emit },
		                     .event = event };
	struct net_tuple tuple = frame_tuple(false);
	struct tcp_segment s = {
		.src_port = 40000, .dst_port = 443, .flags = TCP_ACK, .data = span_of(data, SEGMENT)
	};
	uint64_t runs = RUNS_USUAL;
	long before;
	struct err e = { 0 };

	if (argc > 1 && (!span_to_u64(span_str(argv[1]), &runs) || runs == 0 || runs > 100000))
		return 125;
	for (size_t i = 0; i < BYTES; i++)
		data[i] = (uint8_t)(i * 7 + i / 255);
	frame_bytes = frame_tcp(frame, &tuple, &s);
	net_link_init(&link_, &c, config.out);
	before = resident_bytes();
	if (tcp_table_new(&config, &table, &e) < 0) {
		(void)fprintf(stderr, "net_parts: %s\n", e.text);
		return 125;
	}
	measure("copy_64k", part_copy, (unsigned)runs);
	measure("sum_64k", part_sum, (unsigned)runs);
	measure("link_64k", part_link, (unsigned)runs);
	measure_idle(before);
	open_flow(40000);
	measure("receive_64k", part_receive, (unsigned)runs);
	measure("send_64k", part_send, (unsigned)runs);
	measure("request", part_request, (unsigned)runs);
	tcp_table_free(table);
	return 0;
}
