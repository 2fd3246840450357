/*
 * secret: what the policy says of secrets, judged the same for the file and for --secret. Values
 * are never here: the command line reads them and hands them to the vault.
 */
#pragma once

#include "policy/draft.h"
#include "policy/rule.h"

/* Each returns NULL, or why not: the end of a sentence that begins with the value. */
const char *secret_name_fault(struct span name);
const char *secret_header_fault(struct span name);
const char *secret_prefix_fault(struct span prefix);
const char *secret_parameter_fault(struct span name);
const char *secret_source_fault(struct span what);

/* A header's name in lower case, in the caller's room of POLICY_HEADER_MAX bytes. */
struct span secret_header_lower(struct span name, uint8_t *room);
