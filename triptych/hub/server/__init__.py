"""The embedded hub: the Hugging Face Hub protocol on one machine.

Folders, each importing only those before it: `workloads` (what Spaces and Jobs share), `storage`
(files, git, accounts), `repositories`, `spaces`, `jobs`, `http` (routes and pages). `http.app`
puts them together; `http.routing` enforces the access that every route declares. Blocking work
(git, SQLite, hashing) is written as plain functions and runs in threads; handlers are
asynchronous. Left out: the client side, which reaches this server over HTTP like any client.
"""
