"""Parity with a framework: each family's forward, gradients and 50 steps of DPO, written here with torch alone.

For each family a small checkpoint with random weights is made in the layout of that family's files. What the program
computes from it must agree with the forward below, which knows tensors by their names in the file and nothing of prefpga:
logits within 1e-4, gradients within 1e-3 of each tensor's norm, losses of 50 DPO steps within 1e-3 max(1, loss).

usage: model_torch.py PREFPGA MODEL_DUMP FOLDER [family]; exits with 77 where torch is missing (Debian: python3-torch).
"""
import json
import math
import os
import shutil
import struct
import subprocess
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    print("skipped: no torch for this python3; Debian's package is python3-torch")
    sys.exit(77)

BOS, EOS, VOCAB = 256, 257, 259
TYPES = {torch.float32: ("F32", 4), torch.float16: ("F16", 2), torch.bfloat16: ("BF16", 2), torch.int32: ("I32", 4)}
torch.set_num_threads(1)


# ---- the file form, read and written from its description ----

def write_safetensors(path, tensors):
    header, at = {}, 0
    for name, t in tensors.items():
        kind, size = TYPES[t.dtype]
        header[name] = {"dtype": kind, "shape": list(t.shape), "data_offsets": [at, at + t.numel() * size]}
        at += t.numel() * size
    text = json.dumps(header).encode()
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for t in tensors.values():
            raw = t.contiguous().view(torch.int16 if t.element_size() == 2 else torch.int32)
            f.write(raw.numpy().tobytes())


def read_safetensors(path):
    kinds = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    with open(path, "rb") as f:
        data = f.read()
    (length,) = struct.unpack("<Q", data[:8])
    tensors = {}
    for name, entry in json.loads(data[8:8 + length]).items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        raw = bytearray(data[8 + length + begin:8 + length + end])
        kind = kinds[entry["dtype"]]
        tensors[name] = torch.frombuffer(raw, dtype=kind).reshape(entry["shape"]).clone()
    return tensors


# ---- families: config, tensors, forward ----

SIZES = {"vocab_size": VOCAB, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "intermediate_size": 100, "max_position_embeddings": 128, "rms_norm_eps": 1e-5,
         "rope_theta": 10000.0, "bos_token_id": BOS, "eos_token_id": EOS}
