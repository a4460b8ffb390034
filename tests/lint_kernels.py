#!/usr/bin/env python3
"""Checks the kernels' sources against kernels.def and the dialect that HLS compilers agree on.

  - every argument of a built kernel has exactly the INTERFACE pragmas that the table implies, and no other has one;
  - a loop has a label, its pragmas directly under it, and PIPELINE and UNROLL say how much;
  - a loop without a pragma lies within a PIPELINE loop, there or in a function called from such loops only, and its
    bound is a constant on a card (hls/beat.h states the rule);
  - a pipelined loop with a variable bound has LOOP_TRIPCOUNT; ARRAY_PARTITION names an array declared just above;
  - no pragma beyond those known here, no promise that dependences are false (how far they reach, derive.py checks),
    nothing that hardware cannot have.

usage: lint_kernels.py COMPILER SOURCE-FOLDER [--self-test]   (self-test: spoils the sources and wants to be told)"""
import os
import re
import subprocess
import sys

KNOWN = {"INTERFACE", "PIPELINE", "DATAFLOW", "DEPENDENCE", "UNROLL", "LOOP_TRIPCOUNT", "ARRAY_PARTITION"}
FORBIDDEN = [
    (r"\b(malloc|calloc|realloc|free|alloca|memcpy|memset|printf|assert|abort|exit)\s*\(", "library call"),
    (r"#\s*include\s*<(?!stdint\.h)", "header that is not ours"),
    (r"\bgoto\b|\bsetjmp\b|\basm\b|__asm__", "jump or assembly"),
    (r"\b(exp|log|expf|logf|sqrt|sqrtf|pow|fma|fmaf|rint|floor)\s*\(", "libm call"),
    (r"__builtin_|__attribute__|\bvolatile\b", "not plain C"),
    (r"^\s+static\s+(?!const)", "variable that survives a call"),
]


def table(compiler, include):
    """{kernel: (file, [(name, direction, bundle)])} of the built kernels"""
    def expand(text):
        run = subprocess.run([compiler, "-E", "-P", "-I", include, "-x", "c", "-"], input=text, text=True,
                             capture_output=True, check=True)
        return re.findall(r"@@([^@]*)@@", run.stdout)

    head = '#include "prefpga/internal/kernels.def"\n'
    rows = expand(head + "#define K(k, file, state, lanes, brief) @@k file state@@\nPF_KERNELS(K)\n")
    built = [row.split() for row in rows if row.split()[2] == "BUILT"]
    kernels = {}
    for kernel, file, _ in built:
        args = expand(head + "#define A(k, name, dir, ctype, ports, bundle, bank, count) @@name dir bundle ports@@\n"
                      "#define S()\nPF_ARGS_%s(A, S)\n" % kernel)
        kernels[kernel] = (file, [tuple(arg.split()) for arg in args])
    return kernels


def each_port(args):
    """weight on four ports from gmem1 on: weight0 on gmem1 to weight3 on gmem4"""
    for name, direction, bundle, ports in args:
        if int(ports) < 2:
            yield name, direction, bundle
        else:
            first = int(bundle[len("gmem"):])
            yield from (("%s%d" % (name, i), direction, "gmem%d" % (first + i)) for i in range(int(ports)))


def check_interface(kernel, args, lines, complain):
    want = set()
    for name, direction, bundle in each_port(args):
        if direction != "VAL":
            want.add("mode=m_axi port=%s bundle=%s offset=slave" % (name, bundle))
        want.add("mode=s_axilite port=%s bundle=control" % name)
    want.add("mode=s_axilite port=return bundle=control")
    have = [(n, m.group(1)) for n, line in lines for m in [re.match(r"#pragma HLS INTERFACE (.*)$", line)] if m]
    for n, text in have:
        if text not in want:
            complain(n, "kernel %s: the table has no `%s`" % (kernel, text))
    texts = [text for _, text in have]
    for text in sorted(want):
        if texts.count(text) != 1:
            complain(0, "kernel %s: `%s` stands %d times" % (kernel, text, texts.count(text)))


def check_loop(n, lines, complain):
    """lines[n] is the first pragma of a block; the line above must be a loop's"""
    header = n - 1
    while header > 0 and not re.match(r"\s*for \(", lines[header]) and lines[header].endswith("\\"):
        header -= 1
    if not re.match(r"\t*for \(.*\{$", lines[header]):
        complain(n, "pragma is not directly under a loop")
        return
    block = []
    while lines[n].startswith("#pragma HLS"):
        block.append(lines[n])
        n += 1
    pipelined = any(" PIPELINE " in line + " " for line in block)
    constant = re.search(r"[<>]=? (PF_[A-Z_0-9]+|\d+);", lines[header])
    if pipelined and not constant and not any("LOOP_TRIPCOUNT" in line for line in block):
        complain(n, "pipelined loop with a variable bound has no LOOP_TRIPCOUNT")


