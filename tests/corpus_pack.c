/* corpus_pack.c: hash, permutation, packing, truncation, chunks. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cmocka.h"
#include "host/corpus/hash.h"
#include "host/corpus/pack.h"
#include "host/corpus/permute.h"
#include "prefpga/internal/abi.h"

/* ---- hash: stored in files, so the values are fixed for ever ---- */

static void hashes_are_fixed(void **state)
{
	(void)state;
	assert_true(pf_hash_mix(0) == 0);
	assert_true(pf_hash_mix(1) == UINT64_C(0x4179b061e0c0e0d0));
	assert_true(pf_hash_bytes(PF_HASH_START, "", 0) == UINT64_C(0x0e09a528c6193543));
	assert_true(pf_hash_bytes(PF_HASH_START, "a", 1) == UINT64_C(0xec4a172014ddd040));
	assert_true(pf_hash_bytes(PF_HASH_START, "abcdefgh", 8) == UINT64_C(0x4e5250c5e4cca0bc));
	assert_true(pf_hash_bytes(PF_HASH_START, "abcdefghi", 9) == UINT64_C(0xb68c6ab67c9f6640));
}

/* Every single bit of the input changes about half of the bits of the result */
static void one_bit_changes_half_of_the_hash(void **state)
{
	unsigned char text[24] = { 0 };
	uint64_t plain = pf_hash_bytes(PF_HASH_START, text, sizeof text);

	(void)state;
	for (size_t bit = 0; bit < 8 * sizeof text; bit++) {
		int changed;

		text[bit / 8] ^= (unsigned char)(1 << bit % 8);
		changed = __builtin_popcountll(plain ^ pf_hash_bytes(PF_HASH_START, text, sizeof text));
		text[bit / 8] ^= (unsigned char)(1 << bit % 8);
		assert_in_range(changed, 12, 52);
	}
}

/* ---- permutation ---- */

static void assert_bijection(uint64_t count, uint64_t seed, uint64_t epoch)
{
	struct pf_permutation order = pf_permutation_make(count, seed, epoch);
	unsigned char *seen = calloc(count + 1, 1);

	for (uint64_t i = 0; i < count; i++) {
		uint64_t at = pf_permutation_at(&order, i);

		assert_true(at < count && !seen[at]);
		seen[at] = 1;
	}
	free(seen);
}

static void permutations_are_bijections(void **state)
{
	(void)state;
	for (uint64_t count = 1; count <= 300; count++)
		assert_bijection(count, count % 7, count % 3);
	assert_bijection(65536, 1, 0);
	assert_bijection(65537, 1, 1);
	assert_bijection(100003, UINT64_MAX, UINT64_MAX);
}

static void permutations_reach_far(void **state)
{
	static const uint64_t counts[] = { (UINT64_C(1) << 40) + 3, UINT64_C(1) << 62 };

	(void)state;
	for (size_t k = 0; k < 2; k++) {
		struct pf_permutation order = pf_permutation_make(counts[k], 9, 0);
		uint64_t sum = 0;

		for (uint64_t i = 0; i < 1000; i++) {
			uint64_t at = pf_permutation_at(&order, i);

			assert_true(at < counts[k]);
			sum += at / 1000;
		}
		assert_true(sum > counts[k] / 20 * 9 && sum < counts[k] / 20 * 11);
	}
}

/* Each of five records comes to each of five places about equally often over seeds: chi square with 16 degrees of
 * freedom below its 1 - 1e-6 quantile, 59 */
static void permutations_are_even(void **state)
{
	enum { COUNT = 5, SEEDS = 50000 };
	unsigned seen[COUNT][COUNT] = { { 0 } };
	double expected = (double)SEEDS / COUNT, square = 0;

	(void)state;
	for (uint64_t seed = 0; seed < SEEDS; seed++) {
		struct pf_permutation order = pf_permutation_make(COUNT, seed, 0);

		for (uint64_t i = 0; i < COUNT; i++)
			seen[i][pf_permutation_at(&order, i)]++;
	}
	for (int i = 0; i < COUNT; i++)
		for (int k = 0; k < COUNT; k++)
			square += (seen[i][k] - expected) * (seen[i][k] - expected) / expected;
	assert_true(square < 59);
}

static void the_order_is_fixed(void **state)
{
	static const uint64_t first[2][10] = { { 3, 5, 8, 4, 0, 1, 6, 7, 9, 2 }, { 2, 6, 1, 4, 0, 8, 3, 9, 7, 5 } };

	(void)state;
	for (uint64_t epoch = 0; epoch < 2; epoch++) {
		struct pf_permutation order = pf_permutation_make(10, 42, epoch);

		for (uint64_t i = 0; i < 10; i++)
			assert_int_equal(pf_permutation_at(&order, i), first[epoch][i]);
	}
}

