#!/bin/sh
# Healthy is a server that takes connections. The first time, it is told to read its configuration again.
#
# A checkpointer that began while the startup process was still at work believes that there is nothing to
# archive by the clock, and sleeps for checkpoint_timeout: archive_timeout would hold after five minutes only.
# A reload wakes it.
pg_isready --quiet --host=/run/postgresql || exit 1
[ -e /tmp/archiver-woken ] || { kill -HUP 1 && : > /tmp/archiver-woken; }
