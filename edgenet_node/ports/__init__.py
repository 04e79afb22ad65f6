"""The interfaces that the runtime drives. Each has one real adapter and one shipped fake (`edgenet_node.testing`).

The ports speak bytes, digests and plain values; what they mean is decided above (`runtime`, cores), encoded in `wire`.
"""
