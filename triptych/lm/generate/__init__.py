"""Run a model: one interface (`engine`), several engines behind it, and how tokens are drawn."""
