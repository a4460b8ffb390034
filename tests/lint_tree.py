#!/usr/bin/env python3
"""Checks the kernels' syntax trees, as clang prints them, for what an HLS compiler for C does not take.

  recursion, function pointers, arrays of variable size, casts between pointers, calls of anything that is not defined in
  the kernel (so no allocation, memcpy, libm), loops without a condition, labels that are jumped to, double arithmetic
  outside the files that have a reason for it, and two widths of elements or two bank classes on one bundle of the table.

usage: lint_tree.py CLANG SOURCE-FOLDER [KERNEL:FILE:LANES ...]   (first every rule wants to be told of its example)"""
import json
import os
import re
import subprocess
import sys
import tempfile

# Where double is meant: losses and their gradients are doubles by contract (abi.h), once per item; the end of a row, once
# per row (row_finish.h); a sum over all of dW (head_norm.c). No logit meets one
DOUBLE = {"pref.c", "pref_group.h", "pref_lane.h", "pref_program.h", "kmath64.h", "coef.c", "row_finish.h", "head_norm.c"}


def tree(clang, path, flags):
    run = subprocess.run([clang, "-std=c11", "-fsyntax-only", "-Wno-everything", "-Xclang", "-ast-dump=json", *flags, path],
                         capture_output=True, text=True, check=False)
    if run.returncode:
        raise SystemExit("%s: %s" % (path, run.stderr))
    return json.loads(run.stdout)


class Walk:
    """Faults of one tree. clang names a file only where it changes, and a line likewise"""

    def __init__(self):
        self.file, self.line, self.function = "", 0, None
        self.faults, self.calls, self.defined = set(), [], set()

    def place(self, node):
        loc = node.get("loc") or {}
        for at in (loc.get("expansionLoc", loc), (node.get("range") or {}).get("begin", {})):
            at = at.get("expansionLoc", at)
            self.file = at.get("file", self.file)
            self.line = at.get("line", self.line)

    def complain(self, what):
        self.faults.add("%s:%d: %s" % (os.path.basename(self.file), self.line, what))

    def types(self, node):
        text = (node.get("type") or {}).get("qualType", "")
        full = (node.get("type") or {}).get("desugaredQualType", text)
        return text, full

    def check(self, node):
        kind = node.get("kind", "")
        text, full = self.types(node)
        if kind in ("VarDecl", "ParmVarDecl", "FieldDecl"):
            if re.search(r"\(\*[^)]*\)\(", full):
                self.complain("function pointer")
            if re.search(r"\[[^\]0-9]+\]", text):
                self.complain("array of variable size")
        if kind == "CStyleCastExpr" and node.get("castKind") == "BitCast":
            self.complain("cast between pointers")
        if kind in ("GotoStmt", "IndirectGotoStmt"):
            self.complain("jump")
        if kind == "BinaryOperator" and full == "double" and node.get("opcode") in ("+", "-", "*", "/"):
            if os.path.basename(self.file) not in DOUBLE:
                self.complain("double arithmetic")
        if kind in ("ForStmt", "WhileStmt", "DoStmt"):
            self.loop(node, kind)
        if kind == "DeclRefExpr" and (node.get("referencedDecl") or {}).get("kind") == "FunctionDecl":
            self.calls.append((self.function, node["referencedDecl"]["name"], self.file, self.line))

    def loop(self, node, kind):
        inner = node.get("inner", [])
        # ForStmt: init, condition variable, condition, increment, body; an absent one is an empty object
        condition = inner[2] if kind == "ForStmt" else inner[0] if kind == "WhileStmt" else inner[-1]
        while condition.get("kind") in ("ImplicitCastExpr", "ParenExpr"):
            condition = condition["inner"][0]
        if not condition or condition.get("kind") == "IntegerLiteral":
            self.complain("loop without a bound")

    def visit(self, node):
        if not isinstance(node, dict) or not node:
            return
        self.place(node)
        mine = self.function
        if node.get("kind") == "FunctionDecl" and any(n.get("kind") == "CompoundStmt" for n in node.get("inner", [])):
            self.function = node["name"]
            self.defined.add(node["name"])
        self.check(node)
        for child in node.get("inner", []):
            self.visit(child)
        self.function = mine

    def calls_checked(self):
        graph = {}
        for caller, callee, file, line in self.calls:
            self.file, self.line = file, line
            if callee not in self.defined:
                self.complain("call of %s, which is not in the kernel" % callee)
            graph.setdefault(caller, set()).add(callee)
        for name in graph:
            seen, todo = set(), list(graph[name])
            while todo:
                callee = todo.pop()
                if callee == name:
                    self.faults.add("%s calls itself" % name)
                    break
                if callee not in seen:
                    seen.add(callee)
                    todo.extend(graph.get(callee, ()))
        return self.faults


def faults_of(clang, path, flags):
    walk = Walk()
    walk.visit(tree(clang, path, flags))
    return walk.calls_checked()


