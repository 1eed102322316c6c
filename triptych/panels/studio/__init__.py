"""The Studio: start a training run in the browser, watch it learn, stop, resume and compare it.

The page owns nothing: runs live in their folders and train in processes of their own, so a
closed tab, a reload or a dead web process changes nothing for them.
"""
