/*
 * store: memory for the agent's fixed buffers, mapped once at start.
 *
 * A page costs nothing until it is used. Children do not inherit it (MADV_DONTFORK), so a fork does
 * not copy page tables for buffers it has no business with.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

_must_ int store_new(size_t bytes, uint8_t **ret, struct err *e);

/* Gives the pages back to the kernel; the memory reads as zeros from then on. */
void store_trim(uint8_t *at, size_t bytes);
