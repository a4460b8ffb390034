#!/usr/bin/env python3
"""Makes the tokenizers and golden ids that tests/tokenizer_golden.c compares with.

The reference is the Python package `tokenizers` of Hugging Face (written with version 0.23.3), whose code shares
nothing with host/corpus. Real published tokenizers are not part of this repository; each family here has the shape of
its published tokenizer.json (split pattern, normalizers, pre-tokenizer, decoder, template, added tokens and their
flags, as remembered from GPT-2, Llama 3, Qwen 2, Llama 2, Gemma, Mistral), with a small vocabulary trained on text
that this script makes. Tests need neither Python nor the package: what is written here is committed.

    python3 tests/golden/make_tokenizers.py          writes tests/golden/<family>/, texts.jsonl and ids.txt
"""
import json
import os
import random
import unicodedata

from tokenizers import Tokenizer, __version__, decoders, models, normalizers, pre_tokenizers, processors, trainers
from tokenizers import AddedToken, Regex

HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")

# ---- texts to train on ----

WORDS = """the of and to in is was for that on with as by at from it an be this are or his which not have had has its
were their but one all more other also when who can there been if would no time up out so what about into than them
only some could new then do any these may such model token byte pair merge train learn prefer choose reject reward
policy reference logits function return include static const int void struct for while printf malloc free size_t
naïve café über straße jalapeño señor Москва привет мир слово данные это как что ελληνικά λόγος שלום עולם مرحبا العالم
你好 世界 模型 语言 学习 数据 中文 测试 こんにちは 世界 言語 モデル 안녕하세요 세계 한국어 नमस्ते दुनिया ไทย ภาษา""".split()
LINES = ["for (size_t i = 0; i < count; i++)\n\tsum += value[i] * weight[i];\n", "if (!ptr)\n        return -ENOMEM;\n",
         "def f(x, y=None):\n    return {'a': [x, y], \"b\": 3.14159}\n", "SELECT * FROM t WHERE id >= 1000;\r\n",
         "<div class=\"x\">&nbsp;</div>\n\n", "I'll say we've done it, don't you're I'd he's I'M THEY'RE\n",
         "1 12 123 1234 12345 3.14 1,000,000 0x7fff ٣٤ ४५ ①②\n", "😀😃 👩‍👩‍👧 🏳️‍🌈 🇩🇪 ✨ ™ © € £ ¥ → ∑ ∞ ≠ «»\n"]


def training_text(rng):
    for _ in range(3000):
        yield " ".join(rng.choice(WORDS) for _ in range(rng.randint(2, 14))) + rng.choice([". ", ".\n", "? ", "! ", ": "])
        if rng.random() < 0.4:
            yield rng.choice(LINES)


# ---- families ----

def special(text, **flags):
    return AddedToken(text, special=True, normalized=False, **flags)


def train(tokenizer, size, specials=(), alphabet=()):
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(specials), initial_alphabet=list(alphabet),
                                  show_progress=False, limit_alphabet=400)
    tokenizer.train_from_iterator(training_text(random.Random(7)), trainer)
    return tokenizer


def byte_level(size, steps, specials=(), **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps) if len(steps) > 1 else steps[0]
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, size, specials, sorted(pre_tokenizers.ByteLevel.alphabet()))


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated", False)


def gpt2():
    tokenizer = byte_level(900, [pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_special_tokens([AddedToken("<|endoftext|>", special=True, normalized=True)])
    return tokenizer, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>", "add_bos_token": False}


def roberta_like():
    """GPT-2 with a space in front of each text, and added tokens of every flag"""
    tokenizer = byte_level(700, [pre_tokenizers.ByteLevel(add_prefix_space=True)])
    tokenizer.add_special_tokens([special("<s>"), special("</s>"), special("<mask>", lstrip=True)])
    tokenizer.add_tokens([AddedToken("foo", single_word=True, normalized=False),
                          AddedToken("<right>", rstrip=True, normalized=False),
                          AddedToken("<both>", lstrip=True, rstrip=True, normalized=True),
                          AddedToken("  ", normalized=False), AddedToken("foo bar", normalized=False)])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "add_bos_token": True}


def llama3():
    steps = [split(LLAMA3), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer = byte_level(1000, steps, ignore_merges=True)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    tokenizer.add_special_tokens([special(name) for name in names])
    bos = tokenizer.token_to_id(names[0])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=True),
        processors.TemplateProcessing(single=f"{names[0]} $A", pair=f"{names[0]} $A {names[0]}:1 $B:1",
                                      special_tokens=[(names[0], bos)])])
    return tokenizer, {"bos_token": names[0], "eos_token": "<|eot_id|>",
                       "chat_template": "{{ '<|start_header_id|>' + message['role'] }}"}


