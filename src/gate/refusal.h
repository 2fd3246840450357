/*
 * refusal: what the guest is told instead of an answer of the upstream's: a status and a short JSON
 * body that a program can act on and a person can read. Pure.
 *
 *   {"error":"refused-by-policy","status":403,"request_id":"17","method":"POST","path":"/x",
 *    "reason":"method","rule":"policy.yaml:12","message":"...","missing":"...",
 *    "note":"..."}
 *
 * error        refused-by-policy, bad-request or upstream-failed
 * reason       of the policy (policy_reason_word()) or of HTTP (http_reason_word())
 * Never in it  a query, a field's value, a secret, or a placeholder
 */
#pragma once

#include "egress/egress.h"
#include "policy/policy.h"

enum {
	REFUSAL_BODY_MAX = 8192, /* three texts of POLICY_EXPLAIN_MAX, escaped, and a path */
	REFUSAL_PATH_MAX = 256,  /* bytes of the path that are shown */
};

/* The status for a reason: 403 mostly; 400, 421, 429, 502, 503, 504. */
uint16_t refusal_status(enum policy_reason reason);

/* What a failure of the vault's is to the policy's words. */
enum policy_reason refusal_reason(enum egress_fail fail);

/* 400, 405, 413, 414, 417, 431, 501 or 505. */
uint16_t refusal_http_status(enum http_reason why);

/* By the policy, or by what came of it. a->method and a->path may be empty. */
void refusal_put_policy(struct buf *body, uint32_t number, const struct policy *p,
                        const struct policy_ask *a, const struct policy_verdict *v);

/* It is no request that we take. */
void refusal_put_http(struct buf *body, uint32_t number, uint16_t status, const char *reason,
                      const char *message);

/* The head that goes with it. reason: a word, for the field "berm-reason" */
void refusal_head(struct http_head *ret, uint16_t status, size_t body_len, const char *reason);