FAMILIES = {
    "llama": dict(SIZES, model_type="llama", tie_word_embeddings=False, rope_theta=500000.0,
                  rope_scaling={"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                "original_max_position_embeddings": 64}),
    "llama_linear": dict(SIZES, model_type="llama", tie_word_embeddings=True, attention_bias=True, mlp_bias=True,
                         rope_scaling={"type": "linear", "factor": 2.0}),
    "mistral": dict(SIZES, model_type="mistral", tie_word_embeddings=False, sliding_window=9, head_dim=24),
    "qwen2": dict(SIZES, model_type="qwen2", tie_word_embeddings=True, use_sliding_window=True, sliding_window=7,
                  max_window_layers=1),
    "qwen3": dict(SIZES, model_type="qwen3", tie_word_embeddings=True, head_dim=32),
    "gemma2": dict(SIZES, model_type="gemma2", tie_word_embeddings=True, head_dim=32, query_pre_attn_scalar=20,
                   hidden_activation="gelu_pytorch_tanh", attn_logit_softcapping=5.0, final_logit_softcapping=3.0,
                   sliding_window=8),
    "gpt2": {"model_type": "gpt2", "vocab_size": VOCAB, "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 128,
             "n_inner": None, "activation_function": "gelu_new", "layer_norm_epsilon": 1e-5, "bos_token_id": BOS,
             "eos_token_id": EOS},
}
STORED = {"llama": torch.bfloat16, "mistral": torch.float16}
SHARDED = {"llama", "qwen3"}


def head_dim(c):
    return c.get("head_dim", c["hidden_size"] // c["num_attention_heads"])


def make_gpt2(c, matrix, vector):
    d, w = c["n_embd"], {}
    w["wte.weight"] = matrix(VOCAB, d)
    w["wpe.weight"] = 0.3 * matrix(c["n_positions"], d)
    for i in range(c["n_layer"]):
        p = f"h.{i}."
        for norm in ("ln_1", "ln_2"):
            w[p + norm + ".weight"], w[p + norm + ".bias"] = 1 + vector(d), vector(d)
        for name, rows, cols in (("attn.c_attn", d, 3 * d), ("attn.c_proj", d, d), ("mlp.c_fc", d, 4 * d),
                                 ("mlp.c_proj", 4 * d, d)):
            w[p + name + ".weight"], w[p + name + ".bias"] = matrix(cols, rows).t().contiguous(), vector(cols)
    w["ln_f.weight"], w["ln_f.bias"] = 1 + vector(d), vector(d)
    return {"transformer." + name: t for name, t in w.items()}


def make_layer(c, p, matrix, vector, w):
    d, hd, ffn, kind = c["hidden_size"], head_dim(c), c["intermediate_size"], c["model_type"]
    q, kv = c["num_attention_heads"] * hd, c["num_key_value_heads"] * hd
    one = 0 if kind == "gemma2" else 1
    norms = ["input_layernorm", "post_attention_layernorm"]
    if kind == "gemma2":
        norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"]
    for norm in norms:
        w[p + norm + ".weight"] = one + vector(d)
    for name, rows, cols in (("self_attn.q_proj", q, d), ("self_attn.k_proj", kv, d), ("self_attn.v_proj", kv, d),
                             ("self_attn.o_proj", d, q), ("mlp.gate_proj", ffn, d), ("mlp.up_proj", ffn, d),
                             ("mlp.down_proj", d, ffn)):
        w[p + name + ".weight"] = matrix(rows, cols)
        if (c.get("attention_bias") and "attn" in name) or (c.get("mlp_bias") and "mlp" in name) or \
           (kind == "qwen2" and name[10:] in ("q_proj", "k_proj", "v_proj")):
            w[p + name + ".bias"] = vector(rows)
    if kind == "qwen3":
        w[p + "self_attn.q_norm.weight"], w[p + "self_attn.k_norm.weight"] = 1 + vector(hd), 1 + vector(hd)


def make_tensors(c, stored):
    g = torch.Generator().manual_seed(7)
    matrix = lambda rows, cols: torch.randn(rows, cols, generator=g) / math.sqrt(cols)  # noqa: E731
    vector = lambda size: 0.1 * torch.randn(size, generator=g)  # noqa: E731
    if c["model_type"] == "gpt2":
        w = make_gpt2(c, matrix, vector)
    else:
        w = {"model.embed_tokens.weight": matrix(VOCAB, c["hidden_size"])}
        for i in range(c["num_hidden_layers"]):
            make_layer(c, f"model.layers.{i}.", matrix, vector, w)
        w["model.norm.weight"] = (c["model_type"] != "gemma2") + vector(c["hidden_size"])
        if not c["tie_word_embeddings"]:
            w["lm_head.weight"] = matrix(VOCAB, c["hidden_size"])
    return {name: t.to(stored) for name, t in w.items()}


def save_model(folder, c, w, sharded):
    os.makedirs(folder)
    with open(folder + "/config.json", "w") as f:
        json.dump(c, f)
    if not sharded:
        write_safetensors(folder + "/model.safetensors", w)
        return
    names = list(w)
    half = len(names) // 2
    files = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for file, part in zip(files, (names[:half], names[half:])):
        write_safetensors(f"{folder}/{file}", {n: w[n] for n in part})
    with open(folder + "/model.safetensors.index.json", "w") as f:
        json.dump({"metadata": {}, "weight_map": {n: files[i >= half] for i, n in enumerate(names)}}, f)


def mask_of(length, window):
    place = torch.arange(length)
    seen = place[:, None] >= place[None, :]
    if window:
        seen &= place[:, None] - place[None, :] < window
    return torch.where(seen, 0.0, -math.inf)


def gpt2_hidden(c, w, ids):
    n, d, heads = len(ids), c["n_embd"], c["n_head"]
    norm = lambda x, p: F.layer_norm(x, (d,), w[p + ".weight"], w[p + ".bias"], c["layer_norm_epsilon"])  # noqa: E731
    conv = lambda x, p: x @ w[p + ".weight"] + w[p + ".bias"]  # noqa: E731
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][:n]
    for i in range(c["n_layer"]):
        p = f"transformer.h.{i}."
        q, k, v = (t.reshape(n, heads, -1).transpose(0, 1) for t in
                   conv(norm(x, p + "ln_1"), p + "attn.c_attn").split(d, -1))
        a = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(d // heads) + mask_of(n, 0), -1) @ v
        x = x + conv(a.transpose(0, 1).reshape(n, d), p + "attn.c_proj")
        u = conv(norm(x, p + "ln_2"), p + "mlp.c_fc")
        u = 0.5 * u * (1 + torch.tanh(math.sqrt(2 / math.pi) * (u + 0.044715 * u ** 3)))
        x = x + conv(u, p + "mlp.c_proj")
    return norm(x, "transformer.ln_f")


def frequencies(c):
    hd = head_dim(c)
    f = 1 / c["rope_theta"] ** (torch.arange(0, hd, 2, dtype=torch.float64) / hd)
    s = c.get("rope_scaling") or {}
    kind = s.get("rope_type", s.get("type"))
    if kind == "linear":
        return f / s["factor"]
    if kind == "llama3":
        old, low, high = s["original_max_position_embeddings"], s["low_freq_factor"], s["high_freq_factor"]
        wave = 2 * math.pi / f
        part = ((old / wave - low) / (high - low)).clamp(0, 1)
        return (1 - part) * f / s["factor"] + part * f
    return f


def turn(c, x):
    """x[heads, n, hd]: the two halves of a head turn together."""
    angle = torch.arange(x.shape[1], dtype=torch.float64)[:, None] * frequencies(c)[None]
    cos, sin = torch.cos(angle).float(), torch.sin(angle).float()
    a, b = x.chunk(2, -1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), -1)


def layer_window(c, i):
    kind = c["model_type"]
    if kind == "mistral" or (kind == "gemma2" and i % 2 == 0):
        return c["sliding_window"]
    return c["sliding_window"] if kind == "qwen2" and c["use_sliding_window"] and i >= c["max_window_layers"] else 0


def rms(c, x, weight):
    weight = weight + 1 if c["model_type"] == "gemma2" else weight
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + c["rms_norm_eps"]) * weight


def attention(c, w, p, x, i):
    n, hd, kind = len(x), head_dim(c), c["model_type"]
    linear = lambda x, name: F.linear(x, w[p + name + ".weight"], w.get(p + name + ".bias"))  # noqa: E731
    q, k, v = (linear(x, f"self_attn.{t}_proj").reshape(n, -1, hd).transpose(0, 1) for t in "qkv")
    if kind == "qwen3":
        q, k = rms(c, q, w[p + "self_attn.q_norm.weight"]), rms(c, k, w[p + "self_attn.k_norm.weight"])
    group = c["num_attention_heads"] // c["num_key_value_heads"]
    q, k, v = turn(c, q), turn(c, k).repeat_interleave(group, 0), v.repeat_interleave(group, 0)
    s = q @ k.transpose(1, 2) / math.sqrt(c.get("query_pre_attn_scalar", hd))
    if c.get("attn_logit_softcapping"):
        s = torch.tanh(s / c["attn_logit_softcapping"]) * c["attn_logit_softcapping"]
    a = torch.softmax(s + mask_of(n, layer_window(c, i)), -1) @ v
    return linear(a.transpose(0, 1).reshape(n, -1), "self_attn.o_proj")


def mlp(c, w, p, x):
    linear = lambda x, name: F.linear(x, w[p + name + ".weight"], w.get(p + name + ".bias"))  # noqa: E731
    g = linear(x, "mlp.gate_proj")
    g = F.gelu(g, approximate="tanh") if c["model_type"] == "gemma2" else F.silu(g)
    return linear(g * linear(x, "mlp.up_proj"), "mlp.down_proj")


def hidden_of(c, w, ids):
    if c["model_type"] == "gpt2":
        return gpt2_hidden(c, w, ids)
    gemma = c["model_type"] == "gemma2"
    x = w["model.embed_tokens.weight"][ids]
    if gemma:
        x = x * torch.tensor(c["hidden_size"] ** 0.5)
    for i in range(c["num_hidden_layers"]):
        p = f"model.layers.{i}."
        norm = lambda x, name: rms(c, x, w[p + name + ".weight"])  # noqa: E731,B023
        a = attention(c, w, p, norm(x, "input_layernorm"), i)
        x = x + (norm(a, "post_attention_layernorm") if gemma else a)
        m = mlp(c, w, p, norm(x, "pre_feedforward_layernorm" if gemma else "post_attention_layernorm"))
        x = x + (norm(m, "post_feedforward_layernorm") if gemma else m)
    return rms(c, x, w["model.norm.weight"])


def logits_of(c, w, ids):
    head = w.get("lm_head.weight")
    if head is None:
        head = w["transformer.wte.weight" if c["model_type"] == "gpt2" else "model.embed_tokens.weight"]
    z = hidden_of(c, w, torch.as_tensor(ids)) @ head.t()
    cap = c.get("final_logit_softcapping")
    return torch.tanh(z / cap) * cap if cap else z


# ---- comparisons ----

def check(name, got, bound, what):
    print(f"{name:14} {what:32} {got:.2e} (bound {bound:.0e})", flush=True)
    if not got <= bound:
        sys.exit(f"{name}: {what}: {got} is above {bound}")


def compare_batch(name, c, w, folder, dump):
    g = torch.Generator().manual_seed(3)
    lengths = [40, 1, 17, 33]
    ids = torch.randint(0, VOCAB, (sum(lengths),), generator=g, dtype=torch.int32)
    target = torch.randint(0, VOCAB, (sum(lengths),), generator=g, dtype=torch.int32)
    coef = torch.randn(sum(lengths), generator=g)
    offsets = torch.tensor([0] + lengths).cumsum(0).to(torch.int32)
    write_safetensors(folder + "/batch.safetensors", {"ids": ids, "target": target, "coef": coef, "offsets": offsets})
    subprocess.run([dump, folder + "/model", folder + "/batch.safetensors", folder + "/out.safetensors"], check=True)
    out = read_safetensors(folder + "/out.safetensors")
    w = {n: t.float().clone().requires_grad_() for n, t in w.items()}
    z = torch.cat([logits_of(c, w, ids[b:e].long()) for b, e in zip(offsets[:-1], offsets[1:])])
    logp = torch.log_softmax(z, -1).gather(1, target.long()[:, None])[:, 0]
    (coef * logp).sum().backward()
    check(name, (z - out["logits"]).abs().max().item(), 1e-4, "logits")
    if set(n[5:] for n in out if n != "logits") != set(w):
        sys.exit(f"{name}: other tensors than in the file")
    # a bias of keys shifts all scores of a row alike where positions do not turn it: its gradient is rounding
    floor = 1e-6 * max(t.grad.norm().item() for t in w.values())
    worst = max(((out["grad." + n] - t.grad).norm() / max(t.grad.norm().item(), floor)).item() for n, t in w.items())
    check(name, worst, 1e-3, "gradients, relative")


def make_pairs(path):
    g = torch.Generator().manual_seed(5)
    pairs = []
    for _ in range(24):
        text = ["".join(chr(97 + int(x)) for x in torch.randint(0, 26, (int(n),), generator=g))
                for n in torch.randint(2, 14, (3,), generator=g)]
        pairs.append({"prompt": text[0], "chosen": text[1], "rejected": text[2]})
    with open(path, "w") as f:
        f.writelines(json.dumps(p) + "\n" for p in pairs)
    return pairs


def sequence_logp(c, w, prompt, completion):
    ids = [BOS] + list(prompt.encode()) + list(completion.encode()) + [EOS]
    logp = torch.log_softmax(logits_of(c, w, ids[:-1]), -1)
    return logp[torch.arange(len(ids) - 1), torch.tensor(ids[1:])][len(prompt.encode()):].sum()


def torch_dpo(c, frozen, trained, weights_of, pairs, steps, batch, rate, beta):
    """Losses of DPO whose trained tensors become the policy's by weights_of; the reference is `frozen`."""
    decays = [t for t in trained.values() if t.dim() > 1]
    others = [t for t in trained.values() if t.dim() == 1]
    optimizer = torch.optim.AdamW([{"params": decays, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
                                  lr=rate, betas=(0.9, 0.999), eps=1e-8)
    with torch.no_grad():
        reference = [[sequence_logp(c, frozen, p["prompt"], p[side]) for side in ("chosen", "rejected")] for p in pairs]
    losses = []
    for step in range(steps):
        optimizer.zero_grad()
        policy, loss = weights_of(trained), 0
        for j in range(batch):
            i = (step * batch + j) % len(pairs)
            ratio = [sequence_logp(c, policy, pairs[i]["prompt"], pairs[i][side]) - reference[i][k]
                     for k, side in enumerate(("chosen", "rejected"))]
            loss = loss - F.logsigmoid(beta * (ratio[0] - ratio[1])) / batch
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained.values(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    return losses


def leaves(w):
    return {n: t.float().clone().requires_grad_() for n, t in w.items()}


def rounded(w):
    return {n: t + (t.to(torch.bfloat16).float() - t).detach() for n, t in w.items()}


def compare_dpo(name, c, frozen, trained, weights_of, folder, prefpga, what, options):
    steps, batch, rate, beta = 50, 4, 3e-4, 0.3
    pairs = make_pairs(folder + "/pairs.jsonl")
    out = f"{folder}/{what.replace(' ', '_')}"
    subprocess.run([prefpga, "train", "--model", folder + "/model", "--data", folder + "/pairs.jsonl", "--loss",
                    f"sigmoid:beta={beta}", "--device", "cpu", "--steps", str(steps), "--batch", str(batch), "--shuffle=0",
                    "--schedule", "constant", "--warmup-steps", "0", "--lr", str(rate), "--weight-decay", "0.01",
                    "--max-length", "128", "--cache", folder + "/cache", "--out", out] + options,
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(out + "/metrics.jsonl") as f:
        got = [json.loads(line)["loss"] for line in f]
    wanted = torch_dpo(c, frozen, trained, weights_of, pairs, steps, batch, rate, beta)
    if len(got) != steps:
        sys.exit(f"{name}: {len(got)} steps in the log")
    check(name, max(abs(a - b) / max(1, b) for a, b in zip(got, wanted)), 1e-3, f"DPO, {steps} steps, {what}")
    print(f"{name:14} loss {wanted[0]:.4f} to {wanted[-1]:.4f}", flush=True)


# ---- adapters, in PEFT's form ----

TARGETS = {"qwen3": ["q_proj", "v_proj", "down_proj"], "gpt2": ["c_attn", "c_proj"]}
RANK, ALPHA = 4, 12


def make_adapter(folder, c, w, targets):
    g = torch.Generator().manual_seed(9)
    old, adapter = c["model_type"] == "gpt2", {}
    for name, t in w.items():
        if name.split(".")[-2] in targets and t.dim() == 2:
            out, inputs = reversed(t.shape) if old else t.shape
            place = "base_model.model." + name[:-len("weight")]
            adapter[place + "lora_A.weight"] = torch.randn(RANK, inputs, generator=g) / math.sqrt(inputs)
            adapter[place + "lora_B.weight"] = 0.1 * torch.randn(out, RANK, generator=g)
    os.makedirs(folder)
    write_safetensors(folder + "/adapter_model.safetensors", adapter)
    with open(folder + "/adapter_config.json", "w") as f:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": ALPHA, "lora_dropout": 0.0,
                   "target_modules": targets, "bias": "none", "fan_in_fan_out": old, "modules_to_save": None,
                   "rank_pattern": {}, "use_dora": False}, f)
    return adapter


def adapted(c, w, adapter):
    policy = dict(w)
    for name, a in adapter.items():
        if name.endswith("lora_A.weight"):
            product = adapter[name.replace("lora_A", "lora_B")] @ a * (ALPHA / RANK)
            target = name[len("base_model.model."):].replace("lora_A.", "")
            policy[target] = policy[target] + (product.t() if c["model_type"] == "gpt2" else product)
    return policy


def compare_adapter(name, c, w, folder, prefpga):
    w = {n: t.float() for n, t in w.items()}
    adapter = make_adapter(folder + "/start", c, w, TARGETS[name])
    trained = leaves(adapter)
    compare_dpo(name, c, w, trained, lambda a: adapted(c, w, a), folder, prefpga, "adapter",
                ["--adapter", folder + "/start"])
    got = read_safetensors(folder + "/adapter/adapter_model.safetensors")
    check(name, max((got[n] - t.detach()).abs().max().item() for n, t in trained.items()), 1e-4, "trained adapter")


def main(prefpga, dump, folder, only=None):
    for name, c in FAMILIES.items():
        if only and name != only:
            continue
        place = f"{folder}/model_torch/{name}"
        shutil.rmtree(place, ignore_errors=True)
        os.makedirs(place)
        w = make_tensors(c, STORED.get(name, torch.float32))
        save_model(place + "/model", c, w, name in SHARDED)
        compare_batch(name, c, w, place, dump)
        frozen = {n: t.float() for n, t in w.items()}
        compare_dpo(name, c, frozen, leaves(w), dict, place, prefpga, "all weights", [])
        if name in TARGETS:
            compare_adapter(name, c, w, place, prefpga)
        if name == "mistral":
            compare_dpo(name, c, rounded(frozen), leaves(w), rounded, place, prefpga, "bfloat16 weights",
                        ["--weights", "bf16"])


if __name__ == "__main__":
    main(*sys.argv[1:])
