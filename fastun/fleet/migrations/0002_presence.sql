-- Where each peer is, and up to which of its initiations it has been somewhere.

CREATE SEQUENCE presence_changed;

CREATE TABLE presence (
    public_key bytea PRIMARY KEY CHECK (length(public_key) = 32),
    gateway text COLLATE "C", -- NULL: connected to none
    initiated bytea NOT NULL CHECK (length(initiated) = 12), -- TAI64N of that session's initiation
    since timestamptz NOT NULL DEFAULT now(),
    changed bigint NOT NULL -- in the order of commits: whoever writes has the lock of presence
);
CREATE INDEX presence_by_change ON presence (changed);

CREATE FUNCTION presence_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('fastun_peers', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER presence_changed AFTER INSERT OR UPDATE ON presence
    FOR EACH STATEMENT EXECUTE FUNCTION presence_changed();

-- A key that is no peer's any more is nowhere.
CREATE FUNCTION peer_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM fastun.presence WHERE public_key = OLD.public_key;
    RETURN NULL;
END
$$;
CREATE TRIGGER peer_gone AFTER DELETE ON peer
    FOR EACH ROW EXECUTE FUNCTION peer_gone();
CREATE TRIGGER peer_rekeyed AFTER UPDATE OF public_key ON peer
    FOR EACH ROW WHEN (OLD.public_key IS DISTINCT FROM NEW.public_key)
    EXECUTE FUNCTION peer_gone();
