#!/usr/bin/env python3
"""Test vectors of every preference loss, from the formulas in the papers and nothing else.

    generate.py > losses.json      (needs python3-mpmath; about a minute)

Each case has inputs that kernel pref's tables hold exactly (log-probs as multiples of 2^-32,
parameters as doubles, scores, margins and weights as singles), the loss and its derivatives by the
policy's log-probs to 25 digits, and for each of these `cond`, the sum over inputs of
|input * derivative by that input|: what one unit of rounding in the inputs amounts to. Derivatives
are made by automatic differentiation of the value formulas below in 600-digit arithmetic; at a kink
they are those of the flat side. Exponents are clamped at 80, as the losses define.

To add a loss: its formula in LOSSES, with the cases to run it on."""
import json
import random
import struct
import sys
import zlib
from decimal import Decimal, getcontext

import mpmath as mp

mp.mp.dps = 600                     # saturated softmax: 1 - (1 - e^-1000) must keep 25 digits
getcontext().prec = 700
M = mp.mpf


# ---- numbers with derivatives ----
class Num:
    """A value and its derivatives by the differentiable inputs (a dict by number)"""
    def __init__(self, v, d=None):
        self.v, self.d = M(v), d or {}

    def chain(self, value, slope):
        return Num(value, {k: slope * x for k, x in self.d.items()} if slope else {})

    def __add__(self, o):
        o = lift(o)
        keys = self.d.keys() | o.d.keys()
        return Num(self.v + o.v, {k: self.d.get(k, 0) + o.d.get(k, 0) for k in keys})

    def __mul__(self, o):
        o = lift(o)
        keys = self.d.keys() | o.d.keys()
        return Num(self.v * o.v, {k: self.d.get(k, 0) * o.v + o.d.get(k, 0) * self.v for k in keys})

    def __neg__(self):
        return self.chain(-self.v, -1)

    def __sub__(self, o):
        return self + -lift(o)

    def __rsub__(self, o):
        return lift(o) + -self

    def __truediv__(self, o):
        o = lift(o)
        return self * o.chain(1 / o.v, -1 / o.v ** 2)

    def __rtruediv__(self, o):
        return lift(o) / self

    __radd__, __rmul__ = __add__, __mul__


def lift(x):
    return x if isinstance(x, Num) else Num(x)


def exp(a):
    e = mp.exp(a.v)
    return a.chain(e, e)


def clamp_exp(a):
    return exp(a) if a.v <= 80 else Num(mp.exp(80))


def log(a):
    return a.chain(mp.log(a.v), 1 / a.v)


def expm1(a):
    return a.chain(mp.expm1(a.v), mp.exp(a.v))


def sig_v(x):
    return 1 / (1 + mp.exp(-x))


def sig(a):
    return a.chain(sig_v(a.v), sig_v(a.v) * sig_v(-a.v))


def sp(a):
    return a.chain(a.v + mp.log1p(mp.exp(-a.v)) if a.v > 0 else mp.log1p(mp.exp(a.v)), sig_v(a.v))


def relu(a):
    return a if a.v > 0 else Num(0)


def sq(a):
    return a * a


def total(xs):
    s = Num(0)
    for x in xs:
        s = s + x
    return s


def mean(xs):
    return total(xs) / len(xs)


def lse(xs):
    m = max(x.v for x in xs)
    return log(total(exp(x - m) for x in xs)) + m


def log1mexp(a):
    return a.chain(mp.log(-mp.expm1(a.v)), -mp.exp(a.v) / -mp.expm1(a.v))


def const(x):
    """The value without its derivatives"""
    return Num(lift(x).v)


# ---- pairs ----
def u(p):
    return p.score(p.lw - p.rw)


def v(p):
    return p.score(p.ll - p.rl)


def rho(p):
    return u(p) - v(p)


def x(p):
    return p.beta * rho(p)


def rho_mean(p):
    return u(p) / p.nw - v(p) / p.nl


def nll(p):
    return -p.lw / p.nw


def nll_prompt(p):
    """Of prompt and chosen completion, by their tokens"""
    return -(p.lw + p.lp) / (p.nw + p.np)


def smooth(z, e):
    return (1 - e) * sp(-z) + e * sp(z)


def discopop(p, tau=None):
    z, t = x(p), tau or p.tau
    log_weighted = -z - sp(-z / t)                  # log of sigmoid(z / tau) e^-z
    return sig(-z / t) * sp(-z) + clamp_exp(log_weighted)


def exo(p):
    q, e = sig(x(p)), p.eps
    return q * (-sp(-x(p)) - mp.log(1 - e.v)) + sig(-x(p)) * (-sp(x(p)) - mp.log(e.v))


def divergence(score):
    return lambda p: sp(-(p.beta * (score(u(p), p) - score(v(p), p))))


def exo_authors(p):
    z = x(p)
    return sig(z) * -sp(-z) + sig(-z) * (-sp(z) + 10)


def rho_own(p):
    """Margin of mean log-probs, without a reference"""
    return p.lw / p.nw - p.ll / p.nl


def gold(p):
    return p.alpha * p.lg / p.ng


def alphapo_reward(s, p):
    a = p.alpha
    if a.v == 0:
        return s
    return (1 - clamp_exp(-(a * s))) / a


def odds(a):
    a = a if a.v <= M(-1e-6) else Num(M(-1e-6))
    return a - log1mexp(a)


