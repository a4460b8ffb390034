"""PyTorch through prefpga: log-probs of sequences and preference losses as autograd functions, and a small DPO loop.

    torch_head.py PAIRS.jsonl HELD.jsonl [--device cpu|sim|xrt] [--loss sigmoid:beta=0.1] [--hidden] [--steps N]
                  [--precision fp32|bf16|mxint8]

trains a byte-level transformer first to imitate the chosen answers and then to prefer them. make_demo_data writes such
files. Needs Debian's python3-torch and libprefpga.so (--library, or where the linker finds it, or below build/);
nothing is compiled.

Tensors are CPU tensors, and the library gets their addresses: nothing is converted or copied on the way to it or back.
What it cannot take as it is, is copied first: views that are not contiguous, ids that are not int32. Device cpu then
computes in these matrices where a row is a multiple of 64 bytes (16 float32 or 32 bfloat16); other rows, and those for
other devices, pass through chunk buffers of some MiB. With in_place=True the gradient is written into the memory of the
logits, so [T, V] exists once.
"""
import argparse
import copy
import ctypes
import ctypes.util
import glob
import json
import math
import os
import sys

import torch
from torch.autograd.function import once_differentiable

Q32 = 2.0 ** 32                 # sums of log-probs are integers of 2^-32 nat; float64 holds them exactly


# ---- the library: flat.h, where every argument is a number, a string or an array ----

def find_library():
    here = os.path.dirname(os.path.abspath(__file__))
    built = sorted(glob.glob(os.path.join(here, "..", "build", "*", "libprefpga.so")))
    return ctypes.util.find_library("prefpga") or (built[-1] if built else "libprefpga.so")


class Library:
    """The shared library with the argument types of flat.h"""
    P, S, I, U32, U64, D = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_uint64,
                            ctypes.c_double)
    SIGNATURES = {
        "flat_version": (I, []),
        "flat_number": (I, [S]),
        "flat_open": (P, [S, U64, U32, P, U64]),
        "device_close": (I, [P]),
        "flat_logps": (I, [P, P, I, U64, U64, P, P, U64, P, P, P, U64]),
        "flat_logps_grad": (I, [P, P, I, U64, U64, P, P, U64, P, P, P, U64]),
        "flat_head_open_as": (P, [P, S, U32, U32, U64, U32, P, U64]),
        "flat_head_close": (None, [P]),
        "flat_head_logps": (I, [P, P, P, P, U64, P, U64, P, P, U64]),
        "flat_head_logps_grad": (I, [P, P, P, P, P, U64]),
        "flat_loss_name": (S, [U32]),
        "flat_loss_form": (S, [S]),
        "flat_loss_needs": (I, [S, P, U64]),
        "flat_loss_parameter": (I, [S, U32, S, P, P, U64]),
        "flat_loss": (I, [P, S, U64] + [P] * 10 + [U64, D, D, D, D, D, P, P, P, P, U64]),
    }

    def __init__(self, path=None):
        library = ctypes.CDLL(path or find_library())
        for name, (result, arguments) in self.SIGNATURES.items():
            function = getattr(library, "pf_" + name, None)
            if function is None:
                raise RuntimeError("this libprefpga is too old")
            function.restype, function.argtypes = result, arguments
            setattr(self, name, function)
        if self.flat_version() < 3:
            raise RuntimeError("this libprefpga is too old")

    def number(self, name):
        return self.flat_number(name.encode())

    def call(self, function, *arguments):
        """Calls a function whose last arguments are text and size; its message becomes the exception's"""
        text = ctypes.create_string_buffer(1024)
        result = function(*arguments, ctypes.addressof(text), len(text))
        if result is None or (isinstance(result, int) and result < 0):
            raise RuntimeError(text.value.decode() or f"prefpga: error {result}")
        return result


class Device:
    """An opened device: cpu, sim[:card], xrt[:index], auto. Closing it closes its heads"""

    def __init__(self, spec="cpu", library=None, threads=0):
        self.library, self.heads = library or Library(), set()
        self.opened = self.library.call(self.library.flat_open, spec.encode(), 0, threads)

    @property
    def handle(self):
        if not self.opened:
            raise RuntimeError("the device is closed: open another one")
        return self.opened

    def close(self):
        for head in list(self.heads):
            head.close()
        if self.opened:
            self.library.device_close(self.opened)
        self.opened = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def address(tensor):
    return None if tensor is None else tensor.data_ptr()


