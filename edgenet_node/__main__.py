"""`python -m edgenet_node` is `edgenet-node`."""

from .cli import main

main()
