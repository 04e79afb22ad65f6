"""The command tree."""

from __future__ import annotations

import typer

from . import committee, devnet, indexes, node, tasks

app = typer.Typer(
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Pool machines for AI work in a peer-to-peer swarm, with verified results.\n\n"
    "Begin with: edgenet-node init, then edgenet-node run. To try a swarm on this machine: edgenet-node devnet 5.",
)
for command in (node.init, node.run, node.status, node.peers, node.models, node.stop, node.version):
    app.command()(command)
app.command()(tasks.submit)
app.add_typer(tasks.app, name="task")
app.add_typer(indexes.app, name="index")
app.command()(indexes.search)
app.add_typer(committee.app, name="committee")
app.add_typer(committee.registry, name="registry")
app.command()(devnet.devnet)
