#include "base/log.h"

#include "base/buf.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

enum { LOG_LINE_MAX = 2048 }; /* two err texts and their escapes */

/* The one piece of process-wide state: whose name stands in front of a line. Set before threads. */
static struct {
	char program[32];
	bool debug;
} log_state = { .program = "berm" };

void log_init(const char *program)
{
	const char *debug = getenv("BERM_DEBUG");

	(void)snprintf(log_state.program, sizeof(log_state.program), "%s", program);
	log_state.debug = debug && strcmp(debug, "1") == 0;
}

_printf_(2, 0) static void line(const char *tag, const char *fmt, va_list ap)
{
	char raw[LOG_LINE_MAX / 2];
	char out[LOG_LINE_MAX];
	struct buf b;
	int n = vsnprintf(raw, sizeof(raw), fmt, ap);

	if (n < 0)
		return;
	if ((size_t)n >= sizeof(raw))
		n = sizeof(raw) - 1;
	buf_init(&b, out, sizeof(out) - 1); /* the newline always fits */
	buf_printf(&b, "%s: %s", log_state.program, tag);
	buf_put_escaped(&b, span_of(raw, (size_t)n));
	out[b.len++] = '\n';
	/* one write, so that lines of several processes do not mix; nobody to tell if it fails */
	if (write(STDERR_FILENO, out, b.len) < 0)
		return;
}

#define LOG_BODY(tag)                                                                              \
	do {                                                                                       \
		va_list ap;                                                                        \
		va_start(ap, fmt);                                                                 \
		line(tag, fmt, ap);                                                                \
		va_end(ap);                                                                        \
	} while (0)

void log_error(const char *fmt, ...)
{
	LOG_BODY("");
}

void log_warn(const char *fmt, ...)
{
	LOG_BODY("warning: ");
}

void log_info(const char *fmt, ...)
{
	LOG_BODY("");
}

void log_debug(const char *fmt, ...)
{
	if (log_state.debug)
		LOG_BODY("debug: ");
}
