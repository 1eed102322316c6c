#!/bin/sh
# Run once by PostgreSQL's image on an empty volume: makes the gateway's own role and database.
set -eu
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" \
  -v "password='$GATEWAY_PASSWORD'" -f /deploy/postgres.sql
