#!/bin/sh
# Starts PostgreSQL for a fleet; at the first start it makes the database, its certificate and the role.
#
# /run/secrets/pgpass has the gateways' line, HOST:PORT:DATABASE:USER:PASSWORD; they find the certificate in /tls.
# Begun as root, who may read that file, it is the user postgres from then on.
set -eu
data=/var/lib/postgresql/data
IFS=: read -r host _ database user password </run/secrets/pgpass
postgres='setpriv --reuid postgres --regid postgres --clear-groups'

if [ ! -e "$data/PG_VERSION" ]; then
    $postgres initdb -D "$data" -A peer -E UTF8 --locale=C.UTF-8 --no-instructions
    echo "hostssl $database $user all scram-sha-256" | $postgres tee -a "$data/pg_hba.conf"
    $postgres openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=$host" \
        -addext "subjectAltName=DNS:$host" -keyout "$data/server.key" -out "$data/server.pem"
    $postgres postgres --single -D "$data" postgres <<END
CREATE ROLE "$user" LOGIN PASSWORD '$password'
CREATE DATABASE "$database" OWNER "$user"
END
fi
$postgres cp "$data/server.pem" /tls/db.pem
exec $postgres postgres -D "$data" -k /tmp -c listen_addresses='*' -c ssl=on -c ssl_cert_file=server.pem \
    -c ssl_key_file=server.key
