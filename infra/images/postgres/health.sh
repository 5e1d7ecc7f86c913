#!/bin/sh
# Exits 0 if the server accepts connections. The first success also makes the server reload its configuration.
#
# A checkpointer that starts before recovery has ended assumes that there is nothing to archive and sleeps for
# checkpoint_timeout, so archive_timeout would only take effect after five minutes. A reload wakes it.
set -- pg_isready --host=/run/postgresql --timeout=3
woken=/tmp/archiver-woken
[ ! -e "$woken" ] || exec "$@"
"$@" || exit
read -r pid _ < "$PGDATA/postmaster.pid" && kill -HUP "$pid" && : > "$woken"
