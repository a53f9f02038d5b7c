"""The variational solvers. Importing any module below imports PennyLane: do it in the worker."""
