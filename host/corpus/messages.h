/* messages.h: chat messages in records: {"role": "user", "content": "..."}.
 *
 * Contents are texts, or lists of {"type": "text", "text": "..."}; roles those of chat.h. Where a record has lists of
 * messages, it is made into one of texts by the chat template, and read on as if it had been that:
 *
 *	prompt, chosen, rejected       the prompt, or without one (or with a text, as in data sets that have it twice) the
 *	chosen, rejected               messages that both have in common, each completion keeping one
 *	prompt, completion             a completion is a list that begins with the assistant, or a text: its message
 *	prompt, completions            the same, a list of them
 *	messages                       the last one, which must be the assistant's, is the completion
 *
 * A completion of several turns is scored as a whole, the user's turns in it included. */
#ifndef PF_CORPUS_MESSAGES_H
#define PF_CORPUS_MESSAGES_H
#include <jansson.h>
#include "chat.h"
#include "forms.h"

struct pf_messages { struct pf_message *message; size_t count; };

/* Reads a list. Contents in parts are put together in the JSON, which owns all texts. `name` is for messages. Free the
 * result in any case */
int  pf_messages_read(json_t *list, const char *name, struct pf_messages *messages, struct pf_error *error);
void pf_messages_free(struct pf_messages *messages);
/* The text that the assistant is to go on from; *text is malloced. 0 or an error that lacks file and line */
int  pf_messages_prompt(const struct pf_messages *messages, enum pf_chat chat, char **text, size_t *length,
                        struct pf_error *error);
/* Replaces lists of messages in the fields of a record by texts; a record without any stays as it is. Errors lack file
 * and line; *fault says of what class, NONE if it is not the record's: no memory, no template (UNKNOWN) */
int  pf_messages_resolve(json_t *record, enum pf_chat chat, enum pf_fault *fault, struct pf_error *error);
#endif
