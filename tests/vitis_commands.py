#!/usr/bin/env python3
"""Everything that Vitis would be told, for every card, release and step, against the options that its documents name.

usage: vitis_commands.py EMIT SOURCE-FOLDER SCRATCH-FOLDER"""
import csv
import os
import re
import shlex
import subprocess
import sys

CARDS = ["u50", "u55c", "u200", "u250", "u280"]
RELEASES = ["2022.2", "2023.1", "2023.2", "2024.1", "2024.2", "2025.1", "2025.2"]
STEPS = ["csim", "csynth", "cosim", "hw_emu", "hw"]
LAST = {"u200": "2025.1", "u250": "2025.1", "u280": "2023.2"}


def emit(tool, out, *words):
    run = subprocess.run([tool, *words, "--out", out], capture_output=True, text=True, check=False)
    if run.returncode:
        return None, run.stderr
    with open(out, encoding="utf-8") as file:
        return file.read(), ""


def known_options(source):
    table = {}
    with open(os.path.join(source, "tests/vectors/vitis_options.csv"), encoding="utf-8") as file:
        for row in csv.DictReader(file):
            assert row["source"], row
            table[row["tool"], row["option"]] = row["since"]
    return table


class Checker:
    def __init__(self, table):
        self.table, self.faults, self.used = table, [], set()

    def option(self, tool, option, release, where):
        self.used.add((tool, option))
        since = self.table.get((tool, option))
        if since is None or since > release:
            self.faults.append("%s: %s of %s is not documented for %s" % (where, option, tool, release))

    def commands(self, text, release, where):
        tools = 0
        for line in text.split("\n"):
            if line.startswith("#") or line == "set -eu" or not line:
                continue
            words = shlex.split(line.replace("$(find . -name 'pf_k_*.xo')", "a.xo"))
            if words[0].endswith("prefpga"):
                continue
            tools += 1
            for word in words[1:]:
                if word.startswith("-"):
                    self.option(words[0], word[:2] if re.match(r"-[ID]\S", word) else word, release, where)
        if not tools:
            self.faults.append("%s: no command" % where)

    def keys(self, tool, text, release, where):
        for line in text.split("\n"):
            if line and not line.startswith(("#", "[")):
                self.option(tool, line.split("=")[0], release, where)

    def tcl(self, text, release, where):
        for line in text.split("\n"):
            if line and not line.startswith("#"):
                self.option("tcl", line.split()[0], release, where)


def check_links(checker, text, where):
    """Every port of every unit goes to one memory, and no more units are used than made; the kernels"""
    units = {}
    for line in text.split("\n"):
        made = re.fullmatch(r"nk=(pf_k_\w+):(\d+)", line)
        port = re.fullmatch(r"sp=(pf_k_\w+)_(\d+)\.(\w+):(HBM|DDR)\[(\d+)(?::(\d+))?\]", line)
        if made:
            units[made.group(1)] = int(made.group(2))
        elif port:
            if int(port.group(2)) > units.get(port.group(1), 0) or (port.group(6) and int(port.group(6)) <= int(port.group(5))):
                checker.faults.append("%s: %s" % (where, line))
        elif line and not line.startswith(("#", "platform=", "[connectivity]")):
            checker.faults.append("%s: what is `%s`?" % (where, line))
    return {unit[len("pf_k_"):] for unit in units}


def pragma_ports(source):
    """{argument of a kernel: its AXI port}, read from the kernels' own pragmas, not from the table"""
    ports = {}
    for file in os.listdir(os.path.join(source, "hls")):
        with open(os.path.join(source, "hls", file), encoding="utf-8") as text:
            found = re.findall(r"mode=m_axi port=(\w+) bundle=(\w+)", text.read())
        if found:
            ports[file[:-2]] = dict(found)
    return ports


