#!/usr/bin/env python3
"""High-precision oracle of the preference losses: values and hand-derived gradients as the specification has them.

Nothing here comes from generate.py or losses.def: the formulas, their derivatives and the points were written down apart
from both. Each loss has f(p), the loss, and g(p), its gradient, in 50-digit arithmetic, and a sampler of points that stay
clear of kinks. official.py evaluates them at points that the kernels' tables hold exactly.

  oracle.py > vectors.json      the points as drawn, 25 significant digits (needs python3-mpmath)"""
import json
import random
import sys

import mpmath as mp

mp.mp.dps = 50
M = mp.mpf
LN2 = mp.log(2)


# ----------------------------------------------------------------------------------------------- helpers
def sp(x):            # softplus
    return mp.log1p(mp.exp(x)) if x < 0 else x + mp.log1p(mp.exp(-x))


def sig(x):
    return 1 / (1 + mp.exp(-x)) if x >= 0 else mp.exp(x) / (1 + mp.exp(x))


def dsig(x):          # sigma'(x)
    return sig(x) * sig(-x)


def log1mexp(a):      # log(1 - e^a), a < 0
    return mp.log(-mp.expm1(a)) if a > -1 else mp.log1p(-mp.exp(a))


def lse(v):
    m = max(v)
    return m + mp.log(mp.fsum(mp.exp(x - m) for x in v))


def softmax(v):
    z = lse(v)
    return [mp.exp(x - z) for x in v]


def mean(v):
    return mp.fsum(v) / len(v)


def relu(x):
    return x if x > 0 else M(0)


def ind(c):
    return M(1) if c else M(0)


LOSSES = {}


class Loss:
    def __init__(self, name, variables, hyper, sampler, f, g, group, note=""):
        self.name, self.vars, self.hyper = name, variables, hyper
        self.sampler, self.f, self.g, self.group, self.note = sampler, f, g, group, note
        LOSSES[name] = self


R = random.Random(20240613)


def U(a, b):
    return M(repr(R.uniform(a, b)))


def logp(n):          # a plausible sequence log-prob for n tokens
    return -U(0.2, 2.5) * n


def pair(i, **h):     # policy / reference sums, lengths; a few regimes
    nw, nl = R.randint(1, 40), R.randint(1, 40)
    rw, rl = logp(nw), logp(nl)
    span = [1, 10, 60, 200][i % 4]
    p = dict(lw=rw + U(-span, span), ll=rl + U(-span, span), rw=rw, rl=rl, nw=M(nw), nl=M(nl))
    p.update({k: M(repr(v)) if isinstance(v, float) else M(v) for k, v in h.items()})
    return p


def dist(x, kinks, tol=1e-4):
    return all(abs(x - k) > tol for k in kinks)


# ----------------------------------------------------------------------------------------------- A. margin losses
# every one is l = F(x), x = beta*(S(u) - S(v)) (or a length-normalised / shifted x);  u = lw-rw, v = ll-rl
def x_sum(p):
    return p['beta'] * ((p['lw'] - p['rw']) - (p['ll'] - p['rl']))


def margin(name, F, dF, hyper, group, kinks=lambda p: [], sampler=None, note=""):
    def smp(i):
        while True:
            p = pair(i, beta=[0.1, 0.05, 0.5, 0.01][i % 4], **hyper)
            if dist(x_sum(p), kinks(p)):
                return p

    def f(p):
        return F(x_sum(p), p)

    def g(p):
        d = p['beta'] * dF(x_sum(p), p)
        return {'lw': d, 'll': -d}
    Loss(name, ['lw', 'll'], ['beta'] + list(hyper), sampler or smp, f, g, group, note)


margin('dpo_sigmoid', lambda x, p: sp(-x), lambda x, p: -sig(-x), {}, 'DPO')
margin('dpo_cdpo', lambda x, p: (1 - p['eps']) * sp(-x) + p['eps'] * sp(x),
       lambda x, p: sig(x) - (1 - p['eps']), {'eps': 0.1}, 'DPO')
margin('dpo_robust', lambda x, p: ((1 - p['eps']) * sp(-x) - p['eps'] * sp(x)) / (1 - 2 * p['eps']),
       lambda x, p: -((1 - p['eps']) * sig(-x) + p['eps'] * sig(x)) / (1 - 2 * p['eps']), {'eps': 0.1}, 'DPO')
margin('dpo_offset', lambda x, p: sp(-(x - p['delta'])), lambda x, p: -sig(-(x - p['delta'])), {'delta': 0.7}, 'DPO',
       note='ODPO / score-margin')
margin('hinge', lambda x, p: relu(1 - x), lambda x, p: -ind(x < 1), {}, 'SLiC', lambda p: [1])
margin('exo_pair', lambda x, p: sig(x) * (-sp(-x) - mp.log1p(-p['eps'])) + sig(-x) * (-sp(x) - mp.log(p['eps'])),
       lambda x, p: dsig(x) * (x - mp.log((1 - p['eps']) / p['eps'])), {'eps': 0.001}, 'EXO')

# GPO (Tang et al. 2024): convex f on x = beta*rho
margin('gpo_logistic', lambda x, p: sp(-x), lambda x, p: -sig(-x), {}, 'GPO')
margin('gpo_hinge', lambda x, p: relu(1 - x), lambda x, p: -ind(x < 1), {}, 'GPO', lambda p: [1])
margin('gpo_squared', lambda x, p: (x - 1) ** 2, lambda x, p: 2 * (x - 1), {}, 'GPO')
margin('gpo_exponential', lambda x, p: mp.exp(-x), lambda x, p: -mp.exp(-x), {}, 'GPO')
margin('gpo_truncated_squared', lambda x, p: relu(1 - x) ** 2, lambda x, p: -2 * relu(1 - x), {}, 'GPO', lambda p: [1])
margin('gpo_savage', lambda x, p: 1 / (1 + mp.exp(x)) ** 2, lambda x, p: -2 * sig(-x) ** 2 * sig(x), {}, 'GPO')


# DiscoPOP per-pair losses
def lrml(x, p):
    m = sig(x / p['tau'])
    return (1 - m) * sp(-x) + m * mp.exp(-x)


def dlrml(x, p):
    t = p['tau']
    m = sig(x / t)
    return m * (1 - m) / t * (mp.exp(-x) - sp(-x)) - (1 - m) * sig(-x) - m * mp.exp(-x)


margin('discopop_lrml', lrml, dlrml, {'tau': 0.05}, 'DiscoPOP')
margin('disco_cell', lambda x, p: mp.exp(-x) / 2 + sp(-x) / 2, lambda x, p: -mp.exp(-x) / 2 - sig(-x) / 2, {}, 'DiscoPOP')
margin('disco_padll', lambda x, p: M('0.9') * (1 - ind(x < 0) / 2) * sp(-x),
       lambda x, p: -M('0.9') * (1 - ind(x < 0) / 2) * sig(-x), {}, 'DiscoPOP', lambda p: [0])


