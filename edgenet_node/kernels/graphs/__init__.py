"""Graphs: who matters to whom, and how close the graph is to falling apart.

Theory of operation. A directed, weighted graph is compressed sparse rows (`rows.Rows`): row i lists the nodes that node
i hears. What depends on the topology alone is computed once (`diagonals.Diagonals`) and reused for every set of
features; node features are float32, everything that decides a cut or a flow is float64.

| module | what it computes |
| --- | --- |
| `rows` | edge lists to compressed sparse rows, with or without self-loops |
| `diagonals` | jagged diagonals, and the one loop that sums or maximises over neighbours |
| `convolution` | GCN: smoothing by the normalised adjacency |
| `attention` | GAT: neighbours weighted by learned attention, with edge features and an edge gate |
| `sampling` | GraphSAGE: a seeded sample of neighbours, mean or maximum, concatenation, unit length |
| `cut` | global minimum cut (Stoer-Wagner's question, answered by contraction) and the tension that follows from it |
| `flow` | maximum flow, minimum s-t cut, vertex-disjoint paths |

Limits. The minimum cut is recomputed, not updated: no method with the sub-polynomial update time of the literature is
available. It takes milliseconds at 500 peers, but 0.1 to 0.3 s where all degrees and weights are equal (`cut`): off the
loop. Nothing here draws randomness: GraphSAGE takes its uniform numbers from the caller. rustworkx is not used: its
Stoer-Wagner is the faster one on regular graphs only.
"""
