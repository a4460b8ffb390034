#!/usr/bin/env python3
"""Holds cycles.def to the kernels' sources, and counts what it says.

  - every row names a pipelined loop of its source file, with the II of its pragma; every pipelined loop of a file whose
    loops are counted has one (two loops of one label in a file: rows for one label stand for both);
  - the trips of a row are those that the loop makes: the kernel is compiled for a card's steps (PF_STEP=1) with gcov,
    run at sizes that leave tails, and its lines are counted.

usage: loops.py COMPILER SOURCE-FOLDER BUILD-FOLDER"""
import json
import os
import re
import subprocess
import sys
import tempfile

SKIP = 77
# scalars of each run: (kernel, {name: value}); all rows are scored
RUNS = [
    ("logprob", dict(rows=70, vocab=1000, stride=64, flags=1)),
    ("logprob_bf16", dict(rows=70, vocab=1000, stride=33, flags=0)),
    ("seq_sum", dict(rows=90, seqs=7)),
    ("coef", dict(rows=90, seqs=7, tail=1)),
    ("logit_grad", dict(rows=5, vocab=1000, stride=64)),
    ("linear_logprob", dict(rows=70, depth=5, vocab=150, mode=4, scale=1, softcap=0, temperature=1)),
    ("linear_grad", dict(rows=70, depth=5, vocab=150, mode=14, scale=1, softcap=0, temperature=1, zloss=0, entropy=0,
                         filter=0)),
    ("linear_grad", dict(rows=70, depth=9, vocab=90, mode=64, scale=1, softcap=0, temperature=1, zloss=0, entropy=0,
                         filter=0)),
    ("linear_grad", dict(rows=130, depth=9, vocab=90, mode=26, scale=1, softcap=0, temperature=1, zloss=0, entropy=0,
                         filter=0)),
    ("linear_logprob", dict(rows=70, depth=9, vocab=90, mode=0, scale=1, softcap=0, temperature=1, array=2)),
    ("linear_grad", dict(rows=128, depth=4, vocab=150, mode=8, scale=1, softcap=0, temperature=1, zloss=0, entropy=0,
                         filter=0, array=2)),
    ("linear_logprob_bf16", dict(rows=70, depth=5, vocab=150, mode=4, scale=1, softcap=0, temperature=1)),
    ("linear_grad_bf16", dict(rows=70, depth=5, vocab=150, mode=14, scale=1, softcap=0, temperature=1, zloss=0,
                              entropy=0, filter=0)),
    ("linear_grad_bf16", dict(rows=70, depth=3, vocab=90, mode=90, scale=1, softcap=0, temperature=1, zloss=0,
                              entropy=0, filter=0)),
    ("linear_logprob_mxint8", dict(rows=70, depth=5, vocab=150, mode=4, scale=1, softcap=0, temperature=1)),
    ("logit_grad_bf16", dict(rows=5, vocab=1000, stride=33)),
    ("head_adamw", dict(vocab=151, depth=3, beta1=0, beta2=0, rest1=0, rest2=0, grad=0, rate=0, root=0, epsilon=1, keep=1)),
    ("head_norm", dict(vocab=151, depth=3)),
]
DRIVER = r"""
#include <stdlib.h>
#include <string.h>
#include "prefpga/internal/kernels.h"
#define PF_KERNEL_SUFFIX
PF_KERNELS(PF_PROTOTYPE)
static void *room(void) { void *p = aligned_alloc(4096, 1 << 22); memset(p, 0, 1 << 22); return p; }
int main(void)
{
	struct pf_span *span = room();
	for (unsigned i = 0, at = 0; i < 7; at += 10 + i, i++)
		span[i] = (struct pf_span){ at, i == 6 ? 90 : at + 10 + i, i == 6 ? 90 : at + 10 + i, 0 };
	float *one = room();
	for (int i = 0; i < 1000; i++)
		one[i] = 1.0f;
	struct pf_row *row = room();
	for (int i = 0; i < 1000; i++)
		row[i] = (struct pf_row){ .inv = 0.75f, .exp2 = 3, .rest = 0.5f };
	%s
	return 0;
}
"""


def rows_of(compiler, include, name):
    text = '#include "prefpga/internal/cycles.def"\n#define L(k, file, label, ii, trips, entries, seen, depth) ' \
           '@@k|file|label|ii|trips|entries@@\n%s(L)\n' % name
    run = subprocess.run([compiler, "-E", "-P", "-I", include, "-x", "c", "-"], input=text, text=True,
                         capture_output=True, check=True)
    return [dict(zip(("kernel", "file", "label", "ii", "trips", "entries"), (f.strip() for f in row.split("|"))))
            for row in re.findall(r"@@(.*?)@@", run.stdout, re.S)]


def statements(lines, at, head):
    """Line numbers of the body that begins at line `at`, one deeper than the head and no head of a loop: each runs once a
    trip unless a `continue` stands before it, so the first that gcov counts is the one to look at"""
    depth = re.match(r"^\t*", head).group(0) + "\t"
    found = []
    while not re.match(r"^\t{%d}\}" % (len(depth) - 1), lines[at]):
        if re.match(r"^%s[A-Za-z*]" % depth, lines[at]) and not re.match(r"^\t*(for|do|while)\b", lines[at]):
            found.append(at + 1)
        at += 1
    return found


def loops_of(path):
    """[(label, ii, lines of the body's statements)] of the pipelined loops of a file"""
    lines = open(path).read().split("\n")
    found = []
    for n, line in enumerate(lines):
        label = re.match(r"^\s*([a-z_0-9]+):$", line)
        if not label:
            continue
        at = n + 2
        ii = None
        while re.match(r"^#pragma HLS", lines[at]):
            m = re.match(r"^#pragma HLS PIPELINE II=(\d+)", lines[at])
            ii = m.group(1) if m else ii
            at += 1
        if ii:
            found.append((label.group(1), ii, statements(lines, at, lines[n + 1])))
    return found


