#include "engine/probe_parse.h"

#include <errno.h>
#include <string.h>

/* One line "name rest": its rest. */
static bool take_field(struct span *in, const char *name, struct span *ret_rest)
{
	struct span from = *in;
	struct span line;
	struct span word;

	if (!memchr(from.at, '\n', from.len) || !take_until(&from, '\n', &line))
		return false;
	if (!take_until(&line, ' ', &word) || !span_is(word, name) || line.len == 0)
		return false;
	*ret_rest = line;
	*in = from;
	return true;
}

static bool take_number(struct span *in, char delim, uint64_t *ret)
{
	struct span word;

	return take_until(in, delim, &word) && span_to_u64(word, ret);
}

static bool is_hex_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static bool copy_boot_id(struct span s, char *ret)
{
	if (s.len != PROBE_BOOT_ID_LEN)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] != '-' && !is_hex_digit((char)s.at[i]))
			return false;
	memcpy(ret, s.at, s.len);
	ret[s.len] = '\0';
	return true;
}

/* Printable, without spaces. */
static bool copy_version(struct span s, char *ret)
{
	if (s.len >= PROBE_VERSION_MAX)
		return false;
	for (size_t i = 0; i < s.len; i++)
		if (s.at[i] <= ' ' || s.at[i] > '~')
			return false;
	memcpy(ret, s.at, s.len);
	ret[s.len] = '\0';
	return true;
}

static bool take_kvm(struct span s, struct probe_record *got)
{
	return take_number(&s, ':', &got->kvm_major) && take_number(&s, ' ', &got->kvm_minor) &&
	       take_number(&s, ' ', &got->device) && take_number(&s, ' ', &got->inode) &&
	       span_to_u64(s, &got->mode);
}

static bool take_verdict(struct span s, struct probe_record *got)
{
	struct span word;

	if (!take_until(&s, ' ', &word))
		return false;
	if (span_is(word, "slow"))
		got->kind = PROBE_SLOW;
	else if (span_is(word, "good"))
		got->kind = PROBE_GOOD;
	else
		return false;
	return span_to_u64(s, &got->insns_per_s);
}

int probe_parse_record(struct span in, struct probe_record *ret)
{
	struct probe_record got = { 0 };
	struct span s;

	if (in.len == 0 || in.len > PROBE_RECORD_MAX)
		return -EBADMSG;
	if (!take_field(&in, "berm-probe", &s) || !span_is(s, "1"))
		return -EBADMSG;
	if (in.len == 0 || !take_field(&in, "boot", &s) || !copy_boot_id(s, got.boot_id))
		return -EBADMSG;
	if (in.len == 0 || !take_field(&in, "kvm", &s) || !take_kvm(s, &got))
		return -EBADMSG;
	if (in.len == 0 || !take_field(&in, "version", &s) || !copy_version(s, got.version))
		return -EBADMSG;
	if (in.len == 0 || !take_field(&in, "verdict", &s) || !take_verdict(s, &got))
		return -EBADMSG;
	if (in.len != 0)
		return -EBADMSG;
	*ret = got;
	return 0;
}

void probe_put_record(struct buf *b, const struct probe_record *r)
{
	buf_printf(b,
	           "berm-probe 1\nboot %s\nkvm %llu:%llu %llu %llu %llu\nversion %s\n"
	           "verdict %s %llu\n",
	           r->boot_id, (unsigned long long)r->kvm_major, (unsigned long long)r->kvm_minor,
	           (unsigned long long)r->device, (unsigned long long)r->inode,
	           (unsigned long long)r->mode, r->version, r->kind == PROBE_GOOD ? "good" : "slow",
	           (unsigned long long)r->insns_per_s);
}

bool probe_record_matches(const struct probe_record *a, const struct probe_record *b)
{
	return strcmp(a->boot_id, b->boot_id) == 0 && strcmp(a->version, b->version) == 0 &&
	       a->kvm_major == b->kvm_major && a->kvm_minor == b->kvm_minor &&
	       a->device == b->device && a->inode == b->inode && a->mode == b->mode;
}

/* Digits off the front; false if there are none or too many. */
static bool take_digits(struct span *s, uint32_t *ret)
{
	struct span from = *s;
	size_t n = 0;
	uint64_t v;

	while (n < from.len && from.at[n] >= '0' && from.at[n] <= '9')
		n++;
	if (n > 6 || !span_to_u64(span_of(from.at, n), &v))
		return false;
	s->at += n;
	s->len -= n;
	*ret = (uint32_t)v;
	return true;
}

static bool take_dot(struct span *s)
{
	uint8_t c;

	return s->len > 0 && s->at[0] == '.' && take_u8(s, &c);
}

int probe_parse_qemu_version(struct span in, struct probe_qemu *ret)
{
	static const char before[] = "QEMU emulator version ";
	struct probe_qemu got = { 0 };
	struct span head;

	if (!take_span(&in, sizeof(before) - 1, &head) || !span_is(head, before))
		return -EBADMSG;
	if (!take_digits(&in, &got.major) || !take_dot(&in) || !take_digits(&in, &got.minor))
		return -EBADMSG;
	if (take_dot(&in) && !take_digits(&in, &got.micro))
		return -EBADMSG;
	*ret = got;
	return 0;
}
