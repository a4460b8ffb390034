#!/usr/bin/env python3
"""The specification's own test vectors, at inputs that kernel pref's tables hold.

    official.py > official.json      (needs python3-mpmath; about half a minute)

oracle.py draws its points (fixed seeds), each input is rounded as it is in the tables: log-probs to multiples of 2^-32,
what items have as float (scores, margins, weights, advantages) to singles, parameters to doubles. At the rounded point the
oracle evaluates loss and gradient anew; `cond` and `grad_cond` are the sums over inputs of |input * derivative by that
input|, from differences of both, as the error rule of tests/loss_vectors.c wants them. Same form as losses.json, losses
under the oracle's names."""
import json
import struct
import sys

import mpmath as mp

import oracle
from generate import exact, show

M = mp.mpf
CASES = 12
DETACHED = ('w', 'lr', 'pd')            # functions of the other inputs: found again at every point
SINGLE = ('psi', 'pw', 'pl', 'ww', 'wl', 'm', 'A', 'P', 'target', 'ret')
LOGPS = ('lw', 'll', 'rw', 'rl', 'lref', 'lg', 'rc', 'rr', 'l', 'r', 'old', 'ref', 'tw', 'tl', 'v', 'vold')
COUNTS = ('nw', 'nl', 'ng', 'y')


def rounded(loss, key, value):
    if isinstance(value, list):
        return [rounded(loss, key, a) for a in value]
    if key in COUNTS:
        return value
    if key in LOGPS:
        return mp.nint(value * 2 ** 32) / 2 ** 32
    if key in SINGLE or (loss, key) == ('dpo_offset', 'delta'):
        return M(struct.unpack('f', struct.pack('f', float(value)))[0])
    return M(float(value))


def numbers(loss, point):
    """Loss, then the gradients by the names of their inputs"""
    p = oracle.finish({**point, **{k: None for k in DETACHED if k in point}})
    return [loss.f(p)] + oracle.flat_in_order(loss, p)


def moved(point, key, i, step):
    value = point[key]
    return {**point, key: value[:i] + [value[i] + step] + value[i + 1:] if isinstance(value, list) else value + step}


def conditions(loss, point, base):
    cond = [M(0)] * len(base)
    for key in point:
        if key in COUNTS or key in DETACHED:
            continue
        for i, a in enumerate(point[key] if isinstance(point[key], list) else [point[key]]):
            h = max(1, abs(a)) * M(10) ** -20
            sides = [numbers(loss, moved(point, key, i, s)) for s in ((h, -h) if a else ())]
            for k, f in enumerate(base if a else ()):
                cond[k] += abs(a) * min(abs(side[k] - f) for side in sides) / h
    return cond


def shaped(loss, point, values, one):
    out, at = {}, 0
    for key in loss.vars:
        n = len(point[key]) if isinstance(point[key], list) else 0
        out[key] = [one(a) for a in values[at:at + n]] if n else one(values[at])
        at += n or 1
    return out


def as_input(value):
    if isinstance(value, list):
        return [as_input(a) for a in value]
    return value if isinstance(value, bool) else exact(M(value))


def record(loss, point):
    base = numbers(loss, point)
    cond = conditions(loss, point, base)
    return {'in': {k: as_input(a) for k, a in point.items() if k not in DETACHED},
            'loss': show(base[0]), 'cond': show(cond[0], 4), 'grad': shaped(loss, point, base[1:], show),
            'grad_cond': shaped(loss, point, cond[1:], lambda a: show(a, 4))}


def main():
    entries, count = [], 0
    for name, loss in oracle.LOSSES.items():
        points = [{k: rounded(name, k, a) for k, a in p.items() if a is not None} for p in oracle.points(name, CASES)]
        records = [record(loss, p) for p in points]
        count += sum(1 + sum(len(g) if isinstance(g, list) else 1 for g in r['grad'].values()) for r in records)
        rows = ',\n'.join(json.dumps(r, separators=(',', ':')) for r in records)
        entries.append('{"loss":%s,"cases":[\n%s]}' % (json.dumps('oracle:' + name), rows))
        print(name, len(records), file=sys.stderr)
    print('[\n' + ',\n'.join(entries) + '\n]')
    print(count, 'numbers', file=sys.stderr)


if __name__ == '__main__':
    main()
