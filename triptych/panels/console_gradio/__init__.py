"""The Console: an administrator sees and steers the tiered service.

It knows nothing by itself: everything it shows it asked the gateway for, with the key of the
person who signed in, and everything it changes the gateway changes, audits and can revert.
"""
