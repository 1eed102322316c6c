"""Commands that learn from what companies know and say."""
