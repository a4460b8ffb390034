"""One pipelined loop: the least initiation interval that its recurrences and its ports allow, its depth, its operators.

  - dependences in registers: the SSA form's; in memories: by running the integers of the loop for some iterations and
    looking which load meets which store, with several values for what the loop does not change. An address that depends on
    data may meet every other one: distance 1.
  - recurrence II: the smallest interval at which no cycle of dependences takes longer than its iterations allow. Operators
    that take no whole cycle share one.
  - resource II: accesses of an iteration to a bank of two ports, and beats of a bundle and direction. Banks that the values
    of the loop do not tell apart may be one.
  - what stands under a condition is taken to happen."""
import re

from . import ir

ITERATIONS, SAMPLES, PORTS = 72, 3, 2
OPERATORS = {"add": "iadd", "sub": "iadd", "mul": "imul", "udiv": "idiv", "sdiv": "idiv", "urem": "idiv", "srem": "idiv",
             "and": "logic", "or": "logic", "xor": "logic", "shl": "shift", "lshr": "shift", "ashr": "shift", "icmp": "icmp",
             "select": "select", "sitofp": "itof", "uitofp": "itof", "fptosi": "ftoi", "fptoui": "ftoi", "fpext": "fext",
             "fptrunc": "ftrunc", "fneg": "wire"}
FLOATS = {"fadd": "add", "fsub": "add", "fmul": "mul", "fdiv": "div", "fcmp": "cmp"}
CALLS = {"smax": ("icmp", "select"), "smin": ("icmp", "select"), "umax": ("icmp", "select"), "umin": ("icmp", "select"),
         "abs": ("iadd",), "fabs": ("wire",), "copysign": ("wire",), "fshl": ("shift",), "fshr": ("shift",),
         "bswap": ("wire",), "ctlz": ("logic",), "usub": ("iadd",), "uadd": ("iadd",)}


def operators_of(i):
    """Names of the operators that an instruction becomes"""
    if i.op in FLOATS:
        kind = i.from_type if i.op == "fcmp" else i.type
        return (("d" if kind == "double" else "f") + FLOATS[i.op],)
    if i.op == "call":
        if i.callee.startswith("@llvm.mem"):
            return ("wire",)
        word = i.callee.split(".")[1] if i.callee.startswith("@llvm.") else i.callee
        if word not in CALLS:
            raise SystemExit("loop.py: a call of %s is not known here" % i.callee)
        return CALLS[word]
    name = OPERATORS.get(i.op, "wire")
    constant = len(i.args) > 1 and isinstance(i.args[1], int)
    if name in ("logic", "shift") and constant:
        return ("wire",)
    if name in ("imul", "idiv") and constant:
        n = abs(i.args[1])
        if n & (n - 1) == 0:
            return ("wire" if name == "imul" else "logic",)
        if name == "imul":
            return ("iadd",) * max(1, bin(n).count("1") - 1)
    return (name,)


def width(kind):
    return int(kind[1:]) if isinstance(kind, str) and kind[0] == "i" and kind[1:].isdigit() else 64 if kind == "double" else 32


class Access:
    """A load or store. node: of the instruction; address: expression of the offset, or None if data decides; memory: the
    object"""

    def __init__(self, node, store, address, memory, size):
        self.node, self.store, self.address, self.memory, self.size = node, store, address, memory, size
        self.varies = self.straight = False


