"""Comparing transport solvers on one machine: ``otbr-fast bench``.

`families` makes problems, `solvers` knows the contestants, `worker` is the process in which one
of them runs, `contest` lets them take turns at a problem, `runner` goes through a `plan` and
fills `results`; `summary`, `tables`, `plots` and `markers` show them. Workers import this package,
so nothing heavy is imported here.
"""
