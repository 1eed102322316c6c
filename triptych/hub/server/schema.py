"""The tables of the hub, as append-only migrations: an entry, once released, never changes."""

from __future__ import annotations

_FIRST = """
CREATE TABLE accounts (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE COLLATE NOCASE,
    kind TEXT NOT NULL CHECK (kind IN ('user', 'org')),
    fullname TEXT NOT NULL DEFAULT '',
    email TEXT NOT NULL DEFAULT '',
    is_admin INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL
);
CREATE TABLE memberships (
    org_id INTEGER NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    user_id INTEGER NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('read', 'write', 'admin')),
    PRIMARY KEY (org_id, user_id)
) WITHOUT ROWID;
CREATE TABLE tokens (
    id INTEGER PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('read', 'write', 'fineGrained')),
    hash BLOB NOT NULL UNIQUE,
    hint TEXT NOT NULL,
    created_at REAL NOT NULL,
    expires_at REAL,
    UNIQUE (user_id, name)
);
CREATE TABLE token_grants (
    token_id INTEGER NOT NULL REFERENCES tokens(id) ON DELETE CASCADE,
    repository_id INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    role TEXT NOT NULL CHECK (role IN ('read', 'write')),
    PRIMARY KEY (token_id, repository_id)
) WITHOUT ROWID;
CREATE TABLE repositories (
    id INTEGER PRIMARY KEY,
    uid TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('model', 'dataset', 'space')),
    namespace_id INTEGER NOT NULL REFERENCES accounts(id),
    name TEXT NOT NULL COLLATE NOCASE,
    private INTEGER NOT NULL DEFAULT 0,
    gated TEXT NOT NULL DEFAULT '' CHECK (gated IN ('', 'auto', 'manual')),
    sdk TEXT NOT NULL DEFAULT '',
    downloads INTEGER NOT NULL DEFAULT 0,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL,
    head TEXT NOT NULL DEFAULT '',
    card TEXT NOT NULL DEFAULT '{}',
    tags TEXT NOT NULL DEFAULT '[]',
    UNIQUE (kind, namespace_id, name)
);
CREATE INDEX repositories_by_update ON repositories (kind, updated_at DESC, id DESC);
CREATE TABLE redirects (
    kind TEXT NOT NULL,
    namespace TEXT NOT NULL COLLATE NOCASE,
    name TEXT NOT NULL COLLATE NOCASE,
    repository_id INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    PRIMARY KEY (kind, namespace, name)
) WITHOUT ROWID;
CREATE TABLE objects (
    sha256 TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    xet_hash TEXT,
    touched_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE repository_objects (
    repository_id INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    sha256 TEXT NOT NULL REFERENCES objects(sha256) ON DELETE CASCADE,
    PRIMARY KEY (repository_id, sha256)
) WITHOUT ROWID;
CREATE INDEX repository_objects_by_object ON repository_objects (sha256);
CREATE TABLE xorbs (
    hash TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    chunks BLOB NOT NULL,
    touched_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE xet_files (
    hash TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    terms BLOB NOT NULL,
    sha256 TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX xet_files_by_sha256 ON xet_files (sha256);
CREATE TABLE repository_settings (
    repository_id INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('secret', 'variable')),
    key TEXT NOT NULL,
    value BLOB NOT NULL,
    description TEXT NOT NULL DEFAULT '',
    updated_at REAL NOT NULL,
    PRIMARY KEY (repository_id, kind, key)
) WITHOUT ROWID;
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE sessions (
    hash BLOB PRIMARY KEY,
    user_id INTEGER NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    token_id INTEGER REFERENCES tokens(id) ON DELETE CASCADE,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
"""

_WORKLOADS = """
CREATE TABLE spaces (
    repository_id INTEGER PRIMARY KEY REFERENCES repositories(id) ON DELETE CASCADE,
    port INTEGER UNIQUE,
    wanted TEXT NOT NULL DEFAULT 'running' CHECK (wanted IN ('running', 'sleeping', 'paused')),
    approved INTEGER NOT NULL DEFAULT 0,
    flavor TEXT NOT NULL,
    sleep_s INTEGER
);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    namespace_id INTEGER NOT NULL REFERENCES accounts(id),
    account_id INTEGER NOT NULL REFERENCES accounts(id),
    specification TEXT NOT NULL,
    secrets BLOB NOT NULL,
    stage TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '',
    created_at REAL NOT NULL,
    started_at REAL,
    finished_at REAL
);
CREATE INDEX jobs_by_namespace ON jobs (namespace_id, created_at DESC);
"""

_SIGN_IN = """
CREATE TABLE oauth_clients (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    secret_hash BLOB,
    redirect_uris TEXT NOT NULL,
    created_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE oauth_codes (
    hash BLOB PRIMARY KEY,
    client_id TEXT NOT NULL,
    user_id INTEGER NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    redirect_uri TEXT NOT NULL,
    scopes TEXT NOT NULL,
    nonce TEXT NOT NULL,
    challenge TEXT NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE oauth_consents (
    user_id INTEGER NOT NULL REFERENCES accounts(id) ON DELETE CASCADE,
    client_id TEXT NOT NULL,
    scopes TEXT NOT NULL,
    PRIMARY KEY (user_id, client_id)
) WITHOUT ROWID;
"""

# Approval was a bit of the repository: nothing of it is carried over.
_APPROVALS = """
CREATE TABLE approved_commits (
    repository_id INTEGER NOT NULL REFERENCES repositories(id) ON DELETE CASCADE,
    sha TEXT NOT NULL,
    account TEXT NOT NULL,
    approved_at REAL NOT NULL,
    PRIMARY KEY (repository_id, sha)
) WITHOUT ROWID;
ALTER TABLE spaces DROP COLUMN approved;
ALTER TABLE repository_settings ADD COLUMN by_admin INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: tuple[str, ...] = (_FIRST, _WORKLOADS, _SIGN_IN, _APPROVALS)
