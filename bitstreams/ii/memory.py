"""What the arrays of a kernel take: registers, LUTs as memory, BRAM18 or URAM, by their partitions."""
import re

REGISTERS, SMALL, LARGE = 0, 1024, 4096        # bits of a bank that lies in LUTs; words from which it lies in URAM


def fields(module, kind):
    """Bits of every scalar of an element: a struct's fields lie in memories of their own; lengths of inner arrays"""
    kind = module.plain(kind)
    if isinstance(kind, tuple) and kind[0] == "struct":
        return [f for part in kind[1] for f in fields(module, part)]
    if isinstance(kind, tuple) and kind[0] == "array":
        return [(bits, [kind[1]] + dims) for bits, dims in fields(module, kind[2])]
    return [(8 * module.size(kind), [])]


def banks_of(dims, parts):
    """(banks, words of each)"""
    banks, words = 1, 1
    for n, length in enumerate(dims):
        own = [(way, factor) for dim, way, factor in parts if dim in (0, n + 1)]
        cut = length if any(w == "complete" for w, _ in own) else max([min(f, length) for _, f in own] + [1])
        banks *= cut
        words *= -(-length // cut)
    return banks, words


def cost(bits, dims, parts):
    """(FF, LUT, BRAM18, URAM)"""
    banks, words = banks_of(dims, parts)
    if words == 1:
        return banks * bits, 0, 0, 0
    if words * bits <= SMALL or words <= 64:
        return 0, banks * 2 * bits * -(-words // 64), 0, 0     # a LUT a bit, 64 words and port
    if words >= LARGE:
        return 0, 0, 0, banks * -(-bits // 72) * -(-words // 4096)
    return 0, 0, banks * -(-bits // 36) * -(-words // 512), 0


def arrays(module, function, sources):
    """Sums over the arrays of a kernel; copies of an inlined function's count once"""
    total, seen = [0, 0, 0, 0], set()
    for block in function.blocks.values():
        for i in block.list:
            name = re.sub(r"(_in\d+).*$", r"\1", (i.name or "")[1:].split(".")[0])
            kind = module.plain(i.type) if i.op == "alloca" else None
            if kind is None or not isinstance(kind, tuple) or kind[0] == "ptr" or name in seen:
                continue
            seen.add(name)
            times = 2 if name in sources.twice else 1
            for bits, dims in fields(module, kind):
                for n, value in enumerate(cost(bits, dims, sources.partitions.get(name, ()))):
                    total[n] += times * value
    return total
