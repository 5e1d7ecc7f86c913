#!/bin/sh
# Makes the cluster on the first start, then becomes the server. The superuser has no password and is
# reachable over the local socket only (peer); roles and databases are made from outside.
set -eu

config=${GROUNDWORK_CONFIG:-/etc/groundwork}

if [ -e "$PGDATA.before-restore" ]; then
    # A server started now would write into data that a restore may still throw away, or make a new, empty
    # cluster where the data's folder is just being exchanged.
    echo "a restore was interrupted: run \`groundwork restore\` again, or \`groundwork restore --abandon\`" >&2
    exit 1
fi

if [ ! -d "$PGDATA" ]; then
    # initdb writes PG_VERSION early, so a killed one looks finished: it works in a folder of another
    # name, and the rename is what makes a cluster.
    rm -rf "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username=postgres --data-checksums \
        --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256 --no-instructions
    mv "$PGDATA.new" "$PGDATA"
fi

repository=/var/lib/pgbackrest
if [ -e "$config/pgbackrest.conf" ] \
    && ! { [ -e "$repository/archive/groundwork/archive.info" ] && [ -e "$repository/backup/groundwork/backup.info" ]; }; then
    # Archiving waits for this, and the server does not: without a repository it still serves.
    pgbackrest --config="$config/pgbackrest.conf" --stanza=groundwork --no-online stanza-create >&2 \
        || echo "the backup repository could not be made; WAL is kept until it can be" >&2
fi

exec postgres -D "$PGDATA" \
    -c config_file="$config/postgresql.conf" -c hba_file="$config/pg_hba.conf"
