#include "policy/host.h"

#include "base/ck.h"
#include "policy/addr.h"

#include <errno.h>
#include <string.h>

static bool is_digit(uint8_t c)
{
	return c >= '0' && c <= '9';
}

static bool is_alpha(uint8_t c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_hex(uint8_t c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* Would a reader of URLs take this last label for the end of an IPv4 address? */
static bool is_number(struct span label)
{
	size_t i = 0;
	bool hex = label.len >= 2 && label.at[0] == '0' && (label.at[1] | 0x20) == 'x';

	for (i = hex ? 2 : 0; i < label.len; i++)
		if (!(hex ? is_hex(label.at[i]) : is_digit(label.at[i])))
			return false;
	return true;
}

static enum host_fault label_fault(struct span label)
{
	if (label.len == 0 || label.len > POLICY_LABEL_MAX)
		return HOST_FAULT_LABEL;
	for (size_t i = 0; i < label.len; i++) {
		uint8_t c = label.at[i];

		if (!is_alpha(c) && !is_digit(c) && c != '-' && c != '_')
			return c == '*' ? HOST_FAULT_WILDCARD : HOST_FAULT_BYTE;
	}
	if (label.at[0] == '-' || label.at[label.len - 1] == '-')
		return HOST_FAULT_LABEL;
	return HOST_FAULT_NONE;
}

/* Lower-cases labels into ret and counts them. */
static enum host_fault take_labels(struct span text, struct host_name *ret, unsigned *ret_labels)
{
	struct span label = { 0 };
	enum host_fault fault;
	unsigned labels = 0;

	if (text.len > 0 && text.at[text.len - 1] == '.')
		text.len--;
	if (text.len == 0)
		return HOST_FAULT_EMPTY;
	if (text.len > POLICY_NAME_MAX)
		return HOST_FAULT_LONG;
	if (text.at[text.len - 1] == '.')
		return HOST_FAULT_LABEL;
	for (size_t i = 0; i < text.len; i++) {
		uint8_t c = text.at[i];

		ret->at[i] = (uint8_t)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
	}
	ret->len = (uint8_t)text.len;
	while (take_until(&text, '.', &label)) {
		fault = label_fault(label);
		if (fault != HOST_FAULT_NONE)
			return fault;
		labels++;
	}
	if (is_number(label))
		return HOST_FAULT_ADDRESS;
	*ret_labels = labels;
	return HOST_FAULT_NONE;
}

int host_name_parse(struct span text, struct host_name *ret)
{
	struct host_name got;
	unsigned labels;

	memset(&got, 0, sizeof(got));
	if (take_labels(text, &got, &labels) != HOST_FAULT_NONE)
		return -EBADMSG;
	*ret = got;
	return 0;
}

static bool has(struct span s, char c)
{
	return s.len > 0 && memchr(s.at, c, s.len);
}

/* What people write instead of a host, told apart so that the answer helps. */
static enum host_fault other_thing(struct span text)
{
	struct policy_addr addr;

	if (text.len == 0)
		return HOST_FAULT_EMPTY;
	if (has(text, '/') || has(text, '@') || has(text, '?') || has(text, '#'))
		return HOST_FAULT_URL;
	if (addr_literal_parse(text, &addr) == 0 || has(text, '['))
		return HOST_FAULT_ADDRESS;
	if (has(text, ':'))
		return HOST_FAULT_PORT;
	if (span_is(text, "*") || span_is(text, "**"))
		return HOST_FAULT_BROAD;
	return HOST_FAULT_NONE;
}

static enum host_fault pattern_fault(struct span text, struct host_pattern *got)
{
	enum host_fault fault = other_thing(text);
	unsigned labels;

	if (fault != HOST_FAULT_NONE)
		return fault;
	if (text.len > 3 && memcmp(text.at, "**.", 3) == 0) {
		got->kind = HOST_ANY;
		text = span_of(text.at + 3, text.len - 3);
	} else if (text.len > 2 && memcmp(text.at, "*.", 2) == 0) {
		got->kind = HOST_ONE;
		text = span_of(text.at + 2, text.len - 2);
	}
	fault = take_labels(text, &got->base, &labels);
	if (fault != HOST_FAULT_NONE)
		return fault;
	if (labels < 2)
		return got->kind == HOST_EXACT ? HOST_FAULT_SINGLE : HOST_FAULT_BROAD;
	/* the labels a wildcard stands for need room as well */
	if (got->kind != HOST_EXACT && got->base.len > POLICY_NAME_MAX - 2)
		return HOST_FAULT_LONG;
	if (got->kind == HOST_EXACT && host_is_metadata(&got->base))
		return HOST_FAULT_METADATA;
	return HOST_FAULT_NONE;
}

int host_pattern_parse(struct span text, struct host_pattern *ret, enum host_fault *ret_fault)
{
	struct host_pattern got;
	enum host_fault fault;

	memset(&got, 0, sizeof(got));
	fault = pattern_fault(text, &got);
	if (fault != HOST_FAULT_NONE) {
		if (ret_fault)
			*ret_fault = fault;
		return -EBADMSG;
	}
	*ret = got;
	return 0;
}

const char *host_fault_text(enum host_fault fault)
{
	static const char *const texts[] = {
		[HOST_FAULT_NONE] = "is a host",
		[HOST_FAULT_EMPTY] = "is empty; write a name such as example.com",
		[HOST_FAULT_URL] = "is no host name; leave out the scheme, the path and the user",
		[HOST_FAULT_PORT] = "has a colon; the port has a key of its own, port:",
		[HOST_FAULT_ADDRESS] = "is an IP address; a rule for one has the key address:",
		[HOST_FAULT_WILDCARD] =
			"has a star inside; only a whole first label is one: *.example.com, **.example.com",
		[HOST_FAULT_BROAD] =
			"is too broad; a wildcard needs two labels behind it: *.example.com",
		[HOST_FAULT_SINGLE] =
			"has one label; such names are never looked up, write the full name",
		[HOST_FAULT_LABEL] =
			"has a label that is empty, over 63 bytes, or begins or ends with a hyphen",
		[HOST_FAULT_LONG] = "is longer than 253 bytes",
		[HOST_FAULT_BYTE] = "has a character that no host name has",
		[HOST_FAULT_METADATA] = "is a cloud's metadata service, which no policy may open",
	};

	return texts[fault];
}

bool host_pattern_match(const struct host_pattern *p, const struct host_name *name)
{
	size_t rest = name->len - p->base.len;

	if (p->kind == HOST_EXACT)
		return span_equal(host_span(&p->base), host_span(name));
	if (name->len < p->base.len + 2u || name->at[rest - 1] != '.')
		return false;
	if (memcmp(name->at + rest, p->base.at, p->base.len) != 0)
		return false;
	return p->kind == HOST_ANY || !memchr(name->at, '.', rest - 1);
}

bool host_pattern_covers(const struct host_pattern *a, const struct host_pattern *b)
{
	struct host_pattern apex = *a;

	if (b->kind == HOST_EXACT)
		return host_pattern_match(a, &b->base);
	if (a->kind == HOST_EXACT || (a->kind == HOST_ONE && b->kind == HOST_ANY))
		return false;
	if (span_equal(host_span(&a->base), host_span(&b->base)))
		return true;
	apex.kind = HOST_ANY;
	return a->kind == HOST_ANY && host_pattern_match(&apex, &b->base);
}

void host_pattern_put(struct buf *b, const struct host_pattern *p)
{
	if (p->kind != HOST_EXACT)
		buf_put_str(b, p->kind == HOST_ONE ? "*." : "**.");
	buf_put_span(b, host_span(&p->base));
}

/*
 * Source: the documentation of instance metadata at Google, Amazon, Tencent, IBM and Equinix Metal.
 * The names of Azure and Oracle stand in lists of this kind; both clouds document an address only.
 * Names below one of these are refused with it.
 */
static const char *const metadata_names[] = {
	"metadata.google.internal",
	"metadata.goog",
	"metadata.azure.internal",
	"metadata.azure.com",
	"instance-data",
	"instance-data.ec2.internal",
	"metadata.ec2.internal",
	"metadata.tencentyun.com",
	"metadata.oraclecloud.com",
	"metadata.oracle.internal",
	"metadata.cloud.ibm.com",
	"metadata.platformequinix.com",
	"metadata.packet.net",
	"metadata",
};

bool host_is_metadata(const struct host_name *name)
{
	for (size_t i = 0; i < sizeof(metadata_names) / sizeof(metadata_names[0]); i++) {
		size_t len = strlen(metadata_names[i]);
		size_t rest = name->len - len;

		if (name->len < len || memcmp(name->at + rest, metadata_names[i], len) != 0)
			continue;
		/* "metadata" alone is one label; below it there is nothing of a cloud's */
		if (rest == 0 || (name->at[rest - 1] == '.' && memchr(metadata_names[i], '.', len)))
			return true;
	}
	return false;
}
