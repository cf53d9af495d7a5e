"""Whether an application still works after the move: its operations are tried, its queries asked.

Operations are executed in a transaction that is always rolled back; queries only read. What of it
an application has, its mapping says.
"""
