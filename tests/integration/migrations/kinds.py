"""Folders of migrations in the shapes that users of sqlx write. They are made up for these tests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Kind:
    """A folder, and the database that its migrations find.

    `administrator` is SQL that the superuser runs first. The migrations run as role `{role}`, which owns the database,
    or as the superuser if `as_superuser`. `findings` are what lint reports, as `version: rule`; missing-down and
    missing-grant are disabled. `needs_setup`: without the administrator's SQL the files cannot run anywhere.
    """

    files: Mapping[str, str]
    administrator: str = ""
    as_superuser: bool = False
    search_path: str | None = None
    findings: frozenset[str] = frozenset()
    needs_setup: bool = False
    binary: Mapping[str, bytes] = field(default_factory=dict)


_TOUCH = """
create or replace function touch() returns trigger as $$
begin
    new.updated_at = now();
    return new;
end;
$$ language plpgsql;
"""

KINDS: dict[str, Kind] = {
    # Comments, an extension, helper functions that create triggers, and an ICU collation, then numbered tables.
    "helpers": Kind(
        {
            "1_setup.sql": "-- Used in each project.\n--\n-- Lower case; is a style.\n\n"
            'create extension if not exists "uuid-ossp";\n'
            + _TOUCH
            + """
create or replace function touched(name regclass) returns void as
$$ begin execute format('create trigger touch before update on %s for each row
   when (old is distinct from new) execute function touch();', name); end; $$ language plpgsql;
create collation folded (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
""",
            "2_person.sql": """
create table "person" (
    person_id uuid primary key default uuid_generate_v1mc(),
    name text collate "folded" unique not null,
    updated_at timestamptz
);
select touched('"person"');
""",
            "3_letter.sql": """
create table letter (letter_id uuid primary key default gen_random_uuid(), body text not null, tags text[]
    not null default '{}', author uuid not null references "person" on delete cascade);
create index letter_tags on letter using gin (tags);
""",
        }
    ),
    # Timestamps as versions, and a column that becomes NOT NULL after a backfill between BEGIN and COMMIT's words.
    "timestamps": Kind(
        {
            "20200101000000_create_signups_table.sql": """
-- Add migration script here
CREATE TABLE signups(
   id uuid NOT NULL,
   PRIMARY KEY (id),
   email TEXT NOT NULL UNIQUE,
   at timestamptz NOT NULL
);
""",
            "20200201000000_add_status.sql": "ALTER TABLE signups ADD COLUMN status TEXT NULL;\n",
            "20200301000000_status_not_null.sql": """
UPDATE signups SET status = 'confirmed' WHERE status IS NULL;
ALTER TABLE signups ALTER COLUMN status SET NOT NULL;
""",
            "20200401000000_seed.sql": """
INSERT INTO signups VALUES ('00000000-0000-4000-8000-000000000000', 'a@example.com', now(), 'confirmed');
""",
        }
    ),
    # Reversible, an enum with more values later, and a file with only comments.
    "enums": Kind(
        {
            "20210101000000_first.up.sql": """
-- Add up migration script here
CREATE TYPE JOB_KIND AS ENUM ('script', 'flow');
CREATE TABLE job (id bigserial PRIMARY KEY, kind job_kind NOT NULL DEFAULT 'script');
""",
            "20210101000000_first.down.sql": """
DROP TABLE job;
DROP TYPE JOB_KIND;
""",
            "20210102000000_kinds.up.sql": "ALTER TYPE job_kind ADD VALUE IF NOT EXISTS 'preview' BEFORE 'flow';\n",
            "20210102000000_kinds.down.sql": "-- Values of an enum cannot be removed.\n",
            "20210103000000_noop.up.sql": "-- Add up migration script here\n",
            "20210103000000_noop.down.sql": "-- Add down migration script here\n",
            "20210104000000_previews.up.sql": "CREATE VIEW preview AS SELECT id FROM job WHERE kind = 'preview';\n",
            "20210104000000_previews.down.sql": "DROP VIEW preview;\n",
        }
    ),
    # Roles that the migrations create if they are missing, policies, and grants that a DO block makes.
    "row-security": Kind(
        {
            "1_roles.up.sql": """
DO
$do$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rs_user') THEN
        CREATE ROLE rs_user;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = 'rs_admin') THEN
        CREATE ROLE rs_admin BYPASSRLS;
    END IF;
END
$do$;
GRANT rs_user TO rs_admin;
""",
            "2_note.up.sql": """
CREATE TABLE note (id int PRIMARY KEY, owner text NOT NULL, extra jsonb NOT NULL DEFAULT '{}'::jsonb);
ALTER TABLE note ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON note FOR ALL TO rs_user USING (owner = current_setting('session.user'));
DO $$
DECLARE name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['note'] LOOP
        EXECUTE format('CREATE POLICY admins ON %I TO rs_admin USING (true)', name);
        EXECUTE format('GRANT ALL ON %I TO rs_user', name);
    END LOOP;
END $$;
ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO rs_user;
""",
            "3_label.up.sql": "CREATE TABLE label (name text PRIMARY KEY);",
        },
        as_superuser=True,
    ),
    # Roles, default privileges and an extension in its own schema, all made by an administrator.
    "provisioned": Kind(
        {
            "0001_things.up.sql": """
CREATE TABLE things (id uuid PRIMARY KEY DEFAULT ext.uuid_generate_v4(), name ext.citext UNIQUE);
GRANT SELECT ON things TO pr_reader;
""",
            "0001_things.down.sql": "DROP TABLE things;\n",
            "0002_more.up.sql": """
CREATE INDEX ON things USING gin ((name::text) ext.gin_trgm_ops);
CREATE MATERIALIZED VIEW names AS SELECT name FROM things;
CREATE UNIQUE INDEX ON names (name);
""",
            "0002_more.down.sql": """
DROP MATERIALIZED VIEW names;
DROP INDEX things_name_idx;
""",
        },
        administrator="""
CREATE ROLE pr_reader; CREATE ROLE pr_writer;
CREATE SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC;
CREATE EXTENSION "uuid-ossp" SCHEMA ext; CREATE EXTENSION citext SCHEMA ext; CREATE EXTENSION pg_trgm SCHEMA ext;
ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA public GRANT SELECT, INSERT ON TABLES TO pr_writer;
ALTER DEFAULT PRIVILEGES FOR ROLE {role} GRANT USAGE ON SEQUENCES TO pr_writer;
REVOKE CONNECT ON DATABASE {database} FROM PUBLIC; ALTER DATABASE {database} SET timezone = 'UTC';
CREATE PUBLICATION changes;
""",
        findings=frozenset({"0002: blocking-index"}),
        needs_setup=True,
    ),
    # One schema of its own, which the migrations expect, and qualified names.
    "own-schema": Kind(
        {
            "01_setup.sql": """
create or replace function books.touch() returns trigger as $$ begin return new;
end;
$$ language plpgsql;
""",
            "02_book.sql": """
create table books.book (id int generated always as identity primary key, title text not null);
create trigger touch before update on books.book for each row execute function books.touch();
""",
        },
        administrator="CREATE SCHEMA books AUTHORIZATION {role};",
        search_path="books",
    ),
    # Schemas of an administrator, with privileges, which the migrations name in full. One is another program's.
    "shared-database": Kind(
        {
            "1_pen.sql": """
CREATE SCHEMA IF NOT EXISTS pens;
CREATE TABLE pens.pen (id int PRIMARY KEY);
""",
            "2_ink.sql": "CREATE TABLE inks.ink (id int PRIMARY KEY);",
        },
        administrator="""
CREATE ROLE sd_reader; CREATE ROLE sd_admin;
CREATE SCHEMA pens AUTHORIZATION sd_admin; GRANT ALL ON SCHEMA pens TO {role}; GRANT USAGE ON SCHEMA pens TO sd_reader;
CREATE SCHEMA inks AUTHORIZATION {role}; GRANT USAGE ON SCHEMA inks TO sd_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE {role} IN SCHEMA inks GRANT SELECT ON TABLES TO sd_reader;
CREATE SCHEMA other; CREATE TABLE other.thing (id int PRIMARY KEY); GRANT SELECT ON other.thing TO sd_reader
""",
    ),
    # The migrations create the schema and set the search_path for the session.
    "search-path": Kind(
        {
            "1_schema.sql": """
CREATE SCHEMA IF NOT EXISTS shop;
SET search_path TO shop, public;
CREATE TABLE item (id int PRIMARY KEY, price numeric(10, 2) CHECK (price > 0));
""",
            "2_sale.sql": """
SET search_path = shop;
CREATE TABLE sale (item_id int NOT NULL REFERENCES item (id), at timestamptz NOT NULL DEFAULT now());
SET search_path = public;
""",
            "3_view.sql": """
CREATE VIEW sales AS SELECT item.id, count(*) FROM shop.item JOIN shop.sale ON sale.item_id = item.id GROUP
    BY item.id;
""",
        }
    ),
    # The first file is a dump: an empty search_path, owners, and settings of the session.
    "dump": Kind(
        {
            "1_dump.sql": """--
-- PostgreSQL database dump
--
SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET row_security = off;
CREATE EXTENSION IF NOT EXISTS hstore WITH SCHEMA public;
COMMENT ON EXTENSION hstore IS 'data type for storing sets of (key, value) pairs';
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.accounts (id bigint NOT NULL, details public.hstore);
ALTER TABLE public.accounts OWNER TO dump_owner;
CREATE SEQUENCE public.accounts_id_seq START WITH 1 INCREMENT BY 1 NO MINVALUE NO MAXVALUE CACHE 1;
ALTER TABLE public.accounts_id_seq OWNER TO dump_owner;
ALTER SEQUENCE public.accounts_id_seq OWNED BY public.accounts.id;
ALTER TABLE ONLY public.accounts ALTER COLUMN id SET DEFAULT nextval('public.accounts_id_seq'::regclass);
ALTER TABLE ONLY public.accounts ADD CONSTRAINT accounts_pkey PRIMARY KEY (id);
REVOKE USAGE ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO PUBLIC;
""",
            "2_more.sql": "ALTER TABLE public.accounts ADD COLUMN note text;\n",
        },
        administrator="CREATE ROLE dump_owner;",
        as_superuser=True,
    ),
    # Partitions by range, list and default, and an index on each.
    "partitions": Kind(
        {
            "1_events.sql": """
CREATE TABLE events (id bigint GENERATED BY DEFAULT AS IDENTITY, at timestamptz NOT NULL, kind text NOT NULL,
                     PRIMARY KEY (id, at, kind)) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT PARTITION BY LIST (kind);
CREATE TABLE events_rest_a PARTITION OF events_rest FOR VALUES IN ('a', 'b');
""",
            "2_index.sql": "CREATE INDEX events_kind ON events (kind);",
            "3_detach.sql": "ALTER TABLE events DETACH PARTITION events_2024;",
        },
        findings=frozenset({"2: blocking-index"}),
    ),
    # Generated columns, domains, ranges, exclusion constraints, and full-text search.
    "types": Kind(
        {
            "1_types.sql": r"""
CREATE EXTENSION btree_gist;
CREATE DOMAIN percentage AS int CHECK (VALUE BETWEEN 0 AND 100);
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE pair AS (one text, other percentage);
CREATE TYPE "Weekday" AS ENUM ('Mon', 'Tue');
CREATE TABLE booking (room int, during tstzrange, share percentage, pairs pair[], day "Weekday",
                      EXCLUDE USING gist (room WITH =, during WITH &&));
ALTER TABLE booking ADD COLUMN search tsvector GENERATED ALWAYS AS (to_tsvector('english', coalesce((room)::text, '')))
    STORED;
CREATE PROCEDURE forget(INOUT room_id int = NULL) LANGUAGE plpgsql AS 'begin delete from booking; end;';
CREATE FUNCTION half(a int) RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT a / 2; END;
CREATE AGGREGATE total (int) (sfunc = int4pl, stype = int, initcond = '0');
CREATE RULE quiet AS ON DELETE TO booking WHERE old.room < 0 DO INSTEAD NOTHING;
""",
            "2_index.sql": """
CREATE INDEX booking_search ON booking USING gin (search);
CREATE STATISTICS booking_stats ON room, share FROM booking;
""",
        },
        findings=frozenset({"2: blocking-index"}),
    ),
    # Outside of a transaction.
    "no-transaction": Kind(
        {
            "1_a.up.sql": "CREATE TABLE visits (id int PRIMARY KEY, page text);",
            "1_a.down.sql": "DROP TABLE visits;",
            "2_b.up.sql": """
-- no-transaction
CREATE INDEX CONCURRENTLY IF NOT EXISTS visits_page ON visits (page);
""",
            "2_b.down.sql": """
-- no-transaction
DROP INDEX CONCURRENTLY IF EXISTS visits_page;
""",
            "3_c.up.sql": """
-- no-transaction
VACUUM (ANALYZE) visits;
""",
            "3_c.down.sql": "SELECT 1;",
        }
    ),
    # Carriage returns, a byte order mark, text that is not ASCII, and no newline at the end.
    "windows": Kind(
        {
            "20220101_café.sql": 'CREATE TABLE "größe" (id int, "naïve" text DEFAULT \'žluťoučký; kůň\');\r\n\r\n'
            "-- Über alles; wirklich\r\nINSERT INTO \"größe\" VALUES (1, '日本語; \U0001f600');\r\nCOMMENT ON TABLE"
            " \"größe\" IS 'Größe\r\nin cm';\r\n",
        },
        binary={"20220102_bom.sql": b"\xef\xbb\xbfCREATE TABLE b (\r\n  id int\r\n);\r\n/* the end */"},
        findings=frozenset({"20220102: byte-order-mark"}),
    ),
    # Roles and extensions that a migration creates without a guard, and the database's name.
    "unguarded": Kind(
        {
            "1_base.sql": """
CREATE EXTENSION citext;
CREATE ROLE ug_reader;
CREATE SCHEMA audit;
ALTER DEFAULT PRIVILEGES IN SCHEMA audit GRANT SELECT ON TABLES TO ug_reader;
GRANT USAGE ON SCHEMA audit TO ug_reader;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
""",
            "2_log.sql": """
CREATE TABLE audit.log (at timestamptz, who citext);
GRANT INSERT ON audit.log TO ug_reader;
""",
            "3_more.sql": """
ALTER ROLE ug_reader SET statement_timeout = '5s';
CREATE TABLE audit.other (id int);
""",
        },
        as_superuser=True,
    ),
    # Grants to roles of the server's administrator, and to another database's login.
    "grants": Kind(
        {
            "1_t.sql": """
CREATE TABLE t (id int, secret text);
GRANT SELECT (id) ON t TO gr_web;
GRANT ALL ON ALL TABLES IN SCHEMA public TO "gr-admin";
GRANT CONNECT ON DATABASE gr_other TO gr_web;
""",
            "2_f.sql": """
CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = public AS $f$ SELECT
    count(*)::int FROM t; $f$;
REVOKE ALL ON FUNCTION f() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION f() TO gr_web;
""",
        },
        administrator='CREATE ROLE gr_web; CREATE ROLE "gr-admin" CREATEROLE; CREATE DATABASE gr_other;',
        as_superuser=True,
    ),
    # A hyphen in the role and the schema, and the role's own schema at first place of the search_path.
    "quoted": Kind(
        {
            "1_t.sql": """
CREATE TABLE "my-app"."Order" ("Id" serial PRIMARY KEY, "select" text);
CREATE INDEX ON "my-app"."Order" ("select");
""",
            "2_t.sql": 'ALTER TABLE "my-app"."Order" RENAME COLUMN "select" TO "chosen";',
        },
        administrator='CREATE SCHEMA "my-app" AUTHORIZATION {role};',
        search_path='"my-app", public',
        findings=frozenset({"2: contract-in-expand"}),
    ),
    # Objects that are created, replaced and dropped again, as in a long history.
    "history": Kind(
        {
            "1_a.sql": "CREATE TABLE a (id int, v int); CREATE VIEW va AS SELECT id FROM a;",
            "2_b.sql": """
DROP VIEW va;
ALTER TABLE a DROP COLUMN v;
CREATE VIEW va AS SELECT id, 1 AS one FROM a;
""",
            "3_c.sql": """
CREATE TEMPORARY TABLE moved ON COMMIT DROP AS SELECT * FROM a;
CREATE TABLE b AS SELECT * FROM moved;
ALTER TABLE b ADD PRIMARY KEY (id);
CREATE TRIGGER t BEFORE UPDATE ON b FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
""",
            "4_d.sql": """
ALTER TABLE b DISABLE TRIGGER t;
ALTER TABLE b RENAME TO c;
ALTER INDEX b_pkey RENAME TO c_pkey;
""",
        },
        findings=frozenset({"2: contract-in-expand", "4: contract-in-expand"}),
    ),
    # A schema with the role's name, which "$user" puts at first place of the search_path once it exists.
    "role-schema": Kind(
        {
            "1_schema.sql": "CREATE SCHEMA role_schema_login; CREATE TABLE role_schema_login.t (id int PRIMARY KEY);",
            "2_v.sql": "ALTER TABLE role_schema_login.t ADD COLUMN v text;",
        },
    ),
    # The same with an extension, which is in this schema too.
    "own-extension": Kind(
        {
            "1_schema.sql": """
CREATE SCHEMA IF NOT EXISTS own_extension_login;
CREATE EXTENSION citext;
CREATE TABLE own_extension_login.t (id int PRIMARY KEY, e own_extension_login.citext);
""",
            "2_v.sql": "ALTER TABLE t ADD COLUMN v citext;",
        },
        needs_setup=True,
    ),
}
