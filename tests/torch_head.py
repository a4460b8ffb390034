"""examples/torch_head.py against PyTorch's own log_softmax, gather and autograd, and losses written here in float64.

usage: torch_head.py SOURCE LIBRARY [DATA]   exit code 77: PyTorch is not installed
DATA: a folder with make_demo_data's pairs.jsonl; with it, a training is compared step by step as well.
"""
import copy
import os
import sys
import unittest

try:
    import torch
except ImportError as reason:
    print(f"skipped: {reason}; Debian's package is python3-torch")
    sys.exit(77)

SOURCE, LIBRARY, DATA = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
sys.path.insert(0, os.path.join(SOURCE, "examples"))
import torch_head as door  # noqa: E402

DEVICES = ("cpu", "sim")
LOG_PROB = 2.0 ** -20           # nats a token: what fp32 logits allow a float64 reference to see, and more
library = door.Library(LIBRARY)


def softplus(x):
    return torch.nn.functional.softplus(x)


def make_logits(rows, vocab, dtype, seed=1):
    generator = torch.Generator().manual_seed(seed)
    logits = (torch.randn(rows, vocab, generator=generator) * 4).to(dtype)
    target = torch.randint(vocab, (rows,), generator=generator)
    return logits, target


def sums_in_double(logits, target, offset):
    """[B] float64 with a graph; negative targets are not scored"""
    logp = torch.log_softmax(logits.double(), -1).gather(1, target.clamp(min=0).unsqueeze(1))[:, 0] * (target >= 0)
    return torch.stack([logp[a:b].sum() for a, b in zip(offset[:-1].tolist(), offset[1:].tolist())])


class Devices(unittest.TestCase):
    def each(self):
        for spec in DEVICES:
            with door.Device(spec, library) as device, self.subTest(device=spec):
                yield device

    def close(self, got, want, bound):
        self.assertEqual(got.shape, want.shape)
        worst = (got.double() - want.double()).abs()
        self.assertTrue(bool((worst <= bound).all()), f"off by {float(worst.max())}: {got} {want}")  # NaN fails


