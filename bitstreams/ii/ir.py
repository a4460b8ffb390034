"""Reads LLVM's textual IR, as far as it occurs in kernels: integers, floats, structs, arrays, no vectors. Knows both typed
(LLVM 14) and opaque pointers."""
import re

TOKEN = re.compile(r'%"[^"]*"|%[\w.$-]+|@"[^"]*"|@[\w.$-]+|c"[^"]*"|-?\d+\.\d+e[+-]\d+|0x[0-9A-Fa-f]+|-?\d+|[A-Za-z_][\w.]*|[][(){}<>*,=]')
SILENT = re.compile(r"call .*@(llvm\.(dbg|lifetime|assume|experimental)|pf_keep)")
CASTS = {"zext", "sext", "trunc", "bitcast", "ptrtoint", "inttoptr", "sitofp", "uitofp", "fptosi", "fptoui", "fpext", "fptrunc"}
BINARY = {"add", "sub", "mul", "udiv", "sdiv", "urem", "srem", "and", "or", "xor", "shl", "lshr", "ashr", "fadd", "fsub",
          "fmul", "fdiv", "frem"}
FLAGS = {"nsw", "nuw", "exact", "inbounds", "volatile", "tail", "notail", "musttail", "fast", "nnan", "ninf", "nsz", "arcp",
         "contract", "reassoc", "afn", "noundef", "nonnull", "signext", "zeroext", "nocapture", "readonly", "writeonly",
         "noalias", "immarg", "returned", "dso_local", "readnone"}


class Instruction:
    """op: the opcode, type: of the result (of the value for a store); args: operands; targets: labels of a branch or the
    incoming blocks of a phi; pred: of a comparison; callee: of a call; loop: number of its !llvm.loop node"""
    __slots__ = ("name", "op", "type", "args", "targets", "pred", "callee", "loop", "block", "from_type")

    def __init__(self, name, op):
        self.name, self.op, self.type, self.args = name, op, None, []
        self.targets, self.pred, self.callee, self.loop, self.block, self.from_type = [], None, None, None, None, None


class Block:
    def __init__(self, name):
        self.name, self.list = name, []


class Function:
    def __init__(self, name):
        self.name, self.blocks, self.params = name, {}, []


