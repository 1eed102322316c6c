-- The gateway's role and database. Run once as a superuser:
--   psql -v password="'...'" -f deploy/postgres.sql
-- The role owns its tables, so that it can bring the schema up to date; it is no superuser and
-- does not bypass row-level security, which is forced on the tables of companies.
CREATE ROLE triptych LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD :password;
CREATE DATABASE triptych OWNER triptych;
REVOKE ALL ON DATABASE triptych FROM PUBLIC;
