"""Connections to a server in a container without a network, from a port on 127.0.0.1.

Such a server reaches no other server, no service of this machine and no DNS, whatever SQL it runs. A second container,
the relay, passes connections from its port to the server's socket, which is in a volume of both.
"""

from __future__ import annotations

import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from infra.docker.engine import CONFINED, DockerError, docker
from infra.docker_command import DOCKER_OVERRIDES

_START_SECONDS = 120.0
# Perl, because every image has it: it is part of Debian's minimal installation. A connection has a process for each
# direction, so that neither waits for the other. The relay's own standard input is its leash.
_RELAY = r"""
use strict; use Socket qw(IPPROTO_TCP TCP_NODELAY); use IO::Socket::INET; use IO::Socket::UNIX;
my ($port, $path) = @ARGV;
$SIG{CHLD} = 'IGNORE';
my $listener = IO::Socket::INET->new(LocalPort => $port, Listen => 128, ReuseAddr => 1) or die "cannot listen: $!\n";
syswrite STDOUT, "ready\n";
while (1) {
    my $waiting = '';
    vec($waiting, fileno($_), 1) = 1 for \*STDIN, $listener;
    next if select($waiting, undef, undef, undef) < 1;
    exit if vec($waiting, fileno(STDIN), 1) && !sysread(STDIN, my $ignored, 4096);
    next unless vec($waiting, fileno($listener), 1);
    my $client = $listener->accept or next;
    my $child = fork;
    next if !defined $child || $child;
    close $listener; close STDIN;
    my $server = IO::Socket::UNIX->new(Peer => $path) or exit;
    setsockopt $client, IPPROTO_TCP, TCP_NODELAY, 1;
    my $other = fork // exit;
    my ($from, $to) = $other ? ($server, $client) : ($client, $server);
    while (sysread $from, my $data, 65536) {
        my $sent = 0;
        while ($sent < length $data) {
            $sent += syswrite($to, $data, length($data) - $sent, $sent) // exit;
        }
    }
    shutdown $to, 1;
    exit;
}
"""


def socket_volume(folder: str, *options: str) -> list[str]:
    """Return Docker's options for a server's container: a volume in memory for the sockets in `folder`.

    `options` are of mount(8). The volume has no name, so that it is removed with the containers, and only they have it.
    """
    volume = (
        f"type=volume,destination={folder},volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs"
    )
    # Docker separates the parts of a mount by commas, as CSV does.
    return ["--mount", f'{volume},"volume-opt=o={",".join(("size=1m", *options))}"']


@contextmanager
def relay(server: str, image: str, socket: str, port: int, labels: Sequence[str]) -> Iterator[int]:
    """Relay connections to a socket of the container `server` during the block. Yield the port on 127.0.0.1.

    `image` has Perl, `port` is the relay's own in its container, and `labels` are Docker's options for its labels.
    Raise DockerError if the relay does not start. It has nothing to do with the server until a client connects.
    """
    name = f"{server}-relay"
    command = [
        *("docker", "run", "--interactive", "--rm", "--init", "--name", name, *labels, *CONFINED),
        *("--memory", "256m", "--volumes-from", f"{server}:ro", "--publish", f"127.0.0.1::{port}"),
        *("--entrypoint", "perl", image, "-e", _RELAY, str(port), socket),
    ]
    with (
        tempfile.TemporaryFile() as errors,
        # In a separate session, so that Ctrl-C in the terminal does not end it.
        subprocess.Popen(
            command,
            env=os.environ | DOCKER_OVERRIDES,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], _START_SECONDS)
            if not ready or not process.stdout.readline():
                errors.seek(0)
                reason = errors.read().decode(errors="replace").strip()
                raise DockerError(
                    f"the relay {name} did not start: {reason or f'no answer within {_START_SECONDS:.0f} s'}"
                )
            yield int(docker("port", name).rsplit(":", 1)[1])
        finally:
            # The relay ends at the end of its input, but only if it has started.
            with suppress(DockerError):
                docker("rm", "--force", "--volumes", name)
            process.kill()
            process.communicate()