class LogProbs(Devices):
    SHAPES = ((1, 1), (3, 5), (17, 259), (40, 1000))

    def compare(self, device, rows, vocab, dtype, relative):
        logits, target = make_logits(rows, vocab, dtype)
        if rows > 2:
            target[1] = -100
        offset = torch.tensor([0, rows // 3, rows // 3, rows])          # the middle sequence is empty
        weight = torch.tensor([0.3, 1.0, -2.0], dtype=torch.float64)
        mine, theirs = logits.clone().requires_grad_(), logits.double().requires_grad_()
        got = door.sequence_logps(device, mine, target, offset)
        want = sums_in_double(theirs, target, offset)
        self.assertEqual(got.dtype, torch.float64)
        self.close(got, want, rows * LOG_PROB)
        (got * weight).sum().backward()
        (want * weight).sum().backward()
        self.assertEqual(mine.grad.dtype, dtype)
        self.close(mine.grad, theirs.grad, theirs.grad.abs() * relative + 1e-7)

    def test_float32(self):
        for device in self.each():
            for rows, vocab in self.SHAPES:
                self.compare(device, rows, vocab, torch.float32, 2.0 ** -20)

    def test_narrow_types_round_once(self):
        for device in self.each():
            self.compare(device, 17, 259, torch.bfloat16, 2.0 ** -8)
            self.compare(device, 17, 259, torch.float16, 2.0 ** -10)

    def test_views_are_copied(self):
        logits, target = make_logits(6, 33, torch.float32)
        offset = torch.tensor([0, 6])
        for device in self.each():
            strided = logits.t().contiguous().t().requires_grad_()
            door.sequence_logps(device, strided, target, offset).sum().backward()
            plain = logits.clone().requires_grad_()
            door.sequence_logps(device, plain, target, offset).sum().backward()
            self.assertTrue(torch.equal(strided.grad, plain.grad))

    def test_in_place(self):
        logits, target = make_logits(9, 64, torch.float32)
        offset = torch.tensor([0, 4, 9])
        for device in self.each():
            leaf = logits.clone().requires_grad_()
            middle = leaf * 1.0
            before, memory = door.sequence_logps(device, middle, target, offset), middle.data_ptr()
            expected = logits.clone().requires_grad_()
            door.sequence_logps(device, expected, target, offset).sum().backward()
            self.assertTrue(torch.equal(middle.detach(), logits))
            gradient, = torch.autograd.grad(
                door.sequence_logps(device, middle, target, offset, in_place=True).sum(), middle)
            self.assertEqual(gradient.data_ptr(), memory)
            self.assertTrue(torch.equal(gradient, expected.grad))
            with self.assertRaisesRegex(RuntimeError, "modified by an inplace operation"):
                before.sum().backward()         # its logits are gone

    def test_mistakes_are_named(self):
        logits, target = make_logits(4, 7, torch.float32)
        offset = torch.tensor([0, 4])
        for device in self.each():
            with self.assertRaisesRegex(RuntimeError, "row 2: target 7 is no token"):
                door.sequence_logps(device, logits, torch.tensor([0, 1, 7, 2]), offset)
            with self.assertRaisesRegex(RuntimeError, "must begin with 0 and end with the 4 rows"):
                door.sequence_logps(device, logits, target, torch.tensor([0, 5]))
            with self.assertRaisesRegex(RuntimeError, "offset 3 of sequence 1"):
                door.sequence_logps(device, logits, target, torch.tensor([0, 3, 2, 4]))
            broken = logits.clone()
            broken[3, 1] = float("nan")
            with self.assertRaisesRegex(RuntimeError, "row 3 \\(sequence 0\\) has no finite log-prob"):
                door.sequence_logps(device, broken, target, offset)
            with self.assertRaisesRegex(ValueError, "must be \\[T, V\\]"):
                door.sequence_logps(device, logits.double(), target, offset)
        with self.assertRaisesRegex(RuntimeError, "no_such_device"):
            door.Device("no_such_device", library)


class Hidden(Devices):
    def test_against_a_product_in_double(self):
        rows, dim, vocab = 37, 16, 300
        generator = torch.Generator().manual_seed(2)
        hidden, weight = torch.randn(rows, dim, generator=generator), torch.randn(vocab, dim, generator=generator)
        target = torch.randint(vocab, (rows,), generator=generator)
        offset, scale = torch.tensor([0, 20, 37]), torch.tensor([1.5, -0.5], dtype=torch.float64)
        for device in self.each():
            head = door.Head(device, vocab, dim)
            h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
            hd, wd = hidden.double().requires_grad_(), weight.double().requires_grad_()
            got, want = door.hidden_logps(head, h, w, target, offset), sums_in_double(hd @ wd.t(), target, offset)
            self.close(got, want, rows * 1e-5)
            (got * scale).sum().backward()
            (want * scale).sum().backward()
            self.close(h.grad, hd.grad, hd.grad.abs() * 1e-4 + 1e-5)
            self.close(w.grad, wd.grad, wd.grad.abs() * 1e-4 + 1e-5)
            head.close()

    def test_precision(self):
        """Multiples of 1/64 below 2 are exact in bf16 and mxint8; dhidden comes back as bf16. Others are rounded"""
        rows, dim, vocab = 21, 64, 90
        generator = torch.Generator().manual_seed(5)
        hidden, weight = (torch.randint(-120, 121, (n, dim), generator=generator) / 64.0 for n in (rows, vocab))
        target, offset = torch.randint(vocab, (rows,), generator=generator), torch.tensor([0, 9, 21])
        for device in self.each():
            for precision in ("fp32", "bf16", "mxint8"):
                head = door.Head(device, vocab, dim, precision)
                h, w = hidden.clone().requires_grad_(), weight.clone().requires_grad_()
                hd, wd = hidden.double().requires_grad_(), weight.double().requires_grad_()
                got, want = door.hidden_logps(head, h, w, target, offset), sums_in_double(hd @ wd.t(), target, offset)
                self.close(got, want, rows * 2e-5)
                got.sum().backward()
                want.sum().backward()
                self.close(h.grad, hd.grad, hd.grad.abs() * (1e-4 if precision == "fp32" else 2 ** -8) + 1e-5)
                self.close(w.grad, wd.grad, wd.grad.abs() * 1e-4 + 1e-5)
                rounded = door.hidden_logps(head, hidden * 1.01, weight * 1.01, target, offset)
                want = sums_in_double((hidden * 1.01).double() @ (weight * 1.01).double().t(), target, offset)
                self.assertEqual(float((rounded - want).abs().max()) > rows * 2e-5, precision != "fp32")
                head.close()
            with self.assertRaisesRegex(RuntimeError, "bf17"):
                door.Head(device, vocab, dim, "bf17")

    def test_only_the_last_forward_goes_back(self):
        generator = torch.Generator().manual_seed(3)
        weight = torch.randn(20, 8, generator=generator)
        few, many = (torch.randn(rows, 8, generator=generator).requires_grad_() for rows in (2, 50))
        for device in self.each():
            head = door.Head(device, 20, 8)
            few.grad = many.grad = None
            first, last = (door.hidden_logps(head, h, weight, torch.zeros(len(h), dtype=torch.int64),
                                             torch.tensor([0, len(h)])) for h in (few, many))
            with self.assertRaisesRegex(RuntimeError, "another forward"):
                first.sum().backward()
            last.sum().backward()
            want, = torch.autograd.grad(torch.log_softmax((many @ weight.t()).double(), -1)[:, 0].sum(), many)
            self.close(many.grad, want, want.abs() * 1e-4 + 1e-5)
            self.assertIsNone(few.grad)
            head.close()

    def test_shapes_are_those_of_the_head(self):
        target, offset = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3])
        for device in self.each():
            head = door.Head(device, 20, 8)
            for hidden, weight, ids, bounds in (
                    ((3, 8), (19, 8), target, offset), ((3, 8), (21, 8), target, offset),
                    ((3, 7), (20, 7), target, offset), ((3, 7), (20, 8), target, offset),
                    ((24,), (20, 8), target, offset), ((3, 8), (160,), target, offset),
                    ((3, 8), (20, 8), target[:2], offset), ((3, 8), (20, 8), target, offset[:0])):
                with self.assertRaises(ValueError):
                    door.hidden_logps(head, torch.ones(hidden), torch.ones(weight), ids, bounds)
            head.close()

    def test_what_is_closed_says_so(self):
        hidden, weight = torch.ones(3, 8, requires_grad=True), torch.ones(20, 8)
        target, offset = torch.zeros(3, dtype=torch.int64), torch.tensor([0, 3])
        for spec in DEVICES:
            device = door.Device(spec, library)
            head, other = door.Head(device, 20, 8), door.Head(device, 20, 8)
            sums = door.hidden_logps(head, hidden, weight, target, offset).sum()
            head.close()
            head.close()
            with self.assertRaisesRegex(RuntimeError, "head is closed"):
                sums.backward()
            with self.assertRaisesRegex(RuntimeError, "head is closed"):
                door.hidden_logps(head, hidden, weight, target, offset)
            device.close()
            device.close()
            with self.assertRaisesRegex(RuntimeError, "head is closed, or its device is"):
                door.hidden_logps(other, hidden, weight, target, offset)
            with self.assertRaisesRegex(RuntimeError, "device is closed"):
                door.sequence_logps(device, torch.ones(3, 8), target, offset)
            with self.assertRaisesRegex(RuntimeError, "device is closed"):
                door.Head(device, 20, 8)
            other.close()