def pfl_f(p):
    x = x_sum(p)
    return sp(-x) / 2 if p['lw'] > p['ll'] else 2 * relu(1 - x)


def pfl_g(p):
    x = x_sum(p)
    d = p['beta'] * (-sig(-x) / 2 if p['lw'] > p['ll'] else -2 * ind(x < 1))
    return {'lw': d, 'll': -d}


def pfl_s(i):
    while True:
        p = pair(i, beta=0.05)
        if dist(x_sum(p), [1]) and dist(p['lw'] - p['ll'], [0]):
            return p


Loss('disco_pfl', ['lw', 'll'], ['beta'], pfl_s, pfl_f, pfl_g, 'DiscoPOP')


# f-divergence DPO -------------------------------------------------------------------------------
def fdiv(kind):
    if kind == 'reverse_kl':
        return (lambda u, a: u), (lambda u, a: M(1))
    if kind == 'forward_kl':
        return (lambda u, a: -mp.exp(-u)), (lambda u, a: mp.exp(-u))
    if kind == 'js':
        return (lambda u, a: -sp(-u)), (lambda u, a: sig(-u))
    if kind == 'alpha':   # TRL convention: f'(t) = t^(a-1)/(a-1) (constant dropped); paper alpha_p = 1 - a
        return (lambda u, a: mp.exp((a - 1) * u) / (a - 1)), (lambda u, a: mp.exp((a - 1) * u))


for kind in ('reverse_kl', 'forward_kl', 'js', 'alpha'):
    S, dS = fdiv(kind)

    def mk(S, dS, kind):
        def smp(i):
            p = pair(i % 2, beta=0.1)
            p['a'] = M([0.5, 0.25, 0.75, 0.9][i % 4])
            return p

        def f(p):
            u, v = p['lw'] - p['rw'], p['ll'] - p['rl']
            return sp(-p['beta'] * (S(u, p['a']) - S(v, p['a'])))

        def g(p):
            u, v = p['lw'] - p['rw'], p['ll'] - p['rl']
            x = p['beta'] * (S(u, p['a']) - S(v, p['a']))
            c = -p['beta'] * sig(-x)
            return {'lw': c * dS(u, p['a']), 'll': -c * dS(v, p['a'])}
        Loss('fdpo_' + kind, ['lw', 'll'], ['beta'] + (['a'] if kind == 'alpha' else []), smp, f, g, 'f-DPO')
    mk(S, dS, kind)


# length-normalised and shifted margins -----------------------------------------------------------
def hn(p):
    return (p['lw'] - p['rw']) / p['nw'] - (p['ll'] - p['rl']) / p['nl']


Loss('sigmoid_norm', ['lw', 'll'], ['beta'], lambda i: pair(i, beta=[2.0, 5.0, 0.1, 10.0][i % 4]),
     lambda p: sp(-p['beta'] * hn(p)),
     lambda p: {'lw': -p['beta'] * sig(-p['beta'] * hn(p)) / p['nw'], 'll': p['beta'] * sig(-p['beta'] * hn(p)) / p['nl']},
     'DPO')
Loss('ipo_avg', ['lw', 'll'], ['beta'], lambda i: pair(i, beta=[0.1, 0.5, 1.0, 0.01][i % 4]),
     lambda p: (hn(p) - 1 / (2 * p['beta'])) ** 2,
     lambda p: {'lw': 2 * (hn(p) - 1 / (2 * p['beta'])) / p['nw'], 'll': -2 * (hn(p) - 1 / (2 * p['beta'])) / p['nl']},
     'IPO', 'TRL, HALOs, LLaMA-Factory')


def hs(p):
    return (p['lw'] - p['rw']) - (p['ll'] - p['rl'])


Loss('ipo_sum', ['lw', 'll'], ['beta'], lambda i: pair(i, beta=[0.1, 0.5, 1.0, 0.01][i % 4]),
     lambda p: (hs(p) - 1 / (2 * p['beta'])) ** 2,
     lambda p: {'lw': 2 * (hs(p) - 1 / (2 * p['beta'])), 'll': -2 * (hs(p) - 1 / (2 * p['beta']))},
     'IPO', 'paper eq. 17, OpenRLHF, eric-mitchell')


def slic_s(i):
    while True:
        p = pair(i, delta=1.0, lam=0.1)
        p['lref'] = logp(12)
        if dist(p['delta'] - p['lw'] + p['ll'], [0]):
            return p


Loss('slic_hf', ['lw', 'll', 'lref'], ['delta', 'lam'], slic_s,
     lambda p: relu(p['delta'] - p['lw'] + p['ll']) - p['lam'] * p['lref'],
     lambda p: {'lw': -ind(p['delta'] - p['lw'] + p['ll'] > 0), 'll': ind(p['delta'] - p['lw'] + p['ll'] > 0),
                'lref': -p['lam']}, 'SLiC')


# reference-free pair losses ----------------------------------------------------------------------
def simpo_x(p):
    return p['beta'] * (p['lw'] / p['nw'] - p['ll'] / p['nl']) - p['gamma']


Loss('simpo', ['lw', 'll'], ['beta', 'gamma', 'eps'], lambda i: pair(i % 2, beta=[2.0, 2.5, 10.0, 0.1][i % 4], gamma=0.5, eps=[0.0, 0.1][i % 2]),
     lambda p: (1 - p['eps']) * sp(-simpo_x(p)) + p['eps'] * sp(simpo_x(p)),
     lambda p: {'lw': p['beta'] / p['nw'] * (sig(simpo_x(p)) - (1 - p['eps'])),
                'll': -p['beta'] / p['nl'] * (sig(simpo_x(p)) - (1 - p['eps']))}, 'SimPO')


def cpo_x(p):
    return p['beta'] * (p['lw'] - p['ll'])


Loss('cpo', ['lw', 'll'], ['beta', 'eps', 'alpha'], lambda i: pair(i, beta=0.1, eps=[0.0, 0.1][i % 2], alpha=1.0),
     lambda p: (1 - p['eps']) * sp(-cpo_x(p)) + p['eps'] * sp(cpo_x(p)) - p['alpha'] * p['lw'] / p['nw'],
     lambda p: {'lw': p['beta'] * (sig(cpo_x(p)) - (1 - p['eps'])) - p['alpha'] / p['nw'],
                'll': -p['beta'] * (sig(cpo_x(p)) - (1 - p['eps']))}, 'CPO', 'single pair: NLL normalised by nw')


