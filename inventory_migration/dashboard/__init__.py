"""The dashboard: a migration watched and steered in a browser.

`server.py` serves it, `guard.py` and `access.py` decide who may reach it and who may act,
`actions.py` does what is asked, `pages.py` draws what is seen. What is known of a migration is
asked in `watching.py`; nothing here reads the ledger's tables by itself.
"""
