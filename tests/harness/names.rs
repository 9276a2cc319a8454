//! Host names that only some programs know: an `/etc/hosts` and an `/etc/resolv.conf` of their own, in a mount
//! namespace, and a name server whose responses change.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    address::free_address,
    process::{Process, installed, skip},
};

/// Mounts the two files for this program alone, and then executes the program.
const ENTER: &str =
    r#"mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@""#;

/// The host names that some programs see.
#[derive(Debug)]
pub struct Names {
    dir: TempDir,
}

impl Names {
    /// Host names from an `/etc/hosts` with these lines, and from a name server if one is given. `None`, recorded as
    /// skipped, if files cannot be mounted.
    pub fn new(hosts: &str, server: Option<&NameServer>) -> Option<Self> {
        let allowed =
            std::process::Command::new("unshare").args(["-m", "mount", "--bind", "/etc", "/etc"]).output();
        if !allowed.is_ok_and(|output| output.status.success()) {
            skip("tests with host names of their own: only root may mount files, and not in every container");
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        // Without a name server, the resolver is at an address where nothing responds.
        let conf = server.map_or_else(|| resolv_conf(free_address().ip()), NameServer::resolv_conf);
        std::fs::write(dir.path().join("hosts"), hosts).expect("a file");
        std::fs::write(dir.path().join("resolv.conf"), conf).expect("a file");
        Some(Self { dir })
    }

    /// The words to put before a command line so that its program sees these host names.
    pub fn enter(&self) -> Vec<String> {
        let file = |name: &str| self.dir.path().join(name).display().to_string();
        let mut words = ["unshare", "-m", "sh", "-c", ENTER, "enter"].map(str::to_owned).to_vec();
        words.extend([file("hosts"), file("resolv.conf")]);
        words
    }

    /// Starts a program that sees these host names.
    pub fn start(&self, program: &Path, arguments: &[String], environment: &[(&str, String)]) -> Process {
        let mut all = self.enter().split_off(1);
        all.push(program.display().to_string());
        all.extend_from_slice(arguments);
        Process::start_program("unshare".as_ref(), &all, environment)
    }
}

/// A name server that knows one name. Its responses may be cached for an hour.
#[derive(Debug)]
pub struct NameServer {
    address: IpAddr,
    name: String,
    hosts: PathBuf,
    /// The program. It logs every query.
    pub process: Process,
    _dir: TempDir,
}

impl NameServer {
    /// Starts a name server. `None`, recorded as skipped, if dnsmasq is not installed or may not listen on port 53.
    pub async fn start(name: &str, address: IpAddr) -> Option<Self> {
        if !installed("dnsmasq") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let own = free_address().ip();
        if std::net::UdpSocket::bind(SocketAddr::new(own, 53)).is_err() {
            skip("tests with a name server: only root may listen on port 53");
            return None;
        }
        let hosts = dir.path().join("hosts");
        std::fs::write(&hosts, format!("{address} {name}\n")).expect("a file");
        let arguments = [
            "--keep-in-foreground",
            "--log-facility=-",
            "--log-queries",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--no-resolv",
            "--no-hosts",
            // All other names do not exist.
            "--local=/#/",
            "--bind-interfaces",
            "--local-ttl=3600",
            &format!("--listen-address={own}"),
            &format!("--addn-hosts={}", hosts.display()),
        ]
        .map(str::to_owned);
        let process = Process::start_program("/usr/sbin/dnsmasq".as_ref(), &arguments, &[]);
        process.wait_for(&format!("read {}", hosts.display())).await;
        Some(Self { address: own, name: name.to_owned(), hosts, process, _dir: dir })
    }

    /// The `/etc/resolv.conf` of programs that use this name server.
    pub fn resolv_conf(&self) -> String {
        resolv_conf(self.address)
    }

    /// Changes the address of the name.
    pub async fn moves_to(&self, address: IpAddr) {
        std::fs::write(&self.hosts, format!("{address} {}\n", self.name)).expect("a file");
        let mark = self.process.mark();
        self.process.signal("HUP");
        self.process.wait_for_after(mark, &format!("read {}", self.hosts.display())).await;
    }
}

fn resolv_conf(server: IpAddr) -> String {
    format!("nameserver {server}\noptions timeout:1 attempts:1\n")
}