PAIRS = {
    'sigmoid': lambda p: sp(-x(p)),
    'cdpo': lambda p: smooth(x(p), p.eps),
    'robust': lambda p: ((1 - p.eps) * sp(-x(p)) - p.eps * sp(x(p))) / (1 - 2 * p.eps),
    'dpo_offset': lambda p: sp(-(x(p) - p.delta)),
    'dpop': lambda p: sp(-(p.beta * (rho(p) - p.lam * relu(-u(p))))),
    'rdpo': lambda p: sp(-(x(p) + p.alpha * (p.nw - p.nl))),
    'sigmoid_norm': lambda p: sp(-(p.beta * rho_mean(p))),
    'wpo': lambda p: min(p.ww.v * p.wl.v, 1) * sp(-x(p)),
    'fdpo_forward_kl': divergence(lambda t, p: -clamp_exp(-t)),
    'fdpo_js': divergence(lambda t, p: -sp(-t)),
    'fdpo_alpha': divergence(lambda t, p: clamp_exp((p.a - 1) * t) / (p.a - 1)),
    'fdpo_alpha_p': divergence(lambda t, p: -(clamp_exp(-p.alpha_p * t) / p.alpha_p)),
    'reference_free': lambda p: sp(-(p.beta * (p.lw - p.ll))),
    'exo_pair_authors': exo_authors,
    'discopop_card': lambda p: discopop(p, p.beta),
    'simpo_ratio': lambda p: sp(-(p.beta * (rho_own(p) - p.gamma_beta_ratio))),
    'cpo_hinge': lambda p: relu(1 - p.beta * (p.lw - p.ll)) + p.alpha * nll(p),
    'cpo_ipo': lambda p: sq(rho_own(p) - 1 / (2 * p.beta)) + p.alpha * nll(p),
    'tpo_hinge': lambda p: relu(1 - p.beta * (p.lw - p.ll)) - gold(p),
    'tpo_ipo': lambda p: sq(rho_own(p) - 1 / (2 * p.beta)) - gold(p),
    'tpo_l': lambda p: sp(-(p.beta * rho_own(p) - p.gamma)) - gold(p),
    'ipo': lambda p: sq(rho_mean(p) - 1 / (2 * p.beta)),
    'ipo_sum': lambda p: sq(rho(p) - 1 / (2 * p.beta)),
    'hinge': lambda p: relu(1 - x(p)),
    'exo_pair': exo,
    'gpo_logistic': lambda p: sp(-x(p)),
    'gpo_hinge': lambda p: relu(1 - x(p)),
    'gpo_squared': lambda p: sq(x(p) - 1),
    'gpo_exponential': lambda p: clamp_exp(-x(p)),
    'gpo_truncated_squared': lambda p: sq(relu(1 - x(p))),
    'gpo_savage': lambda p: sq(sig(-x(p))),
    'discopop': discopop,
    'disco_cell': lambda p: (clamp_exp(-x(p)) + sp(-x(p))) / 2,
    'disco_padll': lambda p: (M(0.45) if x(p).v < 0 else M(0.9)) * sp(-x(p)),
    'disco_pfl': lambda p: sp(-x(p)) / 2 if p.lw.v > p.ll.v else 2 * relu(1 - x(p)),
    'disco_pfl_tau':
        lambda p: sp(-(x(p) / p.tau)) / 2 if p.lw.v > p.ll.v else 2 * relu(1 - x(p) / p.tau),
    'disco_pfl_old': lambda p: sp(-rho(p)) / 2 if p.lw.v > p.ll.v else 2 * relu(1 - rho(p)),
    'nca_pair': lambda p: sp(-(p.beta * u(p))) + sp(p.beta * u(p)) / 2 + sp(p.beta * v(p)) / 2,
    'bco_pair': lambda p: sp(-(p.beta * u(p))) + sp(p.beta * v(p)),
    'bco_pair_shifted':
        lambda p: sp(-(p.beta * u(p) - p.delta)) + p.wl * sp(p.beta * v(p) - p.delta),
    'sppo_hard': lambda p: sq(u(p) - 1 / (2 * p.beta)) + sq(v(p) + 1 / (2 * p.beta)),
    'sppo_soft':
        lambda p: (sq(u(p) - (p.pw - 0.5) / p.beta) + sq(v(p) - (p.pl - 0.5) / p.beta)) / 2,
    'apo_zero': lambda p: sig(-(p.beta * u(p))) + sig(p.beta * v(p)),
    'apo_down': lambda p: sig(p.beta * u(p)) + sig(-x(p)),
    'simpo': lambda p: smooth(p.beta * (p.lw / p.nw - p.ll / p.nl) - p.gamma, p.eps),
    'cpo': lambda p: smooth(p.beta * (p.lw - p.ll), p.eps) + p.alpha * nll(p),
    'alphapo': lambda p: sp(-(p.beta * (alphapo_reward(p.lw / p.nw, p) -
                                        alphapo_reward(p.ll / p.nl, p)) - p.gamma)),
    'orpo': lambda p: nll(p) + p.beta * sp(-(odds(p.lw / p.nw) - odds(p.ll / p.nl))),
    'orpo_prompt': lambda p: p.nll_weight * nll_prompt(p) + p.beta * sp(
        -(odds(p.lw / p.nw) - odds(p.ll / p.nl))),
    'rpo': lambda p: sp(-x(p)) + p.wsft * nll(p),
    'mpo': lambda p: (M(0.8) * sp(-x(p)) + M(0.2) * (sp(-(p.beta * u(p))) + sp(p.beta * v(p))) +
                      p.wsft * nll(p)),
    'slic_hf': lambda p: relu(p.delta - p.lw + p.ll) - p.lam * p.lref,
    'tpo': lambda p: sp(-(p.beta * (p.lw - p.ll))) - p.alpha * p.lg / p.ng,
    'xpo': lambda p: sp(-x(p)) + p.alpha * p.lref,
    'reward': lambda p: sp(-(p.rc - p.rr - p.m)) + p.c * sq(p.rc + p.rr),
    'sigmoid:weight=0.75+bco_pair:weight=0.25+sft:weight=0.5':
        lambda p: 0.75 * sp(-x(p)) + 0.25 * (sp(-(p.beta * u(p))) + sp(p.beta * v(p))) + nll(p) / 2,
    'orpo:nll_weight=0+sft_sum:weight=0.5':
        lambda p: p.beta * sp(-(odds(p.lw / p.nw) - odds(p.ll / p.nl))) - p.lw / 2,
    'orpo:nll_weight=0+sft_prompt:weight=0.5':
        lambda p: p.beta * sp(-(odds(p.lw / p.nw) - odds(p.ll / p.nl))) + nll_prompt(p) / 2,
    'cpo:cpo_alpha=0+sft_mean:weight=2': lambda p: smooth(p.beta * (p.lw - p.ll), p.eps) + 2 * nll(p),
    'hinge+slic_hf:weight=2':
        lambda p: relu(1 - x(p)) + 2 * (relu(p.delta - p.lw + p.ll) - p.lam * p.lref),
}


