#!/bin/bash
# The first process of a machine: makes the file system its own, runs the user data, and becomes the SSH server.
# Arguments: the machine's name, its address, the folder that is its disk, then what it sees of the host in any case.
set -eu
name=$1 address=$2 disk=$3
shift 3
hostname "$name"

# Its own folders cover the host's; what lies below them and must be seen all the same is brought in first.
folders=()
for own in etc root run tmp var/lib/containers var/log var/tmp; do
    if [ -d "/$own" ]; then folders+=("$own"); fi
done
for path in "$@"; do
    for own in "${folders[@]}"; do
        case "$path" in "/$own"/*)
            mkdir -p "$disk$path"
            mount --rbind "$path" "$disk$path"
            ;;
        esac
    done
done
# Its containers are its own; the images that this host has are there too.
if [ -d /var/lib/containers/storage ]; then
    mkdir -p "$disk/run/images"
    mount --bind -o ro /var/lib/containers/storage "$disk/run/images"
fi
cd "$disk"
mkdir -p "${folders[@]}"
mount -t tmpfs tmpfs "$disk/etc" # so many small files are slow to remove from a disk
cp -a /etc/. etc
for own in "${folders[@]}"; do mount --no-canonicalize --rbind "$own" "/$own"; done
chmod 1777 /tmp /var/tmp
mount -t tmpfs tmpfs /dev/shm
mount -o remount,bind,ro / # all else is the host's, and stays as it is

printf '127.0.0.1 localhost\n%s %s\n' "$address" "$name" >/etc/hosts
cat /run/hosts >>/etc/hosts
rm -f /etc/resolv.conf # a link, on some hosts
echo 'nameserver 127.0.0.1' >/etc/resolv.conf # nobody answers there, which is heard at once
mkdir -p /etc/containers
cat >/etc/containers/storage.conf <<END
[storage]
driver = "overlay"
graphroot = "/var/lib/containers/storage"
runroot = "/run/containers/storage"
[storage.options]
additionalimagestores = [$([ ! -d /run/images ] || echo '"/run/images"')]
END

# Whoever switches it off ends its first process, and all others with it.
mkdir -p /run/bin
cat >/run/bin/shutdown <<'END'
#!/bin/bash
touch /run/off
kill -TERM 1
END
chmod +x /run/bin/shutdown

cd /root
if [ -e /run/user-data ]; then /run/user-data & fi
touch /run/booted
exec /usr/sbin/sshd -D -e -f /dev/null -h /run/host-key -o PermitRootLogin=yes -o StrictModes=no -o UsePAM=no \
    -o PidFile=none -o MaxStartups=100 -o MaxSessions=100 -o UseDNS=no
