"""What a worker does as one of many: its sign of life, its metrics, its news of upstreams."""
