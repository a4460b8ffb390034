/* model_shape.h: shapes of models for tests, in one line; features are further designated fields. */
#ifndef PF_TESTS_MODEL_SHAPE_H
#define PF_TESTS_MODEL_SHAPE_H
#include "prefpga/model.h"

#define MODEL_SHAPE(v, d, l, h, kv, hd, f, p, theta, eps, tie, b, e) \
	.vocab = (v), .dim = (d), .layers = (l), .heads = (h), .kv_heads = (kv), .head_dim = (hd), .ffn = (f), \
	.max_positions = (p), .rope_theta = (theta), .norm_eps = (eps), .tied = (tie), .bos = (b), .eos = (e)
#endif
