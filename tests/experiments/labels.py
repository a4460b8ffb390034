#!/usr/bin/env python3
"""labels.py LABELS.csv FOLDER: the table and the plot of labels.sh, from its rows alone.

labels.md: held-out accuracy on true labels of each loss, beta and share of flips, mean over seeds with the 95 % interval of
that mean (Student's t over seeds; n stands beside it), and the answers to the article's claims as numbers.
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


def claims(rows, found, flips):
    lines = ['', '## The claims, as numbers', '']
    margin = group(rows, 'margin')
    most = max(flips)
    for name, loss in (('DPO', 'sigmoid'), ('IPO', 'ipo')):
        values = [v for b in margin[loss] for v in margin[loss][b].get(0, [])] if loss in margin else []
        if values:
            lines.append(f'* Near-deterministic preferences (0 % flips): mean held-out log-ratio margin of {name} over its betas '
                         f'{interval(values)[0]:.2f} nats.')
    for loss in found:
        clean, noisy = best(found, loss, 0), best(found, loss, most)
        if not math.isnan(clean[0]) and not math.isnan(noisy[0]):
            lines.append(f'* Noise: {loss}, best β each: {clean[0]:.3f} (β {clean[1]:g}) without flips, {noisy[0]:.3f} '
                         f'(β {noisy[1]:g}) with {most} %; lost {clean[0] - noisy[0]:.3f}.')
    for loss in found:
        means = [interval(found[loss][b][0])[0] for b in found[loss] if found[loss][b].get(0)]
        if len(means) > 1:
            lines.append(f'* Sensitivity to β: {loss}, accuracies between {min(means):.3f} and {max(means):.3f} over its three β '
                         f'without flips.')
    first = group(rows, 'first_margin')
    if 'discopop' in first:
        for beta in sorted(first['discopop']):
            values = first['discopop'][beta].get(0, [])
            if values:
                lines.append(f'* Start of DiscoPOP (β {beta:g}, no flips): reward margin after a tenth of the steps '
                             f'{cell(values)}; below 0 is the wrong way.')
    return lines


# ---- the plot ----
WIDTH, HEIGHT, LEFT, TOP, GAP = 230, 190, 46, 40, 22
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
        out.append(f'<text x="{x0 + WIDTH - 12}" y="{y0 + 20 + 13 * k}" text-anchor="end" fill="{COLOURS[k % 3]}">β {beta:g}</text>')
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