def apo_r(s, a):      # AlphaPO reward
    return -mp.expm1(-a * s) / a


def alphapo_x(p):
    return p['beta'] * (apo_r(p['lw'] / p['nw'], p['alpha']) - apo_r(p['ll'] / p['nl'], p['alpha'])) - p['gamma']


def alphapo_s(i):
    p = pair(0, beta=[2.5, 10.0][i % 2], gamma=0.1, alpha=[0.25, -0.1, 0.5, 0.1][i % 4])
    p['lw'], p['ll'] = -U(0.05, 2) * p['nw'], -U(0.05, 2) * p['nl']
    return p


Loss('alphapo', ['lw', 'll'], ['beta', 'gamma', 'alpha'], alphapo_s,
     lambda p: sp(-alphapo_x(p)),
     lambda p: {'lw': -p['beta'] * sig(-alphapo_x(p)) * mp.exp(-p['alpha'] * p['lw'] / p['nw']) / p['nw'],
                'll': p['beta'] * sig(-alphapo_x(p)) * mp.exp(-p['alpha'] * p['ll'] / p['nl']) / p['nl']}, 'CPO')


def orpo_lo(p):
    a, b = p['lw'] / p['nw'], p['ll'] / p['nl']
    return (a - b) - (log1mexp(a) - log1mexp(b))


def orpo_s(i):
    p = pair(0, beta=0.1)
    lo, hi = [(0.05, 2.0), (1e-4, 1e-2), (2.0, 30.0), (0.3, 0.9)][i % 4]
    p['lw'], p['ll'] = -U(lo, hi) * p['nw'], -U(lo, hi) * p['nl']
    return p


def orpo_g(p):
    a, b = p['lw'] / p['nw'], p['ll'] / p['nl']
    c = p['beta'] * sig(-orpo_lo(p))
    return {'lw': -1 / p['nw'] - c / (p['nw'] * (-mp.expm1(a))), 'll': c / (p['nl'] * (-mp.expm1(b)))}


Loss('orpo', ['lw', 'll'], ['beta'], orpo_s, lambda p: -p['lw'] / p['nw'] + p['beta'] * sp(-orpo_lo(p)), orpo_g, 'ORPO',
     'single pair, NLL over the completion only (see D-list for the prompt tokens)')

# pointwise pair losses ---------------------------------------------------------------------------
def uv(p):
    return p['lw'] - p['rw'], p['ll'] - p['rl']


def pw(name, fw, dfw, fl, dfl, hyper, group, note=""):
    """l = fw(u) + fl(v)"""
    def smp(i):
        return pair(i, **{k: (v[i % len(v)] if isinstance(v, list) else v) for k, v in hyper.items()})

    def f(p):
        u, v = uv(p)
        return fw(u, p) + fl(v, p)

    def g(p):
        u, v = uv(p)
        return {'lw': dfw(u, p), 'll': dfl(v, p)}
    Loss(name, ['lw', 'll'], list(hyper), smp, f, g, group, note)


B = [0.1, 0.05, 0.5, 0.01]
pw('nca_pair', lambda u, p: sp(-p['beta'] * u) + sp(p['beta'] * u) / 2,
   lambda u, p: p['beta'] * (M(3) / 2 * sig(p['beta'] * u) - 1),
   lambda v, p: sp(p['beta'] * v) / 2, lambda v, p: p['beta'] / 2 * sig(p['beta'] * v), {'beta': B}, 'NCA')
pw('bco_pair', lambda u, p: sp(-p['beta'] * u), lambda u, p: -p['beta'] * sig(-p['beta'] * u),
   lambda v, p: sp(p['beta'] * v), lambda v, p: p['beta'] * sig(p['beta'] * v), {'beta': B}, 'BCO')
pw('bco', lambda u, p: sp(-(p['beta'] * u - p['delta'])), lambda u, p: -p['beta'] * sig(-(p['beta'] * u - p['delta'])),
   lambda v, p: p['wl'] * sp(p['beta'] * v - p['delta']), lambda v, p: p['wl'] * p['beta'] * sig(p['beta'] * v - p['delta']),
   {'beta': B, 'delta': [0.3, -0.2], 'wl': [1.0, 0.5, 10.0]}, 'BCO', 'delta (running mean) and the UDM weight wl are constants for the gradient')
pw('sppo_hard', lambda u, p: (u - 1 / (2 * p['beta'])) ** 2, lambda u, p: 2 * (u - 1 / (2 * p['beta'])),
   lambda v, p: (v + 1 / (2 * p['beta'])) ** 2, lambda v, p: 2 * (v + 1 / (2 * p['beta'])), {'beta': [0.001, 0.1]}, 'SPPO')
pw('sppo_soft', lambda u, p: (u - (p['pw'] - M(1) / 2) / p['beta']) ** 2 / 2, lambda u, p: u - (p['pw'] - M(1) / 2) / p['beta'],
   lambda v, p: (v - (p['pl'] - M(1) / 2) / p['beta']) ** 2 / 2, lambda v, p: v - (p['pl'] - M(1) / 2) / p['beta'],
   {'beta': [0.001, 0.1], 'pw': 0.83, 'pl': 0.22}, 'SPPO', 'official code: mean of the two squares')
pw('apo_zero', lambda u, p: sig(-p['beta'] * u), lambda u, p: -p['beta'] * dsig(p['beta'] * u),
   lambda v, p: sig(p['beta'] * v), lambda v, p: p['beta'] * dsig(p['beta'] * v), {'beta': B}, 'APO')


def apo_down_f(p):
    u, v = uv(p)
    return sig(p['beta'] * u) + sig(-p['beta'] * (u - v))


def apo_down_g(p):
    u, v = uv(p)
    b = p['beta']
    return {'lw': b * dsig(b * u) - b * dsig(b * (u - v)), 'll': b * dsig(b * (u - v))}


Loss('apo_down', ['lw', 'll'], ['beta'], lambda i: pair(i, beta=B[i % 4]), apo_down_f, apo_down_g, 'APO')


# DPOP (Smaug) and R-DPO: the two remedies users ask for most -------------------------------------
def dpop_x(p):
    u, v = uv(p)
    return p['beta'] * (u - v - p['lam'] * relu(-u))


def dpop_s(i):
    while True:
        p = pair(i, beta=0.1, lam=5.0)
        if dist(uv(p)[0], [0]):
            return p


Loss('dpop', ['lw', 'll'], ['beta', 'lam'], dpop_s, lambda p: sp(-dpop_x(p)),
     lambda p: {'lw': -p['beta'] * sig(-dpop_x(p)) * (1 + p['lam'] * ind(uv(p)[0] < 0)), 'll': p['beta'] * sig(-dpop_x(p))},
     'extra', 'Smaug, arXiv 2402.13228')


