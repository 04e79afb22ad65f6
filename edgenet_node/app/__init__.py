"""The composition root: which parts a node has, what they are made of, and how they start and stop together.

`parts` is the list to read first: each line is one core, what reaches it and what it may hear. `limits` turns settings
into the limits of the parts, `services` is what adapters answer, `node` joins adapters to ports, `start` is what the
command line calls. No decision about the swarm is taken here.
"""
