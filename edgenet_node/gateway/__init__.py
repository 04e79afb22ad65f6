"""The owner's door: an HTTP API on this machine, behind a token.

It translates requests into asks on the bus and answers into JSON; it decides nothing about the swarm. Every surface
(command line, later dashboard, SDK, MCP) uses it and follows tasks through the same event stream.

* It listens on 127.0.0.1 unless the owner says otherwise, and every request but `/livez` and `/readyz` needs
  `Authorization: Bearer <token>`; the token lies in the data folder, readable by its owner only. The `Host` header must
  be an IP address, `localhost` or the configured host, so that a web page cannot reach the API through a name that it
  controls (DNS rebinding).
* Bodies are bounded, read whole before they are parsed, with strict types: unknown fields are refused by name.
* Errors are `{"error": {"code", "message"}}`; codes as in `edgenet_node.errors`.
* A request is quick, or it waits for work; the two are counted apart. When its client leaves, its ask is withdrawn (a
  submitted task goes on). Large answers and event streams are made while they are sent, one piece at a time.
* `/livez`: the loop turns. `/readyz`: the node can take work (it listens and has a swarm). A stalled node is live, not
  ready.

From the outside in: `server` accepts, `connection` bounds the socket, hypercorn speaks HTTP, `guard` checks, `exchange`
holds one request, `routes` answer it.

Limits: `GatewaySettings`. Parsing a body is not interrupted: 16 MiB of text cost about 10 ms of the loop.

Sources: RFC 9110 and 9112 (HTTP), RFC 6750 (bearer tokens), the WHATWG's server-sent events.
"""