def check_pragmas(lines, complain):
    for n, line in enumerate(lines):
        match = re.match(r"\s*#\s*pragma\s+(\S+)\s*(\S*)\s*(.*)$", line)
        if not match:
            continue
        kind, name, rest = match.groups()
        if kind != "HLS" or name not in KNOWN or not line.startswith("#pragma"):
            complain(n, "unknown pragma")
        if name == "PIPELINE" and not re.fullmatch(r"II=[0-9]+", rest):
            complain(n, "PIPELINE without II")
        if name == "UNROLL" and not re.fullmatch(r"factor=[0-9]+", rest):
            complain(n, "UNROLL without factor")
        if name == "ARRAY_PARTITION":
            array = re.match(r"variable=(\w+) (?:complete|(?:cyclic|block) factor=\d+)( dim=[0-9])?$", rest)
            above = "\n".join(lines[max(0, n - 20):n])
            if not array or not re.search(r"\b%s\[" % array.group(1), above):
                complain(n, "ARRAY_PARTITION of no array above")
        if name == "DEPENDENCE" and not re.fullmatch(r"variable=\w+ inter RAW distance=\d+ true", rest):
            complain(n, "DEPENDENCE that promises no distance")
        if name in ("PIPELINE", "UNROLL", "LOOP_TRIPCOUNT", "DATAFLOW", "DEPENDENCE") and not lines[n - 1].startswith("#pragma HLS"):
            check_loop(n, lines, complain)


def without_comments(text):
    return re.sub(r"/\*.*?\*/", lambda m: "\n" * m.group(0).count("\n"), text, flags=re.S)


def check_dialect(text, complain):
    for n, line in enumerate(without_comments(text).split("\n")):
        for pattern, what in FORBIDDEN:
            if re.search(pattern, line):
                complain(n, what)


# Bounds that are constants where a step has one beat
CONSTANT = r"(PF_[A-Z_0-9]+|\d+|beats|beats \* PF_BEAT_LANES|width)"


def block_end(lines, n):
    """Last line of the statement that begins in lines[n]: of its braces, or of what is indented below"""
    depth = 0
    for end in range(n, len(lines)):
        depth += lines[end].count("{") - lines[end].count("}")
        if depth == 0 and (end > n or "{" in lines[n]):
            return end
    return n


def loops_of(lines):
    """[(first line, last line, pipelined, has a pragma, bound is a constant)]"""
    loops = []
    for n, line in enumerate(lines):
        if not re.match(r"\s*(for \(|do\b|while \()", line):
            continue
        end = block_end(lines, n)
        pragmas = []
        while lines[n + 1 + len(pragmas)].startswith("#pragma HLS"):
            pragmas.append(lines[n + 1 + len(pragmas)])
        text = line if "for (" in line else lines[end]
        constant = re.search(r"; \w+ [<>]=? %s; |while \(\+\+\w+ < %s\);" % (CONSTANT, CONSTANT), text)
        loops.append((n, end, any("PIPELINE" in p for p in pragmas), bool(pragmas), bool(constant)))
    return loops


def functions_of(lines):
    """[(name, first line of the definition, last line)]"""
    found = []
    for n, line in enumerate(lines):
        match = re.match(r"[a-z][\w \*]*?(\w+)\(", line)
        head = n
        while match and "{" not in lines[head] and not lines[head].endswith(";"):
            head += 1
        if match and "{" in lines[head]:
            found.append((match.group(1), n, block_end(lines, head)))
    return found


def within_pipelines(plain):
    """Predicate (file, line): is it executed within PIPELINE loops only?"""
    loops = {file: loops_of(lines) for file, lines in plain.items()}
    functions = {file: functions_of(lines) for file, lines in plain.items()}

    def within(file, n):
        if any(pipelined and first < n <= end for first, end, pipelined, _, _ in loops[file]):
            return True
        owner = [f for f in functions[file] if f[1] <= n <= f[2]]
        if not owner:
            return False
        name, own, _ = owner[0]
        calls = [(other, m) for other, lines in plain.items() for m, line in enumerate(lines)
                 if re.search(r"\b%s\(" % name, line) and not any(f[0] == name and f[1] == m for f in functions[other])]
        return bool(calls) and all(within(other, m) for other, m in calls if (other, m) != (file, own))

    return within