class Losses(Devices):
    """Values and gradients of losses over 4 pairs, or 8 labelled samples, against formulas in float64"""
    COUNT = 8
    policy = torch.tensor([-12.0, -14, -30, -22, -8.5, -9, -40, -41.25], dtype=torch.float64)
    reference = torch.tensor([-13.0, -13.5, -28, -25, -8, -10, -39, -42], dtype=torch.float64)
    tokens = torch.tensor([9, 7, 21, 20, 5, 6, 30, 31], dtype=torch.int32)
    labels = torch.tensor([1, 2, 2, 1, 1, 1, 2, 2], dtype=torch.int32)
    mismatched = torch.tensor([0.5, -0.1, 0.9], dtype=torch.float64)

    def pairs(self, f):
        def loss(p):
            u = p - self.reference
            return f(u[0::2], u[1::2], p[0::2], p[1::2], self.tokens[0::2], self.tokens[1::2]).mean()
        return loss

    def check(self, text, formula, **inputs):
        for device in self.each():
            mine, theirs = (self.policy.clone().requires_grad_() for _ in range(2))
            got = door.Preference(device, text)(mine, self.tokens, self.reference, **inputs)
            want = formula(theirs)
            (got * 3.0).backward()
            (want * 3.0).backward()
            self.close(got.detach(), want.detach(), 4e-6 * (1 + abs(float(want))))
            self.close(mine.grad, theirs.grad, 4e-6 * (1 + theirs.grad.abs()))

    def test_dpo(self):
        self.check("sigmoid:beta=0.3", self.pairs(lambda u, v, *_: softplus(-0.3 * (u - v))))

    def test_ipo(self):
        self.check("ipo:beta=0.1", self.pairs(lambda u, v, pw, pl, nw, nl: (u / nw - v / nl - 5.0) ** 2))

    def test_hinge(self):
        self.check("hinge:beta=0.1", self.pairs(lambda u, v, *_: torch.relu(1 - 0.1 * (u - v))))

    def test_simpo_without_reference(self):
        self.check("simpo:beta=2,simpo_gamma=0.5", self.pairs(
            lambda u, v, pw, pl, nw, nl: softplus(-(2 * (pw / nw - pl / nl) - 0.5))))

    def test_a_mixture_with_likelihood(self):
        def formula(p):
            u = p - self.reference
            nll = -p[0::2].sum() / self.tokens[0::2].sum()
            return softplus(-0.1 * (u[0::2] - u[1::2])).mean() + 0.5 * nll
        self.check("sigmoid:beta=0.1+sft:weight=0.5", formula)

    def test_kto_is_coupled_by_its_reference_point(self):
        z0 = max(0.0, float(self.mismatched.mean()))
        good = self.labels == 1

        def formula(p):
            u = 0.2 * (p - self.reference - z0)
            return torch.where(good, 1 - torch.sigmoid(u), 1.5 * (1 - torch.sigmoid(-u))).mean()
        self.check("kto:beta=0.2,undesirable_weight=1.5", formula, kind=self.labels, mismatched=self.mismatched)

    def test_bco_is_coupled_by_its_running_mean(self):
        good = self.labels == 1
        delta = float(0.1 * (self.policy - self.reference).mean())

        def formula(p):
            r = 0.1 * (p - self.reference)
            return torch.where(good, softplus(-(r - delta)), softplus(r - delta)).mean()
        self.check("bco:beta=0.1", formula, kind=self.labels)

    def test_the_likelihood_of_prompts(self):
        kind = torch.tensor([1, 2, 8, 1, 2, 8, 1, 2], dtype=torch.int32)     # the third pair's prompt is empty
        first, counted = torch.tensor([0, 3, 6]), kind != 2

        def formula(p):
            nll = -p[counted].sum() / self.tokens[counted].sum()
            return softplus(-0.1 * (p[first] - p[first + 1])).mean() + 0.5 * nll
        self.check("reference_free:beta=0.1+sft_prompt:weight=0.5", formula, kind=kind,
                   groups=torch.tensor([0, 3, 6, 8]))

    def test_each_likelihood_has_its_tokens(self):
        kind = torch.tensor([1, 2, 8, 1, 2, 8, 1, 2], dtype=torch.int32)

        def mean(p, counted):
            return -p[counted].sum() / self.tokens[counted].sum()
        for text, formula in (("sft", lambda p: mean(p, kind == 1)),
                              ("sft+sft_prompt", lambda p: mean(p, kind == 1) + mean(p, kind != 2))):
            self.check(text, formula, kind=kind, groups=torch.tensor([0, 3, 6, 8]))

    def test_rankings(self):
        def formula(p):
            s = 0.1 * (p - self.reference).view(2, 4)
            return sum((torch.logsumexp(s[:, k:], 1) - s[:, k]) for k in range(4)).mean()
        self.check("pl_dpo:beta=0.1", formula, kind=torch.tensor([1, 2, 2, 2] * 2),
                   groups=torch.tensor([0, 4, 8]), score=torch.tensor([4.0, 3, 2, 1] * 2))

    def inputs(self, form):
        """Items of a form: kinds, groups and what else its losses look at"""
        lists = torch.tensor([0, 4, 8])
        return {
            "pair": {"score": torch.tensor([5.0, 1, 4, 2, 3, 1, 2, 1])},
            "binary": {"kind": self.labels, "groups": torch.arange(9), "mismatched": self.mismatched},
            "triple": {"kind": torch.tensor([1, 2, 4] * 2), "groups": torch.tensor([0, 3, 6])},
            "list": {"kind": torch.tensor([1, 2, 2, 2] * 2), "groups": lists,
                     "score": torch.tensor([4.0, 3, 2, 1] * 2)},
            "rollout": {"kind": torch.ones(8, dtype=torch.int32), "groups": lists, "old": self.policy + 0.05,
                        "advantage": torch.tensor([1.0] * 4 + [-0.5] * 4), "score": torch.ones(8)},
            "tokens": {"kind": torch.ones(8, dtype=torch.int32), "groups": torch.arange(9)},
        }[form]

    def evaluate(self, device, name):
        form = library.flat_loss_form(name.encode()).decode()
        count = 6 if form == "triple" else 8
        policy = (self.policy[:count] / (40 if form == "rollout" else 1)).requires_grad_()
        tokens = torch.ones(8, dtype=torch.int32) if form in ("rollout", "tokens") else self.tokens
        inputs = self.inputs(form)
        if "old" in inputs:
            inputs["old"] = policy.detach() + 0.05
        reference = self.reference[:count] / (40 if form == "rollout" else 1)
        loss = door.Preference(device, name)(policy, tokens[:count], reference, weight=torch.full((count,), 0.8),
                                             margin=torch.full((count,), 0.1), **inputs)
        loss.backward()
        return loss.detach(), policy.grad

    def test_every_loss_that_there_is(self):
        """Their values are tests/loss_vectors.c's subject; here: each comes through, with a gradient, and alike"""
        names, seen = [], 0
        while library.flat_loss_name(len(names)):
            names.append(library.flat_loss_name(len(names)).decode())
        self.assertGreater(len(names), 50)
        with door.Device("cpu", library) as cpu, door.Device("sim", library) as sim:
            for name in names:
                with self.subTest(loss=name):
                    (a, da), (b, db) = self.evaluate(cpu, name), self.evaluate(sim, name)
                    self.assertTrue(bool(torch.isfinite(a)) and bool(torch.isfinite(da).all()))
                    self.assertTrue(bool((da != 0).any()), "no gradient")
                    self.close(a, b, 1e-5 * (1 + abs(float(b))))
                    self.close(da, db, 1e-5 * (1 + db.abs()))
                    seen += 1
        self.assertEqual(seen, len(names))

    def test_grpo_token_by_token(self):
        policy = torch.tensor([-1.0, -0.5, -2, -1.5, -0.3, -0.7, -1.1, -0.9], dtype=torch.float64)
        old = policy + torch.tensor([0.1, -0.3, 0.0, 0.2, -0.1, 0.4, -0.05, 0.0], dtype=torch.float64)
        advantage = torch.tensor([1.0] * 5 + [-0.5] * 3)
        groups = torch.tensor([0, 5, 8])
        for device in self.each():
            mine, theirs = (policy.clone().requires_grad_() for _ in range(2))
            got = door.Preference(device, "grpo")(mine, torch.ones(8, dtype=torch.int32), groups=groups, old=old,
                                                  kind=torch.ones(8, dtype=torch.int32), advantage=advantage)
            ratio = torch.exp(theirs - old)
            each = -torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
            want = (each[:5].mean() + each[5:].mean()) / 2
            got.backward()
            want.backward()
            self.close(got.detach(), want.detach(), 1e-6)
            self.close(mine.grad, theirs.grad, 1e-6)

    def test_lengths_are_those_of_the_policy(self):
        full = {"tokens": self.tokens, "reference": self.reference, "kind": self.labels, "old": self.policy}
        full.update((name, torch.ones(8)) for name in ("score", "margin", "weight", "advantage"))
        with door.Device("cpu", library) as device:
            loss = door.Preference(device, "sigmoid")
            for name, tensor in full.items():
                for wrong in (tensor[:7], torch.cat([tensor, tensor]), tensor[:1], tensor.view(2, 4)):
                    with self.subTest(name=name), self.assertRaisesRegex(ValueError, name):
                        loss(self.policy, **{"tokens": self.tokens, "reference": self.reference, name: wrong})
            for groups in ([0], [0, 6], [0, 2, 10], [[0, 8]]):
                with self.subTest(groups=groups), self.assertRaisesRegex(ValueError, "groups"):
                    loss(self.policy, self.tokens, self.reference, groups=torch.tensor(groups))
            for groups in ([0, 9, 8], [2, 8], [0, -2, 8]):      # what the library checks itself
                with self.subTest(groups=groups), self.assertRaises(RuntimeError):
                    loss(self.policy, self.tokens, self.reference, groups=torch.tensor(groups))
            for more in ({}, {"kind": self.labels[:7]}, {"groups": torch.tensor([0, 2, 7])}):
                with self.assertRaisesRegex(ValueError, "pairs"):
                    loss(self.policy[:7], self.tokens[:7], self.reference[:7], **more)
            with self.assertRaisesRegex(ValueError, "reference"):       # before the running mean broadcasts it
                door.Preference(device, "bco")(self.policy, self.tokens, self.reference[:1], kind=self.labels)

    def test_a_missing_reference_is_named(self):
        for device in self.each():
            with self.assertRaisesRegex(ValueError, "compares with a reference"):
                door.Preference(device, "sigmoid")(self.policy, self.tokens)
            with self.assertRaisesRegex(RuntimeError, "sigmod"):
                door.Preference(device, "sigmod")


