"""The Console: an admin sees and changes the tiered service, one small page for each part of it.

Everything shown comes from the gateway with the key of the signed-in user, and every change is the
gateway's, which audits it and can revert it. Each page is a router, a view model and a template in
a folder of its own; `routes` lists them.
"""