/* ---- packing ---- */

static const struct pf_tokenizer *tokenizer;
static struct pf_pack pack;

static int open_tokenizer(void **state)
{
	(void)state;
	return pf_tokenizer_open("bytes", &tokenizer, NULL);
}

static int free_pack(void **state)
{
	(void)state;
	pf_pack_free(&pack);
	return 0;
}

static struct pf_text text_of(const char *text, size_t length)
{
	return (struct pf_text){ text, length };
}

static void a_sequence_as_laid_out(void **state)
{
	static const int32_t ids[] = { PF_BYTES_BOS, 'p', 'q', 'a', 'b', PF_BYTES_EOS };
	struct pf_member member = { .sample = 7, .kind = PF_ITEM_REJECTED };

	(void)state;
	pf_pack_clear(&pack);
	assert_int_equal(pf_pack_sequence(&pack, tokenizer, text_of("pq", 2), text_of("ab", 2),
	                                  (struct pf_cut){ .max_length = 100 }, &member),
	                 0);
	assert_int_equal(pf_pack_group(&pack), 0);
	assert_int_equal(pack.ids.count, 6);
	assert_memory_equal(pack.ids.id, ids, sizeof ids);
	assert_true(pack.offsets[0] == 0 && pack.offsets[1] == 6 && pack.first[0] == 2 && pack.scored[0] == 3);
	assert_true(pack.member[0].prompt == 3 && pack.member[0].truncated == 0 && pack.member[0].sample == 7);
	assert_true(pack.group_count == 1 && pack.groups[1] == 1);
}

/* What truncation must leave, said independently: the list of (id, is completion), cut, then shifted */
static void assert_cut(size_t prompt, size_t completion, struct pf_cut cut)
{
	int32_t ids[64], whole[64];
	char done[64], kept[64];
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	size_t all = prompt + completion + 2, length = 0, left, skip, scored = 0;
	struct pf_member member = { .sample = 0 };

	for (size_t i = 0; i < all; i++) {
		if ((cut.max_prompt && i + cut.max_prompt <= prompt) ||
		    (cut.max_completion && i > prompt + cut.max_completion))
			continue;
		whole[length] = i == 0 ? PF_BYTES_BOS : i == all - 1 ? PF_BYTES_EOS : letters[i - 1];
		done[length++] = i > prompt;
	}
	left = length < cut.max_length ? length : cut.max_length;
	skip = cut.mode == PF_KEEP_END ? length - left : 0;
	memcpy(ids, whole + skip, left * sizeof *ids);
	memcpy(kept, done + skip, left);
	pf_pack_clear(&pack);
	assert_int_equal(pf_pack_sequence(&pack, tokenizer, text_of(letters, prompt),
	                                  text_of(letters + prompt, completion), cut, &member),
	                 0);
	assert_int_equal(pack.ids.count, left);
	assert_memory_equal(pack.ids.id, ids, left * sizeof *ids);
	for (size_t p = 0; p < left; p++) {
		const int predicts = p + 1 < left && kept[p + 1];

		scored += predicts;
		assert_int_equal(predicts, p >= pack.first[0] && p < pack.first[0] + pack.scored[0]);
	}
	assert_int_equal(pack.scored[0], scored);
	assert_int_equal(pack.member[0].truncated, all - left);
}

static void every_truncation(void **state)
{
	(void)state;
	for (size_t prompt = 0; prompt < 6; prompt++)
		for (size_t completion = 1; completion < 6; completion++)
			for (uint32_t max = 2; max < 16; max++)
				for (uint32_t limits = 0; limits < 64; limits++) {
					assert_cut(prompt, completion,
					           (struct pf_cut){ max, PF_KEEP_START, limits / 8, limits % 8 });
					assert_cut(prompt, completion,
					           (struct pf_cut){ max, PF_KEEP_END, limits / 8, limits % 8 });
				}
}

