"""Spaces: a pushed repository becomes a running, watched, isolated process with an address.

`runner.Spaces` holds one `space.Space` per repository and is what the rest of the hub talks to.
`building` makes a tree and an environment of a commit, `space` leads one Space through its
stages, `proxy` forwards requests to it, `ports` gives it an address of its own, `http/spaces.py` is
the programming interface. Left out: deploying and verifying, which the client side does over
HTTP, and container images.
"""