def rdpo_x(p):
    return p['beta'] * hs(p) + p['alpha'] * (p['nw'] - p['nl'])


Loss('rdpo_length', ['lw', 'll'], ['beta', 'alpha'], lambda i: pair(i, beta=0.1, alpha=0.02), lambda p: sp(-rdpo_x(p)),
     lambda p: {'lw': -p['beta'] * sig(-rdpo_x(p)), 'll': p['beta'] * sig(-rdpo_x(p))}, 'extra', 'arXiv 2403.19159')


# WPO: detached weight
Loss('wpo', ['lw', 'll'], ['beta', 'ww', 'wl'], lambda i: pair(i, beta=0.01, ww=0.61, wl=0.43),
     lambda p: p['ww'] * p['wl'] * sp(-p['beta'] * hs(p)),
     lambda p: {'lw': -p['ww'] * p['wl'] * p['beta'] * sig(-p['beta'] * hs(p)),
                'll': p['ww'] * p['wl'] * p['beta'] * sig(-p['beta'] * hs(p))}, 'WPO', 'weights are constants')


# MPO / RPO mixtures: linear combination of scalars ------------------------------------------------
def mpo_f(p):
    return M('0.8') * LOSSES['dpo_sigmoid'].f(p) + M('0.2') * LOSSES['bco_pair'].f(p) + p['wsft'] * (-p['lw'] / p['nw'])


def mpo_g(p):
    a, b = LOSSES['dpo_sigmoid'].g(p), LOSSES['bco_pair'].g(p)
    return {'lw': M('0.8') * a['lw'] + M('0.2') * b['lw'] - p['wsft'] / p['nw'], 'll': M('0.8') * a['ll'] + M('0.2') * b['ll']}


Loss('mpo', ['lw', 'll'], ['beta', 'wsft'], lambda i: pair(i, beta=0.1, wsft=1.0), mpo_f, mpo_g, 'mix')
Loss('rpo', ['lw', 'll'], ['beta', 'wsft'], lambda i: pair(i, beta=0.1, wsft=0.005),
     lambda p: LOSSES['dpo_sigmoid'].f(p) - p['wsft'] * p['lw'] / p['nw'],
     lambda p: {'lw': LOSSES['dpo_sigmoid'].g(p)['lw'] - p['wsft'] / p['nw'], 'll': LOSSES['dpo_sigmoid'].g(p)['ll']}, 'mix')
Loss('tpo', ['lw', 'll', 'lg'], ['beta', 'alpha', 'ng'],
     lambda i: dict(pair(i, beta=0.01, alpha=1.0), lg=logp(9), ng=M(9)),
     lambda p: sp(-p['beta'] * (p['lw'] - p['ll'])) - p['alpha'] * p['lg'] / p['ng'],
     lambda p: {'lw': -p['beta'] * sig(-p['beta'] * (p['lw'] - p['ll'])), 'll': p['beta'] * sig(-p['beta'] * (p['lw'] - p['ll'])),
                'lg': -p['alpha'] / p['ng']}, 'mix')


# ----------------------------------------------------------------------------------------------- B. LD-DPO (token-level input)
def ld_s(i):
    nw, nl = R.randint(1, 6), R.randint(1, 6)
    return dict(tw=[-U(0.01, 3) for _ in range(nw)], tl=[-U(0.01, 3) for _ in range(nl)],
                rw=[-U(0.01, 3) for _ in range(nw)], rl=[-U(0.01, 3) for _ in range(nl)],
                beta=M('0.1'), alpha=M(['0.5', '0.0', '1.0', '0.3'][i % 4]))


def ld_w(n, lp, a):
    return [M(1) if t < lp else a for t in range(n)]


def ld_x(p):
    lp = min(len(p['tw']), len(p['tl']))
    ww, wl = ld_w(len(p['tw']), lp, p['alpha']), ld_w(len(p['tl']), lp, p['alpha'])
    u = mp.fsum(w * (a - b) for w, a, b in zip(ww, p['tw'], p['rw']))
    v = mp.fsum(w * (a - b) for w, a, b in zip(wl, p['tl'], p['rl']))
    return p['beta'] * (u - v), ww, wl


def ld_g(p):
    x, ww, wl = ld_x(p)
    c = -p['beta'] * sig(-x)
    return {'tw': [c * w for w in ww], 'tl': [-c * w for w in wl]}


Loss('ld_dpo', ['tw', 'tl'], ['beta', 'alpha'], ld_s, lambda p: sp(-ld_x(p)[0]), ld_g, 'LD-DPO', 'per-token inputs')


# ----------------------------------------------------------------------------------------------- C. unpaired / batch coupled
def unp_s(i, n=5, **h):
    lab = [R.random() < 0.5 for _ in range(n)]
    if i % 4 == 2:
        lab = [True] * n
    if i % 4 == 3:
        lab = [False] * n
    r = [logp(R.randint(1, 30)) for _ in range(n)]
    span = [1, 10, 60][i % 3]
    p = dict(l=[x + U(-span, span) for x in r], r=r, y=lab)
    p.update({k: M(repr(v)) for k, v in h.items()})
    return p


def kto_f(p):
    b, z = p['beta'], p['z0']
    return mean([(p['lamD'] * sig(-b * (l - r - z)) if y else p['lamU'] * sig(-b * (z - (l - r))))
                 for l, r, y in zip(p['l'], p['r'], p['y'])])


def kto_g(p):
    b, z, n = p['beta'], p['z0'], len(p['l'])
    return {'l': [(-p['lamD'] if y else p['lamU']) * b * dsig(b * (l - r - z)) / n
                  for l, r, y in zip(p['l'], p['r'], p['y'])]}


Loss('kto', ['l'], ['beta', 'lamD', 'lamU', 'z0'], lambda i: unp_s(i, beta=0.1, lamD=1.0, lamU=[1.0, 1.33][i % 2], z0=[0.0, 2.5][i % 2]),
     kto_f, kto_g, 'KTO', 'z0 = max(0, mean mismatched log-ratio) is a constant for the gradient')
Loss('apo_zero_unpaired', ['l'], ['beta'], lambda i: unp_s(i, beta=0.1),
     lambda p: mean([sig(-p['beta'] * (l - r)) if y else sig(p['beta'] * (l - r)) for l, r, y in zip(p['l'], p['r'], p['y'])]),
     lambda p: {'l': [(-1 if y else 1) * p['beta'] * dsig(p['beta'] * (l - r)) / len(p['l']) for l, r, y in zip(p['l'], p['r'], p['y'])]},
     'APO')


def bcou_f(p):
    return mean([sp(-(p['beta'] * (l - r) - p['delta'])) if y else p['wl'] * sp(p['beta'] * (l - r) - p['delta'])
                 for l, r, y in zip(p['l'], p['r'], p['y'])])