@unittest.skipIf(DATA is None, "no data")
class Training(Devices):
    """The example's loop and the same loop in PyTorch alone, from equal weights"""
    STEPS = 12

    def plain(self, model, batch):
        logp = torch.log_softmax(model.head(model.hidden(batch.ids)[batch.scored]).double(), -1)
        logp = logp.gather(1, batch.target.long().unsqueeze(1))[:, 0]
        owner = torch.repeat_interleave(torch.arange(len(batch.tokens)), batch.tokens.long())
        return torch.zeros(len(batch.tokens), dtype=torch.float64).index_add(0, owner, logp)

    def test_curves_agree(self):
        pairs = list(door.read_pairs(os.path.join(DATA, "pairs.jsonl"), 24))
        batches = [door.Batch(sum(pairs[i:i + 8], [])) for i in range(0, 24, 8)]
        torch.manual_seed(3)
        first = door.Model(dim=32, layers=1)

        def dpo(policy, tokens, reference):
            ratio = policy - reference
            return softplus(-0.1 * (ratio[0::2] - ratio[1::2])).mean()
        want = door.train(self.plain, dpo, copy.deepcopy(first), batches, self.STEPS, 1e-3, note=None)
        self.assertLess(want[-1], want[0] - 1e-3)
        for device in self.each():
            head = door.Head(device, door.VOCAB, 32)
            for score in (door.Scorer(device), door.Scorer(device, head)):
                got = door.train(score, door.Preference(device, "sigmoid:beta=0.1"), copy.deepcopy(first), batches,
                                 self.STEPS, 1e-3, note=None)
                self.assertTrue(all(abs(a - b) <= 1e-4 for a, b in zip(got, want)), f"{got} {want}")
            head.close()


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
