#include "policy/policy_internal.h"

#include "policy/digest.h"

#include <errno.h>
#include <string.h>

static int bad(struct err *e, const char *what)
{
	return err_set(e, -EBADMSG, "compiled policy: %s", what);
}

static int check_digest(const struct tlv_header *h, struct err *e)
{
	uint8_t digest[TLV_DIGEST_BYTES];

	policy_digest_of(h->body, digest);
	return memcmp(digest, h->digest, sizeof(digest)) == 0 ? 0
	                                                      : bad(e, "its digest is another's");
}

struct counts {
	unsigned rules, secrets;
};

/* The order of the records, and how many there are: of a workspace one in version 2, else none. */
static int count_records(struct span body, uint16_t version, struct counts *ret, struct err *e)
{
	struct counts got = { 0 };
	uint16_t last = 0;
	struct tlv_record rec;
	int r;

	while ((r = policy_tlv_parse_record(&body, &rec)) == 0) {
		bool many = rec.type == TLV_RULE || rec.type == TLV_SECRET;

		if (rec.type < last || (rec.type == last && !many) ||
		    (rec.type > last + 1 && last < TLV_LIMITS))
			return bad(e, "records out of order");
		last = rec.type;
		got.rules += rec.type == TLV_RULE;
		got.secrets += rec.type == TLV_SECRET;
	}
	if (r != -ENODATA || last < TLV_LIMITS)
		return bad(e, "cut or damaged");
	if ((last == TLV_WORKSPACE) != (version == TLV_VERSION_WORKSPACE))
		return bad(e, "what it says of workspaces is not of its version");
	if (got.rules > POLICY_RULES_MAX || got.secrets > POLICY_SECRETS_MAX)
		return bad(e, "too many rules or secrets");
	*ret = got;
	return 0;
}

static int make_room(struct policy *p, const struct counts *n, struct err *e)
{
	size_t entries = n->rules + (size_t)n->secrets * POLICY_SECRET_HOSTS_MAX;
	size_t buckets = 16;

	while (buckets < 2 * entries)
		buckets *= 2;
	p->rules = calloc(n->rules + 1, sizeof(*p->rules));
	p->secrets = calloc(n->secrets + 1, sizeof(*p->secrets));
	p->entries = calloc(entries + 1, sizeof(*p->entries));
	p->buckets = calloc(buckets, sizeof(*p->buckets));
	p->address_rules = calloc(POLICY_ADDRESS_RULES_MAX, sizeof(*p->address_rules));
	if (!p->rules || !p->secrets || !p->entries || !p->buckets || !p->address_rules)
		return err_set(e, -ENOMEM, "out of memory");
	p->buckets_mask = (uint32_t)(buckets - 1);
	return 0;
}

static int load_rule(struct policy *p, struct span payload, struct policy_rule *room, struct err *e)
{
	struct loaded_rule *l = &p->rules[p->rules_count];

	if (policy_tlv_parse_rule(payload, room, &l->http) < 0)
		return bad(e, "a rule is damaged");
	l->kind = room->kind;
	l->flags = room->flags;
	l->proto = room->proto;
	l->ports_count = room->ports_count;
	l->http_count = room->http_count;
	memcpy(l->ports, room->ports, sizeof(l->ports));
	l->origin = room->origin;
	if (room->kind == RULE_ADDRESS) {
		l->net = room->net;
		if (!(l->flags & RULE_DENY) && addr_cidr_judge(&l->net) != CIDR_OK)
			return bad(e, "an address rule is too wide");
		if (p->address_rules_count == POLICY_ADDRESS_RULES_MAX)
			return bad(e, "too many address rules");
		p->address_rules[p->address_rules_count++] = (uint16_t)p->rules_count;
	} else {
		l->host = room->host;
		p->name_allows += !(l->flags & RULE_DENY);
	}
	p->rules_count++;
	return 0;
}

static int load_secret(struct policy *p, struct span payload, struct err *e)
{
	struct policy_secret *s = &p->secrets[p->secrets_count];

	if (policy_tlv_parse_secret(payload, s) < 0)
		return bad(e, "a secret is damaged");
	for (unsigned i = 0; i < p->secrets_count; i++)
		if (span_equal(p->secrets[i].name, s->name))
			return bad(e, "a secret is there twice");
	p->secrets_count++;
	return 0;
}

static int load_workspace(struct policy *p, struct span payload, struct err *e)
{
	p->workspace = calloc(1, sizeof(*p->workspace));
	if (!p->workspace)
		return err_set(e, -ENOMEM, "out of memory");
	return policy_tlv_parse_workspace(payload, p->workspace) < 0
	               ? bad(e, "what it says of workspaces is damaged")
	               : 0;
}