def bcou_g(p):
    n = len(p['l'])
    return {'l': [(-p['beta'] * sig(-(p['beta'] * (l - r) - p['delta'])) if y else
                   p['wl'] * p['beta'] * sig(p['beta'] * (l - r) - p['delta'])) / n for l, r, y in zip(p['l'], p['r'], p['y'])]}


Loss('bco_unpaired', ['l'], ['beta', 'delta', 'wl'], lambda i: unp_s(i, beta=0.1, delta=0.4, wl=0.5), bcou_f, bcou_g, 'BCO')


def batch_pair(i, n=4, beta=0.05, span=None):
    ps = [pair(i, beta=beta) for _ in range(n)]
    d = {k: [q[k] for q in ps] for k in ('lw', 'll', 'rw', 'rl')}
    if span is not None:
        for k in range(n):
            d['lw'][k] = d['rw'][k] + U(-span, span)
            d['ll'][k] = d['rl'][k] + U(-span, span)
    d['beta'] = M(repr(beta))
    return d


def bx(p):
    return [p['beta'] * ((a - b) - (c - d)) for a, b, c, d in zip(p['lw'], p['rw'], p['ll'], p['rl'])]


def to_pair(p, dx):   # dL/dx_j -> dL/dlw_j, dL/dll_j
    return {'lw': [p['beta'] * d for d in dx], 'll': [-p['beta'] * d for d in dx]}


# DiscoPOP batch-coupled ----------------------------------------------------------------------------
T09 = M('0.9')


def dbaql_f(p):
    x = bx(p)
    y = [a / p['tau'] for a in x]
    yb, n = mean(y), len(y)
    c = sig(mp.fsum((a - yb) ** 2 for a in y) / (n - 1))
    return mean([c * sp(-a / T09) + (1 - c) * mp.exp(-a * T09) for a in x])


def dbaql_g(p):
    x = bx(p)
    t = p['tau']
    y = [a / t for a in x]
    yb, n = mean(y), len(y)
    c = sig(mp.fsum((a - yb) ** 2 for a in y) / (n - 1))
    K = mean([sp(-a / T09) - mp.exp(-a * T09) for a in x])           # dL/dc
    dx = [(-c * sig(-a / T09) / T09 - (1 - c) * T09 * mp.exp(-a * T09)) / n
          + K * c * (1 - c) * 2 * (b - yb) / ((n - 1) * t) for a, b in zip(x, y)]
    return to_pair(p, dx)


Loss('disco_dbaql', ['lw', 'll'], ['beta', 'tau'], lambda i: dict(batch_pair(0, span=[0.5, 2, 4][i % 3]), tau=M('0.05')), dbaql_f, dbaql_g, 'DiscoPOP',
     'batch loss (mean), gradient flows through Var')


def aql_parts(p):
    x, t = bx(p), p['tau']
    y = [a / t for a in x]
    S = sig(mean(y))
    Q = M('0.5') + M('0.01') * (S - M('0.5'))
    q = [sig(-(b - Q)) for b in y]
    return x, y, S, q


def aql_f(p):
    x, y, S, q = aql_parts(p)
    return mean([w * sp(-a) + (1 - w) * relu(1 - a) for a, w in zip(x, q)])


def aql_g(p):
    x, y, S, q = aql_parts(p)
    n, t = len(x), p['tau']
    G = [sp(-a) - relu(1 - a) for a in x]
    C = mp.fsum(w * (1 - w) * g for w, g in zip(q, G)) * M('0.01') * S * (1 - S) / (n * t)
    dx = [(-w * (1 - w) / t * g - w * sig(-a) - (1 - w) * ind(a < 1) + C) / n for a, w, g in zip(x, q, G)]
    return to_pair(p, dx)


def bsm(i, kink, tau='0.05', span=None):
    while True:
        p = dict(batch_pair(0, span=span if span else [0.5, 4, 15][i % 3]), tau=M(tau))
        if all(dist(a, [1]) for a in bx(p)) and kink(p):
            return p


Loss('disco_aql', ['lw', 'll'], ['beta', 'tau'], lambda i: bsm(i, lambda p: True), aql_f, aql_g, 'DiscoPOP')


def aqfl_parts(p):
    x, t = bx(p), p['tau']
    y = [a / t for a in x]
    n, yb = len(y), mean(y)
    s = mp.sqrt(mp.fsum((a - yb) ** 2 for a in y) / (n - 1))
    Mn = mean([sig(-a) for a in y])
    S = sig(yb)
    A = M('0.95') * s * Mn + M('0.05') * S
    b = [sig(M('0.1') * abs(a - A)) for a in y]
    return x, y, n, yb, s, Mn, S, A, b


def aqfl_f(p):
    x, y, n, yb, s, Mn, S, A, b = aqfl_parts(p)
    return mean([w * sp(-a) + (1 - w) * relu(1 - a) for a, w in zip(x, b)])


def aqfl_g(p):
    x, y, n, yb, s, Mn, S, A, b = aqfl_parts(p)
    t = p['tau']
    G = [sp(-a) - relu(1 - a) for a in x]
    sg = [M(1) if a > A else M(-1) for a in y]
    e = [M('0.1') * w * (1 - w) * k * g for w, k, g in zip(b, sg, G)]      # dL_i/d(y_i - A)
    E = mp.fsum(e)
    dA = [M('0.95') * ((a - yb) / ((n - 1) * s) * Mn - s * dsig(a) / n) + M('0.05') * S * (1 - S) / n for a in y]
    dx = [((e[j] - E * dA[j]) / t - b[j] * sig(-x[j]) - (1 - b[j]) * ind(x[j] < 1)) / n for j in range(n)]
    return to_pair(p, dx)


Loss('disco_aqfl', ['lw', 'll'], ['beta', 'tau'],
     lambda i: bsm(i, lambda p: all(abs(a - aqfl_parts(p)[7]) > 1e-3 for a in aqfl_parts(p)[1])), aqfl_f, aqfl_g, 'DiscoPOP')


# AOT -----------------------------------------------------------------------------------------------
def order(v):
    return sorted(range(len(v)), key=lambda k: v[k])


def aot_core(A, Bv, p):
    ia, ib = order(A), order(Bv)
    return ia, ib, [A[a] - Bv[b] for a, b in zip(ia, ib)]


def aot_l(d, p):
    return (1 - p['eps']) * sp(-p['beta'] * d) + p['eps'] * sp(p['beta'] * d)


def aot_d(d, p):
    return p['beta'] * (sig(p['beta'] * d) - (1 - p['eps']))


