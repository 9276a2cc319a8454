# Boots systemd on a copy of this machine that lives in memory: in namespaces of its own, with control groups of its
# own, and with nothing enabled. Arguments: an empty directory, a program to put into /root, a name for the control group.
set -eu
work=$1 program=$2 group=$3

if [ "${4:-}" != inside ]; then
  for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/systemd /sys/fs/cgroup/unified; do
    if [ -e "$hierarchy/cgroup.procs" ]; then
      mkdir "$hierarchy/$group"
      echo $$ >"$hierarchy/$group/cgroup.procs"
    fi
  done
  exec unshare --mount --pid --fork --uts --ipc --cgroup --kill-child=KILL sh "$0" "$work" "$program" "$group" inside
fi

mount -t tmpfs tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$work/upper,workdir=$work/work" "$work/root"
root=$work/root
rm -rf "$root"/etc/systemd/system/*.wants "$root"/lib/systemd/system/*.wants
cp "$program" "$root/root/"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
if [ -e /sys/fs/cgroup/cgroup.procs ]; then
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
  mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
  mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
  mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified"
fi
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev"
mkdir "$root/dev/shm" "$root/dev/pts"
for device in null zero full random urandom tty; do
  touch "$root/dev/$device"
  mount --bind "/dev/$device" "$root/dev/$device"
done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mkdir "$root/dev/mqueue" "$root/dev/hugepages"
mount -t mqueue mqueue "$root/dev/mqueue"

cd "$root"
mkdir -p .before
pivot_root . .before
umount -l /.before
exec env -i container=docker PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --unit=basic.target --log-target=null
