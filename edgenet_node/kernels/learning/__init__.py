"""Learning on a small node: low-rank adapters, what protects them from forgetting, and what they learn from again.

| module | what it does |
| --- | --- |
| `lora` | MicroLoRA: forward, exact gradients, batches grouped by adapter |
| `adapters` | starting, stepping, blending and merging (truncated SVD) adapters |
| `operators` | one adapter for each operator, with a category's adapter where an operator has learnt little |
| `storage` | int8 and int4 adapters, widened once when they are loaded |
| `fisher`, `ewc` | exact diagonal Fisher information, and the penalty that anchors weights by it |
| `sum_tree`, `replay` | prioritised replay with importance weights |
| `reservoir` | a uniform sample of a stream, and how far the recent past has moved from it |
| `workspace` | scratch memory that the caller owns |

State is in frozen structs with pure updates, except `replay.PrioritisedReplay` (one tree of 10,000 numbers that would
otherwise be copied at each step), which its caller owns. Randomness is an injected `numpy.random.Generator`.

Limits. Fisher information is diagonal and closed-form for a linear or low-rank layer under a softmax or a Gaussian; for
any other model the caller brings the gradients of labels drawn from that model (`fisher.sample_labels`).
"""