def dense(tensor, dtype):
    """A contiguous CPU tensor of that type: the same memory if it is one already"""
    if tensor is None:
        return None
    if tensor.device.type != "cpu":
        raise ValueError(f"a tensor on {tensor.device}: prefpga takes CPU tensors")
    return tensor.detach().to(dtype).contiguous()


# ---- log-probs of sequences ----

class SequenceLogps(torch.autograd.Function):
    """sum of log p(target) of each sequence, float64 [B], from logits [T, V] in float32, float16 or bfloat16"""
    TYPES = {torch.float32: "f32", torch.float16: "f16", torch.bfloat16: "bf16"}

    @staticmethod
    def forward(ctx, logits, target, offset, device, in_place):
        if logits.dtype not in SequenceLogps.TYPES or logits.dim() != 2:
            raise ValueError(f"logits must be [T, V] of {list(SequenceLogps.TYPES)}, not {logits.dtype} "
                             f"{tuple(logits.shape)}")
        matrix = dense(logits, logits.dtype)
        target, offset = dense(target, torch.int32), dense(offset, torch.int64)
        if target.numel() != len(matrix) or offset.numel() < 1:
            raise ValueError("one target for each row of logits, and one offset more than sequences")
        sums = torch.empty(len(offset) - 1, dtype=torch.int64)
        library = device.library
        ctx.type = library.number(SequenceLogps.TYPES[logits.dtype])
        library.call(library.flat_logps, device.handle, address(matrix), ctx.type, *matrix.shape, address(target),
                     address(offset), len(sums), address(sums), None)
        ctx.device, ctx.in_place = device, in_place
        ctx.save_for_backward(logits if matrix.data_ptr() == logits.data_ptr() else matrix, target, offset)
        return sums.double() / Q32

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        logits, target, offset = ctx.saved_tensors
        matrix = logits.detach()
        out = matrix if ctx.in_place else torch.empty_like(matrix)
        grad = dense(grad, torch.float64)
        library = ctx.device.library
        library.call(library.flat_logps_grad, ctx.device.handle, address(matrix), ctx.type, *matrix.shape,
                     address(target), address(offset), len(grad), address(grad), address(out))
        if ctx.in_place:
            matrix[:0].zero_()  # changes nothing, but tells PyTorch: who saved these logits gets an error, not nonsense
        return out, None, None, None, None


def sequence_logps(device, logits, target, offset, in_place=False):
    """logits [T, V]; target [T], negative: not scored; offset [B + 1]: sequence i has rows offset[i] .. offset[i + 1].
    in_place: the gradient overwrites the logits, which nothing else may need by then"""
    return SequenceLogps.apply(logits, target, offset, device, in_place)


class Head:
    """Workspace for sequence log-probs from hidden states: logits [T, V] never exist in PyTorch's memory. precision is
    what the products take hidden states and weight as: fp32, bf16, or mxint8 (forward; back as bf16). Tensors stay
    float32"""

    def __init__(self, device, vocab, dim, precision="fp32"):
        self.device, self.vocab, self.dim = device, vocab, dim
        self.forwards = 0       # the handle holds the last one's inputs
        self.opened = device.library.call(device.library.flat_head_open_as, device.handle, precision.encode(), vocab, dim,
                                          0, 0)
        device.heads.add(self)

    @property
    def handle(self):
        if not self.opened:
            raise RuntimeError("the head is closed, or its device is: open another one")
        return self.opened

    def close(self):
        if self.opened:
            self.device.library.flat_head_close(self.opened)
        self.opened = None
        self.device.heads.discard(self)


