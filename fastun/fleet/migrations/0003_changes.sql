-- What has changed since a version, so that a look reads that and no more.

-- The version by which a peer was last changed, there still or not. Whoever changes peers locks the
-- row of `state` before its first change, until it commits. So versions are in the order of commits:
-- who sees a version sees all that was changed by it and by those before it. And as it is the first
-- lock of all, no two wait for each other.
CREATE TABLE change (peer text COLLATE "C" PRIMARY KEY, version bigint NOT NULL);
CREATE INDEX change_by_version ON change (version);

DROP TRIGGER peers_changed ON peer;
DROP TRIGGER peers_changed ON allowed_ip;
DROP FUNCTION peers_changed();

-- A transaction has one version, however many statements it has: it is in a setting of its own, which
-- goes with it, or with the savepoint to which it is rolled back. 10,000 versions are kept (KEPT,
-- fastun/fleet/reads.py). NULL: any peer may have changed, so that whoever looks is to be further
-- behind than that, and reads all.
CREATE FUNCTION note_changes(names text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    now_at bigint := nullif(current_setting('fastun.noted', true), '')::bigint;
BEGIN
    IF cardinality(names) = 0 THEN
        RETURN;
    END IF;
    IF now_at IS NULL OR names IS NULL THEN
        UPDATE fastun.state SET version = version + CASE WHEN names IS NULL THEN 10001 ELSE 1 END
            RETURNING version INTO now_at;
        PERFORM set_config('fastun.noted', now_at::text, true);
        DELETE FROM fastun.change WHERE version <= now_at - 10000;
        PERFORM pg_notify('fastun_peers', '');
    END IF;
    INSERT INTO fastun.change SELECT DISTINCT unnest(names), now_at
        ON CONFLICT (peer) DO UPDATE SET version = EXCLUDED.version;
END
$$;

-- Of a trigger whose argument is the column that has the peers' names.
CREATE FUNCTION peers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    names text[]; -- NULL, which TRUNCATE leaves: it does not say what it has removed
    touched text := CASE TG_OP
        WHEN 'INSERT' THEN 'SELECT %1$I FROM now_there'
        WHEN 'DELETE' THEN 'SELECT %1$I FROM was_there'
        WHEN 'UPDATE' THEN 'SELECT %1$I FROM was_there UNION SELECT %1$I FROM now_there'
    END;
BEGIN
    IF touched IS NOT NULL THEN
        EXECUTE format('SELECT ARRAY(' || touched || ')', TG_ARGV[0]) INTO names;
    END IF;
    PERFORM fastun.note_changes(names);
    RETURN NULL;
END
$$;

CREATE FUNCTION wait_for_others() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM fastun.state FOR UPDATE;
    RETURN NULL;
END
$$;
CREATE TRIGGER wait_for_others BEFORE INSERT OR UPDATE OR DELETE ON peer
    FOR EACH STATEMENT EXECUTE FUNCTION wait_for_others();
CREATE TRIGGER wait_for_others BEFORE INSERT OR UPDATE OR DELETE ON allowed_ip
    FOR EACH STATEMENT EXECUTE FUNCTION wait_for_others();

CREATE TRIGGER peers_inserted AFTER INSERT ON peer
    REFERENCING NEW TABLE AS now_there FOR EACH STATEMENT EXECUTE FUNCTION peers_changed('name');
CREATE TRIGGER peers_updated AFTER UPDATE ON peer
    REFERENCING OLD TABLE AS was_there NEW TABLE AS now_there
    FOR EACH STATEMENT EXECUTE FUNCTION peers_changed('name');
CREATE TRIGGER peers_deleted AFTER DELETE ON peer
    REFERENCING OLD TABLE AS was_there FOR EACH STATEMENT EXECUTE FUNCTION peers_changed('name');
CREATE TRIGGER peers_truncated AFTER TRUNCATE ON peer
    FOR EACH STATEMENT EXECUTE FUNCTION peers_changed('name');

CREATE TRIGGER prefixes_inserted AFTER INSERT ON allowed_ip
    REFERENCING NEW TABLE AS now_there FOR EACH STATEMENT EXECUTE FUNCTION peers_changed('peer');
CREATE TRIGGER prefixes_updated AFTER UPDATE ON allowed_ip
    REFERENCING OLD TABLE AS was_there NEW TABLE AS now_there
    FOR EACH STATEMENT EXECUTE FUNCTION peers_changed('peer');
CREATE TRIGGER prefixes_deleted AFTER DELETE ON allowed_ip
    REFERENCING OLD TABLE AS was_there FOR EACH STATEMENT EXECUTE FUNCTION peers_changed('peer');
CREATE TRIGGER prefixes_truncated AFTER TRUNCATE ON allowed_ip
    FOR EACH STATEMENT EXECUTE FUNCTION peers_changed('peer');

-- Whoever looks now has read nothing that was noted.
UPDATE state SET version = version + 10001;