# ---- pairs under another divergence, or weighted: TRL's f_divergence_type, use_weighting ----
SCORES = {'forward_kl': lambda t: -clamp_exp(-t), 'js_divergence': lambda t: -sp(-t),
          'alpha_divergence': lambda t: clamp_exp((ALPHA - 1) * t) / (ALPHA - 1)}
ALPHA = M(0.25)


def under(divergence, name):
    def f(p):
        p.score = SCORES[divergence]
        return PAIRS[name](p)
    return f


def weighted(name, most):
    return lambda p: min(p.ww.v * p.wl.v, most) * PAIRS[name](p)


SCORED = {
    '%s:f_divergence_type=%s' % (name, divergence) + (
        ',f_alpha_divergence_coef=0.25' if divergence == 'alpha_divergence' else ''): under(divergence, name)
    for name, divergence in (('hinge', 'forward_kl'), ('ipo', 'js_divergence'), ('exo_pair', 'js_divergence'),
                             ('nca_pair', 'alpha_divergence'), ('robust', 'forward_kl'), ('bco_pair', 'forward_kl'),
                             ('sppo_hard', 'js_divergence'), ('discopop', 'js_divergence'), ('cdpo', 'alpha_divergence'),
                             ('sigmoid_norm', 'forward_kl'), ('sigmoid', 'reverse_kl'), ('gpo_savage', 'alpha_divergence'))
    if divergence in SCORES}
WEIGHTED = {'ipo:use_weighting=1': weighted('ipo', 1), 'hinge:use_weighting=1,max_weight=inf': weighted('hinge', M(10) ** 9),
            'sigmoid:use_weighting=1,f_divergence_type=js_divergence':
                lambda p: min(p.ww.v * p.wl.v, 1) * under('js_divergence', 'sigmoid')(p)}
PAIRS.update(SCORED)
PAIRS.update(WEIGHTED)


# ---- single samples: mean over them ----
def samples(one):
    return lambda p: mean([one(p, l - r, y, l) for l, r, y in zip(p.l, p.r, p.y)])


def kto(p, t, y, l):
    return p.lamD * sig(-(p.beta * (t - p.z0))) if y else p.lamU * sig(p.beta * (t - p.z0))


BINARY = {
    'kto': samples(kto),
    'apo_zero_unpaired': samples(lambda p, t, y, l: sig(-(p.beta * t)) if y else sig(p.beta * t)),
    'bco': samples(lambda p, t, y, l: sp(-(p.beta * t - p.delta)) if y
                   else p.wl * sp(p.beta * t - p.delta)),
    'kto+sft:weight=0.5': lambda p: samples(kto)(p) - 0.5 * total(
        l for l, y in zip(p.l, p.y) if y) / max(1, sum(p.y)),
}


# ---- lists ----
def scores(p):
    return [p.beta * (l - r) for l, r in zip(p.l, p.r)]


def softmax(xs):
    return [exp(s - lse(xs)) for s in xs]


def target(p):
    return softmax([a / p.tau for a in p.psi])


def ordered(p):
    return [(i, j) for i, a in enumerate(p.psi) for j, b in enumerate(p.psi) if a.v > b.v]


def lipo(p):
    s = scores(p)
    rank = {i: k + 1 for k, i in enumerate(sorted(range(len(s)), key=lambda i: -s[i].v))}
    gain = [mp.mpf(2) ** a.v - 1 for a in p.psi]
    discount = {i: 1 / mp.log(1 + rank[i]) for i in rank}
    return total(abs(gain[i] - gain[j]) * abs(discount[i] - discount[j]) * sp(-(s[i] - s[j]))
                 for i, j in ordered(p))


def list_pairwise(p):
    s = scores(p)
    return total(sp(-(s[i] - s[j])) for i, j in ordered(p)) / max(1, len(ordered(p)))


def choices(p, most, divided=False):
    """Plackett-Luce: each member but the last against those behind it"""
    count = min(len(p.l) - 1, most)
    return total(lse(scores(p)[k:]) - scores(p)[k] for k in range(count)) / (max(1, count) if divided else 1)


LISTS = {
    'pl_dpo': lambda p: choices(p, len(p.l)),
    'pl_dpo:top_k=2': lambda p: choices(p, 2),
    'pl_dpo:normalise=1': lambda p: choices(p, len(p.l), True),
    'pl_dpo:top_k=3,normalise=1': lambda p: choices(p, 3, True),
    'infonca': lambda p: total(q * (lse(scores(p)) - s) for q, s in zip(target(p), scores(p))),
    'nca': lambda p: total(q * sp(-s) + sp(s) / len(p.l) for q, s in zip(target(p), scores(p))),
    'exo_rw': lambda p: total(exp(s - lse(scores(p))) * (s - lse(scores(p)) - log(q))
                              for q, s in zip(target(p), scores(p))),
    'lipo': lipo,
    'list_pairwise': list_pairwise,
}

