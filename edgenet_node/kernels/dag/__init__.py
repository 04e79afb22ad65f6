"""Attention over task graphs: which step of a directed acyclic graph matters now.

Theory of operation. `query.QueryDag` is what travels: operations, costs, edges from a step to those that need its
output. `plan.Plan` is what is worth keeping: arrays of the topology, its order, and, on first use, timing, reach and
cut. A mechanism maps a plan to one score for each node, at least 0, with sum 1. `selector` learns which mechanism pays.

| module | what it computes |
| --- | --- |
| `query` | `QueryDag`, `GatePacket`: validated, serialisable |
| `topology` | order, timing (critical path method), causal cone over arrays |
| `plan` | the cached topology of one graph |
| `mechanisms` | topological, causal cone, critical path, cut-gated, parallel branch, temporal, and their mixture |
| `lorentz` | the graph's tree on the hyperboloid, and attention by distance there |
| `selector` | UCB1 over the mechanisms, with a switch to the gated one under tension |

Plain lists beat arrays on graphs of a hundred nodes: one step is a few operations, less than one numpy call.

Limits. `Plan.reach` is a square bit matrix, hence `query.NODES_MAX`. A node that several parents share has one place on
the hyperboloid, below its deepest parent: distances along its other edges are distorted, as no tree can hold them.
"""
