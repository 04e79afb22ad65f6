"""edgenet-node: a daemon that pools machines for AI work in a peer-to-peer swarm.

See `docs` below and the packages' own pages.
"""

__version__ = "0.1.0"
