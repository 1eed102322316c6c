"""Commands that build data, train and evaluate."""
