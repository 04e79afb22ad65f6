"""What travels on the bus inside one node: queries with typed answers, commands, events.

Messages may hold wire types; they never mirror them. Each type has exactly one owner (`Part.accepts` or a service),
events have any number of listeners.
"""
