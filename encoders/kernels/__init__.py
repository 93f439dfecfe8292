"""Loops over arrays: numba and numpy alone. Every one has a slow twin in tests/reference."""
