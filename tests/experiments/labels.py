#!/usr/bin/env python3
"""labels.py LABELS.csv FOLDER: the table and the plot of labels.sh, from its rows alone.

labels.md: held-out accuracy on true labels of each loss, beta and share of flips, mean over seeds with the 95 % interval of
that mean (Student's t over seeds; n stands beside it), and the article's claims, each confirmed, refuted or undecided by its
number.
labels.svg: accuracy against flips, one panel a loss, one line a beta, the intervals as bars."""
import csv
import math
import sys
from collections import defaultdict

T95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


def read(path):
    with open(path, newline='') as file:
        return list(csv.DictReader(file))


def number(row, key):
    try:
        return float(row[key])
    except ValueError:
        return math.nan


def interval(values):
    """Mean and half width; no half width from a single run"""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, math.nan
    deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, T95.get(n, 2.0) * deviation / math.sqrt(n)


def group(rows, key):
    """{loss: {beta: {flips: [value, ...]}}}"""
    found = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in rows:
        value = number(row, key)
        if not math.isnan(value):
            found[row['loss']][float(row['beta'])][int(row['flips'])].append(value)
    return found


def cell(values):
    if not values:
        return '–'
    mean, half = interval(values)
    return f'{mean:.3f} ± {half:.3f} ({len(values)})' if not math.isnan(half) else f'{mean:.3f} (1)'


def table(found, flips):
    lines = ['| loss | β | ' + ' | '.join(f'{f} % flipped' for f in flips) + ' |', '|---|---|' + '---|' * len(flips)]
    for loss in found:
        for beta in sorted(found[loss]):
            cells = ' | '.join(cell(found[loss][beta].get(f, [])) for f in flips)
            lines.append(f'| {loss} | {beta:g} | {cells} |')
    return lines


def best(found, loss, flips):
    """The mean accuracy of a loss's best beta at a share of flips"""
    means = [(interval(found[loss][b][flips])[0], b) for b in found[loss] if found[loss][b].get(flips)]
    return max(means) if means else (math.nan, math.nan)


# ---- the claims ----

def seeds(rows, key, loss, flips, beta=None):
    """{seed: value}; without a beta the mean over betas"""
    found = defaultdict(list)
    for row in rows:
        value = number(row, key)
        if row['loss'] == loss and int(row['flips']) == flips and beta in (None, float(row['beta'])) and not math.isnan(value):
            found[row['seed']].append(value)
    return {seed: sum(v) / len(v) for seed, v in found.items()}


def difference(a, b):
    """a - b, seed by seed: both trained on the same pairs"""
    values = [a[seed] - b[seed] for seed in a if seed in b]
    return interval(values) if values else (math.nan, math.nan)


def verdict(mean, half):
    """Whether the 95 % interval lies above 0, below it, or on both sides"""
    if math.isnan(mean) or math.isnan(half):
        return 'no answer yet: too few seeds'
    return 'confirmed' if mean - half > 0 else 'refuted' if mean + half < 0 else 'undecided'


def shown(mean, half, digits=3):
    return f'{mean:.{digits}f}' + ('' if math.isnan(half) else f' ± {half:.{digits}f}')


