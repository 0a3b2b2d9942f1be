"""The process boundary: run directories, events, and the processes that write them. No torch, no gradio."""