static int load_record(struct policy *p, const struct tlv_record *rec, struct policy_rule *room,
                       struct err *e)
{
	switch ((enum tlv_type)rec->type) {
	case TLV_DEFAULT:
		return policy_tlv_parse_default(rec->payload, &p->default_allow) < 0
		               ? bad(e, "the default is damaged")
		               : 0;
	case TLV_LIMITS:
		return policy_tlv_parse_limits(rec->payload, &p->limits) < 0
		               ? bad(e, "the limits are damaged")
		               : 0;
	case TLV_RULE:
		return load_rule(p, rec->payload, room, e);
	case TLV_SECRET:
		return load_secret(p, rec->payload, e);
	case TLV_WORKSPACE:
		return load_workspace(p, rec->payload, e);
	}
	return bad(e, "a record of no known type");
}

static uint64_t hash_base(const struct host_name *n)
{
	uint64_t h = policy_hash_start();

	for (unsigned i = n->len; i-- > 0;)
		h = policy_hash_step(h, n->at[i]);
	return h;
}

static void add_entry(struct policy *p, unsigned at, const struct host_pattern *pattern,
                      bool secret, unsigned index)
{
	struct entry *en = &p->entries[at];
	uint32_t *bucket;

	*en = (struct entry){ .pattern = pattern, .secret = secret, .index = (uint16_t)index };
	en->hash = hash_base(&pattern->base);
	bucket = &p->buckets[en->hash & p->buckets_mask];
	en->next = *bucket;
	*bucket = at + 1;
}

/* From the last to the first, so that each bucket is in the order of the file. */
static void index_names(struct policy *p)
{
	unsigned at = 0;

	for (unsigned i = p->secrets_count; i-- > 0;)
		for (unsigned h = p->secrets[i].hosts_count; h-- > 0;)
			add_entry(p, at++, &p->secrets[i].hosts[h], true, i);
	for (unsigned i = p->rules_count; i-- > 0;)
		if (p->rules[i].kind == RULE_HOST)
			add_entry(p, at++, &p->rules[i].host, false, i);
}

static int load_body(struct policy *p, const struct tlv_header *h, struct err *e)
{
	struct span body = h->body;
	_own_free_ struct policy_rule *room = calloc(1, sizeof(*room));
	struct tlv_record rec;
	struct counts n = { 0 };
	int r;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	r = count_records(body, h->version, &n, e);
	if (r == 0)
		r = make_room(p, &n, e);
	while (r == 0 && policy_tlv_parse_record(&body, &rec) == 0)
		r = load_record(p, &rec, room, e);
	if (r == 0)
		index_names(p);
	return r;
}

int policy_load(struct span tlv, struct policy **ret, struct err *e)
{
	_own_(policy_free) struct policy *p = NULL;
	struct tlv_header h;
	int r;

	if (tlv.len == 0 || tlv.len > POLICY_TLV_MAX)
		return bad(e, "empty, or too large");
	p = calloc(1, sizeof(*p));
	if (!p)
		return err_set(e, -ENOMEM, "out of memory");
	p->tlv = malloc(tlv.len);
	if (!p->tlv)
		return err_set(e, -ENOMEM, "out of memory");
	memcpy(p->tlv, tlv.at, tlv.len);
	if (policy_tlv_parse(span_of(p->tlv, tlv.len), &h) < 0)
		return bad(e, "no header of this version");
	r = check_digest(&h, e);
	if (r == 0)
		r = load_body(p, &h, e);
	if (r < 0)
		return r;
	p->generation = h.generation;
	memcpy(p->digest, h.digest, sizeof(p->digest));
	*ret = steal_ptr(&p);
	return 0;
}

void policy_free(struct policy *p)
{
	if (!p)
		return;
	free(p->tlv);
	free(p->rules);
	free(p->address_rules);
	free(p->secrets);
	free(p->workspace);
	free(p->entries);
	free(p->buckets);
	free(p);
}

uint64_t policy_generation(const struct policy *p)
{
	return p->generation;
}

const uint8_t *policy_digest(const struct policy *p)
{
	return p->digest;
}

const struct policy_limits *policy_limits(const struct policy *p)
{
	return &p->limits;
}

unsigned policy_rules(const struct policy *p)
{
	return p->rules_count;
}

struct span policy_rule_origin(const struct policy *p, uint16_t rule)
{
	if (rule == POLICY_RULE_DEFAULT)
		return span_str("default: allow");
	return rule < p->rules_count ? p->rules[rule].origin : span_str("");
}

unsigned policy_secrets(const struct policy *p)
{
	return p->secrets_count;
}

const struct policy_secret *policy_secret_at(const struct policy *p, unsigned i)
{
	return i < p->secrets_count ? &p->secrets[i] : NULL;
}

const struct policy_workspace *policy_workspace_of(const struct policy *p)
{
	return p->workspace;
}