TOKENS = {'sft': lambda p: -mean(p.l), 'dft': lambda p: -mean([const(exp(l)) * l for l in p.l]),
          'sft_mean': lambda p: -mean([l / n for l, n in zip(p.l, p.n)]), 'sft_sum': lambda p: -mean(p.l),
          'sft_prompt': lambda p: -total(p.l + p.lp) / total(p.n + p.np)}


# ---- losses over a whole step of pairs ----
def xs(p):
    return [p.beta * ((a - b) - (c - d)) for a, b, c, d in zip(p.lw, p.rw, p.ll, p.rl)]


def by_value(values):
    return sorted(range(len(values)), key=lambda i: values[i].v)


def transport(a, b, p):
    """k-th smallest against k-th smallest"""
    return mean([smooth(p.beta * (a[i] - b[j]), p.eps) for i, j in zip(by_value(a), by_value(b))])


def aot(p):
    return transport([a - b for a, b in zip(p.lw, p.ll)], [a - b for a, b in zip(p.rw, p.rl)], p)


def aot_unpaired(p):
    return transport([a - b for a, b in zip(p.lw, p.rw)], [a - b for a, b in zip(p.ll, p.rl)], p)


def variance(ys):
    return total(sq(y - mean(ys)) for y in ys) / (len(ys) - 1)


def dbaql(p):
    c = sig(variance([z / p.tau for z in xs(p)]))
    return mean([c * sp(-(z / 0.9)) + (1 - c) * clamp_exp(-(0.9 * z)) for z in xs(p)])


def blend(w, z):
    return w * sp(-z) + (1 - w) * relu(1 - z)


def aql(p):
    q = 0.5 + 0.01 * (sig(mean([z / p.tau for z in xs(p)])) - 0.5)
    return mean([blend(sig(q - z / p.tau), z) for z in xs(p)])


def aql_old(p):
    rhos = [z / p.beta for z in xs(p)]
    q = 0.5 + 0.01 * (sig(mean(rhos)) - 0.5)
    return mean([blend(sig(p.beta * (q - r)), p.beta * r) for r in rhos])


def root(a):
    return a.chain(mp.sqrt(a.v), 1 / (2 * mp.sqrt(a.v))) if a.v > 0 else Num(0)


def aqfl(p):
    ys = [z / p.tau for z in xs(p)]
    a = 0.95 * root(variance(ys)) * mean([sig(-y) for y in ys]) + 0.05 * sig(mean(ys))
    return mean([blend(sig(0.1 * (y - a if y.v > a.v else a - y)), z) for y, z in zip(ys, xs(p))])


def kto_pair(p):
    us, vs = [a - b for a, b in zip(p.lw, p.rw)], [a - b for a, b in zip(p.ll, p.rl)]
    kw, kl = const(relu(mean(us))), const(relu(mean(vs)))
    return mean([sig(-(p.beta * (a - kl))) + sig(-(p.beta * (kw - b))) for a, b in zip(us, vs)]) / 2


def kto_pair_attached(p):
    us, vs = [a - b for a, b in zip(p.lw, p.rw)], [a - b for a, b in zip(p.ll, p.rl)]
    kw, kl = relu(mean(us)), relu(mean(vs))
    return mean([sig(-(p.beta * (a - kl))) + sig(-(p.beta * (kw - b))) for a, b in zip(us, vs)]) / 2


STEPS = {'aot': aot, 'aot_unpaired': aot_unpaired, 'disco_dbaql': dbaql, 'disco_aql': aql,
         'disco_aql_old': aql_old,
         'disco_aqfl': aqfl, 'kto_pair': kto_pair, 'kto_pair_attached': kto_pair_attached}


# ---- tokens of a pair ----
def ld_dpo(p):
    shared = min(len(p.tw), len(p.tl))

    def summed(tokens, weight):
        return total(t if i < shared else weight * t for i, t in enumerate(tokens))

    other = p.alpha if p.ld_reference.v else M(1)
    return sp(-(p.beta * ((summed(p.tw, p.alpha) - summed(p.rw, other)) -
                          (summed(p.tl, p.alpha) - summed(p.rl, other)))))


def ld_ipo(p):
    shared = min(len(p.tw), len(p.tl))

    def summed(tokens):
        return total(t if i < shared else 0.375 * t for i, t in enumerate(tokens))

    return sq((summed(p.tw) - summed(p.rw)) / len(p.tw) - (summed(p.tl) - summed(p.rl)) / len(p.tl) - 1 / (2 * p.beta))


TAILS = {'ld_dpo': ld_dpo, 'ipo:ld_alpha=0.375': ld_ipo}


# ---- tokens of a sampled sequence ----
def smaller(a, b):
    a, b = lift(a), lift(b)
    return a if a.v <= b.v else b


def larger(a, b):
    return -smaller(-lift(a), -lift(b))


def held(d):
    return Num(max(min(d.v, M(20)), M(-20)), d.d if abs(d.v) <= 20 else {})


def ratios(p):
    return [exp(held(a - b)) for a, b in zip(p.l, p.old)]


def clipped(w, p, most=None):
    """On an edge of the clip the ratio itself counts"""
    limited = smaller(w, most) if most else w
    return -smaller(limited * p.A, larger(smaller(w, 1 + p.hi), 1 - p.lo) * p.A)


def k3(p, i):
    d = p.ref[i] - p.l[i]
    return clamp_exp(d) - 1 - d


