#define ERR_HERE
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void set_text(struct err *e, const char *text, size_t len)
{
	if (len >= ERR_TEXT_MAX)
		len = ERR_TEXT_MAX - 1;
	memcpy(e->text, text, len);
	e->text[len] = '\0';
	e->len = (uint16_t)len;
}

/* vsnprintf's answer is the length it wanted; this is the length it got. */
_printf_(3, 0) static size_t format(char *buf, size_t size, const char *fmt, va_list ap)
{
	int n = vsnprintf(buf, size, fmt, ap);

	if (n < 0)
		return 0;
	return (size_t)n < size ? (size_t)n : size - 1;
}

int err_set(struct err *e, int code, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;

	if (!e)
		return code;
	va_start(ap, fmt);
	set_text(e, text, format(text, sizeof(text), fmt, ap));
	va_end(ap);
	e->code = code;
	return code;
}

int err_sys(struct err *e, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	int code = errno ? -errno : -EIO;
	va_list ap;
	size_t len;
	int n;

	if (!e)
		return code;
	va_start(ap, fmt);
	len = format(text, sizeof(text), fmt, ap);
	va_end(ap);
	errno = -code; /* for %m; formatting may have changed it */
	n = snprintf(text + len, sizeof(text) - len, ": %m");
	if (n > 0)
		len += (size_t)n;
	set_text(e, text, len < sizeof(text) ? len : sizeof(text) - 1);
	e->code = code;
	return code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char text[ERR_TEXT_MAX];
	va_list ap;
	size_t len;
	int n;

	if (!e)
		return -EIO;
	va_start(ap, fmt);
	len = format(text, sizeof(text), fmt, ap);
	va_end(ap);
	n = snprintf(text + len, sizeof(text) - len, ": %s", e->text);
	if (n > 0)
		len += (size_t)n;
	set_text(e, text, len < sizeof(text) ? len : sizeof(text) - 1);
	return e->code;
}

void err_clear(struct err *e)
{
	if (!e)
		return;
	e->code = 0;
	e->len = 0;
	e->text[0] = '\0';
}
