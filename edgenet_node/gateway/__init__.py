"""The owner's door: an HTTP API on this machine, behind a token.

It translates requests into asks on the bus and answers into JSON; it decides nothing about the swarm. Every surface
(command line, later dashboard, SDK, MCP) uses it and follows tasks through the same event stream.

* It listens on 127.0.0.1 unless the owner says otherwise, and every request but `/livez` and `/readyz` needs
  `Authorization: Bearer <token>`; the token lies in the data folder, readable by its owner only. The `Host` header must
  be an address of the door itself, so that a web page cannot reach it through a name it controls (DNS rebinding).
* Bodies are bounded and read with strict types: unknown fields are refused by name.
* Errors are `{"error": {"code", "message"}}`; codes as in `edgenet_node.errors`.
* `/livez`: the loop turns. `/readyz`: the node can take work (it listens and has a swarm). A stalled node is live, not ready.

Limits: `GatewaySettings`.
"""
