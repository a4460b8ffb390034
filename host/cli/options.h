/* options.h: the options of every verb, from one table (options.def).
 *
 * The table gives the struct its fields, the parser its flags and config-file keys, --help and the man page their text.
 * A value comes from the default, else the config file (--config FILE), else the flag: the later one wins.
 * Nothing here prints. Not thread-safe while parsing; afterwards the struct is constant. */
#ifndef PF_OPTIONS_H
#define PF_OPTIONS_H
#include <stddef.h>
#include <stdint.h>
#include "prefpga/error.h"
#include "options.def"

enum pf_option_type {
	PF_TYPE_STRING,
	PF_TYPE_PATH,
	PF_TYPE_LIST,   /* const char *; NULL when there is no value. LIST: comma separated */
	PF_TYPE_CHOICE, /* const char *, one of the row's choices */
	PF_TYPE_INT,    /* int64_t */
	PF_TYPE_FLOAT,  /* double */
	PF_TYPE_SIZE,   /* uint64_t bytes; 512M, 8G are understood */
	PF_TYPE_FLAG,   /* int: 0 or 1 */
};
#define PF_FIELD_STRING const char *
#define PF_FIELD_PATH   const char *
#define PF_FIELD_LIST   const char *
#define PF_FIELD_CHOICE const char *
#define PF_FIELD_INT    int64_t
#define PF_FIELD_FLOAT  double
#define PF_FIELD_SIZE   uint64_t
#define PF_FIELD_FLAG   int

enum pf_option {
#define PF_OPTION_ENUM(type, field, ...) PF_OPTION_##field,
	PF_OPTIONS(PF_OPTION_ENUM)
#undef PF_OPTION_ENUM
	PF_OPTION_COUNT
};
enum pf_option_group {
#define PF_GROUP_ENUM(name, title) PF_GROUP_##name,
	PF_OPTION_GROUPS(PF_GROUP_ENUM)
#undef PF_GROUP_ENUM
	PF_GROUP_COUNT
};
/* PF_FROM_NOTHING: the option has no default and was not given; the field is 0 or NULL */
enum pf_option_source { PF_FROM_NOTHING, PF_FROM_DEFAULT, PF_FROM_FILE, PF_FROM_FLAG };

struct pf_config_file;                                      /* config_file.h */

struct pf_options {
	const char *verb;
	int         arguments;                         /* plain arguments after the verb */
	const char *argument[PF_OPTION_ARGUMENTS_MAX];
	enum pf_option_source source[PF_OPTION_COUNT]; /* of each field, by PF_OPTION_<field> */
	struct pf_config_file *file;                   /* of --config, NULL without: strings of its keys live there */
#define PF_OPTION_FIELD(type, field, ...) PF_FIELD_##type field;
	PF_OPTIONS(PF_OPTION_FIELD)
#undef PF_OPTION_FIELD
};

struct pf_option_row {
	enum pf_option_type  type;
	enum pf_option_group group;
	const char *flag, *value, *choices, *verbs, *meta, *text;
	double      low, high;
	size_t      at;                                /* offset of the field in struct pf_options */
};
extern const struct pf_option_row pf_option_rows[PF_OPTION_COUNT];
extern const char *const pf_option_group_titles[PF_GROUP_COUNT];

/* Whether a verb takes an option; `verb` NULL: whether any does */
int pf_option_belongs(const struct pf_option_row *row, const char *verb);
/* Default of an option for a verb, as text in out[size]; "" when there is none */
void pf_option_default(const struct pf_option_row *row, const char *verb, char *out, size_t size);

/* Parses the command line after the verb: argv[0] is the first word behind it. Strings stay in argv or in the config.
 * Returns 0, or the error of the first word that is wrong, with its remedy; either way call _free */
int pf_options_parse(struct pf_options *options, const char *verb, int argc, char *const *argv, struct pf_error *error);
void pf_options_free(struct pf_options *options);
/* Seconds of a time limit in ms. Only 0, which means that there is none or that it is learned, becomes 0 */
uint32_t pf_option_milliseconds(double seconds);

/* Parses, bounds and stores one value, and notes where it came from */
int pf_options_take(struct pf_options *options, enum pf_option option, const char *text, enum pf_option_source source,
                    struct pf_error *error);
/* Number of the option that `verb` calls `name` (without dashes), or -1 */
int pf_option_find(const char *verb, const char *name);
/* Flag of `verb` that somebody who typed `name` may have meant, or NULL */
const char *pf_option_nearest(const char *verb, const char *name);
#endif
