"""The graph of a loop's dependences: its recurrence II with the cycle that sets it, and its depth."""
import re
import subprocess

from .loop import operators_of, width


class Operators:
    """operators.def. corner: 0 the least latencies, 1 the usual ones, 2 the most"""
    def __init__(self, compiler, include):
        text = '#include "prefpga/internal/operators.def"\n#define O(name, a, b, c, ps, dsp, lut, ff, ...) ' \
               '@@name a b c ps dsp lut ff@@\nPF_OPERATORS(O)\n@@PF_CYCLE_PS PF_AXI_LATENCY PF_AXI_LUT PF_AXI_BRAM18@@\n'
        run = subprocess.run([compiler, "-E", "-P", "-I", include, "-x", "c", "-"], input=text, text=True,
                             capture_output=True, check=True)
        rows = [r.split() for r in re.findall(r"@@(.*?)@@", run.stdout)]
        self.cycle, self.axi_latency, self.axi_lut, self.axi_bram = (int(x) for x in rows.pop())
        self.rows = {r[0]: [int(x) for x in r[1:]] for r in rows}

    def ps(self, name, corner=1):
        return self.rows[name][corner] * self.cycle + self.rows[name][3]

    def cost(self, name, bits):
        """(DSP, LUT, FF)"""
        dsp, lut, ff = self.rows[name][4:]
        share = bits / 32.0 if name in ("iadd", "icmp", "shift", "logic", "select", "imul", "idiv") else 1.0
        return dsp * share * (share if name == "imul" else 1.0), lut * share, ff * share