def kl(p, divide):
    return p.beta * total(k3(p, i) for i in range(len(p.l))) / divide


def mean_ratio(p):
    return exp(held(mean([a - b for a, b in zip(p.l, p.old)])))


def dual(w, p):
    first = smaller(w * p.A, larger(smaller(w, 1 + p.hi), 1 - p.lo) * p.A)
    return -(larger(first, p.dual * p.A) if p.A.v < 0 else first)


def sapo(p):
    return mean([-(4 / p.temp * sig(p.temp * (w - 1)) * p.A) for w in ratios(p)])


def vespo(p):
    k, lam = (2, 3) if p.A.v >= 0 else (3, 2)
    h = total(held(a - b) for a, b in zip(p.l, p.old))
    gate = const(exp(lam + k * h - lam * exp(h))) if p.phi.v == 0 else p.phi
    return mean([-(gate * p.A * l) for l in p.l])


def gmpo(p):
    ds = [a - b for a, b in zip(p.l, p.old)]
    cut = [smaller(d, p.hi) if p.A.v > 0 else larger(d, -p.lo) for d in ds]
    return -(clamp_exp(mean(cut)) * p.A)


def value_clip(p):
    near = larger(smaller(p.v, p.vold + p.eps), p.vold - p.eps)
    return larger(sq(p.v - p.ret), sq(near - p.ret)) / 2


def squared_regret(p):
    return sq(p.beta2 * (total(p.l) - total(p.ref)) - p.target)


ROLLOUTS = {
    'grpo': lambda p: mean([clipped(w, p) for w in ratios(p)]) + kl(p, len(p.l)),
    'grpo_two_sided': lambda p: mean([clipped(w, p, p.delta) for w in ratios(p)]),
    'dapo': lambda p: mean([clipped(w, p, p.delta) for w in ratios(p)]),
    'bnpo': lambda p: mean([clipped(w, p, p.delta) for w in ratios(p)]),
    'dr_grpo': lambda p: total(clipped(w, p) for w in ratios(p)) / p.max_completion_length,
    'gspo': lambda p: clipped(mean_ratio(p), p),
    'luspo': lambda p: clipped(mean_ratio(p), p) * len(p.l),
    'cispo': lambda p: mean([-(const(larger(smaller(w, p.wmax), p.epsilon_low)) * p.A * l)
                             for w, l in zip(ratios(p), p.l)]),
    'sapo': sapo,
    'vespo': vespo,
    'gmpo': gmpo,
    'ppo': lambda p: mean([dual(w, p) for w in ratios(p)]),
    'value_clip': value_clip,
    'reinforce': lambda p: -(p.A * total(p.l)),
    'rloo': lambda p: clipped(exp(held(total(p.l) - total(p.old))), p),
    'a2po': squared_regret,
    'nash_md': lambda p: total(const(p.beta * (l - r) - (p.P - 0.5)) * l for l, r in zip(p.l, p.ref)),
    'gspo:beta=0.125': lambda p: clipped(mean_ratio(p), p) + Num(0.125) * total(
        k3(p, i) for i in range(len(p.l))) / len(p.l),
}
LOSSES = {**PAIRS, **BINARY, **LISTS, **TOKENS, **STEPS, **TAILS, **ROLLOUTS}


# ---- cases ----
R = random.Random()


def grid(value, bits=12):
    """A multiple of 2^-bits near value"""
    return M(mp.nint(M(value) * 2 ** bits)) / 2 ** bits


def single(value):
    return M(struct.unpack('f', struct.pack('f', value))[0])


def draw(span, bits=12):
    return grid(R.uniform(-span, span), bits)


#           u      v      beta   tokens  (None: drawn)
EXTREMES = [(3.25, 3.25, 0.1, None), (0, 0, None, None), (1000, -1000, 0.5, None),
            (-1000, 1000, 0.5, None), (35, -25, 0.5, 40), (-25, 35, 0.5, 40), (1, -1, 0.5, None),
            (120, -70, 1e-6, 300), (0.00048828125, -0.000244140625, 1e6, None),
            (-0.000244140625, 0.00048828125, 1e6, None), (0, 2, 0.5, 1), (-2.5, 4, 0.25, 4096)]


def pair_inputs(beta):
    rows = [(draw(s), draw(s), b, None) for s, b in ((1, beta), (10, beta), (60, 0.5), (200, 0.01))]
    rows += [(draw(5, 32), draw(5, 32), beta, None)] + EXTREMES
    for du, dv, b, tokens in rows:
        nw, nl = tokens or R.randint(1, 60), tokens or R.randint(1, 60)
        bits = 32 if grid(du) != du else 12
        rw, rl = grid(-R.uniform(0.2, 2.5) * nw, bits), grid(-R.uniform(0.2, 2.5) * nl, bits)
        yield dict(lw=rw + M(du), ll=rl + M(dv), rw=rw, rl=rl, nw=M(nw), nl=M(nl),
                   beta=M(b or beta))


def with_params(i, p, choices):
    for key, values in choices.items():
        value = values[i % len(values)]
        p[key] = value(i) if callable(value) else M(value)
    return p


