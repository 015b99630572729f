"""A network of machines on this one: each a network namespace, and in it a Debian that boots with cloud-init and systemd (systemd-nspawn), as an
instance of EC2 does; around them what stands for AWS. Everything ends with the test."""

import base64
import contextlib
import gzip
import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
TARGET = ROOT / "target"
CLOUD = TARGET / "cloud"
PYTHON = str(CLOUD / "bin" / "python")

# The file system of a machine: what Debian's image for EC2 has, and the packages that machines install, so that nothing is fetched while they boot.
SUITE = "trixie"
PACKAGES = "awscli ca-certificates cloud-init crun curl dbus e2fsprogs etcd-client etcd-server iproute2 jq nftables openssl podman procps systemd systemd-sysv".split()


def run(*command, check=True, **options):
    """Runs a command to its end; its output is in the error when it fails."""
    done = subprocess.run([str(part) for part in command], text=True, capture_output=True, timeout=options.pop("timeout", 300), **options)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def until(condition, what, within=120, every=0.5):
    """Waits for something that is true, or is not raised any more."""
    deadline = time.monotonic() + within
    while True:
        try:
            found = condition()
            problem = None
        except Exception as error:
            found, problem = None, error
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {within} s{'' if problem is None else f' ({problem})'}")
        time.sleep(every)


