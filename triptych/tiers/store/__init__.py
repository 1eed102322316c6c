"""Where the gateway remembers: tables, migrations, the record of requests, flags, accounts.

Every statement goes through `database.Database`, which scopes it to a company.
"""
