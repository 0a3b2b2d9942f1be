"""Which models there are, how they get here, and how a conversation becomes tokens.

No torch at import: the page lists and fetches models, only child processes load them.
"""