def machine_root():
    """The file system that machines begin with. Made once, for as long as what it has to have is the same."""
    root, made = CLOUD / "machine", CLOUD / "machine.made"
    wanted = " ".join([SUITE, *PACKAGES])
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(root, ignore_errors=True)
        keyring = pathlib.Path("/usr/share/keyrings/debian-archive-keyring.gpg")
        options = ["--keyring", keyring] if keyring.exists() else []
        run("mmdebstrap", "--quiet", "--variant=minbase", *options, f"--include={','.join(PACKAGES)}", SUITE, root, timeout=900)
        # Nothing that was installed is started by itself.
        for unit in ("etcd.service", "systemd-networkd.service", "systemd-networkd-wait-online.service", "systemd-resolved.service"):
            (root / "etc/systemd/system" / unit).unlink(missing_ok=True)
            (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
        (root / "etc/cloud/cloud.cfg.d/90-test.cfg").write_text("datasource_list: [NoCloud]\nnetwork: {config: disabled}\n")
        made.write_text(wanted)
    return root


def image_store(names):
    """The images of `target/images`, by the names that machines know them by: `{"edge-signal": "registry.example/…:tag", …}`."""
    store = CLOUD / "images"
    archives = [TARGET / "images" / f"{archive}.tar" for archive in names]
    wanted = json.dumps([[str(archive), archive.stat().st_mtime_ns, name] for archive, name in zip(archives, names.values())])
    made = CLOUD / "images.made"
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(store, ignore_errors=True)
        storage = ["--root", store, "--runroot", CLOUD / "images.run", "--storage-driver", "vfs"]
        for archive, name in zip(archives, names.values()):
            image = run("buildah", *storage, "pull", "--quiet", f"oci-archive:{archive}").stdout.strip()
            run("buildah", *storage, "tag", image, name)
        made.write_text(wanted)
    return store


class Network:
    """A flat network; `10.0.0.1` and `169.254.169.254` are this side of it, where AWS' stand-ins are."""

    def __init__(self):
        self.name = f"sl{os.getpid()}"
        self.stack = contextlib.ExitStack()
        self.directory = pathlib.Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="sl")))
        self.hosts, self.machines = {}, []
        self.stack.callback(self._remove)
        run("ip", "netns", "add", self.name)
        self.inside("ip", "link", "set", "lo", "up")
        self.inside("ip", "link", "add", "switch", "type", "bridge")
        for address in ("10.0.0.1/16", "198.51.100.1/24", "169.254.169.254/32"):
            self.inside("ip", "address", "add", address, "dev", "switch")
        self.inside("ip", "link", "set", "switch", "up")

    def _remove(self):
        run("ip", "netns", "delete", self.name, check=False)
        shutil.rmtree(f"/etc/netns/{self.name}", ignore_errors=True)

    def close(self):
        self.stack.close()

    def inside(self, *command, **options):
        return run("ip", "netns", "exec", self.name, *command, **options)

    def start(self, *command, log, namespace=None, **options):
        """Starts a program in the network, which ends with it."""
        output = open(self.directory / log, "ab")
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace or self.name, *map(str, command)], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **options
        )
        self.stack.callback(self._end, process)
        return process

    def _end(self, process):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 15)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()

    def name_hosts(self, hosts):
        """Names that all machines know, and programs on this side."""
        self.hosts |= hosts
        text = "127.0.0.1 localhost\n" + "".join(f"{address} {name}\n" for name, address in self.hosts.items())
        os.makedirs(f"/etc/netns/{self.name}", exist_ok=True)
        pathlib.Path(f"/etc/netns/{self.name}/hosts").write_text(text)
        return text

    def cable(self, name, *addresses):
        """A namespace with these addresses on the network."""
        namespace, index = f"{self.name}-{name}", len(self.machines)
        run("ip", "netns", "add", namespace)
        self.stack.callback(run, "ip", "netns", "delete", namespace, check=False)
        self.machines.append(namespace)
        there = lambda *command: run("ip", "netns", "exec", namespace, *command)
        run("ip", "-n", self.name, "link", "add", f"p{index}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self.inside("ip", "link", "set", f"p{index}", "master", "switch", "up")
        there("ip", "link", "set", "lo", "up")
        for address in addresses:
            there("ip", "address", "add", address, "dev", "eth0")
        there("ip", "link", "set", "eth0", "up")
        there("ip", "route", "add", "default", "via", "10.0.0.1")
        return namespace


class Machine:
    """A Debian of its own, in a namespace of the network."""

    def __init__(self, network, name, address, endpoint, images, public=None, binds=()):
        self.network, self.name, self.address = network, name, address
        addresses = [f"{address}/16"]
        self.namespace = network.cable(name, *addresses)
        if public:
            self._map(public)
        base = network.directory / name
        self.root = base / "root"
        for part in ("root", "upper", "work"):
            (base / part).mkdir(parents=True)
        run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir={machine_root()},upperdir={base / 'upper'},workdir={base / 'work'}", self.root)
        network.stack.callback(run, "umount", "--lazy", self.root, check=False)
        self.binds = [f"--bind-ro={images}:/srv/images", *binds]
        self.write("etc/hostname", f"ip-{address.replace('.', '-')}\n")
        self.write("etc/hosts", network.name_hosts({}))
        # As they are on EC2, but for where AWS is.
        self.write("etc/systemd/system.conf.d/test.conf", f"[Manager]\nDefaultEnvironment=AWS_ENDPOINT_URL={endpoint}\n")
        # What this sandbox has not: control groups that can be written, keyrings, more open files, a second layer of overlays.
        self.write("etc/containers/containers.conf", '[containers]\ncgroups = "disabled"\nkeyring = false\npids_limit = 0\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n[engine]\nevents_logger = "file"\n')
        self.write("etc/containers/storage.conf", '[storage]\ndriver = "vfs"\nrunroot = "/run/containers/storage"\ngraphroot = "/var/lib/containers/storage"\n[storage.options]\nadditionalimagestores = ["/srv/images"]\n')
        self.process = None

    def _map(self, public):
        """One-to-one NAT, as of an address that AWS gives an instance."""
        run("ip", "netns", "exec", self.namespace, "ip", "address", "add", f"{public}/24", "dev", "eth0")
        rules = f"""table ip nat {{
          chain arriving {{ type nat hook prerouting priority -100; ip daddr {public} dnat to {self.address}; }}
          chain leaving {{ type nat hook postrouting priority 100; }}
        }}"""
        run("ip", "netns", "exec", self.namespace, "nft", "-f", "-", input=rules)

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def _nspawn(self, *arguments):
        # In a control group of version 2, whatever this machine has.
        command = ["systemd-nspawn", "--quiet", "--directory", self.root, "--register=no", "--keep-unit", "--resolv-conf=off", f"--machine={self.name}"]
        environment = {**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
        command = [*command, f"--network-namespace-path=/run/netns/{self.namespace}", *self.binds, *arguments]
        output = open(self.network.directory / f"{self.name}.log", "ab")
        self.process = subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, start_new_session=True)
        self.network.stack.callback(self.network._end, self.process)

    def boot(self, user_data, instance):
        """Boots it with what Terraform rendered for an instance's user data."""
        seed = "var/lib/cloud/seed/nocloud"
        self.write(f"{seed}/user-data", gzip.decompress(base64.b64decode(user_data)).decode())
        self.write(f"{seed}/meta-data", json.dumps({"instance-id": instance, "local-hostname": f"ip-{self.address.replace('.', '-')}"}))
        self._nspawn("--boot")

    def contain(self, *command):
        """Runs a program in it, with no system around it."""
        self._nspawn("--as-pid2", "--console=pipe", *command)

    def inside(self, *command, **options):
        """Runs a command in the machine, which has booted."""
        leader = run("pgrep", "--parent", self.process.pid).stdout.split()[0]
        return run("nsenter", "--target", leader, "--mount", "--uts", "--ipc", "--pid", "--net", "--root", "--wd", *command, **options)

    def journal(self, lines=60):
        return self.inside("journalctl", "--no-pager", "--lines", lines, check=False).stdout

    def stop(self):
        self.network._end(self.process)