def check_sources(rows, folder, complete, complain):
    for file in sorted({r["file"] for r in rows}):
        have = {(label, ii) for label, ii, _ in loops_of(os.path.join(folder, "hls", file))}
        want = {(r["label"], r["ii"]) for r in rows if r["file"] == file}
        for label, ii in sorted(want - have):
            complain("cycles.def: %s has no pipelined loop %s of II %s" % (file, label, ii))
        for label, ii in sorted(have - want) if complete else []:
            complain("%s: pipelined loop %s of II %s has no row in cycles.def" % (file, label, ii))


def value_of(expression, scalars):
    import math
    names = dict({"array": 4}, **scalars, BEATS=lambda v, lanes: math.ceil(v / lanes), LEAST=min, BIT=lambda mode, bit: int(mode & bit != 0))
    return eval(expression, {"__builtins__": {}}, names)


def call_of(compiler, include, kernel, scalars):
    text = '#include "prefpga/internal/kernels.def"\n#define A(k, name, dir, ctype, ports, bundle, bank, count) ' \
           '@@name dir ports@@\n#define S()\nPF_ARGS_%s(A, S)\n' % kernel
    run = subprocess.run([compiler, "-E", "-P", "-I", include, "-x", "c", "-"], input=text, text=True,
                         capture_output=True, check=True)
    words = []
    for arg in re.findall(r"@@(.*?)@@", run.stdout):
        name, direction, ports = arg.split()
        given = {"span": "span", "coef": "one", "row": "row"}
        word = str(scalars[name]) if direction == "VAL" else given.get(name, "room()")
        words.extend([word] * max(1, int(ports)))
    return "pf_k_%s(%s);" % (kernel, ", ".join(words))


def source_of(compiler, include, kernel):
    """hls/<file>.c of a kernel"""
    text = '#include "prefpga/internal/kernels.def"\n#define K(k, file, state, lanes, brief) @@k file@@\nPF_KERNELS(K)\n'
    run = subprocess.run([compiler, "-E", "-P", "-I", include, "-x", "c", "-"], input=text, text=True,
                         capture_output=True, check=True)
    return dict(row.split() for row in re.findall(r"@@(.*?)@@", run.stdout))[kernel] + ".c"


def count(compiler, folder, build, kernel, file, scalars):
    """{line: how often} of the kernel's source in one run"""
    include = os.path.join(folder, "include")
    with tempfile.TemporaryDirectory(dir=build) as work:
        open(os.path.join(work, "kernel.c"), "w").write(
            "#define PF_STEP 1\n#define PF_ARRAY_ROWS %d\n#define PF_KERNEL_SUFFIX\n%s#include \"%s\"\n"
            % (scalars.get("array", 4), "#define PF_BF16\n" if kernel.endswith("bf16") else "",
               os.path.join(folder, "hls", source_of(compiler, include, kernel))))
        open(os.path.join(work, "driver.c"), "w").write(DRIVER % call_of(compiler, include, kernel, scalars))
        run = lambda *words: subprocess.run(words, cwd=work, check=True, capture_output=True, text=True)
        run(compiler, "-O0", "--coverage", "-w", "-I", include, "-c", "kernel.c")
        run(compiler, "-O0", "-w", "-I", include, "-c", "driver.c")
        # the driver only links what it calls: other kernels' prototypes need no definition
        run(compiler, "--coverage", "kernel.o", "driver.o", "-o", "driver")
        run(os.path.join(work, "driver"))
        text = run("gcov", "--json-format", "--stdout", "kernel.c").stdout
        counts = {}
        for one in json.loads(text)["files"]:
            if os.path.basename(one["file"]) == file:
                for line in one["lines"]:
                    counts[line["line_number"]] = counts.get(line["line_number"], 0) + line["count"]
        return counts


def check_counts(rows, compiler, folder, build, complain):
    for kernel, scalars in RUNS:
        for row in (r for r in rows if r["kernel"] == kernel):
            counts = count(compiler, folder, build, kernel, row["file"], scalars)
            bodies = [body for label, ii, body in loops_of(os.path.join(folder, "hls", row["file"]))
                      if (label, ii) == (row["label"], row["ii"])]
            have = sum(next((counts[at] for at in body if at in counts), 0) for body in bodies)
            want = value_of(row["trips"], scalars)
            print("%s %s: %d trips, by the table %d" % (kernel, row["label"], have, want))
            if have != want:
                complain("%s, loop %s: %d trips at %s, cycles.def says %s = %d"
                         % (kernel, row["label"], have, scalars, row["trips"], want))


def main():
    compiler, folder, build = sys.argv[1:4]
    faults = []
    rows = rows_of(compiler, os.path.join(folder, "include"), "PF_LOOPS_COUNTED")
    bounds = rows_of(compiler, os.path.join(folder, "include"), "PF_LOOPS_AT_MOST")
    missing = {r["kernel"] for r in rows} - {kernel for kernel, _ in RUNS}
    for kernel in sorted(missing):
        faults.append("loops.py: no run of kernel %s; add one to RUNS" % kernel)
    check_sources(rows, folder, True, faults.append)
    check_sources(bounds, folder, False, faults.append)
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True).stdout
    if "Free Software Foundation" not in version:
        print("trips are counted with gcc and gcov only")
        sys.exit(1 if faults else SKIP)
    check_counts(rows, compiler, folder, build, faults.append)
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


main()