static void kinds_of_members(void **state)
{
	struct pf_record record = {
		.form = PF_RECORD_RANKINGS, .prompt = { "p", 1 }, .completions = 3, .weight = 2, .margin = 3
	};
	struct pf_cut cut = { .max_length = 100 };

	(void)state;
	for (unsigned i = 0; i < 3; i++)
		record.completion[i] = text_of(&"abc"[i], 1);
	record.score[1] = 5;
	pf_pack_clear(&pack);
	assert_int_equal(pf_pack_record(&pack, tokenizer, &record, 0, 3, cut, 4), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pack.member[i].kind, i == 1 ? PF_ITEM_CHOSEN : PF_ITEM_REJECTED);
		assert_true(pack.member[i].member == i && pack.member[i].sample == 4 && pack.member[i].weight == 2);
	}
	record.form = PF_RECORD_PAIRS;
	assert_int_equal(pf_pack_record(&pack, tokenizer, &record, 0, 2, cut, 5), 0);
	assert_true(pack.member[3].kind == PF_ITEM_CHOSEN && pack.member[4].kind == PF_ITEM_REJECTED);
	record.form = PF_RECORD_BINARY;
	assert_int_equal(pf_pack_record(&pack, tokenizer, &record, 0, 1, cut, 6), 0);
	assert_int_equal(pack.member[5].kind, PF_ITEM_REJECTED);
	assert_true(pack.group_count == 3 && pack.groups[1] == 3 && pack.groups[2] == 5 && pack.groups[3] == 6);
}

/* ---- chunks ---- */

/* Groups of i % 4 + 1 sequences of lengths that vary */
static void fill_pack(size_t groups)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz";
	struct pf_member member = { .sample = 0 };

	pf_pack_clear(&pack);
	for (size_t i = 0; i < groups; i++) {
		for (size_t k = 0; k <= i % 4; k++)
			assert_int_equal(pf_pack_sequence(&pack, tokenizer, text_of(letters, i * 5 % 11),
			                                  text_of(letters, 1 + (i * 3 + k) % 13),
			                                  (struct pf_cut){ .max_length = 100 }, &member),
			                 0);
		assert_int_equal(pf_pack_group(&pack), 0);
	}
}

static void assert_chunks(size_t from, size_t to, struct pf_chunk_limit limit)
{
	struct pf_chunk chunk = { .group = from };
	size_t next = from, sequence = to > from ? pack.groups[from] : 0, count = 0;
	uint32_t token = to > from ? pack.offsets[sequence] : 0;

	for (; pf_pack_chunk(&pack, next, to, &limit, &chunk); next = chunk.group + chunk.groups, count++) {
		int over = (limit.groups && chunk.groups > limit.groups) ||
		           (limit.tokens && chunk.tokens > limit.tokens) ||
		           (limit.scored && chunk.scored > limit.scored);

		assert_true(chunk.group == next && chunk.sequence == sequence && chunk.token == token);
		assert_true(chunk.groups == 1 || !over);
		assert_true(chunk.scored == pf_pack_scored(&pack, sequence, sequence + chunk.sequences));
		sequence += chunk.sequences;
		token += chunk.tokens;
		assert_true(pack.groups[next + chunk.groups] == sequence && pack.offsets[sequence] == token);
	}
	assert_int_equal(next, to > from ? to : from);
	assert_true(limit.groups || limit.tokens || limit.scored || count <= 1);
}

static void chunks_cover_everything_once(void **state)
{
	(void)state;
	fill_pack(40);
	for (size_t groups = 0; groups < 5; groups++)
		for (uint64_t tokens = 0; tokens < 200; tokens += 17)
			assert_chunks(0, 40, (struct pf_chunk_limit){ groups, tokens, tokens / 3 });
	assert_chunks(5, 5, (struct pf_chunk_limit){ 0 });
	assert_chunks(39, 40, (struct pf_chunk_limit){ 1, 1, 1 });
	assert_chunks(7, 31, (struct pf_chunk_limit){ 0, 64, 0 });
	assert_chunks(0, 0, (struct pf_chunk_limit){ 0 });
}

static void a_cleared_pack_is_as_new(void **state)
{
	struct pf_chunk chunk;

	(void)state;
	fill_pack(3);
	pf_pack_clear(&pack);
	assert_true(pack.ids.count == 0 && pack.sequences == 0 && pack.group_count == 0);
	assert_int_equal(pf_pack_chunk(&pack, 0, 0, &(struct pf_chunk_limit){ 0 }, &chunk), 0);
	a_sequence_as_laid_out(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(hashes_are_fixed),
		cmocka_unit_test(one_bit_changes_half_of_the_hash),
		cmocka_unit_test(permutations_are_bijections),
		cmocka_unit_test(permutations_reach_far),
		cmocka_unit_test(permutations_are_even),
		cmocka_unit_test(the_order_is_fixed),
		cmocka_unit_test(a_sequence_as_laid_out),
		cmocka_unit_test(every_truncation),
		cmocka_unit_test(kinds_of_members),
		cmocka_unit_test(chunks_cover_everything_once),
		cmocka_unit_test(a_cleared_pack_is_as_new),
	};

	return cmocka_run_group_tests(tests, open_tokenizer, free_pack);
}
