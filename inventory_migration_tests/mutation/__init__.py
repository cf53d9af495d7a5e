"""Every guard taken away in turn: which one it is, and the tests that then have to fail.

`guards.py` lists them, `remove.py` runs the tests on a copy of the project without one. That the
list fits the code and `docs/reliability.md` is tested in `test_mutation.py`; that each removal is
noticed, in `chaos/test_mutation.py`.
"""
