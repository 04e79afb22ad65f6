"""The extra `[fast]`: numba versions with the signatures of the numpy kernels, where they win.

Nothing imports this package but `kernels.backends`, and only when numba is installed.
"""