def middle(found, loss):
    """The library's setting of beta, between a smaller and a larger one"""
    betas = sorted(found.get(loss, ()))
    return betas[len(betas) // 2] if betas else math.nan


def overfitting(rows, found):
    """Near-deterministic preferences: every rule-abiding pair has the same label each time. Does DPO run away from the
    reference where IPO, whose margin has a target, does not, and does that cost accuracy?"""
    lines, dpo, ipo = [], middle(found, 'sigmoid'), middle(found, 'ipo')
    for key, what, unit in (('margin', 'log-ratio margin', 'nats'), ('kl_reference', 'KL to the reference', 'nats a sequence')):
        answer = difference(seeds(rows, key, 'sigmoid', 0, dpo), seeds(rows, key, 'ipo', 0, ipo))
        if not math.isnan(answer[0]):
            lines.append(f'* Near-deterministic preferences, DPO drives the {what} further than IPO: **{verdict(*answer)}** '
                         f'(0 % flips, DPO at β {dpo:g} - IPO at β {ipo:g}: {shown(*answer, 1)} {unit}).')
    gap = difference(seeds(rows, 'train_accuracy', 'sigmoid', 0), seeds(rows, 'accuracy', 'sigmoid', 0))
    if not math.isnan(gap[0]):
        lines.append(f'* And that costs DPO accuracy on pairs it has not seen: **{verdict(*gap)}** (0 % flips, accuracy in '
                     f'the last step of training - held-out, mean over β: {shown(*gap)}).')
    return lines


def noise(rows, found, most):
    lines = []
    clean, noisy = best(found, 'sigmoid', 0), best(found, 'sigmoid', most)
    if math.isnan(clean[0]) or math.isnan(noisy[0]) or not most:
        return lines
    lost = difference(seeds(rows, 'accuracy', 'sigmoid', 0, clean[1]), seeds(rows, 'accuracy', 'sigmoid', most, noisy[1]))
    lines.append(f'* Noise hurts DPO: **{verdict(*lost)}** (best β each, accuracy without flips - with {most} % {shown(*lost)}).')
    for loss in found:
        own = best(found, loss, most)
        if loss == 'sigmoid' or math.isnan(own[0]):
            continue
        answer = difference(seeds(rows, 'accuracy', loss, most, own[1]), seeds(rows, 'accuracy', 'sigmoid', most, noisy[1]))
        lines.append(f'* With {most} % flipped, {loss} (β {own[1]:g}) does better than DPO (β {noisy[1]:g}): '
                     f'**{verdict(*answer)}** ({shown(*answer)}).')
    return lines


def spread(rows, loss, flips, betas):
    """{seed: largest - smallest accuracy over betas}"""
    each = [seeds(rows, 'accuracy', loss, flips, beta) for beta in betas]
    return {seed: max(e[seed] for e in each) - min(e[seed] for e in each) for seed in each[0] if all(seed in e for e in each)}


def sensitivity(rows, found, flips):
    lines = []
    for share in (flips[0], flips[-1]):
        if not all(loss in found and len(found[loss]) > 1 for loss in ('discopop', 'sigmoid')):
            continue
        answer = difference(spread(rows, 'discopop', share, list(found['discopop'])),
                            spread(rows, 'sigmoid', share, list(found['sigmoid'])))
        if not math.isnan(answer[0]):
            lines.append(f'* DiscoPOP depends more on β than DPO: **{verdict(*answer)}** ({share} % flips, spread of accuracy over '
                         f'three β, {max(found["discopop"]) / min(found["discopop"]):g} and '
                         f'{max(found["sigmoid"]) / min(found["sigmoid"]):g} times apart: difference {shown(*answer)}).')
    return lines


def start(rows, found):
    lines = []
    for beta in sorted(found.get('discopop', ())):
        values = list(seeds(rows, 'first_margin', 'discopop', 0, beta).values())
        if values:
            mean, half = interval(values)
            lines.append(f'* DiscoPOP starts the wrong way, β {beta:g}: **{verdict(-mean, half)}** (0 % flips, reward margin after '
                         f'a tenth of the steps {shown(mean, half, 4)}; below 0 is the wrong way).')
    return lines


def claims(rows, found, flips):
    return ['', '## The claims', '', 'A claim is confirmed or refuted where the 95 % interval of the mean over seeds, compared seed by '
            'seed, lies on one side of 0, and undecided where it does not.', ''] + overfitting(rows, found) + noise(rows, found, max(flips)) \
        + sensitivity(rows, found, flips) + start(rows, found)


# ---- the plot ----
WIDTH, HEIGHT, LEFT, TOP, GAP = 230, 206, 46, 48, 22
COLOURS = ['#1f5fa8', '#b5462f', '#3d8a4e']


def panel(found, loss, flips, x0, y0):
    def px(f):
        return x0 + LEFT + f / max(flips[-1], 1) * (WIDTH - LEFT - 10)

    def py(a):
        return y0 + TOP + (1 - (a - 0.3) / 0.7) * (HEIGHT - TOP - 30)
    out = [f'<text x="{x0 + LEFT}" y="{y0 + 20}" font-size="14">{loss}</text>']
    for a in (0.4, 0.6, 0.8, 1.0):
        out.append(f'<line x1="{px(0):.1f}" x2="{px(flips[-1]):.1f}" y1="{py(a):.1f}" y2="{py(a):.1f}" stroke="#ddd"/>'
                   f'<text x="{px(0) - 8:.1f}" y="{py(a) + 4:.1f}" text-anchor="end">{a:.1f}</text>')
    for f in flips:
        out.append(f'<text x="{px(f):.1f}" y="{y0 + HEIGHT - 12}" text-anchor="middle">{f} %</text>')
    for k, beta in enumerate(sorted(found[loss])):
        points = []
        for f in flips:
            values = found[loss][beta].get(f, [])
            if not values:
                continue
            mean, half = interval(values)
            x, y = px(f) + 3 * (k - 1), py(min(max(mean, 0.3), 1))
            points.append(f'{x:.1f},{y:.1f}')
            if not math.isnan(half):
                out.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{py(min(mean + half, 1)):.1f}" '
                           f'y2="{py(max(mean - half, 0.3)):.1f}" stroke="{COLOURS[k % 3]}"/>')
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{COLOURS[k % 3]}"/>')
        out.append(f'<polyline fill="none" stroke="{COLOURS[k % 3]}" stroke-width="1.5" points="{" ".join(points)}"/>')
        out.append(f'<text x="{x0 + LEFT + 58 * k}" y="{y0 + 36}" fill="{COLOURS[k % 3]}">β {beta:g}</text>')
    return out


def plot(found, flips):
    losses, columns = list(found), 4
    rows = (len(losses) + columns - 1) // columns
    width, height = columns * (WIDTH + GAP), rows * (HEIGHT + GAP) + 30
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" font-size="11">',
           '<rect width="100%" height="100%" fill="white"/>']
    for i, loss in enumerate(losses):
        out += panel(found, loss, flips, i % columns * (WIDTH + GAP), i // columns * (HEIGHT + GAP))
    out.append(f'<text x="{LEFT}" y="{height - 10}">reward accuracy on held-out pairs with true labels against the share of '
               'flipped training labels; bars: 95 % interval of the mean over seeds</text></svg>')
    return out


def main():
    rows = read(sys.argv[1])
    if not rows:
        sys.exit(f'{sys.argv[1]}: no runs')
    found = group(rows, 'accuracy')
    flips = sorted({int(row['flips']) for row in rows})
    lines = ['# Flipped labels', '', f'{len(rows)} runs of {rows[0]["steps"]} steps; machine, commit and date of each stand in '
             '`labels.csv`. Reward accuracy on held-out pairs with true labels: mean over seeds ± half the 95 % interval of that '
             'mean (runs).', ''] + table(found, flips) + claims(rows, found, flips)
    with open(sys.argv[2] + '/labels.md', 'w') as file:
        file.write('\n'.join(lines) + '\n')
    with open(sys.argv[2] + '/labels.svg', 'w') as file:
        file.write('\n'.join(plot(found, flips)) + '\n')
    print('\n'.join(lines))


if __name__ == '__main__':
    main()