class HiddenLogps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, target, offset, head):
        h, w = dense(hidden, torch.float32), dense(weight, torch.float32)
        target, offset = dense(target, torch.int32), dense(offset, torch.int64)
        if w.shape != (head.vocab, head.dim) or h.dim() != 2 or h.shape[1] != head.dim or target.numel() != len(h):
            raise ValueError(f"hidden {tuple(h.shape)}, weight {tuple(w.shape)} and target {tuple(target.shape)} must "
                             f"be [T, {head.dim}], [{head.vocab}, {head.dim}] and [T], as the head was made")
        if offset.numel() < 1:
            raise ValueError("one offset more than sequences")
        sums = torch.empty(len(offset) - 1, dtype=torch.int64)
        library, handle = head.device.library, head.handle
        head.forwards += 1
        library.call(library.flat_head_logps, handle, address(h), address(w), address(target), len(h),
                     address(offset), len(sums), address(sums))
        ctx.head, ctx.forward_number, ctx.kept = head, head.forwards, (h, w)    # the head goes on reading them
        return sums.double() / Q32

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        if ctx.forward_number != ctx.head.forwards:
            raise RuntimeError("the head has seen another forward since: go back before the next one, or open a "
                               "head for each")
        h, w = ctx.kept
        grad, dh = dense(grad, torch.float64), torch.empty_like(h)
        dw = torch.zeros_like(w) if ctx.needs_input_grad[1] else None
        library = ctx.head.device.library
        library.call(library.flat_head_logps_grad, ctx.head.handle, address(grad), address(dh), address(dw))
        return dh, dw, None, None, None


def hidden_logps(head, hidden, weight, target, offset):
    """The same from hidden [T, D] and weight [V, D], float32. Every target is scored. One forward, then its backward"""
    return HiddenLogps.apply(hidden, weight, target, offset, head)


# ---- preference losses ----

class PreferenceLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, policy, device, loss, reference, old, tokens, kind, groups, extra, divisor, z0, delta, scored,
                prompts):
        sums, base, old = (None if t is None else torch.round(dense(t, torch.float64) * Q32).to(torch.int64)
                           for t in (policy, reference, old))
        tokens, kind, groups = (dense(t, torch.int32) for t in (tokens, kind, groups))
        extra = [dense(t, torch.float32) for t in extra]
        total, grad = torch.empty(1, dtype=torch.float64), torch.empty(len(sums), dtype=torch.float64)
        library = device.library
        library.call(library.flat_loss, device.handle, loss.encode(), len(sums), address(sums), address(base),
                     address(old), address(tokens), address(kind), *[address(t) for t in extra], address(groups),
                     len(groups) - 1, divisor, z0, delta, scored, prompts, address(total), address(grad), None)
        ctx.save_for_backward(grad)
        return total[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        return (ctx.saved_tensors[0] * grad,) + (None,) * 13


def check_lengths(count, groups, **items):
    """The library trusts lengths: one value for each item, and groups [G + 1] from 0 to the items"""
    for name, tensor in items.items():
        if tensor is not None and tuple(tensor.shape) != (count,):
            raise ValueError(f"{name} {tuple(tensor.shape)} must be [{count}] like policy")
    if groups.dim() != 1 or len(groups) < 2 or int(groups[-1]) != count:
        raise ValueError(f"groups must be [G + 1] and end with the {count} items")


class Preference:
    """Any loss of `prefpga losses` over sums of log-probs. Its running mean (BCO) is state of this object"""

    def __init__(self, device, loss):
        self.device, self.loss = device, loss
        library = device.library
        needs = library.call(library.flat_loss_needs, loss.encode())
        self.needs = {name: bool(needs & library.number(name)) for name in
                      ("reference", "z0", "delta", "per_item", "per_token", "own_weights", "prompts")}
        self.chosen, self.rejected, self.extra, self.prompt = (
            library.number(n) for n in ("chosen", "rejected", "extra", "prompt"))
        self.mean, self.count = 0.0, 0

    def parameter(self, name, component=0):
        value, library = ctypes.c_double(), self.device.library
        library.call(library.flat_loss_parameter, self.loss.encode(), component, name.encode(), ctypes.addressof(value))
        return value.value

    def running_mean(self, ratio):
        """Mean of all rewards seen, these included (TRL's RunningMoments)"""
        self.count += len(ratio)
        self.mean += (self.parameter("beta") * float(ratio.mean()) - self.mean) * len(ratio) / self.count
        return self.mean

    def __call__(self, policy, tokens, reference=None, kind=None, groups=None, mismatched=None, old=None, score=None,
                 margin=None, weight=None, advantage=None):
        """policy [N] (with its graph), reference [N]: sums of log-probs; tokens [N]: how many each sums.
        kind, groups: left out, the items are pairs: chosen, rejected, chosen, ... mismatched: log-ratios of prompts
        with other prompts' completions, for KTO. The loss is the mean over groups, or over items if each has its own.
        Losses of the GRPO family look at tokens: items are tokens (sequence_logps with sequences of one row), groups
        their sequences, old the log-probs under the policy that sampled them, advantage that of their sequence"""
        count = len(policy)
        pairs = kind is None or (groups is None and not self.needs["per_item"])
        if pairs and count % 2:
            raise ValueError(f"{count} items are no pairs: give kind and groups")
        if kind is None:
            kind = torch.tensor([self.chosen, self.rejected], dtype=torch.int32).repeat(count // 2)
        if groups is None:
            groups = torch.arange(0, count + 1, 1 if self.needs["per_item"] else 2, dtype=torch.int32)
        if self.needs["reference"] and reference is None:
            raise ValueError(f"loss {self.loss} compares with a reference: give its sums of log-probs")
        if self.needs["own_weights"] and weight is None:
            raise ValueError(f"loss {self.loss} weighs items by the policy's own likelihood: give weight")
        check_lengths(count, groups, policy=policy, tokens=tokens, kind=kind, reference=reference, old=old,
                      score=score, margin=margin, weight=weight, advantage=advantage)
        z0 = delta = 0.0
        if self.needs["z0"]:
            z0 = max(0.0, float(mismatched.double().mean()))
        if self.needs["delta"]:
            delta = self.running_mean(policy.detach() - reference)
        divisor = float(count if self.needs["per_item"] and not self.needs["per_token"] else len(groups) - 1)
        scored = float(tokens[kind == self.chosen].sum())
        prompts = float(tokens[kind == self.prompt].sum()) if self.needs["prompts"] else 0.0
        return PreferenceLoss.apply(policy, self.device, self.loss, reference, old, tokens, kind, groups,
                                    (score, margin, weight, advantage), divisor, z0, delta, scored, prompts)


# ---- a small language model over bytes ----

BOS, EOS, VOCAB = 256, 257, 259


class Block(torch.nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = torch.nn.LayerNorm(dim), torch.nn.LayerNorm(dim)
        self.mix, self.out = torch.nn.Linear(dim, 3 * dim), torch.nn.Linear(dim, dim)
        self.up, self.down = torch.nn.Linear(dim, 4 * dim), torch.nn.Linear(4 * dim, dim)

    def forward(self, x):
        batch, length, dim = x.shape
        q, k, v = (t.view(batch, length, self.heads, -1).transpose(1, 2) for t in self.mix(self.norm1(x)).chunk(3, -1))
        score = q @ k.transpose(-1, -2) / math.sqrt(dim // self.heads)
        future = torch.ones(length, length, dtype=torch.bool).triu(1)
        mixed = score.masked_fill(future, float("-inf")).softmax(-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.down(torch.nn.functional.gelu(self.up(self.norm2(x))))


class Model(torch.nn.Module):
    def __init__(self, dim=64, layers=2, heads=4, longest=256):
        super().__init__()
        self.token, self.place = torch.nn.Embedding(VOCAB, dim), torch.nn.Embedding(longest, dim)
        self.blocks = torch.nn.Sequential(*[Block(dim, heads) for _ in range(layers)])
        self.norm, self.head = torch.nn.LayerNorm(dim), torch.nn.Linear(dim, VOCAB, bias=False)

    def hidden(self, ids):
        return self.norm(self.blocks(self.token(ids) + self.place(torch.arange(ids.shape[1]))))


class Batch:
    """Sequences (prompt, completion), padded for the model's body; only completions are scored"""

    def __init__(self, texts):
        rows = [([BOS, *prompt], [*completion, EOS]) for prompt, completion in texts]
        longest = max(len(p) + len(c) for p, c in rows) - 1
        self.ids = torch.zeros(len(rows), longest, dtype=torch.long)
        self.scored = torch.zeros(len(rows), longest, dtype=torch.bool)
        for i, (p, c) in enumerate(rows):
            ids = torch.tensor(p + c)
            self.ids[i, :len(ids) - 1] = ids[:-1]
            self.scored[i, len(p) - 1:len(ids) - 1] = True
        self.target = torch.cat([torch.tensor(c, dtype=torch.int32) for _, c in rows])
        self.tokens = torch.tensor([len(c) for _, c in rows], dtype=torch.int32)
        self.offset = torch.cat([torch.zeros(1, dtype=torch.int64), self.tokens.cumsum(0)])


def read_pairs(path, count):
    with open(path, encoding="utf-8") as file:
        for _, line in zip(range(count), file):
            record = json.loads(line)
            yield [(record["prompt"].encode(), record[side].encode()) for side in ("chosen", "rejected")]


class Scorer:
    """Sums of log-probs of a batch under a model, on a device"""

    def __init__(self, device, head=None):
        self.device, self.head = device, head

    def __call__(self, model, batch):
        hidden = model.hidden(batch.ids)[batch.scored]
        if self.head:
            return hidden_logps(self.head, hidden, model.head.weight, batch.target, batch.offset)
        return sequence_logps(self.device, model.head(hidden), batch.target, batch.offset, in_place=True)


def accuracy(score, model, reference, batches):
    """Share of pairs whose chosen side gained more on the reference than the rejected one"""
    with torch.no_grad():
        gains = torch.cat([score(model, b) - score(reference, b) for b in batches])
    return float((gains[0::2] > gains[1::2]).double().mean())


def train(score, preference, model, batches, steps, rate, note=print):
    """DPO and its relatives: the reference is the model as it comes in, its log-probs are computed once per batch.
    Returns the losses"""
    reference, kept, losses = copy.deepcopy(model), {}, []
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        batch = batches[step % len(batches)]
        if step < len(batches):
            with torch.no_grad():
                kept[step] = score(reference, batch)
        loss = preference(score(model, batch), batch.tokens, kept[step % len(batches)])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
        if note and (step % 10 == 0 or step == steps - 1):
            note(f"step {step}: loss {losses[-1]:.6f}")
    return losses


def imitate(score, model, batches, steps, rate):
    """Plain likelihood of the chosen answers, so that preferences have something to move"""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        batch = batches[step % len(batches)]
        loss = -score(model, batch)[0::2].sum() / batch.tokens[0::2].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return float(loss)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("pairs")
    parser.add_argument("held")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--library")
    parser.add_argument("--loss", default="sigmoid:beta=0.1", help="a loss over pairs; `prefpga losses` lists them")
    parser.add_argument("--hidden", action="store_true", help="hand over hidden states instead of logits")
    parser.add_argument("--precision", choices=("fp32", "bf16", "mxint8"), default="fp32", help="of the head; with --hidden")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=16, help="pairs of a step")
    options = parser.parse_args()
    if options.precision != "fp32" and not options.hidden:
        parser.error("--precision is of the head that takes hidden states: give --hidden")
    torch.manual_seed(0)
    pairs = list(read_pairs(options.pairs, 512))
    batches = [Batch(sum(pairs[i:i + options.batch], [])) for i in range(0, len(pairs), options.batch)]
    held = [Batch(sum(read_pairs(options.held, 64), []))]
    with Device(options.device, Library(options.library)) as device:
        model = Model()
        head = Head(device, VOCAB, model.head.in_features, options.precision) if options.hidden else None
        score, preference = Scorer(device, head), Preference(device, options.loss)
        print(f"imitation: loss {imitate(score, model, batches, options.steps, 3e-3):.4f}")
        reference = copy.deepcopy(model)
        train(score, preference, model, batches, options.steps, 5e-4)
        print(f"held-out pairs that the model prefers as it should: {accuracy(score, model, reference, held):.3f}")
        if head:
            head.close()


if __name__ == "__main__":
    sys.exit(main())
