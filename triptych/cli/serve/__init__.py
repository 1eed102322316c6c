"""Commands that serve models and set up the tiers."""