def check_loops(sources, faults):
    plain = {file: without_comments(text).split("\n") for file, text in sources.items()}
    within = within_pipelines(plain)
    for file, lines in sorted(plain.items()):
        for n, _, _, pragma, constant in loops_of(lines):
            if not re.match(r"[a-z][a-z0-9_]*:$", lines[n - 1]):
                faults.append("hls/%s:%d: loop has no label" % (file, n + 1))
            if not pragma and not within(file, n):
                faults.append("hls/%s:%d: loop has no pragma and is not within PIPELINE loops only" % (file, n + 1))
            if not pragma and not constant:
                faults.append("hls/%s:%d: loop has no pragma and its bound is no constant" % (file, n + 1))


def check(kernels, sources):
    """Faults of {file name: text}, as lines of text"""
    faults = []
    for name, text in sorted(sources.items()):
        lines = text.split("\n")

        def complain(n, what):
            faults.append("hls/%s:%d: %s" % (name, n + 1, what))

        check_pragmas(lines, complain)
        check_dialect(text, complain)
        for kernel, (file, args) in kernels.items():
            if file + ".c" == name:
                check_interface(kernel, args, list(enumerate(lines)), complain)
        if not any(file + ".c" == name for file, _ in kernels.values()) and "INTERFACE" in text:
            complain(0, "INTERFACE in a file without a built kernel")
    check_loops(sources, faults)
    for kernel, (file, _) in kernels.items():
        if file + ".c" not in sources:
            faults.append("hls/%s.c: missing, kernel %s is built from it" % (file, kernel))
    return faults


SHARED = ["row_sum.h", "row_finish.h", "pref_lane.h", "pref_group.h"]  # what kernels share with the host; the rest of include/ has no loops

SPOILED = [  # file, text, replacement
    ("logprob.c", "port=target bundle=gmem1", "port=target bundle=gmem2"),
    ("logprob.c", "mode=s_axilite port=flags", "mode=s_axilite port=flag"),
    ("logprob.c", "mode=m_axi port=out", "port=out"),
    ("coef.c", "#pragma HLS INTERFACE mode=s_axilite port=return bundle=control\n", ""),
    ("linear_logprob.c", "port=weight2 bundle=gmem3", "port=weight2 bundle=gmem2"),
    ("linear_tile.h", "while (++k < PF_RUN)", "while (++k < first)"),
    ("coef.c", "zero:\n", ""),
    ("coef.c", "PIPELINE II=1", "PIPELINE"),
    ("seq_sum.c", "#pragma HLS LOOP_TRIPCOUNT min=1 max=1048576\n", ""),
    ("logprob.c", "steps:\n", ""),
    ("logprob.c", "PIPELINE II=1", "DEPENDENCE variable=sum false"),
    ("linear_tile.h", "inter RAW distance=16 true", "inter false"),
    ("row_sum.h", "UNROLL factor=4", "UNROLL"),
    ("linear_filter.h", "#pragma HLS UNROLL factor=4\n\t\twords", "\t\twords"),
    ("beat.h", "lanes:\n", ""),
    ("row_scan.h", "beats:\n", ""),
    ("row_scan.h", "places:\n", ""),
    ("row_scan.h", "while (++b < beats)", "while (++b < left)"),
    ("logprob.c", "#pragma HLS PIPELINE II=1\n", ""),
    ("logit_grad.c", "#pragma HLS PIPELINE II=1\n#pragma HLS LOOP_TRIPCOUNT min=0", "#pragma HLS LOOP_TRIPCOUNT min=0"),
    ("pref.c", "#pragma HLS LOOP_TRIPCOUNT min=1 max=8192\n\t\t\tstack[top][i]", "\t\t\tstack[top][i]"),
    ("logprob.c", "ARRAY_PARTITION variable=sum ", "ARRAY_PARTITION variable=sums "),
    ("pref.c", "struct pf_results results;", "static struct pf_results results;"),
    ("pref_lane.h", "return pf_exp64(x)", "return exp(x)"),
]


def main():
    compiler, source = sys.argv[1:3]
    folder = os.path.join(source, "hls")
    sources = {}
    for name in os.listdir(folder):
        if name.endswith((".c", ".h")):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                sources[name] = file.read()
    for name in SHARED:
        with open(os.path.join(source, "include/prefpga/internal", name), encoding="utf-8") as file:
            sources[name] = file.read()
    kernels = table(compiler, os.path.join(source, "include"))
    faults = check(kernels, sources)
    if "--self-test" in sys.argv:
        for name, text, spoiled in SPOILED:
            if text not in sources[name]:
                faults.append("self-test: hls/%s has no `%s`" % (name, text.strip()))
            elif not check(kernels, dict(sources, **{name: sources[name].replace(text, spoiled, 1)})):
                faults.append("self-test: hls/%s: nothing noticed about `%s`" % (name, spoiled or "- " + text.strip()))
    print("\n".join(faults + ["%d kernels, %d files, %d faults" % (len(kernels), len(sources), len(faults))]))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
