"""The embedded hub: the Hugging Face Hub protocol on one machine, a room for each concern.

`app.create_app` puts the rooms together. `routing` holds the rule that every route declares who
may call it and is enforced by that declaration. Blocking work (git, SQLite, hashing) is written
as plain functions and runs in threads; handlers are asynchronous. Left out: everything the
client side does, which reaches this server over HTTP like any other client.
"""