PAIR_PARAMS = {
    'cdpo': dict(eps=[0.1, 0, 0.5, 0.3]), 'robust': dict(eps=[0.1, 0, 0.499, 0.3]),
    'dpo_offset': dict(delta=[single(0.7), 0, 30]), 'dpop': dict(lam=[5, 0, 50]),
    'rdpo': dict(alpha=[0.02, 0]), 'wpo': dict(ww=[single(0.61), 1.5], wl=[single(0.43), 2]),
    'fdpo_alpha': dict(a=[0.5, 0, 0.75, 0.999999]),
    'exo_pair': dict(eps=[0.001, 0.1, 0.5, 1e-9]), 'discopop': dict(tau=[0.05, 0.05, 1, 3, 0.01]),
    'disco_pfl_tau': dict(tau=[0.05, 0.05, 1, 0.25]),
    'orpo_prompt': dict(nll_weight=[1, 0.25, 0], lp=[lambda i: draw(20)], np=[9, 1, 300]),
    'orpo:nll_weight=0+sft_prompt:weight=0.5': dict(lp=[lambda i: draw(20)], np=[9, 1, 300]),
    'bco_pair_shifted': dict(delta=[0.3, -0.2, 0], wl=[1, 0.5, 10]),
    'sppo_soft': dict(pw=[single(0.83), 1, 0.5], pl=[single(0.22), 0, 0.5]),
    'cpo:cpo_alpha=0+sft_mean:weight=2': dict(eps=[0, 0.1, 0.5]),
    **{name: dict(ww=[single(0.61), 1.5], wl=[single(0.43), 2]) for name in WEIGHTED},
    'simpo': dict(gamma=[0.5, 0], eps=[0, 0.1]), 'cpo': dict(eps=[0, 0.1, 0.5], alpha=[1, 0, 0.25]),
    'alphapo': dict(gamma=[0.1, 0.5], alpha=[0.25, -0.1, 0.5, 0, 0.1, -0.25]),
    'fdpo_alpha_p': dict(alpha_p=[0.5, 1, 0.25, 1e-6]),
    'simpo_ratio': dict(gamma_beta_ratio=[0.25, 0, 0.5]), 'cpo_hinge': dict(alpha=[1, 0, 0.25]),
    'cpo_ipo': dict(alpha=[1, 0, 0.25]),
    'tpo_hinge': dict(alpha=[1, 0.5], lg=[lambda i: draw(20)], ng=[9, 1]),
    'tpo_ipo': dict(alpha=[1, 0.5], lg=[lambda i: draw(20)], ng=[9, 1]),
    'tpo_l': dict(alpha=[1, 0.5], lg=[lambda i: draw(20)], ng=[9, 1], gamma=[0.5, 0]),
    'rpo': dict(wsft=[1, 0.005, 0]), 'mpo': dict(wsft=[1, 0.1, 0]),
    'slic_hf': dict(delta=[1, 0, 2.5], lam=[0.1, 0, 1], lref=[lambda i: draw(20)]),
    'tpo': dict(alpha=[1, 0.5], lg=[lambda i: draw(20)], ng=[9, 1]),
    'xpo': dict(alpha=[1e-5, 0.1], lref=[lambda i: draw(20)]),
    'hinge+slic_hf:weight=2': dict(delta=[1, 0, 2.5], lam=[0.1, 0, 1], lref=[lambda i: draw(20)]),
}
PAIR_PARAMS.update({name: PAIR_PARAMS[name.split(':')[0]] for name in SCORED if name.split(':')[0] in PAIR_PARAMS})
BETA = {'simpo': 2, 'simpo_ratio': 2, 'tpo_hinge': 0.01, 'tpo_ipo': 0.01, 'tpo_l': 0.01, 'discopop_card': 0.05, 'alphapo': 2.5, 'tpo': 0.01, 'wpo': 0.01, 'sigmoid_norm': 5, 'discopop': 0.05,
        'disco_cell': 0.05, 'disco_padll': 0.05, 'disco_pfl': 0.05, 'disco_pfl_tau': 0.05, 'sppo_soft': 0.001}
BATCHES = ('sigmoid', 'ipo', 'wpo', 'orpo_prompt', 'sigmoid:weight=0.75+bco_pair:weight=0.25+sft:weight=0.5')
BY_PAIR = ('lw', 'll', 'rw', 'rl', 'nw', 'nl', 'ww', 'wl', 'lp', 'np')


def pair_cases(name):
    params = PAIR_PARAMS.get(name, {})
    for i, p in enumerate(pair_inputs(BETA.get(name, 0.1))):
        yield with_params(i, p, params)
    if name in BATCHES:
        yield batch([with_params(0, p, params) for p in list(pair_inputs(0.1))[:5]])


def batch(pairs):
    """Several pairs as lists; what a case has once comes from the first"""
    return {k: [p[k] for p in pairs] if k in BY_PAIR else pairs[0][k] for k in pairs[0]}


def reward_cases(name):
    for rc, rr, m, c in ((1.5, -0.25, 0, 0), (-2, 3.5, 0.5, 0.01), (0, 0, 0, 0), (600, -400, 0, 0),
                         (-400, 600, 1, 0.01), (5, 5, 3, 1), (draw(6), draw(6), single(0.7), 0.01),
                         (draw(6, 32), draw(6, 32), 0, 0.01)):
        yield dict(rc=M(rc), rr=M(rr), m=M(m), c=M(c))


def binary_cases(name):
    sizes = [5, 1, 1, 8, 4, 4, 3, 6, 2]
    for i, n in enumerate(sizes):
        span = [1, 10, 60, 2000, 5, 5, 0, 30, 1][i]
        r = [grid(-R.uniform(1, 60)) for _ in range(n)]
        y = [R.random() < 0.5 for _ in range(n)] if i not in (4, 5) else [i == 4] * n
        p = dict(l=[a + draw(span) for a in r], r=r, y=y,
                 beta=M([0.1, 0.5, 0.01, 0.5, 0.1, 0.1, 1e-6, 2, 1e3][i]))
        if 'kto' in name:
            p.update(lamD=M([1, 0.5, 1.33][i % 3]), lamU=M([1, 1.33][i % 2]),
                     z0=M([0, 2.5, 0.125, 0, 10][i % 5]))
        if name == 'bco':
            p.update(delta=M([0.4, -0.25, 0][i % 3]), wl=M([0.5, 1, 10][i % 3]))
        yield p


