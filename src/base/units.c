#include "base/units.h"

#include "base/ck.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

struct unit {
	const char *name;
	uint64_t factor;
};

static const struct unit size_units[] = {
	{ "", 1 },
	{ "B", 1 },
	{ "K", 1ULL << 10 },
	{ "KB", 1ULL << 10 },
	{ "KiB", 1ULL << 10 },
	{ "M", 1ULL << 20 },
	{ "MB", 1ULL << 20 },
	{ "MiB", 1ULL << 20 },
	{ "G", 1ULL << 30 },
	{ "GB", 1ULL << 30 },
	{ "GiB", 1ULL << 30 },
	{ "T", 1ULL << 40 },
	{ "TB", 1ULL << 40 },
	{ "TiB", 1ULL << 40 },
};

static const struct unit time_units[] = {
	{ "", 1000 },   { "ms", 1 },      { "s", 1000 },    { "sec", 1000 },
	{ "m", 60000 }, { "min", 60000 }, { "h", 3600000 }, { "d", 86400000 },
};

/* Digits, an optional fraction, an optional space, one of the units. Fractions keep three digits.
 */
static int parse_scaled(const char *text, const struct unit *units, size_t n, uint64_t *ret)
{
	size_t digits = strspn(text, "0123456789");
	const char *rest = text + digits;
	uint64_t thousandths = 0;
	uint64_t value;
	uint64_t part;

	if (!span_to_u64(span_of(text, digits), &value))
		return -EINVAL;
	if (*rest == '.') {
		uint64_t scale = 100;

		if (rest[1] < '0' || rest[1] > '9')
			return -EINVAL;
		for (rest++; *rest >= '0' && *rest <= '9'; rest++, scale /= 10)
			thousandths += (uint64_t)(*rest - '0') * scale;
	}
	while (*rest == ' ')
		rest++;
	for (size_t i = 0; i < n; i++) {
		if (strcasecmp(rest, units[i].name) != 0)
			continue;
		if (!ck_mul(value, units[i].factor, &value) ||
		    !ck_mul(thousandths, units[i].factor, &part) ||
		    !ck_add(value, part / 1000, &value))
			return -ERANGE;
		*ret = value;
		return 0;
	}
	return -EINVAL;
}

int units_parse_size(const char *text, uint64_t *ret_bytes, struct err *e)
{
	int r = parse_scaled(text, size_units, sizeof(size_units) / sizeof(size_units[0]),
	                     ret_bytes);

	if (r < 0)
		return err_set(
			e, r,
			"'%s' is no size: write a number with KiB, MiB or GiB, such as 512MiB",
			text);
	return 0;
}

int units_parse_duration(const char *text, uint64_t *ret_ms, struct err *e)
{
	int r = parse_scaled(text, time_units, sizeof(time_units) / sizeof(time_units[0]), ret_ms);

	if (r < 0)
		return err_set(
			e, r,
			"'%s' is no duration: write a number with ms, s, min, h or d, such as 30s",
			text);
	return 0;
}

int units_parse_count(const char *text, uint64_t min, uint64_t max, uint64_t *ret, struct err *e)
{
	uint64_t got;

	if (!span_to_u64(span_str(text), &got) || got < min || got > max)
		return err_set(e, -EINVAL,
		               "'%s' must be a whole number from %" PRIu64 " to %" PRIu64, text,
		               min, max);
	*ret = got;
	return 0;
}

void units_put_size(struct buf *b, uint64_t bytes)
{
	static const char *const names[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	uint64_t unit = 1;
	size_t i = 0;

	/* 1023.95 of a unit would print as 1024.0 of it: that is 1.0 of the next */
	while (i + 1 < sizeof(names) / sizeof(names[0]) &&
	       (bytes / unit >= 1024 || (i > 0 && (double)bytes / (double)unit >= 1023.95))) {
		unit *= 1024;
		i++;
	}
	if (i == 0 || bytes % unit == 0)
		buf_printf(b, "%" PRIu64 " %s", bytes / unit, names[i]);
	else
		buf_printf(b, "%.1f %s", (double)bytes / (double)unit, names[i]);
}

void units_put_duration(struct buf *b, uint64_t ms)
{
	if (ms < 1000)
		buf_printf(b, "%" PRIu64 " ms", ms);
	else if (ms < 59950) /* above, one decimal would round it to 60.0 */
		buf_printf(b, "%.1f s", (double)ms / 1000);
	else if (ms < 60000)
		buf_put_str(b, "1 min 0 s");
	else if (ms < 3600000)
		buf_printf(b, "%" PRIu64 " min %" PRIu64 " s", ms / 60000, ms / 1000 % 60);
	else
		buf_printf(b, "%" PRIu64 " h %" PRIu64 " min", ms / 3600000, ms / 60000 % 60);
}
