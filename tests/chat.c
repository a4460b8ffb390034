/* chat.c: conversations against what the families' templates make of them. The expected texts are written by hand from
 * the chat_template of the published tokenizer_config.json of Qwen2-Instruct (chatml), Meta-Llama-3-Instruct, gemma-it
 * and Mistral-Instruct-v0.3, without their bos, which the tokenizer puts. */
#include <stdio.h>
#include <string.h>
#include "host/corpus/chat.h"
#include "tests/cmocka.h"

static struct pf_error error;
static struct pf_chat_text made;

/* "s:You are.", "u:Hi", "a:Hello" */
static size_t read_messages(const char *const *lines, struct pf_message *messages)
{
	size_t count = 0;

	for (; lines[count]; count++) {
		enum pf_role role = *lines[count] == 's'   ? PF_ROLE_SYSTEM
		                    : *lines[count] == 'u' ? PF_ROLE_USER
		                                           : PF_ROLE_ASSISTANT;

		messages[count] = (struct pf_message){ role, { lines[count] + 2, strlen(lines[count] + 2) } };
	}
	return count;
}

static int render(enum pf_chat chat, const char *const *lines, int answer)
{
	struct pf_message messages[8];

	error = (struct pf_error){ 0 };
	return pf_chat_render(chat, messages, read_messages(lines, messages), answer, &made, &error);
}
#define LINES(...) ((const char *const[]){ __VA_ARGS__, NULL })

static void expect(enum pf_chat chat, const char *const *lines, int answer, const char *text)
{
	if (render(chat, lines, answer))
		fail_msg("%s: %s", pf_chat_name(chat), error.text);
	assert_string_equal(made.text, text);
	assert_int_equal(made.length, strlen(text));
	pf_chat_text_free(&made);
}

static const char *const talk[] = { "s:Be brief.", "u:Hi there ", "a: Hello\n", "u:Bye", NULL };
static const char *const plain[] = { "u:Hi there ", "a: Hello\n", "u:Bye", NULL };

static void chatml(void **state)
{
	(void)state;
	expect(PF_CHAT_CHATML, talk, 1,
	       "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi there "
	       "<|im_end|>\n<|im_start|>assistant\n Hello\n<|im_end|>\n"
	       "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n");
	expect(PF_CHAT_CHATML, LINES("u:Hi"), 0, "<|im_start|>user\nHi<|im_end|>\n");
	expect(PF_CHAT_CHATML, LINES("u:a", "u:b", "a:"), 0,
	       "<|im_start|>user\na<|im_end|>\n<|im_start|>user\nb<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n");
}

static void llama3(void **state)
{
	(void)state;
	expect(PF_CHAT_LLAMA3, talk, 1,
	       "<|start_header_id|>system<|end_header_id|>\n\nBe "
	       "brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
	       "Hi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>"
	       "<|start_header_id|>user<|end_header_id|>\n\nBye<|eot_id|><|start_header_id|>assistant<|end_header_id|>"
	       "\n\n");
}

static void gemma(void **state)
{
	(void)state;
	expect(PF_CHAT_GEMMA, plain, 1,
	       "<start_of_turn>user\nHi "
	       "there<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n<start_of_turn>user\nBye"
	       "<end_of_turn>\n<start_of_turn>model\n");
}

static void mistral(void **state)
{
	(void)state;
	expect(PF_CHAT_MISTRAL, plain, 1, "[INST] Hi there [/INST] Hello</s>[INST] Bye[/INST]");
	expect(PF_CHAT_MISTRAL, LINES("s:Be brief.", "u:Hi"), 1, "[INST] Be brief.\n\nHi[/INST]");
	expect(PF_CHAT_MISTRAL, talk, 0, "[INST] Be brief.\n\nHi there [/INST] Hello</s>[INST] Bye[/INST]");
}

static void none(void **state)
{
	(void)state;
	expect(PF_CHAT_NONE, talk, 1, "Be brief.Hi there  Hello\nBye");
}