def list_cases(name):
    for i, n in enumerate([4, 2, 5, 8, 3, 4, 6, 2]):
        span = [1, 10, 60, 20, 2000, 0, 5, 1][i]
        r = [grid(-R.uniform(1, 60)) for _ in range(n)]
        p = dict(l=[a + draw(span) for a in r], r=r,
                 beta=M([0.1, 0.1, 0.1, 0.5, 0.5, 0.1, 1e-6, 1e3][i]))
        if not name.startswith('pl_dpo'):
            p['psi'] = [grid(R.uniform(0, 1), 10) for _ in range(n)]
            if i == 2:
                p['psi'][1] = p['psi'][3]           # one tie
            if i == 5:
                p['psi'] = [M(0.5)] * n             # nothing but ties
        if name in ('infonca', 'nca', 'exo_rw'):
            p['tau'] = M([0.3, 1, 0.1][i % 3])
        yield p


def token_cases(name):
    for n, bits in ((5, 12), (1, 12), (16, 32), (3, 12)):
        p = dict(l=[grid(-R.uniform(0.001, 9), bits) for _ in range(n)])
        if name in ('sft_mean', 'sft_prompt'):
            p['n'] = [M(R.randint(1, 30)) for _ in range(n)]
        if name == 'sft_prompt':
            p['lp'] = [grid(-R.uniform(0.001, 90), bits) for _ in range(n)]
            p['np'] = [M(R.randint(1, 30)) for _ in range(n)]
        yield p


STEP_PARAMS = {'disco_aql_old': {}, 'aot': dict(eps=[0, 0.1]), 'aot_unpaired': dict(eps=[0, 0.1]), 'kto_pair': {}, 'kto_pair_attached': {}}


def step_cases(name):
    for i, n in enumerate([4, 2, 7, 3, 16, 5]):
        beta, span = [0.1, 0.05, 0.5, 0.1, 0.05, 1][i], [3, 0.5, 20, 60, 4, 0][i]
        p = dict(lw=[], ll=[], rw=[], rl=[], beta=M(beta))
        for _ in range(n):
            rw, rl = grid(-R.uniform(1, 60)), grid(-R.uniform(1, 60))
            for key, value in (('lw', rw + draw(span)), ('ll', rl + draw(span)), ('rw', rw), ('rl', rl)):
                p[key].append(value)
        yield with_params(i, p, STEP_PARAMS.get(name, dict(tau=[0.05, 1, 0.25])))


def tail_cases(name):
    for i, (nw, nl) in enumerate([(2, 3), (5, 1), (4, 4), (1, 9), (1, 1)]):
        p = {k: [grid(-R.uniform(0.01, 3)) for _ in range(n)]
             for k, n in (('tw', nw), ('tl', nl), ('rw', nw), ('rl', nl))}
        p.update(beta=M([0.1, 0.5][i % 2]))
        if name == 'ld_dpo':
            p.update(alpha=M([0.5, 0.25, 0, 1, 0.375][i]), ld_reference=M(i != 3 and i != 1))
        yield p


CLIP = dict(lo=[0.2, 0.1], hi=[0.28, 0.2])
ROLLOUT_PARAMS = {
    'grpo': dict(beta=[0, 0.04, 0.5], **CLIP), 'grpo_two_sided': dict(delta=[4, 1.5, 1.0625], **CLIP),
    'dapo': dict(delta=[4, 1.5], **CLIP), 'bnpo': dict(delta=[4, 1.5], **CLIP),
    'dr_grpo': dict(max_completion_length=[16, 256], **CLIP),
    'gspo': dict(lo=[0.05, 0.2], hi=[0.08, 0.25]), 'luspo': dict(lo=[0.05, 0.2], hi=[0.08, 0.25]),
    'gspo:beta=0.125': dict(lo=[0.05, 0.2], hi=[0.08, 0.25]),
    'cispo': dict(wmax=[5, 1.28], epsilon_low=[0, 0.8]), 'sapo': dict(temp=[1, 1.05, 3]),
    'vespo': dict(phi=[0, 0.75]), 'gmpo': dict(lo=[0.4, 0.25], hi=[0.4, 0.5]),
    'ppo': dict(dual=[3, 1.25], **CLIP), 'rloo': dict(**CLIP), 'a2po': dict(beta2=[1e-3, 0.5]),
    'nash_md': dict(beta=[0.1, 0.5], P=[single(0.62), 1, 0]),
}


def rollout_cases(name):
    if name == 'value_clip':
        for v, old, ret, eps in ((0.9, 0.5, 0.2, 0.2), (0.3125, 0.5, 0.2, 0.2), (1.4, 0.5, 1.1, 0.2), (-0.5, 0.5, 0.2, 0.5),
                                 (-0.5, 0.5, 1.1, 0.2), (0.625, 0.5, 0.25, 0.25), (2, 2, 2, 1), (-40, 3, 7, 0.1)):
            yield dict(v=grid(v), vold=grid(old), ret=single(ret), eps=M(eps))
        return
    for i, (n, span) in enumerate([(5, 0.6), (5, 0.6), (1, 1.5), (16, 0.5), (4, 0), (3, 25), (8, 2), (2, 0.25)]):
        old = [grid(-R.uniform(0.01, 4)) for _ in range(n)]
        p = dict(l=[a + draw(span) for a in old], old=old, ref=[a + draw(0.5) for a in old],
                 A=single([1.3, -0.8, 1, -1.5, 0.5, -0.25, -2, 0][i]))
        if name in ('gmpo', 'rloo', 'reinforce'):
            del p['ref']
        if name in ('nash_md', 'reinforce', 'a2po'):
            del p['old']
        if name in ('nash_md', 'a2po'):
            del p['A']
        if name == 'a2po':
            p['target'] = single([0.3, -1, 0.5][i % 3])
        yield with_params(i, p, ROLLOUT_PARAMS.get(name, {}))


