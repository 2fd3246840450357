/*
 * report: what a child tells the agent on its status pipe; see child.h.
 */
#pragma once

#include "base/err.h"
#include "wire/wire.h"

/* Writes one report and ends the process. */
_Noreturn void report_end(uint32_t code, uint8_t stage, const char *text);
_Noreturn void report_err(const struct err *e, uint8_t stage);
