/*
 * limits: every maximum of src/policy, with its reason.
 */
#pragma once

enum {
	POLICY_NAME_MAX = 253,      /* bytes of a host name without the last dot: RFC 1035, 2.3.4 */
	POLICY_LABEL_MAX = 63,      /* the same */
	POLICY_LABELS_MAX = 127,    /* what fits into 253 bytes */
	POLICY_FILE_MAX = 1 << 20,  /* bytes of a policy file; people write them by hand */
	POLICY_TLV_MAX = 256 << 10, /* bytes of the compiled form: EGRESS_POLICY_MAX */
	POLICY_NODES_MAX =
		65536,         /* YAML nodes of one file: 1000 rules with 20 words each, thrice */
	POLICY_DEPTH_MAX = 16, /* of YAML nesting; the file's own form needs 8 */
	POLICY_SCALAR_MAX = 4096,       /* bytes of one YAML scalar */
	POLICY_PRESET_DEPTH_MAX = 8,    /* presets that include presets */
	POLICY_PRESETS_MAX = 32,        /* presets of one policy, all told */
	POLICY_RULES_MAX = 4096,        /* rules of one policy, presets included */
	POLICY_ADDRESS_RULES_MAX = 256, /* of them; each verdict looks at all */
	POLICY_PORTS_MAX = 16,          /* port ranges of one rule */
	POLICY_HTTP_MAX = 32,           /* http entries of one rule */
	POLICY_QUERY_MAX = 8,           /* query parameters of one http entry */
	POLICY_VALUES_MAX = 8,          /* values of one query parameter */
	POLICY_PATTERN_MAX = 256,       /* bytes of a path or value pattern */
	POLICY_PARAM_MAX = 128,         /* bytes of a query parameter's name */
	POLICY_PATH_MAX = 4096,         /* bytes of a request's path: PATH-5 */
	POLICY_PARTS_MAX = 1024,        /* query parameters of one request; more matches no allow */
	POLICY_SECRETS_MAX = 64,        /* a verdict returns them as one 64-bit set */
	POLICY_SECRET_HOSTS_MAX = 16,   /* host patterns of one secret */
	POLICY_SECRET_USES_MAX = 4,     /* places in a request where one secret may stand */
	POLICY_SECRET_PATHS_MAX = 8,    /* path patterns of one secret */
	POLICY_SECRET_NAME_MAX = 64,    /* bytes; it becomes an environment variable */
	POLICY_HEADER_MAX = 64,         /* bytes of a header's name */
	POLICY_PREFIX_MAX = 32,         /* bytes in front of a placeholder: "Bearer " */
	POLICY_SOURCE_MAX = 1024,       /* bytes of where a secret comes from: a path, a command */
	POLICY_ORIGIN_MAX = 96,         /* bytes of "policy.yaml:12:5", "--allow HOST" (cut) */
	POLICY_CANDIDATES_MAX = 16,     /* names pinned to one address that are looked at */
	POLICY_WORD_MAX = 1024,         /* bytes of one word of the command line */
	POLICY_SLOT_HOSTS_MAX = 64,     /* hosts a caller puts into a preset's slot */
	POLICY_EXPLAIN_MAX = 1024,      /* bytes of an explanation, or of its JSON fields */
	POLICY_EXCLUDES_MAX = 256,      /* patterns of workspace: exclude:, of all files together */
	POLICY_EXCLUDE_MAX = 1024,      /* bytes of one */
	POLICY_SHOWN_MAX = 512 << 10,   /* bytes of a rule as JSON, each byte of it escaped */
};
