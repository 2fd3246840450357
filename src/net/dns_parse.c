#include "net/dns.h"

#include <errno.h>

enum {
	FLAG_ANSWER = 0x8000,
	FLAG_TRUNCATED = 0x0200,
	FLAG_RECURSION = 0x0100,
	OPCODE_SHIFT = 11,
	OPCODE_MASK = 15,
	CLASS_IN = 1,
	OPTIONS_MAX = 32, /* of EDNS, in one query */
};

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static bool is_plain(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static void add_label(struct dns_query *q, struct span label)
{
	if (q->name_len > 0)
		q->name[q->name_len++] = '.';
	for (size_t i = 0; i < label.len; i++) {
		uint8_t c = lower(label.at[i]);

		if (!is_plain(c)) {
			q->plain = false;
			c = '?';
		}
		q->name[q->name_len++] = (char)c;
	}
}

/* The name of a question. 63 is also the largest length that is not a pointer or a kind unknown. */
static bool take_name(struct span *in, struct dns_query *q)
{
	size_t wire_bytes = 1;

	q->plain = true;
	for (int n = 0; n <= DNS_LABELS_MAX; n++) {
		struct span label;
		uint8_t bytes;

		if (!take_u8(in, &bytes) || bytes > DNS_LABEL_MAX)
			return false;
		if (bytes == 0) {
			q->name[q->name_len] = '\0';
			return true;
		}
		wire_bytes += 1U + bytes;
		if (wire_bytes > DNS_NAME_WIRE_MAX || !take_span(in, bytes, &label))
			return false;
		add_label(q, label);
	}
	return false;
}

/* The one record a query may have behind its question. */
static bool take_opt(struct span *in, struct dns_query *q)
{
	struct span options;
	uint16_t type;
	uint16_t bytes;
	uint16_t flags;
	uint8_t root;
	uint8_t extended;
	uint8_t version;

	if (!take_u8(in, &root) || root != 0 || !take_be16(in, &type) || type != DNS_OPT ||
	    !take_be16(in, &q->udp_max) || !take_u8(in, &extended) || !take_u8(in, &version) ||
	    !take_be16(in, &flags) || !take_be16(in, &bytes) || !take_span(in, bytes, &options))
		return false;
	for (int n = 0; n < OPTIONS_MAX && options.len > 0; n++) {
		struct span value;

		if (!take_be16(&options, &type) || !take_be16(&options, &bytes) ||
		    !take_span(&options, bytes, &value))
			return false;
	}
	if (options.len > 0)
		return false;
	q->edns = true;
	if (version != 0)
		q->rcode = DNS_BADVERS;
	if (q->udp_max < DNS_UDP_PLAIN_MAX)
		q->udp_max = DNS_UDP_PLAIN_MAX;
	if (q->udp_max > DNS_UDP_MAX)
		q->udp_max = DNS_UDP_MAX;
	return true;
}

/* Everything behind the header. False: FORMERR. */
static bool take_rest(struct span in, const uint16_t counts[4], struct dns_query *q)
{
	const uint8_t *began = in.at;
	uint16_t class_;

	if (counts[0] != 1 || counts[1] != 0 || counts[2] != 0 || counts[3] > 1)
		return false;
	if (!take_name(&in, q) || !take_be16(&in, &q->type) || !take_be16(&in, &class_))
		return false;
	q->question = span_of(began, (size_t)(in.at - began));
	if (class_ != CLASS_IN)
		q->rcode = DNS_NOTIMP;
	return (counts[3] == 0 || take_opt(&in, q)) && in.len == 0;
}

int dns_parse_query(struct span in, struct dns_query *ret)
{
	struct dns_query got = { .udp_max = DNS_UDP_PLAIN_MAX };
	uint16_t counts[4];
	uint16_t flags;

	if (in.len > DNS_QUERY_MAX || !take_be16(&in, &got.id) || !take_be16(&in, &flags))
		return -EBADMSG;
	for (int i = 0; i < 4; i++)
		if (!take_be16(&in, &counts[i]))
			return -EBADMSG;
	if (flags & FLAG_ANSWER)
		return -EBADMSG;

	got.opcode = flags >> OPCODE_SHIFT & OPCODE_MASK;
	got.recursion_wanted = (flags & FLAG_RECURSION) != 0;
	if (got.opcode != 0)
		got.rcode = DNS_NOTIMP;
	else if ((flags & FLAG_TRUNCATED) || !take_rest(in, counts, &got))
		got.rcode = DNS_FORMERR;
	*ret = got;
	return 0;
}

int dns_parse_tcp(struct span *in, struct span *ret_message)
{
	struct span s = *in;
	struct span message;
	uint16_t bytes;

	if (!take_be16(&s, &bytes))
		return -EAGAIN;
	if (bytes < DNS_HEAD_BYTES || bytes > DNS_QUERY_MAX)
		return -EBADMSG;
	if (!take_span(&s, bytes, &message))
		return -EAGAIN;
	*in = s;
	*ret_message = message;
	return 0;
}
