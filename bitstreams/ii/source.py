"""The kernels' sources as the checker sees them: loops with their labels and pragmas, partitions of arrays, and the LLVM IR
of a kernel in which every call is inlined and what lies below a PIPELINE is unrolled, as Vitis HLS does."""
import os
import re
import subprocess
import tempfile

PASSES = ("always-inline,globaldce,function(sroa,early-cse,simplifycfg,instcombine,loop-simplify,lcssa,"
          "loop(loop-rotate,indvars),loop-unroll,sroa,early-cse,simplifycfg,instcombine,loop-simplify,lcssa,loop-unroll,"
          "sroa,early-cse,simplifycfg,instcombine,early-cse,adce,simplifycfg,loop-simplify)")


DECLARATION = re.compile(r"^\t+(?:const )?(?:struct \w+|float|double|u?int\d+_t) (\w+\[.*);")


class Loop:
    """A loop of the sources. ii: what its PIPELINE asks for, or None; distances: {array: iterations} that DEPENDENCE
    promises; dataflow: its processes work at the same time"""

    def __init__(self, file, line, label, pragmas):
        self.file, self.line, self.label = file, line, label
        ii = [int(m.group(1)) for m in (re.search(r"PIPELINE II=(\d+)", p) for p in pragmas) if m]
        self.ii = ii[0] if ii else None
        self.unrolled = not pragmas or any("UNROLL" in p for p in pragmas)
        self.dataflow = any("DATAFLOW" in p for p in pragmas)
        found = (re.search(r"DEPENDENCE variable=(\w+) inter RAW distance=(\d+) true", p) for p in pragmas)
        self.distances = {m.group(1): int(m.group(2)) for m in found if m}


