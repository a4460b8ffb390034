"""The same work as bench_head in PyTorch on the CPU: hidden W^T, log_softmax, gather, backward to hidden and W, float32.

Prints CSV, medians over the repeats; GFLOP/s count 2 T V D forward, 6 T V D forward and backward. peak_mib is the most
memory in use beyond hidden, W and their gradients; each shape runs in a process of its own. Debian's package is
python3-torch, which multiplies with the system's BLAS.
usage: torch_linear.py [ignored [threads [repeats]]]
"""
import resource
import subprocess
import sys
import time

ROWS = 1024
SHAPES = ((151936, 896), (128256, 2048), (32000, 4096))


def peak_mib():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def run(vocab, dim, threads, repeats):
    import torch
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    hidden = torch.rand(ROWS, dim).requires_grad_()
    weight = (torch.rand(vocab, dim) * 0.1).requires_grad_()
    hidden.grad, weight.grad = torch.zeros_like(hidden), torch.zeros_like(weight)
    target = torch.arange(ROWS).mul(7919).remainder(vocab).unsqueeze(1)
    coef = torch.full((ROWS, 1), -0.1)
    before = peak_mib()
    forward, backward = [], []
    for _ in range(repeats + 1):
        start = time.monotonic()
        logp = torch.log_softmax(hidden @ weight.T, dim=-1).gather(1, target)
        middle = time.monotonic()
        logp.backward(coef)
        end = time.monotonic()
        forward.append(middle - start)
        backward.append(end - middle)
        del logp
    f, b = (sorted(x[1:])[repeats // 2] for x in (forward, backward))
    flops = 2e-9 * ROWS * vocab * dim
    print(f"torch {torch.__version__},f32,{dim},{vocab},{ROWS},{threads},{repeats},{f:.3f},{b:.3f},{flops / f:.1f},"
          f"{3 * flops / (f + b):.1f},{peak_mib() - before:.0f}", flush=True)


def main():
    threads = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    repeats = int(sys.argv[3]) if len(sys.argv) > 3 else 3
    if len(sys.argv) > 5:
        run(int(sys.argv[4]), int(sys.argv[5]), threads, repeats)
        return
    print("variant,type,dim,vocabulary,rows,threads,repeats,forward_s,backward_s,forward_gflops,both_gflops,peak_mib",
          flush=True)
    for vocab, dim in SHAPES:
        subprocess.run([sys.executable, __file__, "0", str(threads), str(repeats), str(vocab), str(dim)], check=True)


main()
