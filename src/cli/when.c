#include "cli/when.h"

#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>

/* Digits behind the point, of which the first three count. */
static const char *take_fraction(const char *at, uint64_t *ret_ms)
{
	uint64_t unit = 100;

	*ret_ms = 0;
	if (*at != '.' || !isdigit((unsigned char)at[1]))
		return at;
	for (at++; isdigit((unsigned char)*at); at++) {
		*ret_ms += unit * (uint64_t)(*at - '0');
		unit /= 10;
	}
	return at;
}

/* Where it ends, or NULL. From the longest form on, as each begins as the next. */
static const char *take_clock(const char *text, struct tm *ret)
{
	static const char *const forms[] = { "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d" };
	const char *end = NULL;

	for (size_t i = 0; !end && i < sizeof(forms) / sizeof(forms[0]); i++) {
		*ret = (struct tm){ .tm_isdst = -1 };
		end = strptime(text, forms[i], ret);
	}
	return end;
}

/* Z, +HH:MM or -HHMM, and nothing behind it. */
static bool take_zone(const char *at, long *ret_s)
{
	struct tm zone = { 0 };
	const char *end;

	if (*at != 'Z' && *at != '+' && *at != '-')
		return false;
	end = strptime(at, "%z", &zone);
	*ret_s = zone.tm_gmtoff;
	return end && *end == '\0';
}

static bool take_time(const char *text, uint64_t *ret_ms)
{
	uint64_t ms;
	struct tm tm;
	struct tm asked;
	const char *at = isdigit((unsigned char)text[0]) ? take_clock(text, &tm) : NULL;
	long zone_s = 0;
	time_t t;

	if (!at)
		return false;
	at = take_fraction(at, &ms);
	asked = tm;
	if (*at == '\0')
		t = mktime(&tm);
	else if (take_zone(at, &zone_s))
		t = timegm(&tm) - zone_s;
	else
		return false;
	if (t < 0 || tm.tm_mday != asked.tm_mday) /* there is no 31st of February */
		return false;
	*ret_ms = (uint64_t)t * 1000 + ms;
	return true;
}

int when_parse(const char *text, uint64_t now_ms, uint64_t *ret_ms, struct err *e)
{
	uint64_t ago_ms;

	if (take_time(text, ret_ms))
		return 0;
	if (units_parse_duration(text, &ago_ms, NULL) < 0)
		return err_set(e, -EINVAL,
		               "'%s' is no time: use how long ago (90s, 10m, 2h, 1d), or "
		               "2026-01-31T12:00:00Z",
		               text);
	*ret_ms = ago_ms < now_ms ? now_ms - ago_ms : 0;
	return 0;
}

void when_put(struct buf *b, uint64_t ms)
{
	time_t s = (time_t)(ms / 1000);
	struct tm tm;

	if (!gmtime_r(&s, &tm))
		tm = (struct tm){ .tm_year = 70, .tm_mday = 1 };
	buf_printf(b, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900, tm.tm_mon + 1,
	           tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (unsigned)(ms % 1000));
}
