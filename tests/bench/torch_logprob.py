"""The same work as logprob and logit_grad of `prefpga bench` in PyTorch on the CPU: log_softmax, gather, backward.

Prints CSV, medians over the repeats. Debian's package is python3-torch.
usage: torch_logprob.py [megabytes [threads [repeats]]]
"""
import sys
import time

import torch


def run(rows, vocab, threads, repeats):
    torch.manual_seed(0)
    logits = (torch.randn(rows, vocab) * 3).requires_grad_()
    target = torch.arange(rows).mul(7919).remainder(vocab).unsqueeze(1)
    coef = torch.full((rows, 1), -0.1)
    forward, backward = [], []
    for _ in range(repeats + 1):
        logits.grad = None
        start = time.monotonic()
        logp = torch.log_softmax(logits, dim=-1).gather(1, target)
        middle = time.monotonic()
        logp.backward(coef)
        end = time.monotonic()
        forward.append(middle - start)
        backward.append(end - middle)
        del logp
    f, b = (sorted(x[1:])[repeats // 2] for x in (forward, backward))
    print(f"torch,{torch.__version__},f32,{vocab},{rows},{threads},{repeats},{f:.4f},{b:.4f},{rows * vocab / (f + b):.3e}",
          flush=True)


def main():
    argument = [float(a) for a in sys.argv[1:]]
    megabytes = argument[0] if argument else 1024
    threads = int(argument[1]) if len(argument) > 1 else torch.get_num_threads()
    repeats = int(argument[2]) if len(argument) > 2 else 5
    torch.set_num_threads(threads)
    print("device,variant,type,vocabulary,rows,threads,repeats,forward_s,backward_s,elements_per_s")
    for vocab in (32000, 128256):
        run(int(megabytes * 2**20) // (4 * vocab), vocab, threads, repeats)


main()
