/*
 * log: one line to stderr, "berm: ...", escaped, whole or cut, never interleaved within a line.
 *
 * Only a main, a command or an event loop logs; libraries return a struct err. The prefix is the
 * program's name, set once by its main. log_debug is silent unless BERM_DEBUG=1 was set at start.
 */
#pragma once

#include "base/err.h"

void log_init(const char *program);
void log_error(const char *fmt, ...) _printf_(1, 2);
void log_warn(const char *fmt, ...) _printf_(1, 2);
void log_info(const char *fmt, ...) _printf_(1, 2);
void log_debug(const char *fmt, ...) _printf_(1, 2);