def check_ports(checker, text, ports, where):
    """Memory takes the ports that v++ would make of the text: 30 for all of HBM, 15 for a bank of DDR"""
    used = {}
    for unit, argument, memory in re.findall(r"sp=pf_k_(\w+_\d+)\.(\w+):(HBM|DDR\[\d+\])", text):
        kernel = unit.rsplit("_", 1)[0].removesuffix("_bf16").replace("linear_logprob_mxint8", "linear_mxint8")
        used.setdefault(memory, set()).add((unit, ports[kernel][argument]))
    for memory, taken in used.items():
        if len(taken) > (30 if memory == "HBM" else 15):
            checker.faults.append("%s: %d ports on %s" % (where, len(taken), memory))
    if not used:
        checker.faults.append("%s: no port" % where)


NEEDS = {"": {"seq_sum", "pref", "linear_logprob", "linear_grad"},
         "logits": {"seq_sum", "pref", "coef", "logprob", "logit_grad"},
         "resident": {"seq_sum", "pref", "linear_logprob", "linear_grad", "head_adamw", "head_norm"},
         "bf16": {"seq_sum", "pref", "coef", "logprob_bf16", "logit_grad_bf16"},
         "low": {"seq_sum", "pref", "linear_logprob_bf16", "linear_grad_bf16"},
         "mxint8": {"seq_sum", "pref", "linear_logprob_mxint8"},
         "mxpolicy": {"seq_sum", "pref", "linear_logprob_mxint8", "linear_grad_bf16"}}


DSPS = {"u50": 5952, "u55c": 9024, "u250": 12288, "u280": 9024}     # HACC docs/devices.md; the U200's are not there
FULL = 85                                                           # % in PC2's GEMM, the fullest that was placed


def estimated(source, card, kernels):
    """% of the card's DSPs that kernels take, summed from the table of their sizes"""
    with open(os.path.join(source, "include/prefpga/internal/operations.def"), encoding="utf-8") as file:
        whole, half = file.read().split("#define PF_SIZES_HALF")       # the half array of the U50
    dsps = {kernel: int(dsp) for kernel, dsp in re.findall(r"\bS\((\w+), (\d+), ", whole + (half if card == "u50" else ""))}
    return 100 * sum(dsps[kernel] for kernel in kernels) / DSPS[card]


def check_logic(checker, tool, source, out, card):
    """Who builds an image that is estimated to fill the card is told so, nobody else"""
    budget, _ = emit(tool, out, "budget", "--card", card)
    parts = dict(re.findall(r"## Image (\w+):(.*?)(?=\n## |\n\| the device)", budget or "", re.S))
    for image, needs in NEEDS.items():
        part, where = parts.get(image or "fused", ""), "%s %s" % (card, image)
        script, _ = emit(tool, out, "commands", "--card", card, "--vitis", "2022.2", "--target", "hw", "--source", source,
                         *(["--image", image] if image else []))
        if card not in DSPS:
            verdict = ""
            if "what the card has is not known" not in part:
                checker.faults.append("budget %s: %s" % (where, part))
        else:
            share = estimated(source, card, needs)
            verdict = "too large" if share > 100 else "do not expect it to be placed" if share > FULL else ""
            if "%.1f %% of the card's dsp" % share not in part:
                checker.faults.append("budget %s: not %.1f %% of the DSPs" % (where, share))
        if ("-DPF_ARRAY_ROWS=2" in (script or "")) != (card == "u50"):
            checker.faults.append("%s: the array of its kernels: %s" % (where, script))
        for text in (part, "\n".join(re.findall("# note: .*", script or ""))):
            told = re.findall("too large|do not expect it to be placed", text)
            if told != ([verdict] if verdict else []):
                checker.faults.append("%s: told %s, not %s: %s" % (where, told, verdict or "nothing", text))


def check_chosen_units(checker, tool, out):
    """--cus changes an image's kernels: the others stay as they are"""
    for words, wanted in ((["--cus", "linear_grad=0"], NEEDS[""] - {"linear_grad"}),
                          (["--image", "logits", "--cus", "logprob=3"], NEEDS["logits"])):
        text, why = emit(tool, out, "link", "--card", "u50", *words)
        if check_links(checker, text or why, "link %s" % words) != wanted or "=3" in words[-1] and "nk=pf_k_logprob:3" not in text:
            checker.faults.append("link %s: %s" % (words, text or why))


