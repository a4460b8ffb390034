"""Initiation intervals, depths and operators of the kernels' pipelined loops, from their sources and operators.def."""
