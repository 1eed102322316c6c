"""Commands that open one page in the browser."""
