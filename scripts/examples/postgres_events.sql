-- SPDX-License-Identifier: MIT
--
-- postgres_events.sql - what a PostgreSQL database needs so that its changes become events.
--
-- A trigger writes each event into the table perilune_outbox, in the transaction that makes the
-- change, and wakes who listens: so an event is there if and only if its change was committed, and
-- stays until postgres_bridge has handed it on. A NOTIFY alone would be lost where nobody listens.
--
--     psql -f postgres_events.sql shop
--     CREATE TRIGGER tell_perilune AFTER INSERT OR UPDATE OR DELETE ON product
--         FOR EACH ROW EXECUTE FUNCTION perilune_changed('product.changed', 'id', 'shop');
--
-- The first argument names the event, the others the columns that go along as its fields. TRUNCATE
-- fires no trigger for rows: after one, raise an event of your own.

CREATE TABLE IF NOT EXISTS perilune_outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event text NOT NULL,
    fields jsonb NOT NULL
);

-- SELECT perilune_raise('prices.imported', '{"shop": 3}');
CREATE OR REPLACE FUNCTION perilune_raise(event text, fields jsonb DEFAULT '{}') RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS $$
    INSERT INTO perilune_outbox (event, fields) VALUES ($1, $2);
    SELECT pg_notify('perilune', ''); -- many in one transaction are one
$$;

CREATE OR REPLACE FUNCTION perilune_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    before jsonb;
    after jsonb;
BEGIN
    IF TG_OP <> 'INSERT' THEN
        SELECT jsonb_object_agg(key, value) INTO before
        FROM jsonb_each(to_jsonb(OLD)) WHERE key = ANY (TG_ARGV[1:]);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        SELECT jsonb_object_agg(key, value) INTO after
        FROM jsonb_each(to_jsonb(NEW)) WHERE key = ANY (TG_ARGV[1:]);
    END IF;
    -- what depended on the row as it was, and as it is, where that is not the same
    IF before IS NOT NULL THEN
        PERFORM perilune_raise(TG_ARGV[0], before);
    END IF;
    IF after IS NOT NULL AND after IS DISTINCT FROM before THEN
        PERFORM perilune_raise(TG_ARGV[0], after);
    END IF;
    RETURN NULL;
END
$$;
