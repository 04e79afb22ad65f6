"""Attention: which keys a query should listen to, and what they say together.

Theory of operation. Every kernel computes, for each query i, weights over keys j that sum to one, and returns the
weighted sum of the values; they differ in how the weights arise and in which pairs (i, j) are looked at.

| module | weights | cost for n keys and queries |
| --- | --- | --- |
| `scaled_dot` | softmax of q.k / sqrt d; also the weights alone, and how much each key receives | n^2 |
| `multi_head` | the same in h projected subspaces; many queries and few have an order of products each | n^2 + n d |
| `flash` | the same, exactly, in tiles: memory does not grow with n | n^2, memory n |
| `linear` | an unbiased estimate of exp(q.k / sqrt d) from positive random features (FAVOR+) | n |
| `local_global` | softmax within a window, and over pinned tokens | n (window + pinned) |
| `block_sparse` | softmax over the blocks that a pattern shows | n sqrt n for the patterns given |
| `differential` | one softmax less lambda times another: what both see is noise | n^2 |
| `moe` | softmax by the k experts that a router picks for each query; also the router alone | n^2 k |
| `hyperbolic` | softmax of minus the distance in the Poincaré ball | n^2 |
| `hopfield` | softmax of beta times the overlap with stored patterns: retrieval | patterns |
| `selective` | none formed: a selective state space scans the sequence | n |

`gate` holds what all softmax kernels share on their borders: an optional gate of logits on keys or edges, +inf passes,
-inf blocks, which turns a minimum cut into one switch on every mechanism. A query with nothing left to see gets zeros.
`softmax` is the inner step, `workspace` the scratch memory of one caller.

Limits. float32 in and out, scores and n_k times a value below 3e38; scores of magnitude s carry an error of about
1e-7 s into the weights. A gate per edge is as large as n^2 itself and spoils what `flash` saves; `linear` takes gates
on keys only. Dropout, rotary positions and caches of keys are the caller's.

This file imports nothing.
"""