class Sources:
    """changes: {file: (text, replacement)}, for tests"""
    def __init__(self, folder, changes=None):
        self.folder, self.functions = folder, 0
        self.loops, self.partitions, self.texts, self.bundles = {}, {}, {}, {}
        self.shared = set()
        self.twice = set()                     # arrays between processes: one is written while the other is read
        for room in ("hls", "include/prefpga/internal"):       # headers of the latter are shared with the host
            for file in sorted(f for f in os.listdir(os.path.join(folder, room)) if f.endswith((".c", ".h"))):
                text = open(os.path.join(folder, room, file)).read()
                if room != "hls":
                    self.shared.add(file)
                for before, after in [(changes or {}).get(file, ("", ""))]:
                    if before not in text:
                        raise SystemExit("%s has no `%s`" % (file, before))
                    text = text.replace(before, after, 1) if before else text
                self.read(file, text.split("\n"))

    def read(self, file, lines):
        """Pragmas stand directly under the head of their loop, or under the declaration of their array; a pragma that
        belongs to nothing is an error (the tool ignores it)"""
        lines = self.own_names(lines)
        out, used = list(lines), set()
        for n, line in enumerate(lines):
            if not re.match(r"^\t*(for \(|do \{)", line):
                continue
            label = re.match(r"^\s*(\w+):$", lines[n - 1])
            at = n + 1
            while lines[at].startswith("#pragma HLS"):
                used.add(at)
                at += 1
            loop = Loop(file, n + 1, label.group(1) if label else "", lines[n + 1:at])
            self.loops[(file, n + 1)] = loop
            if loop.dataflow:
                self.twice |= {name for l in lines[n + 1:n + 20] for m in [DECLARATION.match(l)] if m and
                               l.startswith(re.match(r"\t*", line).group(0) + "\t")
                               for name in re.findall(r"(?:^|, )(\w+)\[", m.group(1))}
            out[n] = re.sub(r"^(\t*)", r'\1_Pragma("clang loop unroll(%s)") ' % ("full" if loop.unrolled else "disable"),
                            line, count=1)
        for n, line in enumerate(lines):
            if line.startswith("#pragma HLS") and n not in used:
                self.pragma(file, n, line, lines)
        self.texts[file] = "\n".join(out)

    def own_names(self, lines):
        """Arrays of different functions get different names, so that a pragma and the IR mean the same one"""
        out, start = list(lines), None
        for n, line in enumerate(lines):
            if line == "{":
                start = n
            elif line == "}" and start is not None:
                self.functions += 1
                text = "\n".join(lines[start:n])
                names = [name for l in lines[start:n] for m in [DECLARATION.match(l)] if m
                         for name in re.findall(r"(?:^|, )(\w+)\[", m.group(1).split("=")[0])]
                for name in names:
                    text = re.sub(r"(?<![\w.>])%s\b" % name, "%s_in%d" % (name, self.functions), text)
                out[start:n] = text.split("\n")
                start = None
        return out

    def pragma(self, file, n, line, lines):
        words = dict(w.split("=", 1) for w in line.split() if "=" in w)
        kind = line.split()[2]
        if kind == "INTERFACE":
            if words["mode"] == "m_axi":
                self.bundles.setdefault(file, {})[words["port"]] = words["bundle"]
            return
        if kind != "ARRAY_PARTITION":
            raise SystemExit("%s:%d: %s stands under no loop" % (file, n + 1, kind))
        name = words["variable"]
        if not any(re.search(r"\b%s\[" % name, before) for before in lines[max(0, n - 12):n]):
            raise SystemExit("%s:%d: no array %s above" % (file, n + 1, name))
        way = next(w for w in line.split() if w in ("complete", "cyclic", "block"))
        part = (int(words.get("dim", 1)), way, int(words.get("factor", 0)))
        self.partitions.setdefault(name, []).append(part)

    def ir(self, clang, opt, kernel, file, bf16, defines=()):
        """The text of the IR of one kernel"""
        with tempfile.TemporaryDirectory() as work:
            os.makedirs(os.path.join(work, "prefpga", "internal"))
            for name, text in self.texts.items():
                open(os.path.join(work, "prefpga/internal" if name in self.shared else "", name), "w").write(text)
            flags = ["-DPF_STEP=1", "-DPF_KERNEL_SUFFIX=", *defines] + (["-DPF_BF16"] if bf16 else [])
            run = subprocess.run([clang, "--target=spir64", "-ffreestanding", "-std=c11", "-O1", "-Xclang", "-disable-llvm-passes", "-g", "-w",
                                  "-fno-discard-value-names", "-ffp-contract=off", "-fno-math-errno", "-I", work, "-I",
                                  os.path.join(self.folder, "include"), "-I",
                                  os.path.join(self.folder, "include/prefpga/internal"), *flags, "-emit-llvm", "-S", "-o", "-",
                                  os.path.join(work, file + ".c")], capture_output=True, text=True)
            if run.returncode:
                raise SystemExit("%s: %s" % (file, run.stderr))
            text = self.prepare(run.stdout)
            run = subprocess.run([opt, "-passes=" + PASSES, "-pragma-unroll-threshold=10000000", "-S"], input=text,
                                 capture_output=True, text=True)
            if run.returncode:
                raise SystemExit("%s: opt: %s" % (file, run.stderr))
            return run.stdout

    def prepare(self, text):
        """Every static function is inlined. An array that is not partitioned whole stays a memory: its address escapes, so
        that no pass makes registers of it"""
        text = re.sub(r"(?m)^(define internal [^\n]*\)) ", r"\1 alwaysinline ", text)
        keep = []

        def pin(found):
            name, kind = found.group(1), found.group(2)
            parts = self.partitions.get(name[1:], ())
            whole = any(d == 0 or kind.count("[") == 1 for d, way, _ in parts if way == "complete")
            if not kind.startswith("[") or kind.endswith("*") or whole:
                return found.group(0)
            keep.append(name)
            cast = "%%keep.%d" % len(keep)
            return "%s\n  %s = bitcast %s* %s to i8*\n  call void @pf_keep(i8* %s)" % (found.group(0), cast, kind, name, cast)

        text = re.sub(r"(?m)^  (%[\w.]+) = alloca ((?:\[|i|f|d|%).*?), align \d+(?:, !dbg.*)?$", pin, text)
        return text + "\ndeclare void @pf_keep(i8*)\n"