def aot_f(p):
    A = [a - b for a, b in zip(p['lw'], p['ll'])]
    Bv = [a - b for a, b in zip(p['rw'], p['rl'])]
    return mean([aot_l(d, p) for d in aot_core(A, Bv, p)[2]])


def aot_g(p):
    A = [a - b for a, b in zip(p['lw'], p['ll'])]
    Bv = [a - b for a, b in zip(p['rw'], p['rl'])]
    ia, ib, ds = aot_core(A, Bv, p)
    n = len(A)
    out = {'lw': [None] * n, 'll': [None] * n}
    for i, d in zip(ia, ds):
        out['lw'][i], out['ll'][i] = aot_d(d, p) / n, -aot_d(d, p) / n
    return out


Loss('aot', ['lw', 'll'], ['beta', 'eps'], lambda i: dict(batch_pair(i), eps=M(['0', '0.1'][i % 2])), aot_f, aot_g, 'AOT')


def aotu_f(p):
    A = [a - b for a, b in zip(p['lw'], p['rw'])]
    Bv = [a - b for a, b in zip(p['ll'], p['rl'])]
    return mean([aot_l(d, p) for d in aot_core(A, Bv, p)[2]])


def aotu_g(p):
    A = [a - b for a, b in zip(p['lw'], p['rw'])]
    Bv = [a - b for a, b in zip(p['ll'], p['rl'])]
    ia, ib, ds = aot_core(A, Bv, p)
    n = len(A)
    out = {'lw': [None] * n, 'll': [None] * n}
    for i, j, d in zip(ia, ib, ds):
        out['lw'][i], out['ll'][j] = aot_d(d, p) / n, -aot_d(d, p) / n
    return out


Loss('aot_unpaired', ['lw', 'll'], ['beta', 'eps'], lambda i: dict(batch_pair(i), eps=M(['0', '0.1'][i % 2])), aotu_f, aotu_g, 'AOT')


# ----------------------------------------------------------------------------------------------- D. lists
def list_s(i, n=4, **h):
    r = [logp(R.randint(1, 30)) for _ in range(n)]
    span = [1, 10, 60][i % 3]
    p = dict(l=[x + U(-span, span) for x in r], r=r, psi=[M(repr(round(R.uniform(0, 1), 3))) for _ in range(n)])
    p.update({k: M(repr(v)) for k, v in h.items()})
    return p


def ls(p):
    return [p['beta'] * (a - b) for a, b in zip(p['l'], p['r'])]


def pl_f(p):          # items given best first
    s = ls(p)
    return mp.fsum(lse(s[k:]) - s[k] for k in range(len(s) - 1))


def pl_g(p):
    s = ls(p)
    K = len(s)
    d = [M(0)] * K
    for k in range(K - 1):
        q = softmax(s[k:])
        for j in range(k, K):
            d[j] += q[j - k]
        d[k] -= 1
    return {'l': [p['beta'] * a for a in d]}


Loss('pl_dpo', ['l'], ['beta'], lambda i: list_s(i, [4, 2, 5][i % 3], beta=0.1), pl_f, pl_g, 'list', 'best first')


def listnet_f(p):
    q = softmax([a / p['tau'] for a in p['psi']])
    s = ls(p)
    z = lse(s)
    return -mp.fsum(a * (b - z) for a, b in zip(q, s))


def listnet_g(p):
    q, m = softmax([a / p['tau'] for a in p['psi']]), softmax(ls(p))
    return {'l': [p['beta'] * (b - a) for a, b in zip(q, m)]}


Loss('infonca_listnet', ['l'], ['beta', 'tau'], lambda i: list_s(i, beta=0.1, tau=0.3), listnet_f, listnet_g, 'list',
     'InfoNCA = ListNet softmax cross-entropy')


def ncak_f(p):
    q, s = softmax([a / p['tau'] for a in p['psi']]), ls(p)
    return mp.fsum(a * sp(-b) + sp(b) / len(s) for a, b in zip(q, s))


def ncak_g(p):
    q, s = softmax([a / p['tau'] for a in p['psi']]), ls(p)
    return {'l': [p['beta'] * (-a * sig(-b) + sig(b) / len(s)) for a, b in zip(q, s)]}


Loss('nca_k', ['l'], ['beta', 'tau'], lambda i: list_s(i, beta=0.1, tau=0.3), ncak_f, ncak_g, 'list')


def exok_f(p):
    lp = [a / p['tau'] - lse([b / p['tau'] for b in p['psi']]) for a in p['psi']]
    s = ls(p)
    z = lse(s)
    return mp.fsum(mp.exp(a - z) * ((a - z) - b) for a, b in zip(s, lp))


def exok_g(p):
    lp = [a / p['tau'] - lse([b / p['tau'] for b in p['psi']]) for a in p['psi']]
    s = ls(p)
    z = lse(s)
    L = exok_f(p)
    return {'l': [p['beta'] * mp.exp(a - z) * (((a - z) - b) - L) for a, b in zip(s, lp)]}


Loss('exo_rw_k', ['l'], ['beta', 'tau'], lambda i: list_s(i, beta=0.1, tau=0.3), exok_f, exok_g, 'list')


def lipo_delta(p):
    s = ls(p)
    rank = {k: i + 1 for i, k in enumerate(sorted(range(len(s)), key=lambda k: -s[k]))}
    G = [mp.mpf(2) ** a - 1 for a in p['psi']]
    D = [mp.log(1 + rank[k]) for k in range(len(s))]
    return lambda i, j: abs(G[i] - G[j]) * abs(1 / D[i] - 1 / D[j])


def lipo_pairs(p):
    n = len(p['l'])
    return [(i, j) for i in range(n) for j in range(n) if p['psi'][i] > p['psi'][j]]


def lipo_f(p):
    s, d = ls(p), lipo_delta(p)
    return mp.fsum(d(i, j) * sp(-(s[i] - s[j])) for i, j in lipo_pairs(p))


def lipo_g(p):
    s, d = ls(p), lipo_delta(p)
    out = [M(0)] * len(s)
    for i, j in lipo_pairs(p):
        c = -d(i, j) * sig(-(s[i] - s[j])) * p['beta']
        out[i] += c
        out[j] -= c
    return {'l': out}


Loss('lipo_lambda', ['l'], ['beta'], lambda i: list_s(i, beta=0.1), lipo_f, lipo_g, 'list', 'Delta is a constant for the gradient (ranks are piecewise constant)')


def pairlog_f(p):
    s = ls(p)
    pr = lipo_pairs(p)
    return mp.fsum(sp(-(s[i] - s[j])) for i, j in pr) / max(len(pr), 1)


def pairlog_g(p):
    s = ls(p)
    pr = lipo_pairs(p)
    out = [M(0)] * len(s)
    for i, j in pr:
        c = -sig(-(s[i] - s[j])) * p['beta'] / max(len(pr), 1)
        out[i] += c
        out[j] -= c
    return {'l': out}


