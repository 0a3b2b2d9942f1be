"""The page: gradio, and only gradio. One file per tab; what is computed lies below."""
