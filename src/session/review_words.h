/*
 * review_words: what a review says of a change in a word, the same in both forms: text and JSON.
 */
#pragma once

#include <stdint.h>

/* Never NULL; "other" for a number that is none of its enum. */
const char *review_op_word(uint8_t op);           /* "add", "edit", ... */
const char *review_outcome_word(uint8_t state);   /* enum change_state: "proposed", ... */
const char *review_choice_word(uint8_t choice);   /* "undecided", "accepted", ... */
const char *review_kind_word(uint8_t kind);       /* enum work_kind */
const char *review_fate_word(uint8_t merge_fate); /* "taken", ... */
