"""Around one attempt at an upstream: the order among equal ones, what is masked, what failed."""
