#!/bin/bash
# The first process of a machine: makes the file system its own, runs the user data, and becomes the SSH server.
# Arguments: the machine's name, its address, the folder that is its disk, then what it sees of the host in any case.
set -eu
name=$1 address=$2 disk=$3
shift 3
hostname "$name"

# Its own folders cover the host's; what lies below them and must be seen all the same is brought in first.
for path in "$@"; do
    for own in root run tmp; do
        case "$path" in "/$own"/*)
            mkdir -p "$disk$path"
            mount --rbind "$path" "$disk$path"
            ;;
        esac
    done
done
cd "$disk"
for own in root run tmp; do mount --no-canonicalize --rbind "$own" "/$own"; done
mount -t tmpfs tmpfs /dev/shm
mount -o remount,bind,ro / # all else is the host's, and stays as it is

printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >/run/hosts
echo 'nameserver 127.0.0.1' >/run/resolv.conf # nobody answers there, which is heard at once
for file in hosts resolv.conf; do
    covered=$(readlink --canonicalize-missing "/etc/$file") # a link into /run, on some hosts
    mkdir -p "$(dirname "$covered")"
    [ -e "$covered" ] || touch "$covered"
    [ "$covered" = "/run/$file" ] || mount --bind "/run/$file" "$covered"
done

cd /root
if [ -e /run/user-data ]; then /run/user-data & fi
touch /run/booted
exec /usr/sbin/sshd -D -e -f /dev/null -h /run/host-key -o PermitRootLogin=yes -o StrictModes=no -o UsePAM=no \
    -o PidFile=none -o MaxStartups=100 -o MaxSessions=100 -o UseDNS=no