Loss('list_pairwise_logistic', ['l'], ['beta'], lambda i: list_s(i, beta=0.1), pairlog_f, pairlog_g, 'list')

# ----------------------------------------------------------------------------------------------- E. reward model
Loss('rm_bt', ['rc', 'rr'], ['m', 'c'], lambda i: dict(rc=U(-6, 6), rr=U(-6, 6), m=M(['0', '0.5'][i % 2]), c=M(['0', '0.01'][i // 2 % 2])),
     lambda p: sp(-(p['rc'] - p['rr'] - p['m'])) + p['c'] * (p['rc'] + p['rr']) ** 2,
     lambda p: {'rc': -sig(-(p['rc'] - p['rr'] - p['m'])) + 2 * p['c'] * (p['rc'] + p['rr']),
                'rr': sig(-(p['rc'] - p['rr'] - p['m'])) + 2 * p['c'] * (p['rc'] + p['rr'])}, 'RM')


# ----------------------------------------------------------------------------------------------- F. policy gradient (per token)
def tok_s(i, n=5, **h):
    old = [-U(0.01, 4) for _ in range(n)]
    p = dict(l=[a + U(-0.6, 0.6) for a in old], old=old, ref=[a + U(-0.5, 0.5) for a in old],
             A=M(['1.3', '-0.8'][i % 2]), beta=M(['0', '0.04'][i // 2 % 2]), lo=M('0.2'), hi=M('0.28'))
    p.update({k: M(repr(v)) for k, v in h.items()})
    if any(not dist(mp.exp(a - b), [1 - p['lo'], 1 + p['hi'], 3]) for a, b in zip(p['l'], p['old'])):
        return tok_s(i, n, **h)
    return p


def k3(l, ref):
    d = ref - l
    return mp.expm1(d) - d


def dk3(l, ref):
    return -mp.expm1(ref - l)


def clipf(w, p):
    return min(max(w, 1 - p['lo']), 1 + p['hi'])


def ppo_tok(l, o, p):
    w = mp.exp(l - o)
    return -min(w * p['A'], clipf(w, p) * p['A'])


def ppo_dtok(l, o, p):
    w = mp.exp(l - o)
    active = w <= 1 + p['hi'] if p['A'] >= 0 else w >= 1 - p['lo']
    return -p['A'] * w * ind(active)


def grpo_f(p):
    return mean([ppo_tok(l, o, p) + p['beta'] * k3(l, r) for l, o, r in zip(p['l'], p['old'], p['ref'])])


def grpo_g(p):
    n = len(p['l'])
    return {'l': [(ppo_dtok(l, o, p) + p['beta'] * dk3(l, r)) / n for l, o, r in zip(p['l'], p['old'], p['ref'])]}


Loss('grpo_seq', ['l'], ['A', 'lo', 'hi', 'beta'], tok_s, grpo_f, grpo_g, 'PG', 'one sequence; the aggregation only changes the 1/n factor')


def dual_f(p):
    out = []
    for l, o in zip(p['l'], p['old']):
        w = mp.exp(l - o)
        c1 = min(w * p['A'], clipf(w, p) * p['A'])
        out.append(-(max(c1, p['dual'] * p['A']) if p['A'] < 0 else c1))
    return mean(out)


def dual_g(p):
    n, out = len(p['l']), []
    for l, o in zip(p['l'], p['old']):
        w = mp.exp(l - o)
        if p['A'] < 0:
            a = (w >= 1 - p['lo']) and (w < p['dual'])
        else:
            a = w <= 1 + p['hi']
        out.append(-p['A'] * w * ind(a) / n)
    return {'l': out}


def dual_s(i):
    p = tok_s(i, dual=3.0)
    p['l'][0] = p['old'][0] + U(1.2, 1.6)       # w > 3
    return p


Loss('ppo_dual_clip', ['l'], ['A', 'lo', 'hi', 'dual'], dual_s, dual_f, dual_g, 'PG')


def twos_f(p):        # INTELLECT-2 / TRL delta: clamp(w, max=delta) before the min
    out = []
    for l, o in zip(p['l'], p['old']):
        w = mp.exp(l - o)
        out.append(-min(min(w, p['delta']) * p['A'], clipf(w, p) * p['A']))
    return mean(out)


def twos_g(p):
    n, out = len(p['l']), []
    for l, o in zip(p['l'], p['old']):
        w = mp.exp(l - o)
        a = (w <= 1 + p['hi']) if p['A'] >= 0 else (1 - p['lo'] <= w < p['delta'])
        out.append(-p['A'] * w * ind(a) / n)
    return {'l': out}


def twos_s(i):
    p = tok_s(i, delta=3.0)
    p['l'][0] = p['old'][0] + U(1.2, 1.6)
    return p


Loss('grpo_two_sided', ['l'], ['A', 'lo', 'hi', 'delta'], twos_s, twos_f, twos_g, 'PG')


def gspo_w(p):
    return mp.exp(mean([a - b for a, b in zip(p['l'], p['old'])]))


def gspo_s(i):
    while True:
        p = tok_s(i)
        p['lo'], p['hi'] = M('0.05'), M('0.08')
        if dist(gspo_w(p), [1 - p['lo'], 1 + p['hi']]):
            return p


Loss('gspo', ['l'], ['A', 'lo', 'hi'], gspo_s,
     lambda p: -min(gspo_w(p) * p['A'], clipf(gspo_w(p), p) * p['A']),
     lambda p: {'l': [-p['A'] * gspo_w(p) / len(p['l']) * ind(gspo_w(p) <= 1 + p['hi'] if p['A'] >= 0 else gspo_w(p) >= 1 - p['lo'])] * len(p['l'])},
     'PG')
Loss('cispo', ['l'], ['A', 'wmax', 'w'], lambda i: dict(tok_s(i, wmax=1.28), w=None),
     lambda p: mean([-w * p['A'] * l for l, w in zip(p['l'], p['w'])]),
     lambda p: {'l': [-w * p['A'] / len(p['l']) for w in p['w']]}, 'PG', 'w = min(exp(l-old), wmax) detached')
Loss('sapo', ['l'], ['A', 'temp'], lambda i: tok_s(i, temp=[1.0, 1.05][i % 2]),
     lambda p: mean([-4 / p['temp'] * sig(p['temp'] * (mp.exp(l - o) - 1)) * p['A'] for l, o in zip(p['l'], p['old'])]),
     lambda p: {'l': [-4 * dsig(p['temp'] * (mp.exp(l - o) - 1)) * mp.exp(l - o) * p['A'] / len(p['l']) for l, o in zip(p['l'], p['old'])]}, 'PG')
Loss('vespo', ['l'], ['A', 'phi'], lambda i: tok_s(i, phi=0.77),
     lambda p: mean([-p['phi'] * p['A'] * l for l in p['l']]), lambda p: {'l': [-p['phi'] * p['A'] / len(p['l'])] * len(p['l'])}, 'PG', 'phi detached')


def gmpo_c(p):
    out = []
    for l, o in zip(p['l'], p['old']):
        r = l - o
        c = min(max(r, -p['lo']), p['hi'])
        out.append(min(r, c) if p['A'] > 0 else max(r, c))
    return out


def gmpo_s(i):
    while True:
        p = tok_s(i)
        p['lo'] = p['hi'] = M('0.4')
        if all(dist(a - b, [-p['lo'], p['hi']]) for a, b in zip(p['l'], p['old'])):
            return p


def gmpo_g(p):
    n = len(p['l'])
    w = mp.exp(mean(gmpo_c(p)))
    act = [(l - o <= p['hi']) if p['A'] > 0 else (l - o >= -p['lo']) for l, o in zip(p['l'], p['old'])]
    return {'l': [-p['A'] * w / n * ind(a) for a in act]}


Loss('gmpo', ['l'], ['A', 'lo', 'hi'], gmpo_s, lambda p: -mp.exp(mean(gmpo_c(p))) * p['A'], gmpo_g, 'PG')
Loss('reinforce', ['l'], ['A'], lambda i: tok_s(i), lambda p: -p['A'] * mp.fsum(p['l']), lambda p: {'l': [-p['A']] * len(p['l'])}, 'PG')


def rloo_w(p):
    return mp.exp(mp.fsum(a - b for a, b in zip(p['l'], p['old'])))


def rloo_s(i):
    while True:
        p = tok_s(i)
        if dist(rloo_w(p), [1 - p['lo'], 1 + p['hi']]):
            return p


Loss('rloo_clip', ['l'], ['A', 'lo', 'hi'], rloo_s,
     lambda p: -min(rloo_w(p) * p['A'], clipf(rloo_w(p), p) * p['A']),
     lambda p: {'l': [-p['A'] * rloo_w(p) * ind(rloo_w(p) <= 1 + p['hi'] if p['A'] >= 0 else rloo_w(p) >= 1 - p['lo'])] * len(p['l'])}, 'PG',
     'sequence-level ratio (sum of log-ratios), TRL RLOOTrainer')
Loss('a2po', ['l'], ['beta2', 'target'], lambda i: tok_s(i, beta2=0.001, target=0.3),
     lambda p: (p['beta2'] * (mp.fsum(p['l']) - mp.fsum(p['ref'])) - p['target']) ** 2,
     lambda p: {'l': [2 * p['beta2'] * (p['beta2'] * (mp.fsum(p['l']) - mp.fsum(p['ref'])) - p['target'])] * len(p['l'])}, 'PG')
Loss('value_clip', ['v'], ['vold', 'ret', 'eps'],
     lambda i: dict(v=M(['0.9', '0.31', '1.4', '-0.5'][i % 4]), vold=M('0.5'), ret=M(['0.2', '1.1'][i // 4 % 2]), eps=M('0.2')),
     lambda p: max((p['v'] - p['ret']) ** 2, (min(max(p['v'], p['vold'] - p['eps']), p['vold'] + p['eps']) - p['ret']) ** 2) / 2,
     lambda p: {'v': _vclip_g(p)}, 'PG')


def _vclip_g(p):
    c = min(max(p['v'], p['vold'] - p['eps']), p['vold'] + p['eps'])
    a, b = (p['v'] - p['ret']) ** 2, (c - p['ret']) ** 2
    if a >= b:
        return p['v'] - p['ret']
    return (c - p['ret']) * ind(abs(p['v'] - p['vold']) < p['eps'])


Loss('xpo', ['lw', 'll', 'lref'], ['beta', 'alpha'], lambda i: dict(pair(i, beta=0.1, alpha=1e-5), lref=logp(9)),
     lambda p: sp(-x_sum(p)) + p['alpha'] * p['lref'],
     lambda p: {'lw': -p['beta'] * sig(-x_sum(p)), 'll': p['beta'] * sig(-x_sum(p)), 'lref': p['alpha']}, 'online')
Loss('nash_md', ['l'], ['beta', 'P', 'lr'], lambda i: dict(tok_s(i, P=0.62), lr=None, beta=M('0.1')),
     lambda p: p['beta'] * mp.fsum(d * l for d, l in zip(p['lr'], p['l'])) - (p['P'] - M('0.5')) * mp.fsum(p['l']),
     lambda p: {'l': [p['beta'] * d - (p['P'] - M('0.5')) for d in p['lr']]}, 'online', 'lr = l - ref detached')
Loss('sft_nll', ['l'], [], lambda i: tok_s(i), lambda p: -mean(p['l']), lambda p: {'l': [-M(1) / len(p['l'])] * len(p['l'])}, 'SFT')
Loss('dft', ['l'], ['pd'], lambda i: dict(tok_s(i), pd=None), lambda p: -mean([w * l for w, l in zip(p['pd'], p['l'])]),
     lambda p: {'l': [-w / len(p['l']) for w in p['pd']]}, 'SFT', 'pd = exp(l) detached')


def finish(p):        # fill in detached quantities from the sampled point
    if p.get('w', 0) is None:
        p['w'] = [min(mp.exp(a - b), p['wmax']) for a, b in zip(p['l'], p['old'])]
    if p.get('lr', 0) is None:
        p['lr'] = [a - b for a, b in zip(p['l'], p['ref'])]
    if p.get('pd', 0) is None:
        p['pd'] = [mp.exp(a) for a in p['l']]
    return p


def points(name, n):
    R.seed('vec:' + name)
    return [finish(LOSSES[name].sampler(i)) for i in range(n)]


def flat_in_order(L, p):
    g = L.g(p)
    return [x for k in L.vars for x in (g[k] if isinstance(g[k], list) else [g[k]])]


def js(v):
    if isinstance(v, bool):
        return v
    if isinstance(v, list):
        return [js(x) for x in v]
    return mp.nstr(v, 25, min_fixed=-6, max_fixed=12)


def vectors(n):
    out = {}
    for name, L in LOSSES.items():
        rows = []
        for p in points(name, n):
            rows.append({'in': {k: js(v) for k, v in p.items() if v is not None}, 'loss': js(L.f(p)),
                         'grad': {k: js(v) for k, v in L.g(p).items()}})
        out[name] = {'vars': L.vars, 'hyper': L.hyper, 'group': L.group, 'note': L.note, 'cases': rows}
    return out


if __name__ == '__main__':
    json.dump(vectors(12), sys.stdout, indent=1)
