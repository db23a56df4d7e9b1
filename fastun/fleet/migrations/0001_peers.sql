-- Peers, as the directory in SQLite has them, and what the gateways of the fleet are.

CREATE TABLE peer (
    name text COLLATE "C" PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 64),
    public_key bytea NOT NULL UNIQUE CHECK (length(public_key) = 32),
    preshared_key bytea CHECK (length(preshared_key) = 32),
    endpoints text NOT NULL DEFAULT '',
    keepalive_s integer NOT NULL DEFAULT 0 CHECK (keepalive_s BETWEEN 0 AND 65535),
    terms text NOT NULL DEFAULT '{}'
);

-- The key of the table: no two peers have one prefix, whatever two gateways add at once.
CREATE TABLE allowed_ip (
    prefix cidr PRIMARY KEY,
    peer text COLLATE "C" NOT NULL REFERENCES peer (name) ON UPDATE CASCADE ON DELETE CASCADE,
    position integer NOT NULL
);
CREATE INDEX allowed_ip_peer ON allowed_ip (peer);

-- server_key, public_endpoints
CREATE TABLE fact (name text PRIMARY KEY, value text NOT NULL);

-- What `fastun peer add` needs to know of each, as the directory in SQLite has of its one.
CREATE TABLE gateway (
    name text COLLATE "C" PRIMARY KEY,
    server text NOT NULL,
    seen timestamptz NOT NULL DEFAULT now()
);

-- Grows with every change of peers, whatever program has made it.
CREATE TABLE state (version bigint NOT NULL, is_only boolean PRIMARY KEY DEFAULT true CHECK (is_only));
INSERT INTO state VALUES (0);

CREATE FUNCTION peers_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fastun.state SET version = version + 1;
    PERFORM pg_notify('fastun_peers', '');
    RETURN NULL;
END
$$;
CREATE TRIGGER peers_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON peer
    FOR EACH STATEMENT EXECUTE FUNCTION peers_changed();
CREATE TRIGGER peers_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON allowed_ip
    FOR EACH STATEMENT EXECUTE FUNCTION peers_changed();