def qwen2():
    steps = [split(QWEN2), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    tokenizer = byte_level(1000, steps, continuing_subword_prefix="", end_of_word_suffix="")
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    tokenizer.add_special_tokens([special(name) for name in ("<|endoftext|>", "<|im_start|>", "<|im_end|>")])
    tokenizer.add_tokens([AddedToken("<think>", normalized=False)])
    return tokenizer, {"bos_token": None, "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>",
                       "add_bos_token": False, "chat_template": "{{ '<|im_start|>' + message.role }}"}


def smol():
    """Digits one by one, then GPT-2's pattern (SmolLM, StarCoder)"""
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer = byte_level(700, steps)
    tokenizer.add_special_tokens([special("<|im_start|>"), special("<|im_end|>")])
    return tokenizer, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"}


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def by_characters(size, normalizer, specials, pre_tokenizer=None, **options):
    """Trained on single words, then used without cuts, as files converted from SentencePiece are"""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next", False)
    train(trained, size, list(specials) + BYTES)
    data = json.loads(trained.to_str())
    data["added_tokens"] = []
    data["model"].update(byte_fallback=True, fuse_unk=True, unk_token="<unk>", **options)
    tokenizer = Tokenizer.from_str(json.dumps(dict(data, normalizer=None, pre_tokenizer=None)))
    if normalizer:
        tokenizer.normalizer = normalizer
    if pre_tokenizer:
        tokenizer.pre_tokenizer = pre_tokenizer
    return tokenizer


STRIPPED = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]


def llama2():
    names = ["<unk>", "<s>", "</s>"]
    tokenizer = by_characters(1100, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), names)
    tokenizer.decoder = decoders.Sequence(STRIPPED)
    tokenizer.add_special_tokens([special(name) for name in names])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                             special_tokens=[("<s>", 1)])
    return tokenizer, {"bos_token": {"content": "<s>"}, "eos_token": {"content": "</s>"}, "add_bos_token": True}


def llama2_old():
    """The first conversions: special tokens go through the normalizer too"""
    names = ["<unk>", "<s>", "</s>"]
    tokenizer = by_characters(900, normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]), names)
    tokenizer.decoder = decoders.Sequence(STRIPPED)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=True) for name in names])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>"}


def gemma():
    names = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]
    tokenizer = by_characters(1100, normalizers.Replace(" ", "▁"), names,
                              pre_tokenizers.Split(" ", "merged_with_previous", False))
    tokenizer.decoder = decoders.Sequence(STRIPPED[:3])
    tokenizer.add_special_tokens([special(name) for name in names])
    tokenizer.add_tokens([AddedToken("\n" * n, normalized=False) for n in range(2, 6)] +
                         [AddedToken("▁" * n, normalized=False) for n in range(2, 6)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", pair="<bos> $A <bos>:1 $B:1",
                                                             special_tokens=[("<bos>", 2)])
    return tokenizer, {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "add_bos_token": True,
                       "chat_template": "{{ '<start_of_turn>' + role }}"}


def mistral():
    names = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]"]
    tokenizer = by_characters(1100, None, names, pre_tokenizers.Metaspace("▁", "first", split=False))
    tokenizer.decoder = decoders.Sequence(STRIPPED)
    tokenizer.add_special_tokens([special(name) for name in names])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s>:1 $B:1",
                                                             special_tokens=[("<s>", 1)])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "chat_template": "{{ '[INST] ' + m.content }}"}


