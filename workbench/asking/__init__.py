"""Ask a model: load it, and have it write answers. Imports torch, so only the child processes may import this."""