class Memory:
    """An array or a port. kind: ram, reg or axi"""

    def __init__(self, name, kind, shape, partitions, bundle, module):
        self.name, self.kind, self.shape, self.bundle, self.module = name, kind, shape, bundle, module
        self.parts, self.known = partitions, {}
        self.bytes = module.size(shape) if shape is not None else 0

    def split(self, offset):
        """(path of fields, indices, lengths) of the element at an offset"""
        at, kind, path, index, dims = offset % self.bytes if self.bytes else offset, self.module.plain(self.shape), [], [], []
        while isinstance(kind, tuple) and kind[0] in ("array", "struct"):
            if kind[0] == "array":
                inner = self.module.size(kind[2])
                index.append(at // inner)
                dims.append(kind[1])
                at, kind = at % inner, self.module.plain(kind[2])
            else:
                n = max(k for k in range(len(kind[1])) if self.module.field(kind, k)[0] <= at)
                start, field = self.module.field(kind, n)
                path.append(n)
                at, kind = at - start, self.module.plain(field)
        return tuple(path), index, dims

    def bank(self, offset):
        """(bank, element within it) that an offset lies in"""
        if offset not in self.known:
            path, index, dims = self.split(offset)
            bank, rest = [path], list(index)
            for dim, way, factor in self.parts if not path else ():
                if 1 <= dim <= len(index):
                    n = index[dim - 1]
                    take = n if way == "complete" else n % factor if way == "cyclic" else n // -(-dims[dim - 1] // factor)
                    bank.append((dim, take))
                    rest[dim - 1] = 0 if way == "complete" else rest[dim - 1]
            self.known[offset] = (tuple(bank), tuple(rest))
        return self.known[offset]

    def title(self):
        return re.sub(r"_in\d+$", "", self.name)

    def partitioned_whole(self, dims):
        have = {d for d, way, _ in self.parts if way == "complete"}
        return 0 in have or (dims > 0 and all(d + 1 in have for d in range(dims)))


class Analysis:
    def __init__(self, module, function, loop, header, blocks, sources, file, operators):
        self.module, self.function, self.loop, self.sources, self.file = module, function, loop, sources, file
        self.operators, self.header, self.blocks = operators, header, blocks
        self.inside = {b.name for b in blocks}
        self.nodes = [i for b in blocks for i in b.list]
        self.number = {i.name: n for n, i in enumerate(self.nodes) if i.name}
        self.memories, self.symbols, self.code, self.names = {}, {}, [], {}
        self.outside_values = {i.name: i for b in function.blocks.values() for i in b.list if i.name}
        self.accesses = []
        self.slice()
        self.collect()

    def kind(self):
        """What tells this copy of an inlined loop from others, as far as ports and dependences go"""
        return (self.loop.file, self.loop.line, frozenset((m.kind, str(m.shape), tuple(m.parts), m.bundle)
                                                          for m in (a.memory for a in self.accesses)))

    # ---- which integers and addresses the loop's own counters decide ----
    def memory(self, base):
        if base in self.memories:
            return self.memories[base]
        name = base[1:]
        if base in self.function.params:
            bundle = self.sources.bundles[self.file + ".c"][name]
            memory = Memory(name, "axi", None, [], bundle, self.module)
        else:
            shape = self.module.globals.get(base) if base[0] == "@" else self.outside_values[base].type
            short = re.sub(r"(_in\d+).*$", r"\1", name.split(".")[0])
            memory = Memory(short, "ram", shape, self.sources.partitions.get(short, []), None, self.module)
            dims, kind = 0, self.module.plain(shape)
            while isinstance(kind, tuple) and kind[0] == "array":
                dims, kind = dims + 1, self.module.plain(kind[2])
            if memory.partitioned_whole(dims) or dims == 0 and not isinstance(kind, tuple):
                memory.kind = "reg"
        self.memories[base] = memory
        return memory

    def base_of(self, value):
        """The object that a pointer is into, or None"""
        while True:
            if isinstance(value, tuple):
                value = value[2]
            elif not isinstance(value, str):
                return None
            elif value[0] == "@" or value in self.function.params:
                return value
            else:
                i = self.outside_values[value]
                if i.op == "alloca":
                    return value
                if i.op not in ("getelementptr", "bitcast"):
                    return None
                value = i.args[0]

    def expression(self, value):
        """Python text of an integer or of an offset into its object, or None"""
        if isinstance(value, int):
            return str(value)
        if isinstance(value, tuple):
            return self.offset(value[1], value[2], value[3])
        if not isinstance(value, str):
            return None
        if value[0] == "@" or value in self.function.params and self.is_pointer(value):
            return "0"
        if value in self.names:
            return self.names[value]
        if value in self.number:
            return None
        i = self.outside_values.get(value)
        if i is not None and i.op == "alloca":
            return "0"
        if i is not None and i.op == "getelementptr":
            return self.offset(i.type, i.args[0], i.args[1:])
        if i is not None and i.op == "bitcast":
            return self.expression(i.args[0])
        if i is not None and i.op in ("zext", "sext", "trunc", "freeze"):
            return self.expression(i.args[0])
        if value not in self.symbols:
            self.symbols[value] = "s[%d]" % len(self.symbols)
        return self.symbols[value]

    def is_pointer(self, name):
        return name[1:] in self.sources.bundles.get(self.file + ".c", {})

    def offset(self, kind, base, indices):
        parts = [self.expression(base)]
        if parts[0] is None:
            return None
        for n, index in enumerate(indices):
            kind = self.module.plain(kind)
            if n and kind[0] == "struct":
                at, kind = self.module.field(kind, index)
                parts.append(str(at))
                continue
            kind = kind[2] if n else kind
            e = self.expression(index)
            if e is None:
                return None
            parts.append("%d * signed(%s, 64)" % (self.module.size(kind), e) if not e.isdigit() else
                         str(self.module.size(kind) * int(e)))
        return "(" + " + ".join(p for p in parts if p != "0") + ")" if any(p != "0" for p in parts) else "0"

    def text_of(self, i):
        if i.op == "getelementptr":
            return self.offset(i.type, i.args[0], i.args[1:])
        if i.op == "call" and i.callee.split(".")[1:2][0:1] in (["smax"], ["smin"], ["umax"], ["umin"]):
            pass
        elif i.op not in ("add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr", "udiv", "urem", "icmp", "select",
                          "zext", "sext", "trunc", "bitcast", "freeze"):
            return None
        e = [self.expression(a) for a in i.args]
        if None in e:
            return None
        w, kind = width(i.from_type or i.type), i.type
        if i.op in ("add", "sub", "mul", "and", "or", "xor"):
            return "(%s %s %s) & %d" % (e[0], {"add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^"}[i.op],
                                        e[1], (1 << w) - 1)
        if i.op == "shl":
            return "(%s << %s) & %d" % (e[0], e[1], (1 << w) - 1)
        if i.op == "lshr":
            return "(%s) >> (%s)" % (mask(e[0], w), e[1])
        if i.op == "ashr":
            return "(signed(%s, %d) >> (%s)) & %d" % (e[0], w, e[1], (1 << w) - 1)
        if i.op in ("udiv", "urem"):
            return "(%s) %s ((%s) or 1)" % (mask(e[0], w), "//" if i.op == "udiv" else "%", mask(e[1], w))
        if i.op == "icmp":
            sign = i.pred[0] == "s"
            a, b = (("signed(%s, %d)" % (x, w)) if sign else mask(x, w) for x in e)
            return "int((%s) %s (%s))" % (a, {"eq": "==", "ne": "!=", "gt": ">", "lt": "<", "ge": ">=", "le": "<="}
                                          [i.pred if i.pred in ("eq", "ne") else i.pred[1:]], b)
        if i.op == "select":
            return "(%s if %s else %s)" % (e[1], e[0], e[2])
        if i.op == "call":
            sign = i.callee.split(".")[1][0] == "s"
            a, b = (("signed(%s, %d)" % (x, w)) if sign else mask(x, w) for x in e)
            return "%s(%s, %s) & %d" % ("max" if "max" in i.callee else "min", a, b, (1 << w) - 1)
        if i.op == "sext":
            return "signed(%s, %d) & %d" % (e[0], w, (1 << width(kind)) - 1)
        if i.op == "trunc":
            return "(%s) & %d" % (e[0], (1 << width(kind)) - 1)
        return e[0]

    def slice(self):
        """Turns the integers that only counters and unchanging values decide into Python. Counters are taken to be such,
        until one turns out not to be"""
        phis = [i for i in self.header.list if i.op == "phi" and width(i.type) <= 64 and i.type not in ("float", "double")]
        while True:
            self.names, self.code = {i.name: "v%d" % self.number[i.name] for i in phis}, []
            for i in self.nodes:
                if i.name in self.names or not i.name or i.op in ("phi", "load"):
                    continue
                text = self.text_of(i)
                if text is not None and (i.op == "getelementptr" or i.type not in ("float", "double")):
                    self.code.append("v%d = %s" % (self.number[i.name], text))
                    self.names[i.name] = "v%d" % self.number[i.name]
            bad = [i for i in phis if any(self.expression(a) is None for a in i.args)]
            if not bad:
                break
            phis = [i for i in phis if i not in bad]
        self.phis = phis

    # ---- runs them ----
    def collect(self):
        for n, i in enumerate(self.nodes):
            if i.op == "load":
                self.access(n, 0, i.args[0], self.module.size(i.type))
            elif i.op == "store":
                self.access(n, 1, i.args[1], self.module.size(i.type))
            elif i.op == "call" and i.callee.startswith("@llvm.mem"):
                self.access(n, 1, i.args[0], i.args[2])
                if "memcpy" in i.callee:
                    self.access(n, 0, i.args[1], i.args[2])

    def access(self, node, store, pointer, size):
        chosen = self.outside_values.get(pointer) if isinstance(pointer, str) else None
        if chosen is not None and chosen.op == "select":
            self.access(node, store, chosen.args[1], size)
            self.access(node, store, chosen.args[2], size)
            return
        base = self.base_of(pointer)
        if base is None:
            raise SystemExit("%s %s: %s: a pointer of unknown origin" % (self.loop.file, self.loop.label, pointer))
        self.accesses.append(Access(node, store, self.expression(pointer), self.memory(base), size))

    def program(self):
        """A generator of the addresses of each iteration"""
        lines = ["def addresses(s):"]
        outer = {}
        for i in self.phis:
            for value, block in zip(i.args, i.targets):
                outer.setdefault(block in self.inside, []).append((self.names[i.name], self.expression(value)))
        lines += ["  %s = %s" % (n, e) for n, e in outer.get(False, [])]
        lines += ["  while True:"]
        lines += ["    " + c for c in self.code] + ["    pass"]
        exits = [t for t in (self.exit_test(b) for b in self.blocks) if t]
        lines += ["    yield (%s)" % "".join("%s," % (a.address or "None") for a in self.accesses)]
        lines += ["    if %s: return" % t for t in exits]
        following = outer.get(True, [])
        if following:
            lines += ["    %s = %s" % (", ".join(n for n, _ in following), ", ".join(e for _, e in following))]
        scope = {"signed": signed}
        exec("\n".join(lines), scope)          # pylint: disable=exec-used
        return scope["addresses"]

    def exit_test(self, block):
        """When the loop ends, as far as constants decide it"""
        last = block.list[-1]
        if last.op != "br" or len(last.targets) != 2 or all(t in self.inside for t in last.targets):
            return None
        test = self.expression(last.args[0])
        if test is None or self.symbolic(last.args[0], set()):
            return None
        return "(%s)" % test if last.targets[0] not in self.inside else "not (%s)" % test

    def symbolic(self, value, seen):
        if not isinstance(value, str) or value in seen:
            return False
        seen.add(value)
        if value not in self.number:
            i = self.outside_values.get(value)
            return not (i is not None and i.op == "alloca")
        return any(self.symbolic(a, seen) for a in self.nodes[self.number[value]].args)

    def run(self):
        addresses, self.resource, self.resource_why, self.meets = self.program(), 1, "", {}
        places_of, self.false = [[] for _ in self.accesses], []
        for sample in range(SAMPLES):
            values = [0 if sample == 0 else sample * (n + 1) for n in range(len(self.symbols))]
            stores = {}
            for time, places in enumerate(addresses(values)):
                if time >= ITERATIONS:
                    break
                use = {}
                for number, (a, offset) in enumerate(zip(self.accesses, places)):
                    places_of[number].append((sample, time, offset))
                    self.use(a, offset, use)
                    self.meet(number, a, offset, time, stores)
                self.judge(use)
        for a, places in zip(self.accesses, places_of):
            offsets = [offset for sample, _, offset in places if sample == 0]
            a.varies = len(set(offsets)) > 1 or None in offsets
            a.straight = None not in offsets and len({y - x for x, y in zip(offsets, offsets[1:])}) <= 1
        self.unknown()
        self.promised()

    def use(self, a, offset, use):
        """Counts ports: elements of a bank, beats of a bundle"""
        m = a.memory
        if m.kind == "axi":
            for beat in range((offset or 0) // 64, ((offset or 0) + a.size - 1) // 64 + 1):
                use.setdefault(("axi", m.bundle, a.store), set()).add((m.name, beat if offset is not None else a.node))
        elif m.kind == "ram" and m.name[0] != "@":
            bank, element = m.bank(offset) if offset is not None else ((), (a.node,))
            use.setdefault(("ram", m.name, bank), set()).add((element, a.store))

    def judge(self, use):
        for key, what in use.items():
            need = len(what)
            if key[0] == "ram":
                need = -(-(need + len(use.get(("ram", key[1], ()), ())) * (key[2] != ())) // PORTS)
            if need > self.resource:
                self.resource = need
                self.resource_why = "%d beats %s %s" % (need, "to" if key[2] else "from", key[1]) if key[0] == "axi" else \
                    "%d accesses to a bank of %s" % (len(what), re.sub(r"_in\d+$", "", key[1]))

    def meet(self, number, a, offset, time, stores):
        """Which store a load meets, and how many iterations later"""
        if offset is None:
            return
        for word in range(offset >> 2, (offset + a.size + 3) >> 2):
            place = (id(a.memory), word)
            if a.store:
                stores[place] = (number, time)
            elif place in stores:
                other, when = stores[place]
                key = (other, number)
                self.meets[key] = min(self.meets.get(key, 1 << 30), time - when) if time > when else 0

    def unknown(self):
        """Addresses that data decide may meet all others of the memory: in the next iteration at the earliest"""
        for w, a in enumerate(self.accesses):
            for r, b in enumerate(self.accesses):
                if a.store and not b.store and a.memory is b.memory and (a.address is None or b.address is None):
                    self.meets.setdefault((w, r), 0 if a.node < b.node else 1)
                    if a.node < b.node:
                        self.meets[(w, r)] = 0


    def promised(self):
        """A dependence that goes over several iterations is one that a tool must be able to see: addresses in equal steps,
        or a DEPENDENCE pragma, which is held to what was met"""
        for (w, r), distance in list(self.meets.items()):
            store, load = self.accesses[w], self.accesses[r]
            promise = self.formal(store.memory)
            if promise and 0 < distance < promise:
                text = "DEPENDENCE says %d of %s, which is met after %d" % (promise, store.memory.title(), distance)
                self.false += [text] if text not in self.false else []
            if distance > 1 and not promise and not (store.straight and load.straight):
                self.meets[(w, r)] = 1

    def formal(self, memory):
        """Distance that a DEPENDENCE of the loop promises for a memory. The pragma names it as the function does that the
        loop stands in: if that is a parameter, all memories that are stored to and loaded from are meant; not registers,
        whose dependences every tool sees"""
        names = self.loop.distances if memory.kind != "reg" else {}
        return names.get(memory.name) or next((d for n, d in names.items() if "_in" not in n), 0)


def mask(text, bits):
    return "(%s) & %d" % (text, (1 << bits) - 1)


def signed(value, bits):
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def natural_loop(function, latch, header):
    """Blocks of the loop of a back edge, the header first, each after those that lead to it"""
    before = {}
    for b in function.blocks.values():
        for t in set(b.list[-1].targets) if b.list[-1].op in ("br", "switch") else ():
            before.setdefault(t, []).append(b.name)
    inside, todo = {header, latch}, [latch]
    while todo:
        name = todo.pop()
        for p in before.get(name, ()) if name != header else ():
            if p not in inside:
                inside.add(p)
                todo.append(p)
    order, seen = [], set()

    def visit(name):
        stack = [(name, iter([t for t in function.blocks[name].list[-1].targets if t in inside and t != header]))]
        seen.add(name)
        while stack:
            for t in stack[-1][1]:
                if t not in seen:
                    seen.add(t)
                    stack.append((t, iter([x for x in function.blocks[t].list[-1].targets if x in inside and x != header])))
                    break
            else:
                order.append(stack.pop()[0])
    visit(header)
    return [function.blocks[n] for n in reversed(order)]


def back_edges(function):
    """Edges (from, to) whose end leads to their beginning, found depth first: the loops of C have no others"""
    found, state = set(), {}
    names = iter(function.blocks)
    stack = [(next(names), None)]
    state[stack[0][0]] = 1
    stack = [(stack[0][0], iter(targets(function, stack[0][0])))]
    while stack:
        name, left = stack[-1]
        for t in left:
            if t not in state:
                state[t] = 1
                stack.append((t, iter(targets(function, t))))
                break
            if state[t] == 1:
                found.add((name, t))
        else:
            state[name] = 2
            stack.pop()
    return found


def targets(function, name):
    last = function.blocks[name].list[-1]
    return last.targets if last.op in ("br", "switch") else []


def pipelined(module, function, sources):
    """(loop of the sources, header, blocks) of every pipelined loop in the IR"""
    for latch, header in sorted(back_edges(function)):
        node = function.blocks[latch].list[-1].loop
        if node is None:
            continue
        file, line = module.place(node)
        loop = sources.loops[(file.split("/")[-1], line)]
        if loop.ii is not None:
            yield loop, function.blocks[header], natural_loop(function, latch, header)


__all__ = ["Analysis", "pipelined", "operators_of", "width", "ir"]
