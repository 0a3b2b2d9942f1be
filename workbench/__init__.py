"""Fine-tune a small chat model in the browser: data in, tuned model out.

Start reading at ``CONTRIBUTING.md``: it has the layout, the data flow and the words used here.
"""

__version__ = "0.1.0"
