"""Kernels: arrays in, arrays out.

Theory of operation. A kernel is a pure function of arrays (float32, C-contiguous unless it says otherwise); it never
writes its inputs, keeps no state between calls, and knows no peer, message, clock or log. Scratch memory that is worth
keeping is an explicit object that the caller owns (`encoder.Workspace`). Shapes, dtypes and finiteness are checked once
where a task enters the node, not here.

| module | what it decides |
| --- | --- |
| `bootstrap` | the BLAS environment; imported before numpy, and the one module here that may be |
| `encoder`, `transformer` | all-MiniLM-L6-v2: texts to unit vectors of 384 floats |
| `encoder_weights`, `encoder_fold`, `tokenise` | what is behind it: found, checked, folded once, mapped read-only |
| `search` | exact top-k over rows by cosine, dot product or distance |
| `verify` | whether two results agree, and what a clean sample says about the rest |
| `reference` | naive float64 oracles of all of these; the tests hold the fast ones against them |
| `registry` | `KERNELS`: id with version to function, shapes, dtype, reference, test, benchmark row |

Limits. Results of float kernels differ in the last bits between CPUs and BLAS builds: across nodes they are compared
by tolerance (`verify.agreement`), never by hash. On one machine the same call gives the same bits.

This file imports nothing, so that `kernels.bootstrap` can run before numpy is loaded.
"""