def metaspace():
    """Metaspace that cuts, its decoder, unknown characters that are not fused, no bytes to fall back to"""
    tokenizer = by_characters(800, None, ["<unk>", "<s>"], pre_tokenizers.Metaspace("▁", "always", split=True))
    data = json.loads(tokenizer.to_str())
    data["model"].update(byte_fallback=False, fuse_unk=False)
    data["decoder"] = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens([special("<s>")])
    return tokenizer, {"bos_token": "<s>", "eos_token": "<s>"}


def splits():
    """Every behaviour of Split"""
    steps = [pre_tokenizers.Split(Regex(r"\d+"), "contiguous", False), pre_tokenizers.Split(",", "removed", False),
             pre_tokenizers.Split(Regex(r"[.!?]"), "merged_with_previous", False),
             pre_tokenizers.Split(Regex(r"\s"), "merged_with_next", False),
             pre_tokenizers.Split(Regex(r"[a-z]+|"), "isolated", True),
             pre_tokenizers.Split(Regex(r"(?<=[xyz])(?=\p{Lu})"), "isolated", False),
             pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    return byte_level(500, steps), {"eos_token": None}


FAMILIES = [gpt2, roberta_like, llama3, qwen2, smol, llama2, llama2_old, gemma, mistral, metaspace, splits]

# ---- texts to encode ----

TEXTS = {
    "empty": "", "space": " ", "plain": "Hello, world! It's 2024; don't panic.",
    "code": "static int f(const char *s)\n{\n\tfor (size_t i = 0; s[i]; i++)\n\t\tputchar(s[i] ^ 0x20);\n\treturn 0;\n}\n\n\n",
    "python": "def f(x):\r\n    '''doc'''\r\n    return [y**2 for y in x if y != None]  # done\n",
    "cjk": "你好，世界！机器学习模型。こんにちは、世界。カタカナ 漢字 안녕하세요 세계 𠀀𪛖 ｆｕｌｌｗｉｄｔｈ",
    "emoji": "😀👩‍👩‍👧‍👦🏳️‍🌈🇩🇪🇫🇷👍🏽 ☺️ 1️⃣ 🫠",
    "marks": "e\u0301 é a\u0323\u0307 a\u0307\u0323 \u1e9b\u0323 q\u0307\u0323 \u0344 \u212b \u2126 \u1100\u1161\u11a8 한 "
             "\u0958 \u2adc \ufb1d Z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L̠ͨͧͩ͘G̴̻͈͍͔̹̑͗̎̅͛́Ǫ̵̹̻̝̳͂̌̌͘",
    "new_marks": "a\u1df8\u0323 a\u1ace\u0334e\u08cc\u0711 \u0301\u1aca\u1ce6 \U00011935\U00011930\U00011938 e\u1dfa\u0301",
    "spaces": "a\u00a0b\u2003c\u3000d\u2028e\u2029f\u0085g\u180eh\u200bi\u202fj\ufeffk\u1680l\x0bm\x0cn\x1co  p   q    r\t\ts",
    "ends": "   leading and trailing   \n\n  \t ", "lines": "\n\n\n\r\n\r\r\n \n  \n\t\n x \n y\n\n", "nul": "a\0b\x01\x7f",
    "case": "I'M I'Ll 'S 'ſ 'K we'RE ŉ 'ſtrange 'Vé", "numbers": "1 12 123 1234 12345678 3.14 ١٢٣ ४५६ Ⅷ ½ ² ①②③ 𝟘𝟙 1a2b3c",
    "rtl": "שלום עולם مرحبا بالعالم \u200f\u200e ءآأؤ", "indic": "नमस्ते दुनिया ক্ষ தமிழ் ไทยภาษา ខ្មែរ မြန်မာ",
    "specials": "<|im_start|>user\nhi<|im_end|>\n<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>"
                "<s>[INST] hi[/INST] yo</s> <bos><start_of_turn>user\nhi<end_of_turn>\n<|endoftext|><|endoftext|> x",
    "partial": "<|im_start <|im_|> <| im_end|> <<|im_end|>> </s <s> < s> <unk> <0x41> <mask<mask> <think></think>",
    "stripped": "a <mask> b  <mask>c<right>  d <right> \u3000 <both>  e <both><both>  <right>  <mask>  ",
    "words": "foo foobar barfoo foo. (foo) foo_ _foo foo1 éfoo foo\u0301 \u24b6foo foo\u200d foo bar foobars",
    "marks_of_space": "▁a ▁▁b a▁b ▁ <s>▁x <s> x </s>y", "turns": "a,b,,c. d! e?? f..g 12 345xA yB zC zd !a.b", "one": "x",
    "newlines": "\n" * 37 + "a" + "\n" * 3 + " " * 41 + "b" + "\t" * 9 + " \t \t",
    "long": "a" * 5000 + " " + "ab" * 3000 + " " * 3000 + "é" * 2000 + "\u0301" * 500 + "中" * 1000 + "0" * 1000,
}


def assigned(code):
    """Assigned in Unicode 14, that of Python 3.11 and of PCRE2 10.42: what came later has no class there yet"""
    return unicodedata.category(chr(code)) not in ("Cn", "Cs", "Co")


def random_texts(rng):
    pools = [[c for c in range(lo, hi) if assigned(c)] for lo, hi in
             [(0, 0x80), (0x20, 0x7f), (0x80, 0x300), (0x300, 0x370), (0x370, 0x1000), (0x1000, 0x2000), (0x2000, 0x2100),
              (0x2100, 0x3100), (0x3100, 0xa000), (0xac00, 0xd7a4), (0xf900, 0x10000), (0x10000, 0x1f000), (0x1f000, 0x1fb00),
              (0x2f800, 0x2fa1e)]]
    for i in range(160):
        chosen = rng.sample(pools, rng.randint(1, 4)) + [pools[1]]
        parts = []
        for _ in range(rng.randint(1, 120)):
            if rng.random() < 0.15:
                parts.append(rng.choice([" ", "  ", "\n", " \n", "'s", "'ve", "<s>", "</s>", "<mask>", "foo", "▁", "\r\n", "123"]))
            elif rng.random() < 0.2:
                parts.append(rng.choice(WORDS))
            else:
                parts.append(chr(rng.choice(rng.choice(chosen))))
        yield f"random{i}", "".join(parts)


def random_bytes(count):
    """The same bytes as tests/tokenizer_golden.c makes: xorshift, 64 bits"""
    state, out = 0x9E3779B97F4A7C15, bytearray()
    for _ in range(count):
        state ^= (state << 13) & (2**64 - 1)
        state ^= state >> 7
        state ^= (state << 17) & (2**64 - 1)
        out.append(state >> 32 & 255)
    return bytes(out)


def fnv1a(ids):
    value = 0xcbf29ce484222325
    for token in ids:
        for shift in (0, 8, 16, 24):
            value = ((value ^ (token >> shift & 255)) * 0x100000001b3) & (2**64 - 1)
    return value


def main():
    texts = dict(TEXTS)
    texts.update(random_texts(random.Random(11)))
    with open(f"{HERE}/texts.jsonl", "w", encoding="utf-8") as out:
        for name, text in texts.items():
            out.write(json.dumps({"name": name, "text": text}, ensure_ascii=True) + "\n")
    texts["letters"], texts["blanks"] = "a" * 2**20, "x" + " " * 2**20 + "y"
    texts["bytes"] = random_bytes(100 * 1024).decode("utf-8", errors="replace")
    lines = [f"# tokenizers {__version__}: family text, number of ids, FNV-1a of them (32 bits each, little-endian), the first ones"]
    for make in FAMILIES:
        tokenizer, config = make()
        folder = f"{HERE}/{make.__name__}"
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/tokenizer.json", "w", encoding="utf-8") as out:
            out.write(tokenizer.to_str() + "\n")
        with open(f"{folder}/tokenizer_config.json", "w", encoding="utf-8") as out:
            out.write(json.dumps(config) + "\n")
        tokenizer = Tokenizer.from_file(f"{folder}/tokenizer.json")
        for name, text in texts.items():
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            shown = " ".join(str(token) for token in ids[:8])
            lines.append(f"{make.__name__} {name} {len(ids)} {fnv1a(ids):016x} {shown}".rstrip())
    with open(f"{HERE}/ids.txt", "w", encoding="utf-8") as out:
        out.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
