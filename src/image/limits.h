/*
 * limits: every maximum of the image store, by name, with its reason. All are about hostile input.
 */
#pragma once

enum {
	IMAGE_ID_LEN = 64,         /* sha256 in hex */
	IMAGE_ID_PREFIX_MIN = 6,   /* shorter ones collide by accident, not by chance */
	IMAGE_NAME_MAX = 200,      /* host, repository and tag: escaped and salted, one file name */
	IMAGE_NAMES_MAX = 64,      /* RepoTags and ref.name annotations of one image */
	IMAGE_LAYERS_MAX = 128,    /* docker's own is 127 */
	IMAGE_ENV_MAX = 512,       /* environment variables in a config */
	IMAGE_ARGS_MAX = 512,      /* words of entrypoint or cmd */
	IMAGE_LABELS_MAX = 512,    /* labels in a config */
	IMAGE_STRING_MAX = 65536,  /* one environment variable, word or label */
	IMAGE_JSON_MAX = 4 << 20,  /* manifest, index or config; docker refuses over 4 MiB */
	IMAGE_JSON_DEPTH_MAX = 32, /* the OCI documents are 7 deep */
	IMAGE_MANIFESTS_MAX = 1024,         /* rows of an index, images of an archive */
	IMAGE_INDEX_DEPTH_MAX = 4,          /* an index that names an index that ... */
	IMAGE_STORED_JSON_MAX = 8 << 20,    /* image.json, which escapes what a config held */
	IMAGE_WARM_MAX = 16,                /* commands in the label berm.warm */
	IMAGE_REGISTRIES_MAX = 64,          /* hosts; an image with every package manager has ten */
	IMAGE_REGISTRY_MAX = 253 + 6,       /* a name and a port */
	IMAGE_REGISTRY_FILE_MAX = 64 << 10, /* a configuration file; a long one has 5 KiB */

	TREE_PATH_MAX = 4095,         /* PATH_MAX without its NUL: a longer one cannot be opened */
	TREE_NAME_MAX = 255,          /* squashfs holds 256, Linux names 255 */
	TREE_DEPTH_MAX = 255,         /* real images are under 40 deep */
	TREE_TARGET_MAX = 4095,       /* a symbolic link's text */
	TREE_ENTRIES_MAX = 1 << 20,   /* all entries of all layers; a large image has 200 000 */
	TREE_XATTRS_MAX = 64,         /* extended attributes of one file */
	TREE_XATTR_VALUE_MAX = 65536, /* XATTR_SIZE_MAX */
	TREE_XATTR_TOTAL_MAX = 16 << 20, /* of one layer */
	TREE_MEM_MAX = 768 << 20,        /* names, nodes and link texts of the whole image */

	ARCHIVE_MEMBERS_MAX = 8192, /* files of an image archive: blobs, not the image's files */
	ARCHIVE_NAME_MAX = 4095,    /* of such a file */
	ARCHIVE_LINK_HOPS_MAX = 4,  /* old archives share layers by symbolic links */
	ARCHIVE_RATIO_MAX =
		200, /* unpacked over packed; real layers are under 30, deflate ends at 1032 */
	ARCHIVE_FILTERS_MAX = 1,        /* a gzip in a gzip in ... is how bombs beat one ratio */
	ARCHIVE_READ_BYTES = 256 << 10, /* one read of packed input */

	STORE_STAGING_MAX = 4096, /* left-overs looked at in one sweep */
	STORE_IMAGES_MAX = 65536, /* rows of one listing */
};

/* Under this much output a ratio is nobody's harm: a large file of zeros is small and legal. */
#define ARCHIVE_RATIO_FREE_BYTES     (1ULL << 30)
#define IMAGE_UNPACKED_BYTES_DEFAULT (32ULL << 30)
/* What is left to the rest of the machine when an import fills the disk. */
#define IMAGE_DISK_RESERVE_BYTES (16ULL << 20)
