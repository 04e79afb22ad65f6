"""`scripts/bench kernels`: every numeric kernel beside numba, torch and the machine's limit.

`case` says what a row is, `serve` times rows in a child process, `__main__` runs rounds and prints the table. Every
other module is a family: its `CASES` are its rows.
"""
