/* xml.h: as much of XML as kernel.xml needs: elements by name, attributes in double quotes, what stands inside an
 * element.
 *
 * No entities, comments or nesting of equal names: what Vitis and prefpga-emit write has none where we look. Reads
 * within its bounds whatever they hold. Needs _GNU_SOURCE (memmem). Thread-safe: no state. */
#ifndef PF_INTERNAL_XML_H
#define PF_INTERNAL_XML_H
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct pf_xml { const char *at, *end; };

/* The next element <name ...>, behind which `rest` goes on; `element` is what stands between the
 * name and '>' */
static inline int pf_xml_next(struct pf_xml *rest, const char *name, struct pf_xml *element)
{
	char open[32];
	size_t length = (size_t)snprintf(open, sizeof open, "<%s ", name);
	const char *at = memmem(rest->at, (size_t)(rest->end - rest->at), open, length);
	if (!at)
		return 0;
	const char *close = memchr(at, '>', (size_t)(rest->end - at));
	if (!close)
		return 0;
	*element = (struct pf_xml) { at + length - 1, close };   /* starts with the space */
	rest->at = close + 1;
	return 1;
}

/* Value of attribute `name` as text; 0: there is none, or it does not fit */
static inline int pf_xml_text(struct pf_xml element, const char *name, char *value, size_t size)
{
	char key[40];
	size_t length = (size_t)snprintf(key, sizeof key, " %s=\"", name);
	const char *at = memmem(element.at, (size_t)(element.end - element.at), key, length);
	if (!at)
		return 0;
	at += length;
	const char *quote = memchr(at, '"', (size_t)(element.end - at));
	if (!quote || (size_t)(quote - at) >= size)
		return 0;
	memcpy(value, at, (size_t)(quote - at));
	value[quote - at] = '\0';
	return 1;
}

static inline int pf_xml_number(struct pf_xml element, const char *name, uint64_t *value)
{
	char text[32], *end;
	if (!pf_xml_text(element, name, text, sizeof text) || !text[0])
		return 0;
	*value = strtoull(text, &end, 0);
	return *end == '\0';
}

/* The part of `rest` up to </name>; without one, all of it */
static inline struct pf_xml pf_xml_inside(struct pf_xml rest, const char *name)
{
	char close[32];
	size_t length = (size_t)snprintf(close, sizeof close, "</%s>", name);
	const char *end = memmem(rest.at, (size_t)(rest.end - rest.at), close, length);
	return (struct pf_xml) { rest.at, end ? end : rest.end };
}
#endif