def check_images(checker, tool, source, out, card):
    ports = pragma_ports(source)
    budget, why = emit(tool, out, "budget", "--card", card)
    if not budget or "does not fit" in budget:
        checker.faults.append("budget %s: %s" % (card, why or "an image does not fit"))
    everything = set()
    for image, needs in NEEDS.items():
        where = "link %s %s" % (card, image)
        text, why = emit(tool, out, "link", "--card", card, *(["--image", image] if image else []))
        checker.keys("link", text or why, "2022.2", where)
        kernels = check_links(checker, text or why, where)
        check_ports(checker, text or "", ports, where)
        if needs != kernels:
            checker.faults.append("%s: has %s" % (where, ", ".join(sorted(kernels))))
        everything |= kernels
        if not os.path.exists(os.path.join(os.path.dirname(tool), "link-%s%s.cfg" % (card, image and "-" + image))):
            checker.faults.append("%s: the build makes no link configuration, so it has no targets" % where)
        if "`prefpga%s.xclbin`" % (image and "-" + image) not in budget:
            checker.faults.append("budget %s: nothing of image %s" % (card, image))
    built, why = emit(tool, out, "manifest")
    for kernel in re.findall(r'"name": "(\w+)",\s*"hash"', built or ""):
        if kernel not in everything:
            checker.faults.append("%s: kernel %s is in no image" % (card, kernel))


def main():
    tool, source, scratch = sys.argv[1:4]
    checker, out = Checker(known_options(source)), os.path.join(scratch, "vitis_commands.out")
    scripts = 0
    for card in CARDS:
        check_images(checker, tool, source, out, card)
        check_logic(checker, tool, source, out, card)
        for release in RELEASES:
            for step in STEPS:
                where = "%s %s %s" % (card, release, step)
                words = ["--card", card, "--vitis", release, "--target", step, "--source", source, "--program", "/bin/prefpga"]
                text, why = emit(tool, out, "commands", *words)
                refused = step.startswith("hw") and release > LAST.get(card, "9999")
                if refused != (text is None) or (refused and "does not support" not in why):
                    checker.faults.append("%s: %s" % (where, why or "was not refused"))
                    continue
                if refused:
                    continue
                scripts += 1
                checker.commands(text, release, where)
                text, why = emit(tool, out, "hls", "--kernel", "coef", *words)
                if release == "2022.2":
                    checker.tcl(text or why, release, where)
                else:
                    checker.keys("config", text or why, release, where)
    check_chosen_units(checker, tool, out)
    # what must be refused
    for words in (["hls", "--card", "u9", "--vitis", "2023.2", "--target", "hw", "--kernel", "coef"],
                  ["hls", "--card", "u50", "--vitis", "2019.1", "--target", "hw", "--kernel", "coef"],
                  ["hls", "--card", "u50", "--vitis", "2023.2", "--target", "sw_emu", "--kernel", "coef"],
                  ["hls", "--card", "u50", "--vitis", "2023.2", "--target", "hw", "--kernel", "softmax"],
                  ["link", "--card", "u50", "--cus", "logprob=15"], ["link", "--card", "u9"],
                  ["link", "--card", "u50", "--image", "everything"]):
        if emit(tool, out, *words)[0] is not None:
            checker.faults.append("not refused: %s" % " ".join(words))
    unused = set(checker.table) - checker.used
    checker.faults += ["in the table, but never used: %s %s" % pair for pair in sorted(unused)]
    for fault in sorted(set(checker.faults)):
        print(fault)
    print("%d scripts, %d options, %d faults" % (scripts, len(checker.used), len(checker.faults)))
    return 1 if checker.faults else 0


if __name__ == "__main__":
    sys.exit(main())
