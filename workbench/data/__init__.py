"""Rows in, conversations out. No torch, no gradio."""
