/* card_json.h: a PCI function of a card as JSON, one form for all verbs that show cards. */
#ifndef PF_CLI_CARD_JSON_H
#define PF_CLI_CARD_JSON_H
#include <jansson.h>
#include "prefpga/discover.h"

/* The caller owns it. What is unknown is null */
json_t *pf_cli_card_json(const struct pf_card_function *function);
#endif
