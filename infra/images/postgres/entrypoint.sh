#!/bin/sh
# Makes the cluster on the first start, then becomes the server. The superuser has no password and is
# reachable over the local socket only (peer); roles and databases are made from outside.
set -eu

config=${GROUNDWORK_CONFIG:-/etc/groundwork}

if [ ! -d "$PGDATA" ]; then
    # initdb writes PG_VERSION early, so a killed one looks finished: it works in a folder of another
    # name, and the rename is what makes a cluster.
    rm -rf "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username=postgres --data-checksums \
        --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256 --no-instructions
    mv "$PGDATA.new" "$PGDATA"
fi

exec postgres -D "$PGDATA" \
    -c config_file="$config/postgresql.conf" -c hba_file="$config/pg_hba.conf"
