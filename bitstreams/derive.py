#!/usr/bin/env python3
"""What the kernels' sources allow, derived from them: initiation intervals, depths, operators, memories.

Holds the sources and cycles.def to it:
  - a PIPELINE asks for no smaller interval than recurrences and ports allow with the usual latencies of operators.def, and
    a DEPENDENCE promises no more than what the addresses show;
  - cycles.def has that depth;
  - include/prefpga/internal/operations.def and tests/bench/results/loops.csv are what this program writes with --write.
It is a lower bound: that a tool reaches it, only the tool can show. First, small changes of the sources must be found.

usage: derive.py CLANG OPT COMPILER SOURCE-FOLDER [--write | --self-test]"""
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from ii import ir, loop, memory, schedule, source  # noqa: E402  pylint: disable=wrong-import-position

DEFINITIONS = "include/prefpga/internal/operations.def"
TABLE = "tests/bench/results/loops.csv"


def rows_of(compiler, folder, text, pattern):
    run = subprocess.run([compiler, "-E", "-P", "-I", os.path.join(folder, "include"), "-x", "c", "-"], input=text, text=True,
                         capture_output=True, check=True)
    return [tuple(f.strip() for f in r.split("|")) for r in re.findall(pattern, run.stdout, re.S)]


def kernels_of(compiler, folder):
    """[(kernel, source, bf16)]"""
    text = '#include "prefpga/internal/kernels.def"\n#define K(kernel, file, state, lanes, brief) @@kernel|file|state|lanes@@\n' \
           'PF_KERNELS(K)\n'
    return [(k, f, lanes == "bf16") for k, f, state, lanes in rows_of(compiler, folder, text, r"@@(.*?)@@")
            if state == "BUILT"]


def depths_of(compiler, folder):
    """{(kernel, file, label): depth} of cycles.def"""
    text = '#include "prefpga/internal/cycles.def"\n#define L(k, file, label, ii, trips, entries, seen, depth) ' \
           '@@k|file|label|depth@@\nPF_LOOPS(L)\n'
    return {(k, file, label): int(depth) for k, file, label, depth in rows_of(compiler, folder, text, r"@@(.*?)@@")}


