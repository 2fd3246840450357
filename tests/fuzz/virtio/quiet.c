/* What a device says of its driver, unsaid: every second input of a fuzz target breaks a rule. */
#include "base/log.h"

void __wrap_log_warn(const char *fmt, ...) _printf_(1, 2);

void __wrap_log_warn(const char *fmt, ...)
{
	(void)fmt;
}