def cases_of(name):
    if name == 'reward':
        return reward_cases(name)
    for table, cases in ((STEPS, step_cases), (TAILS, tail_cases), (ROLLOUTS, rollout_cases)):
        if name in table:
            return cases(name)
    return (pair_cases if name in PAIRS else binary_cases if name in BINARY else
            list_cases if name in LISTS else token_cases)(name)


# ---- evaluation ----
POLICY = ('lw', 'll', 'lref', 'lg', 'lp', 'rc', 'rr', 'l', 'tw', 'tl', 'v')
COUNTS = ('nw', 'nl', 'ng', 'np', 'n', 'y')


class Inputs:
    @staticmethod
    def score(ratio):
        """What takes the place of log-ratios: themselves, under the reverse KL divergence"""
        return ratio


def evaluate(name, case):
    """[loss, derivatives...] in the order of the case's policy inputs"""
    def run(fields, first):
        p = Inputs()
        at = first
        for key, value in fields.items():
            vector = value if isinstance(value, list) else [value]
            if key in POLICY:
                vector = [Num(a, {at + i: M(1)}) for i, a in enumerate(vector)]
                at += len(vector)
            elif key != 'y':
                vector = [Num(a) for a in vector]
            setattr(p, key, vector if isinstance(value, list) else vector[0])
        return LOSSES[name](p), at

    if isinstance(case.get('lw'), list) and name not in STEPS:    # a batch of pairs: the mean; likelihood by tokens
        return evaluate_batch(name, case, run)
    loss, count = run(case, 0)
    return [loss.v] + [loss.d.get(i, M(0)) for i in range(count)]


def evaluate_batch(name, case, run):
    n = len(case['lw'])
    pairs = [{k: a[i] if isinstance(a, list) else a for k, a in case.items()} for i in range(n)]
    parts, at = [], 0
    for p in pairs:
        part, at = run(p, at)
        parts.append(part)
    loss, sides = mean(parts), at // n
    if 'sft' in name or 'prompt' in name:   # the formula has each pair's own mean: replace it
        prompt = 'prompt' in name
        logp = [Num(p['lw'], {sides * i: M(1)}) for i, p in enumerate(pairs)]
        tokens = [p['nw'] + (p['np'] if prompt else 0) for p in pairs]
        if prompt:
            logp = [a + Num(p['lp'], {sides * i + 2: M(1)}) for i, (a, p) in enumerate(zip(logp, pairs))]
        own = mean([-a / k for a, k in zip(logp, tokens)])
        loss = loss + (-total(logp) / mp.fsum(tokens) - own) * (pairs[0]['nll_weight'] if prompt else M(0.5))
    return [loss.v] + [loss.d.get(sides * i + side, M(0)) for side in range(sides) for i in range(n)]


def condition(name, case, base):
    def moved(value, i, a):
        return value[:i] + [a] + value[i + 1:] if isinstance(value, list) else a

    cond = [M(0)] * len(base)
    for key, value in case.items():
        if key in COUNTS:
            continue
        for i, a in enumerate(value if isinstance(value, list) else [value]):
            if a == 0:
                continue
            h = max(1, abs(a)) * M(10) ** -25
            near = []
            for step in (h, -h):
                near.append(evaluate(name, {**case, key: moved(value, i, a + step)}))
            for k, f in enumerate(base):    # at a kink: the flat side
                cond[k] += abs(a) * min(abs(near[0][k] - f), abs(near[1][k] - f)) / h
    return cond


# ---- JSON ----
def exact(a):
    man, exponent = int(a.man) * (-1 if a < 0 else 1), int(a.exp)
    d = Decimal(man) * (Decimal(2) ** exponent)
    if exponent < -32:                      # a parameter: the double nearest the decimal is meant
        return repr(float(a))
    return format(d.normalize(), 'f')


def show(a, digits=25):
    return mp.nstr(a, digits, min_fixed=-4, max_fixed=8)


def as_json(value, one):
    return [one(a) for a in value] if isinstance(value, list) else one(value)


def shape(case, values):
    out, at = {}, 0
    for key in [k for k in case if k in POLICY]:
        n = len(case[key]) if isinstance(case[key], list) else 0
        out[key] = values[at:at + n] if n else values[at]
        at += n or 1
    return out


def record(name, case):
    base = evaluate(name, case)
    cond = condition(name, case, base)
    return {
        'in': {k: as_json(a, lambda b: b if isinstance(b, bool) else exact(b))
               for k, a in case.items()},
        'loss': show(base[0]), 'cond': show(cond[0], 4),
        'grad': {k: as_json(a, show) for k, a in shape(case, base[1:]).items()},
        'grad_cond': {k: as_json(a, lambda b: show(b, 4))
                      for k, a in shape(case, cond[1:]).items()},
    }


def main():
    lines = []
    for name in LOSSES:
        R.seed(zlib.crc32(name.encode()))
        rows = [json.dumps(record(name, case), separators=(',', ':')) for case in cases_of(name)]
        lines.append('{"loss":%s,"cases":[\n%s]}' % (json.dumps(name), ',\n'.join(rows)))
        print(name, len(rows), file=sys.stderr)
    print('[\n' + ',\n'.join(lines) + '\n]')


if __name__ == '__main__':
    main()