/* Jinja's trim is Python's strip: white space of Unicode and FS to US, nothing within */
static void trimming(void **state)
{
	(void)state;
	expect(PF_CHAT_LLAMA3,
	       LINES("u:\xc2\xa0\xe3\x80\x80\x1c\x85 \t\n\v a \xe2\x80\x83 b\xe2\x80\x8b\xe2\x80\xa8\xc2\x85\x1f"), 0,
	       "<|start_header_id|>user<|end_header_id|>\n\n\x85 \t\n\v a \xe2\x80\x83 b\xe2\x80\x8b<|eot_id|>");
	expect(PF_CHAT_GEMMA, LINES("u: \n\t "), 0, "<start_of_turn>user\n<end_of_turn>\n");
}

/* A prompt that ends where the assistant goes on, and what it writes, are the text: no template may tear them apart */
static void spans_join_prompt_and_answer(void **state)
{
	(void)state;
	for (int chat = PF_CHAT_NONE; chat < PF_CHATS; chat++) {
		const char *const *lines = plain;
		struct pf_chat_text all, before;

		assert_int_equal(render((enum pf_chat)chat, LINES(lines[0], lines[1]), 0), 0);
		all = made;
		assert_int_equal(render((enum pf_chat)chat, LINES(lines[0]), 1), 0);
		before = made;
		assert_int_equal(all.span[1].begin, before.length);
		assert_memory_equal(all.text, before.text, before.length);
		assert_int_equal(all.span[1].end, all.length);
		assert_int_equal(all.span[0].end <= all.span[1].begin, 1);
		pf_chat_text_free(&all);
		pf_chat_text_free(&before);
	}
}

static void wrong_turns_are_named(void **state)
{
	static const struct { enum pf_chat chat; const char *lines[4]; int answer; const char *words; } wrong[] = {
		{ PF_CHAT_UNKNOWN, { "u:a" }, 1, "no chat template that is known here; give --chat-template" },
		{ PF_CHAT_CHATML, { NULL }, 1, "a conversation without messages" },
		{ PF_CHAT_CHATML, { "u:a", "s:b" }, 1, "message 2 is of role system; only the first message can be" },
		{ PF_CHAT_GEMMA, { "s:a", "u:b" }, 1, "message 1 is of role system, which chat template gemma does not have" },
		{ PF_CHAT_GEMMA, { "a:a" }, 0, "user and assistant speak in turn, the user first" },
		{ PF_CHAT_GEMMA, { "u:a", "u:b" }, 1, "message 2 is of role user" },
		{ PF_CHAT_GEMMA, { "u:a", "a:b" }, 1, "the last message before the answer is of role assistant" },
		{ PF_CHAT_MISTRAL, { "s:a" }, 0, "a system message alone" },
		{ PF_CHAT_MISTRAL, { "s:a", "a:b" }, 0, "message 2 is of role assistant" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		assert_int_equal(render(wrong[i].chat, wrong[i].lines, wrong[i].answer), PF_E_DATA);
		if (!strstr(error.text, wrong[i].words))
			fail_msg("%zu: \"%s\" does not say \"%s\"", i, error.text, wrong[i].words);
	}
}

static void names(void **state)
{
	(void)state;
	for (int chat = 0; chat < PF_CHATS; chat++)
		assert_int_equal(pf_chat_find(pf_chat_name((enum pf_chat)chat)), chat);
	assert_int_equal(pf_chat_find("vicuna"), -1);
	assert_int_equal(pf_role_find("assistants", 9), PF_ROLE_ASSISTANT);
	assert_int_equal(pf_role_find("tool", 4), -1);
	assert_int_equal(pf_role_find("", 0), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(chatml), cmocka_unit_test(llama3), cmocka_unit_test(gemma), cmocka_unit_test(mistral),
		cmocka_unit_test(none), cmocka_unit_test(trimming), cmocka_unit_test(spans_join_prompt_and_answer),
		cmocka_unit_test(wrong_turns_are_named), cmocka_unit_test(names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