def bundle_faults(clang, source):
    """What shares a bundle has one width, as far as a beat goes, and one bank class"""
    text = '#include "prefpga/internal/abi.h"\n#include "prefpga/internal/kernels.def"\n' \
           "#define N()\n#define K(k, file, state, lanes, brief) @@K k@@ PF_ARGS_##k(A, N)\n" \
           "#define A(k, name, dir, ctype, ports, bundle, bank, count) @@A dir,bundle,ports,ctype,bank@@\nPF_KERNELS(K)\n"
    run = subprocess.run([clang, "-E", "-P", "-I", os.path.join(source, "include"), "-x", "c", "-"], input=text, text=True,
                         capture_output=True, check=True)
    sizes = {"int32_t": 4, "uint32_t": 4, "float": 4, "double": 8}
    kernel, width, banks, faults = "", {}, {}, set()
    for row in re.findall(r"@@(.*?)@@", run.stdout):
        if row.startswith("K "):
            kernel, width, banks = row[2:], {}, {}
            continue
        direction, bundle, ports, ctype, bank = row[2:].split(",")
        if direction == "VAL":
            continue
        size = sizes.get(ctype, 64)        # structs are beats, or divide them
        first = int(bundle[len("gmem"):])
        for port in ("gmem%d" % (first + i) for i in range(int(ports))):
            if width.setdefault(port, size) != size:
                faults.add("kernel %s: bundle %s carries elements of %d and %d bytes" % (kernel, port, width[port], size))
            if banks.setdefault(port, bank) != bank:
                faults.add("kernel %s: bundle %s reaches banks of %s and %s" % (kernel, port, banks[port], bank))
    return faults


EXAMPLES = [  # rule, C
    ("calls itself", "static int f(int n) { return n ? f(n - 1) : 0; }\nvoid k(int *p) { p[0] = f(3); }"),
    ("calls itself", "static int g(int n);\nstatic int f(int n) { return n ? g(n - 1) : 0; }\n"
                     "static int g(int n) { return f(n); }\nvoid k(int *p) { p[0] = f(3); }"),
    ("function pointer", "static int f(int n) { return n; }\nvoid k(int *p) { int (*h)(int) = f; p[0] = h(1); }"),
    ("array of variable size", "void k(int *p, int n) { int a[n]; a[0] = 1; p[0] = a[0]; }"),
    ("cast between pointers", "void k(float *p) { unsigned *bits = (unsigned *)p; bits[0] = 1; }"),
    ("call of malloc", "void *malloc(unsigned long);\nvoid k(int **p) { p[0] = malloc(4); }"),
    ("call of memcpy", "void *memcpy(void *, const void *, unsigned long);\nvoid k(int *p, int *q) { memcpy(p, q, 64); }"),
    ("call of expf", "float expf(float);\nvoid k(float *p) { p[0] = expf(p[1]); }"),
    ("call of ap_int", "int ap_int(int);\nvoid k(int *p) { p[0] = ap_int(p[1]); }"),
    ("loop without a bound", "void k(volatile int *p) { while (1) if (p[0]) break; }"),
    ("loop without a bound", "void k(volatile int *p) { for (;;) if (p[0]) break; }"),
    ("jump", "void k(int *p) { again: if (p[0]--) goto again; }"),
    ("double arithmetic", "void k(double *p) { p[0] = p[1] * p[2]; }"),
    ("double arithmetic", "void k(float *p) { p[0] = p[1] + 0.5; }"),
]


def self_test(clang):
    missed = []
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "example.c")
        for rule, text in EXAMPLES:
            with open(path, "w", encoding="utf-8") as file:
                file.write(text + "\n")
            if not any(rule in fault for fault in faults_of(clang, path, [])):
                missed.append("self-test: nobody complained: %s: %s" % (rule, text))
        clean = "static float f(float x) { return x * 2.0f; }\nvoid k(float *p, int n) { for (int i = 0; i < n; i++) p[i] = f(p[i]); }"
        with open(path, "w", encoding="utf-8") as file:
            file.write(clean + "\n")
        missed += ["self-test: " + fault for fault in faults_of(clang, path, [])]
        include = os.path.join(folder, "include/prefpga/internal")
        os.makedirs(include)
        for what, second in (("two widths", "double, 1, gmem0, SMALL"), ("two banks", "int32_t, 1, gmem0, WEIGHT"),
                             ("two widths on a later port", "double, 4, gmem10, SMALL")):
            table = "#define PF_KERNELS(K) K(t, t, BUILT, none, 1)\n#define PF_ARGS_t(A, S) " \
                    "A(t, a, IN, float, 1, gmem0, SMALL, 1) S() A(t, b, IN, float, 1, gmem13, SMALL, 1) S() " \
                    "A(t, c, IN, %s, 1)\n" % second
            for name, text in (("abi.h", ""), ("kernels.def", table)):
                with open(os.path.join(include, name), "w", encoding="utf-8") as file:
                    file.write(text)
            if not bundle_faults(clang, folder):
                missed.append("self-test: nobody complained of %s on one bundle" % what)
    return missed


def main():
    clang, source, kernels = sys.argv[1], sys.argv[2], sys.argv[3:]
    faults = set(self_test(clang)) | bundle_faults(clang, source)
    for kernel in kernels:
        name, file, lanes = kernel.split(":")
        flags = ["-I", os.path.join(source, "include"), "-DPF_STEP=1"] + (["-DPF_BF16"] if lanes == "bf16" else [])
        faults |= {"%s (kernel %s)" % (fault, name)
                   for fault in faults_of(clang, os.path.join(source, "hls", file + ".c"), flags)}
    for fault in sorted(faults):
        print(fault)
    print("%d kernels, %d examples, %d faults" % (len(kernels), len(EXAMPLES) + 3, len(faults)))
    return 1 if faults or not kernels else 0


if __name__ == "__main__":
    sys.exit(main())