class Schedule:
    def __init__(self, analysis, operators, corner=1):
        self.a, self.o, self.corner = analysis, operators, corner
        self.weights = [self.weight(n, i) for n, i in enumerate(analysis.nodes)]
        self.build()

    def names(self, n, i):
        """Operators of a node; loads and stores by their memory"""
        if i.op in ("load", "store"):
            access = next(x for x in self.a.accesses if x.node == n)
            kind = access.memory.kind
            if kind == "reg" and not access.varies or access.memory.name[0] == "@":
                return ("wire",)
            return (kind + "_" + i.op,)
        return operators_of(i) if i.op not in ("phi", "br", "switch", "getelementptr") else ("wire",)

    def weight(self, n, i):
        return sum(self.o.ps(name, self.corner) for name in self.names(n, i))

    def build(self):
        """Edges (from, to, iterations): registers, conditions of merged values and stores, memories"""
        a, self.edges = self.a, []
        for n, i in enumerate(a.nodes):
            first = i.op == "phi" and i.block is a.header
            for value, block in zip(i.args, i.targets or [None] * len(i.args)):
                if value in a.number and not (first and block not in a.inside):
                    self.edges.append((a.number[value], n, 1 if first else 0))
        for n, c in self.conditions():
            self.edges.append((c, n, 0))
        for (store, load), distance in a.meets.items():
            self.edges.append((a.accesses[store].node, a.accesses[load].node, distance))

    def conditions(self):
        """(node, condition) of what merges behind a branch, and of stores and loads from ports under one"""
        a = self.a
        above = {a.header.name: None}
        before = {}
        order = [b.name for b in a.blocks]
        for b in a.blocks:
            for t in b.list[-1].targets:
                if t in a.inside and t != a.header.name:
                    before.setdefault(t, []).append(b.name)
        place = {name: k for k, name in enumerate(order)}
        for name in order[1:]:
            common = None
            for p in before[name]:
                q = p
                while common is not None and q != common:
                    if place[q] > place[common]:
                        q = above[q]
                    else:
                        common = above[common]
                common = q if common is None else common
            above[name] = common
        blocks = {b.name: b for b in a.blocks}
        for b in a.blocks[1:]:
            controls = self.between(b.name, above, before, blocks)
            for i in b.list:
                if i.op == "phi" or i.op == "store":
                    n = a.nodes.index(i) if i.name is None else a.number[i.name]
                    for c in controls:
                        yield n, c

    def between(self, name, above, before, blocks):
        """Conditions of the branches between a block and the one that all ways to it pass"""
        found, todo, seen = set(), list(before[name]), set()
        while todo:
            p = todo.pop()
            if p in seen:
                continue
            seen.add(p)
            last = blocks[p].list[-1]
            if last.args and last.args[0] in self.a.number and len({t for t in last.targets if t in self.a.inside}) > 1:
                found.add(self.a.number[last.args[0]])
            if p != above[name]:
                todo += before.get(p, [])
        return found

    # ---- recurrences ----
    def components(self):
        """Strongly connected components with a cycle (Tarjan)"""
        following = {}
        for u, v, _ in self.edges:
            following.setdefault(u, []).append(v)
        index, low, on, stack, found = {}, {}, set(), [], []
        for root in range(len(self.a.nodes)):
            if root in index:
                continue
            index[root] = low[root] = len(index)
            stack.append(root)
            on.add(root)
            work = [(root, iter(following.get(root, ())))]
            while work:
                u, left = work[-1]
                for v in left:
                    if v not in index:
                        index[v] = low[v] = len(index)
                        stack.append(v)
                        on.add(v)
                        work.append((v, iter(following.get(v, ()))))
                        break
                    if v in on:
                        low[u] = min(low[u], index[v])
                else:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[u])
                    if low[u] == index[u]:
                        part = set()
                        while True:
                            v = stack.pop()
                            on.discard(v)
                            part.add(v)
                            if v == u:
                                break
                        if len(part) > 1 or u in following.get(u, ()):
                            found.append(part)
        return found

    def recurrence(self):
        """(II, text of the cycle that sets it): the cycle with the most time an iteration, found from one that takes longer
        than the last"""
        most, worst = 0.0, None
        for part in self.components():
            edges = sorted(e for e in self.edges if e[0] in part and e[1] in part)
            while True:
                cycle = self.longer(part, edges, most)
                if cycle is None:
                    break
                most, worst = sum(self.weights[u] for u, _, _ in cycle) / sum(d for _, _, d in cycle), cycle
        ii = max(1, -(-round(most) // self.o.cycle))
        return ii, self.describe(worst) if worst else "nothing is carried"

    def longer(self, part, edges, budget):
        """A cycle that takes more than `budget` ps an iteration, or None (Bellman and Ford, in the order of the nodes)"""
        length, by = dict.fromkeys(part, 0), {}
        for _ in range(len(part) + 1):
            changed = None
            for e in edges:
                u, v, d = e
                new = length[u] + self.weights[u] - budget * d
                if new > length[v] + 1e-6:
                    length[v], by[v], changed = new, e, v
            if changed is None:
                return None
            at, seen = changed, {}
            while at in by and at not in seen:
                seen[at] = by[at]
                at = by[at][0]
            if at in seen:
                cycle, first = [], at
                while True:
                    cycle.append(by[at])
                    at = by[at][0]
                    if at == first:
                        return cycle[::-1]
        return None

    def describe(self, cycle):
        words = []
        for u, _, _ in cycle:
            i = self.a.nodes[u]
            names = [x for x in self.names(u, i) if x != "wire"]
            if i.op in ("load", "store") and names:
                names = ["%s of %s" % (i.op, next(x for x in self.a.accesses if x.node == u).memory.title())]
            words += names
        short = []
        for w in words:
            if short and short[-1][0] == w:
                short[-1][1] += 1
            else:
                short.append([w, 1])
        text = ", ".join(w if n == 1 else "%d %s" % (n, w) for w, n in short)
        cycles = sum(self.weights[u] for u, _, _ in cycle) / self.o.cycle
        return "%s: %.1f cycles in %d iteration%s" % (text, cycles, sum(d for _, _, d in cycle),
                                                     "" if sum(d for _, _, d in cycle) == 1 else "s")

    # ---- depth ----
    def depth(self):
        """Cycles of one iteration; an operator of whole cycles begins with one, others share it while they fit"""
        cycle, start, most = self.o.cycle, [0] * len(self.a.nodes), 0
        following = {}
        for u, v, d in self.edges:
            if d == 0 and v > u:
                following.setdefault(u, []).append(v)
        ports = {x.node for x in self.a.accesses if x.memory.kind == "axi" and not x.store}
        for n in range(len(self.a.nodes)):
            at, w = start[n], self.weights[n] + (self.o.axi_latency * cycle if n in ports else 0)
            if w >= cycle or (w and at % cycle + w > cycle):
                at = -(-at // cycle) * cycle
            end = at + w
            most = max(most, end)
            for v in following.get(n, ()):
                start[v] = max(start[v], end)
        return max(1, -(-most // cycle))

    def bits(self, i):
        """Width of an integer operator: of a product, that of its factors"""
        if i.op == "mul":
            sources = [self.a.outside_values.get(x) for x in i.args if isinstance(x, str)]
            if sources and all(x is not None and x.op == "zext" for x in sources):
                return max(width(x.from_type) for x in sources)
        return width(i.from_type if i.op == "icmp" else i.type)

    def operators(self):
        """{(name, bits): how many}, and bytes to and from on-chip memories of an iteration"""
        count, moved = {}, 0
        for n, i in enumerate(self.a.nodes):
            for name in self.names(n, i):
                if name not in ("wire",) and not name.startswith("axi"):
                    key = (name, self.bits(i))
                    count[key] = count.get(key, 0) + 1
        for x in self.a.accesses:
            moved += x.size if x.memory.kind == "ram" and x.memory.name[0] != "@" else 0
        return count, moved