class Text:
    """A cursor over the tokens of one instruction"""

    def __init__(self, text):
        self.tokens, self.at = TOKEN.findall(text), 0

    def peek(self):
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def next(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def skip(self, *words):
        while self.peek() in words:
            self.at += 1

    def accept(self, word):
        if self.peek() == word:
            self.at += 1
            return True
        return False

    def type(self):
        word = self.next()
        if word == "[":
            count = int(self.next())
            self.next()
            result = ("array", count, self.type())
            self.next()
        elif word in ("{", "<"):
            packed = word == "<" and self.accept("{")
            fields = []
            while self.peek() != "}":
                fields.append(self.type())
                self.accept(",")
            self.next()
            if packed:
                self.next()
            result = ("struct", tuple(fields))
        else:
            result = word
        while True:
            if self.accept("*"):
                result = ("ptr", result)
            elif self.peek() == "(" and result != "void" and not isinstance(result, tuple):
                return result
            else:
                return result

    def attributes(self):
        while self.peek() in FLAGS or self.peek() in ("align", "dereferenceable"):
            if self.next() in ("align", "dereferenceable") and self.peek() is not None:
                if self.accept("("):
                    while self.next() != ")":
                        pass
                else:
                    self.next()

    def value(self):
        """%name, @name, an integer, or None for what does not matter here; ("gep", type, base, indices) for a constant
        address"""
        word = self.next()
        if word in ("getelementptr", "bitcast"):
            self.skip("inbounds")
            self.next()
            if word == "bitcast":
                self.type()
                inner = self.value()
                while self.next() != ")":
                    pass
                return inner
            source = self.type()
            self.next()
            self.type()
            base, indices = self.value(), []
            while self.accept(","):
                self.type()
                indices.append(self.value())
            self.next()
            return ("gep", source, base, indices)
        if word[0] in "%@":
            return word
        if word in ("true", "false"):
            return int(word == "true")
        if word == "null":
            return 0
        if re.fullmatch(r"-?\d+", word):
            return int(word)
        if word in ("[", "{", "<"):
            depth = 1
            while depth:
                depth += {"[": 1, "{": 1, "<": 1, "]": -1, "}": -1, ">": -1}.get(self.next(), 0)
        return None

    def typed(self):
        self.attributes()
        kind = self.type()
        self.attributes()
        return kind, self.value()


def instruction(text, loops):
    found = re.search(r", !llvm\.loop !(\d+)", text)
    text = re.sub(r", ![\w.]+ ![\w{}]+.*$", "", text)
    name = None
    split = re.match(r'\s*(%"[^"]*"|%[\w.$-]+) = (.*)$', text, re.S)
    if split:
        name, text = split.groups()
    t = Text(text)
    t.skip(*FLAGS)
    op = t.next()
    i = Instruction(name, op)
    i.loop = int(found.group(1)) if found else None
    t.skip(*FLAGS)
    if op in BINARY:
        i.type = t.type()
        i.args.append(t.value())
        t.next()
        i.args.append(t.value())
    elif op in ("icmp", "fcmp"):
        i.pred = t.next()
        i.type, i.from_type = "i1", t.type()
        i.args.append(t.value())
        t.next()
        i.args.append(t.value())
    elif op in CASTS or op in ("freeze", "fneg"):
        i.from_type, value = t.typed()
        i.args, i.type = [value], i.from_type
        if t.accept("to"):
            i.type = t.type()
    elif op == "select":
        i.args.append(t.typed()[1])
        t.next()
        i.type, value = t.typed()
        i.args.append(value)
        t.next()
        i.args.append(t.typed()[1])
    elif op == "phi":
        i.type = t.type()
        while t.accept("["):
            i.args.append(t.value())
            t.next()
            i.targets.append(t.next())
            t.next()
            t.accept(",")
    elif op == "load":
        i.type = t.type()
        t.next()
        i.args.append(t.typed()[1])
    elif op == "store":
        i.type, value = t.typed()
        t.next()
        i.args = [value, t.typed()[1]]
    elif op == "getelementptr":
        i.type = t.type()
        t.next()
        i.args.append(t.typed()[1])
        while t.accept(","):
            i.args.append(t.typed()[1])
    elif op == "alloca":
        i.type = t.type()
    elif op == "br":
        if t.peek() != "label":
            i.args.append(t.typed()[1])
            t.next()
        while t.accept("label"):
            i.targets.append(t.next())
            t.accept(",")
    elif op == "switch":
        i.args.append(t.typed()[1])
        i.targets = re.findall(r'label (%"[^"]*"|%[\w.$-]+)', text)
    elif op == "call":
        t.attributes()
        i.type = t.type()
        if t.peek() == "(":
            while t.next() != ")":
                pass
        i.callee = t.next()
        t.next()
        while t.peek() not in (")", None):
            i.args.append(t.typed()[1])
            t.accept(",")
    elif op == "extractvalue":
        i.args.append(t.typed()[1])
    elif op == "insertvalue":
        i.args.append(t.typed()[1])
        t.next()
        i.args.append(t.typed()[1])
    elif op not in ("ret", "unreachable"):
        raise SystemExit("ir.py: opcode %s is not known here: %s" % (op, text.strip()))
    return i


class Module:
    def __init__(self, text):
        self.types, self.functions, self.meta, self.globals = {}, {}, {}, {}
        function = block = None
        lines = iter(text.split("\n"))
        for line in lines:
            if function is None:
                self.outside(line)
                if line.startswith("define"):
                    function = Function(re.search(r"@([\w.$-]+)\(", line).group(1))
                    function.params = re.findall(r"%[\w.]+(?=[,)])", line[line.index("("):])
                    block = Block("%entry")
                    function.blocks["%entry"] = block
            elif line == "}":
                self.functions[function.name] = function
                function = None
            elif re.match(r'^("[^"]*"|[\w.$-]+):', line):
                name = "%" + re.match(r'^("[^"]*"|[\w.$-]+):', line).group(1)
                if not block.list and block.name == "%entry" and name != "%entry":
                    del function.blocks["%entry"]
                block = Block(name)
                function.blocks[name] = block
            elif line.strip() and not line.lstrip().startswith(";") and not SILENT.search(line):
                if line.lstrip().startswith("switch "):
                    while not re.search(r"\]", line):
                        line += " " + next(lines).strip()
                i = instruction(line, self.meta)
                i.block = block
                block.list.append(i)

    def outside(self, line):
        found = re.match(r"^(%[\w.]+) = type (.*)$", line)
        if found and not found.group(2).startswith("opaque"):
            self.types[found.group(1)] = Text(found.group(2)).type()
        found = re.match(r"^!(\d+) = (.*)$", line)
        if found:
            self.meta[int(found.group(1))] = found.group(2)
        found = re.match(r"^(@[\w.$-]+) = .*?(?:constant|global) (.*)$", line)
        if found:
            self.globals[found.group(1)] = Text(found.group(2)).type()

    # ---- sizes, in bytes, as x86-64 lays them out ----
    def plain(self, kind):
        return self.types[kind] if isinstance(kind, str) and kind.startswith("%") else kind

    def align(self, kind):
        kind = self.plain(kind)
        if isinstance(kind, tuple):
            if kind[0] == "array":
                return self.align(kind[2])
            return 8 if kind[0] == "ptr" else max([self.align(f) for f in kind[1]] + [1])
        return self.size(kind)

    def size(self, kind):
        kind = self.plain(kind)
        if kind == "ptr" or (isinstance(kind, tuple) and kind[0] == "ptr"):
            return 8
        if isinstance(kind, tuple) and kind[0] == "array":
            return kind[1] * self.size(kind[2])
        if isinstance(kind, tuple):
            at = 0
            for field in kind[1]:
                at = -(-at // self.align(field)) * self.align(field) + self.size(field)
            return -(-at // self.align(kind)) * self.align(kind)
        if kind in ("float", "double", "half"):
            return {"half": 2, "float": 4, "double": 8}[kind]
        bits = int(kind[1:])
        return 1 if bits <= 8 else 2 if bits <= 16 else 4 if bits <= 32 else 8

    def field(self, kind, index):
        """Offset and type of a struct's field"""
        at = 0
        for n, field in enumerate(kind[1]):
            at = -(-at // self.align(field)) * self.align(field)
            if n == index:
                return at, field
            at += self.size(field)
        raise IndexError

    def place(self, loop):
        """(file, line) at which the loop of a !llvm.loop node begins"""
        for ref in re.findall(r"!(\d+)", self.meta[loop])[1:]:
            found = re.match(r"!DILocation\(line: (\d+).*scope: !(\d+)", self.meta[int(ref)])
            if not found:
                continue
            scope = int(found.group(2))
            while True:
                text = self.meta[scope]
                file = re.search(r"file: !(\d+)", text)
                if file:
                    name = re.search(r'filename: "([^"]*)"', self.meta[int(file.group(1))]).group(1)
                    return name, int(found.group(1))
                scope = int(re.search(r"scope: !(\d+)", text).group(1))
        return None
