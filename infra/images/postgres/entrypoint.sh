#!/bin/sh
# Create the cluster on the first start, then run the server. The superuser has no password and can connect only over the
# local socket (peer authentication). The Pulumi program creates roles and databases.
set -eu

config=${GROUNDWORK_CONFIG:-/etc/groundwork}

if [ -e "$PGDATA.before-restore" ]; then
    # Do not start: the restore may still discard this data, or may just be replacing the data folder, and a start would
    # then create an empty cluster.
    echo "a restore was interrupted: run \`groundwork restore\` again, or \`groundwork restore --abandon\`" >&2
    exit 1
fi

if [ ! -d "$PGDATA" ]; then
    # initdb writes PG_VERSION early, so a killed initdb leaves a folder that looks complete. It therefore works in
    # another folder, which is renamed when it is complete.
    rm -rf "$PGDATA.new"
    initdb --pgdata="$PGDATA.new" --username=postgres --data-checksums \
        --encoding=UTF8 --locale=C.UTF-8 \
        --auth-local=peer --auth-host=scram-sha-256 --no-instructions
    mv "$PGDATA.new" "$PGDATA"
fi

repository=/var/lib/pgbackrest
# The configuration stays when backups are turned off. Then there is no volume, and nothing is archived.
has_repository() { [ -e "$config/pgbackrest.conf" ] && [ -w "$repository" ]; }

if has_repository \
    && ! { [ -e "$repository/archive/groundwork/archive.info" ] && [ -e "$repository/backup/groundwork/backup.info" ]; }; then
    # Archiving needs the repository. The server starts without one too.
    pgbackrest --config="$config/pgbackrest.conf" --stanza=groundwork --no-online stanza-create >&2 \
        || echo "cannot create the backup repository; WAL is kept until it exists" >&2
fi

if has_repository; then
    # A new repository lacks the history of a timeline that began before it, and backups and restores need the history.
    # Make Postgres archive the file again; pgBackRest accepts a file that it already has.
    for history in "$PGDATA"/pg_wal/*.history; do newest=$history; done
    # The server starts even if this fails, for example on a full disk.
    [ ! -e "$newest" ] || touch "$PGDATA/pg_wal/archive_status/${newest##*/}.ready" \
        || echo "cannot mark ${newest##*/} for archiving" >&2
fi

# A killed container leaves the server's lock file. Postgres refuses to start if an unrelated process, such as a health
# check, now has the process id in this file.
if read -r pid _ 2>/dev/null < "$PGDATA/postmaster.pid" && ! grep -qx postgres "/proc/$pid/comm" 2>/dev/null; then
    rm -f "$PGDATA/postmaster.pid"
fi

exec postgres -D "$PGDATA" \
    -c config_file="$config/postgresql.conf" -c hba_file="$config/pg_hba.conf"
