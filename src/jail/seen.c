#include "jail/jail.h"

#include "base/buf.h"
#include "base/span.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

/* Source: proc_pid_status(5) */
static bool take_hex(struct span s, uint64_t *ret)
{
	uint64_t n = 0;

	if (s.len == 0 || s.len > 16)
		return false;
	for (size_t i = 0; i < s.len; i++) {
		const char *digits = "0123456789abcdef";
		const char *at = s.at[i] ? strchr(digits, s.at[i]) : NULL;

		if (!at)
			return false;
		n = n << 4 | (uint64_t)(at - digits);
	}
	*ret = n;
	return true;
}

/* One line's value. Lines that are not asked for are none of ours, whatever they hold. */
static bool take_value(struct span name, struct span value, struct jail_seen *s, unsigned *seen)
{
	uint64_t n = 0;
	struct span word = { 0 };

	if (span_is(name, "Uid")) { /* real, effective, saved, file system */
		if (!take_until(&value, '\t', &word) || !span_to_u64(word, &n) || n > UINT32_MAX)
			return false;
		s->uid = (uid_t)n;
		*seen |= 1;
	} else if (span_is(name, "CapEff")) {
		*seen |= 2;
		return take_hex(value, &s->caps);
	} else if (span_is(name, "NoNewPrivs")) {
		*seen |= 4;
		if (!span_to_u64(value, &n))
			return false;
		s->no_new_privs = n == 1;
	} else if (span_is(name, "Seccomp")) {
		*seen |= 8;
		if (!span_to_u64(value, &n))
			return false;
		s->seccomp = n == 2;         /* SECCOMP_MODE_FILTER */
	} else if (span_is(name, "NSpid")) { /* in ours, and in each one below it */
		s->own_pids = value.len > 2 && memcmp(value.at + value.len - 2, "\t1", 2) == 0;
	} else if (span_is(name, "Seccomp_filters")) {
		if (!span_to_u64(value, &n) || n > UINT32_MAX)
			return false;
		s->filters = (uint32_t)n;
	}
	return true;
}

int jail_seen_parse(struct span text, struct jail_seen *ret)
{
	struct jail_seen s = { 0 };
	unsigned seen = 0;
	struct span line;
	struct span name;

	while (take_until(&text, '\n', &line)) {
		if (!take_until(&line, ':', &name))
			return -EBADMSG;
		while (line.len > 0 && (line.at[0] == '\t' || line.at[0] == ' ')) {
			line.at++;
			line.len--;
		}
		if (!take_value(name, line, &s, &seen))
			return -EBADMSG;
	}
	if (seen != 15)
		return -EBADMSG;
	*ret = s;
	return 0;
}

int jail_see(int status_fd, struct jail_seen *ret)
{
	char text[JAIL_STATUS_MAX];
	ssize_t n = pread(status_fd, text, sizeof(text), 0);

	if (n < 0)
		return -errno;
	if (n == (ssize_t)sizeof(text))
		return -EBADMSG;
	return n == 0 ? -ESRCH : jail_seen_parse(span_of(text, (size_t)n), ret);
}

void jail_put_seen(struct buf *b, const struct jail_seen *s)
{
	if (s->seccomp && s->filters > 0)
		buf_printf(b, "seccomp %" PRIu32 " deep, ", s->filters);
	else
		buf_put_str(b, s->seccomp ? "seccomp, " : "no seccomp, ");
	buf_put_str(b, s->no_new_privs ? "no new privileges, " : "");
	if (s->caps == 0)
		buf_put_str(b, "no capabilities, ");
	else
		buf_printf(b, "capabilities 0x%" PRIx64 ", ", s->caps);
	buf_put_str(b, s->own_pids ? "own pid namespace, " : "no pid namespace, ");
	buf_printf(b, "uid %u", (unsigned)s->uid);
}
