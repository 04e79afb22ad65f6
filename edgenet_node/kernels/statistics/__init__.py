"""Statistics of a node: what it believes, how sure it is, and when that stops being true.

| module | what it decides |
| --- | --- |
| `beta`, `normal` | conjugate posteriors with exponential forgetting towards the prior: rates, and latencies |
| `incomplete_beta` | the distribution functions behind their bounds |
| `thompson` | which option to try next, by one draw from each posterior |
| `conformal` | intervals that hold with a stated chance whatever the model, also under drift |
| `page_hinkley`, `adwin` | has the mean moved? with a bounded chance of a false alarm |
| `holt_winters` | forecasts of a seasonal series, with intervals |
| `sampling` | how much wrong work escapes a random check, and how much checking deters |
| `lsh` | SimHash signatures and banding: which vectors to compare at all |
| `clusters` | k-means++ and Lloyd's iterations |

State is in frozen structs; updates are pure: `update(state, x) -> state`. Randomness is an injected
`numpy.random.Generator`. `verify.upper_bound` has the hypergeometric bound on wrong work after a check.

Limits. Drift detectors and their bounds take values in [0, 1]: the caller scales. ADWIN's variance bound is the usual
approximation; the theorem is behind its Hoeffding bound. Holt-Winters' parameters are given, not fitted.
"""
