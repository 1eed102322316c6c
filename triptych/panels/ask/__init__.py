"""Ask: chat with a tier, see which model answered and why, and say whether it was right.

A router, a history and the answers that are being written. An answer belongs to this process and
not to a connection: leaving the page ends nothing, coming back shows where it is.
"""
