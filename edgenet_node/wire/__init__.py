"""What peers say to one another, byte for byte.

Decides: how a typed message becomes bytes and back (`codec`), one module of message types for each protocol.
States: none. A message is a frozen `Wire` struct; a value that has been decoded is known to fit its type.
Encoding: MessagePack. A struct is a map with string keys in the order of declaration, every field written, also those
that equal their default; other maps are sorted by key; integers, strings, bytes and arrays take their shortest form;
floats are 64 bits wide; extension types do not occur. A value therefore has exactly one encoding, and
`codec.decode_canonical` accepts only that one: what is signed is read with it.
Limits: every decode names `bytes_max`; nesting where a type admits anything is at most `codec.DEPTH_MAX`.
Errors: hostile bytes raise `Malformed` or `TooLarge`, nothing else; the sender is to blame.
Sources: the MessagePack specification (github.com/msgpack/msgpack/blob/master/spec.md).
"""