class Found:
    """One loop of the sources in one kernel, the worst of its copies"""

    def __init__(self, own):
        self.loop, self.ii, self.most, self.depth, self.why, self.false = own, 0, 1, 0, "", []
        self.count, self.moved = {}, 0

    def take(self, analysis, operators):
        plan = schedule.Schedule(analysis, operators)
        recurrence, cycle = plan.recurrence()
        worst = max(schedule.Schedule(analysis, operators, 2).recurrence()[0], analysis.resource)
        if max(recurrence, analysis.resource) > self.ii:
            self.ii = max(recurrence, analysis.resource)
            self.why = cycle if recurrence >= analysis.resource else analysis.resource_why
        self.most = max(self.most, worst)
        self.depth = max(self.depth, plan.depth())
        self.false += analysis.false
        count, moved = plan.operators()
        self.moved = max(self.moved, moved)
        for key, n in count.items():
            self.count[key] = max(self.count.get(key, 0), n)

    def operations(self, operators):
        """(DSP, LUT) busy for a cycle, of one iteration"""
        return [sum(n * operators.cost(name, bits)[k] for (name, bits), n in self.count.items()) for k in (0, 1)]

    def logic(self, operators):
        """DSP, LUT, FF of the operators, of which those of one interval share one"""
        return [sum(-(-n // self.loop.ii) * operators.cost(name, bits)[k] for (name, bits), n in self.count.items())
                for k in range(3)]


class Kernel:
    def __init__(self, tools, sources, operators, name, file, bf16, defines=()):
        self.name, self.loops = name, {}
        module = ir.Module(sources.ir(tools[0], tools[1], name, file, bf16, defines))
        function = module.functions["pf_k_" + name]
        kinds, inside = set(), set()
        for own, header, blocks in loop.pipelined(module, function, sources):
            inside |= {b.name for b in blocks}
            analysis = loop.Analysis(module, function, own, header, blocks, sources, file, operators)
            if analysis.kind() not in kinds:
                kinds.add(analysis.kind())
                analysis.run()
                self.loops.setdefault((own.file, own.label, own.line), Found(own)).take(analysis, operators)
        ports = len(set(sources.bundles[file + ".c"].values()))
        self.logic = [sum(f.logic(operators)[k] for f in self.loops.values()) for k in range(3)]
        self.add_between(function, inside, operators)
        ff, lut, bram, uram = memory.arrays(module, function, sources)
        self.logic[1] += lut + ports * operators.axi_lut
        self.logic[2] += ff
        self.memories = [bram + ports * operators.axi_bram, uram]

    def add_between(self, function, inside, operators):
        """What lies between the loops: integers as they are, of other operators one of each kind"""
        seen = set()
        for block in function.blocks.values():
            for i in block.list if block.name not in inside else ():
                for name in () if i.op in ("load", "store", "phi", "br", "switch", "call") else loop.operators_of(i):
                    if name not in ("iadd", "icmp", "logic", "shift", "select"):
                        if name in seen:
                            continue
                        seen.add(name)
                    for k, n in enumerate(operators.cost(name, loop.width(i.type))):
                        self.logic[k] += n


HALF = "-DPF_ARRAY_ROWS=2"              # the array of cards with few DSPs (cards.def)


def rows_of_loops(kernels, operators):
    """{kernel: lines of its W rows}"""
    found = {}
    for kernel in kernels:
        labels, lines = {}, found.setdefault(kernel.name, [])
        for (file, label, _), f in sorted(kernel.loops.items()):
            dsp, lut = f.operations(operators)
            have = labels.setdefault((file, label), [f.loop.ii, 0, "", 0, 0, 0, 0])
            worse = f.ii > have[1]
            labels[(file, label)] = [max(have[0], f.loop.ii), f.ii if worse else have[1], f.why if worse else have[2],
                                     max(have[3], f.depth), max(have[4], round(dsp)), max(have[5], round(lut)),
                                     max(have[6], f.moved)]
        for (file, label), row in labels.items():
            lines.append("\tW(%s, %s, %s, %d, %d, \\\n" % (kernel.name, file, label, row[0], row[1]) +
                         '\t  "%s", %d, %d, %d, %d) \\' % tuple(row[2:]))
    return found


def sizes_of(kernels):
    return {k.name: "\tS(%s, %d, %d, %d, %d, %d) \\" % (k.name, *(round(x) for x in k.logic), *k.memories) for k in kernels}


def differing(lines, others):
    return [line for name in others for line in others[name] if line not in lines[name]]


def listed(name, argument, lines):
    return ["#define %s(%s) \\" % (name, argument)] + lines[:-1] + [lines[-1][:-2]]


def definitions(kernels, halves, operators):
    lines = ["/* operations.def: what an iteration of a pipelined loop does, and what a kernel takes. Written by",
             " * bitstreams/derive.py --write from the sources and operators.def, which says how good the costs are; its test",
             " * compares.", " *", " *   W(kernel, source file, label, II that PIPELINE asks for, II derived, what sets it, depth,",
             " *     DSP slices and LUTs busy for a cycle, bytes to and from on-chip memories)", " *   S(kernel, DSP, LUT, FF, BRAM18, URAM): operators, memories and ports; no multiplexers, "
             "no control", " * _HALF: those that differ on cards with an array of 2 rows (cards.def) */"]
    loops, sizes = rows_of_loops(kernels, operators), sizes_of(kernels)
    half_loops, half_sizes = rows_of_loops(halves, operators), sizes_of(halves)
    lines += listed("PF_OPERATIONS", "W", [line for k in kernels for line in loops[k.name]])
    lines += listed("PF_OPERATIONS_HALF", "W", differing(loops, half_loops))
    lines += listed("PF_SIZES", "S", [sizes[k.name] for k in kernels])
    lines += listed("PF_SIZES_HALF", "S", [half_sizes[k] for k in half_sizes if half_sizes[k] != sizes[k]])
    return "\n".join(lines) + "\n"


def table_rows(kernels, operators, remark):
    return ['%s%s,%s:%s,%d,%d,%d,"%s",%d,%d,%d,%d' % (k.name, remark, file, label, f.loop.ii, f.ii, f.most, f.why, f.depth,
                                                      *(round(x) for x in f.logic(operators)))
            for k in kernels for (file, label, _), f in sorted(k.loops.items())]


def table(kernels, halves, operators):
    lines = table_rows(kernels, operators, "")
    seen = {line.split(",", 1)[0] + " " + line.split(",", 1)[1] for line in lines}
    more = [line for k in halves for line in table_rows([k], operators, " (array of 2 rows)")
            if k.name + " " + line.split(",", 1)[1] not in seen]
    return "\n".join(["kernel,loop,claimed_ii,derived_ii,derived_ii_most_latencies,set_by,depth,dsp,lut,ff"] + lines + more) + "\n"


def faults_of(kernel):
    faults = []
    for (file, label, line), f in sorted(kernel.loops.items()):
        where = "%s: hls/%s:%d: loop %s" % (kernel.name, file, line, label)
        if f.ii > f.loop.ii:
            faults.append("%s asks for II=%d, its sources allow %d: %s" % (where, f.loop.ii, f.ii, f.why))
        faults += ["%s: %s" % (where, text) for text in f.false]
    return faults


SPOILED = [  # kernel, source, file, text, replacement, what must be said
    ("seq_sum", "seq_sum", "seq_sum.c", "s->hits += valid", "s->mean_logit /= 3; s->hits += valid", "idiv"),
    ("coef", "coef", "coef.c", "out[t] = t < at.split ? head : rest;",
     "out[t] = t < at.split ? head : rest;\n\t\t\tout[t + 64] = 0.0f;", "2 beats to gmem2"),
    ("logprob", "logprob", "logprob.c", "#pragma HLS ARRAY_PARTITION variable=x complete\n", "", "accesses to a bank of x"),
    ("logprob", "logprob", "logprob.c", "		s->best = best;", "		s->best = best;\n		s->target = s->target + x[0];",
     "fadd"),
    ("linear_logprob", "linear_logprob", "linear_tile.h", "distance=16 true", "distance=17 true", "is met after 16"),
    ("linear_logprob", "linear_logprob", "linear_tile.h", "#pragma HLS DEPENDENCE variable=out inter RAW distance=16 true\n", "",
     "fadd"),
    ("linear_logprob", "linear_logprob", "linear_logprob.c", "variable=product block factor=4 dim=1",
     "variable=product block factor=2 dim=1", "accesses to a bank of product"),
]


def self_test(tools, folder, operators, faults):
    for name, file, where, text, spoiled, want in SPOILED:
        sources = source.Sources(folder, {where: (text, spoiled)})
        said = faults_of(Kernel(tools, sources, operators, name, file, False))
        if not any(want in s for s in said):
            faults.append("self-test: hls/%s with `%s`: nobody says `%s` but %s" % (where, spoiled.strip(), want, said))


def compare(folder, path, text, write, faults):
    whole = os.path.join(folder, path)
    if write:
        open(whole, "w").write(text)
        return
    have = open(whole).read() if os.path.exists(whole) else ""
    lines = [(a, b) for a, b in zip(have.split("\n") + [""], text.split("\n") + [""]) if a != b]
    if have != text:
        faults.append("%s is not what the sources give (derive.py --write): %s" % (path, lines[:2]))


def main():
    tools, folder, options = sys.argv[1:4], sys.argv[4], sys.argv[5:]
    operators, faults = schedule.Operators(tools[2], os.path.join(folder, "include")), []
    if "--self-test" in options:
        self_test(tools, folder, operators, faults)
    else:
        sources = source.Sources(folder)
        kernels = [Kernel(tools, sources, operators, *k) for k in kernels_of(tools[2], folder)]
        halves = [Kernel(tools, sources, operators, *k, (HALF,)) for k, own in zip(kernels_of(tools[2], folder), kernels)
                  if any(key[:2] == ("linear_tile.h", "visits") for key in own.loops)]
        for kernel in kernels + halves:
            faults += faults_of(kernel)
        depths = depths_of(tools[2], folder)
        for (name, file, label), depth in depths.items():
            have = [f.depth for k in kernels + halves if k.name == name for key, f in k.loops.items() if key[:2] == (file, label)]
            if not have or max(have) != depth:
                faults.append("cycles.def: %s, %s:%s: depth %d, derived %s" % (name, file, label, depth, have))
        compare(folder, DEFINITIONS, definitions(kernels, halves, operators), "--write" in options, faults)
        compare(folder, TABLE, table(kernels, halves, operators), "--write" in options, faults)
    for fault in faults:
        print(fault)
    sys.exit(1 if faults else 0)


main()
