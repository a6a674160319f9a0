#!/bin/bash
# The first process of a board of its own: its namespaces were just made. Sets up what docs/install.md asks for, and
# becomes systemd, which knows no units but ours and a few empty targets.
# Arguments: folder for what the board writes, source tree, folder of Python, its program, folder of packages.
set -e
work=$1 source=$2 python=$3 program=$4 packages=$5

mount --make-rprivate /
mount -t proc proc /proc
ip link set lo up
mount -t tmpfs tmpfs "$work"
for folder in etc var opt; do
    mkdir -p "$work/$folder/upper" "$work/$folder/work"
    mount -t overlay overlay -o "lowerdir=/$folder,upperdir=$work/$folder/upper,workdir=$work/$folder/work" "/$folder"
done

# ProtectHome and PrivateTmp hide a Python or a source tree that lies in a home or in /tmp.
mkdir -p /opt/headway/bin /opt/headway/source /opt/headway/python /opt/headway/packages
mount --bind "$source" /opt/headway/source
mount --bind "$python" /opt/headway/python
mount --bind "$packages" /opt/headway/packages
cat > /opt/headway/bin/headway << END
#!/bin/sh
export PYTHONHOME=/opt/headway/python PYTHONPATH=/opt/headway/source:/opt/headway/packages PYTHONDONTWRITEBYTECODE=1
export LD_LIBRARY_PATH=/opt/headway/python/lib
exec /opt/headway/python/$program -c "import sys; from runtime.cli.main import main; sys.exit(main())" "\$@"
END
chmod 755 /opt/headway/bin/headway

mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /tmp
umount -l /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup

units=/run/systemd/system
mkdir -p $units/service.d
cp /opt/headway/source/packaging/systemd/*.service $units/
printf '[Service]\nStandardOutput=append:/var/log/headway.log\n' > $units/service.d/log.conf
for target in board basic sysinit multi-user shutdown network network-online rescue emergency; do
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $target > $units/$target.target
done
systemd-sysusers /opt/headway/source/packaging/sysusers.d/headway.conf
systemd-tmpfiles --create /opt/headway/source/packaging/tmpfiles.d/headway.conf
cp -r /opt/headway/source/carla_bridge/models/driving /var/lib/headway/models/
printf '[serve]\nrepository = "/var/lib/headway/models"\n' > /etc/headway/headway.toml
chgrp headway /etc/headway/headway.toml

export container=headway SYSTEMD_UNIT_PATH=$units SYSTEMD_GENERATOR_PATH=/nowhere
echo prepared
exec /lib/systemd/systemd --system --unit=board.target --show-status=no < /dev/null > /dev/null 2>&1
