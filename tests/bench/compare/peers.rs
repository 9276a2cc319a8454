//! Other tunnels, each configured as its own manual says, in front of nginx or of the classic AudioVault. Those that are
//! not on the PATH are skipped.

use std::{
    fs::{self, Permissions},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{address::free_address, process::Process, relay::Certificate};
use tempfile::TempDir;

use crate::{
    compare::{
        contender::{Contender, Kept, Role, programs},
        figures::Used,
        files::Size,
    },
    pair::offers,
};

/// How long a peer may take until it offers the origin.
const START: Duration = Duration::from_secs(20);

/// Starts every peer that is installed, in front of nginx.
pub(crate) async fn start_all(origin: &Contender, wanted: impl Fn(&str) -> bool) -> Vec<Contender> {
    let mut running = Vec::new();
    for peer in PEERS.iter().filter(|peer| wanted(peer.name)) {
        let role = Role::Peer { encrypted: peer.encrypted };
        running.extend(run(peer, peer.name.to_owned(), role, origin).await);
    }
    running
}

/// Starts the encrypted peers and the fastest of the others, in front of the classic AudioVault.
pub(crate) async fn start_with_serve(serve: &Contender, wanted: impl Fn(&str) -> bool) -> Vec<Contender> {
    let mut running = Vec::new();
    for peer in PEERS.iter().filter(|peer| peer.encrypted || peer.name == FASTEST_UNENCRYPTED) {
        let name = format!("`serve` behind {}", peer.name);
        if wanted(&name) {
            running.extend(run(peer, name, Role::ServeBehind { encrypted: peer.encrypted }, serve).await);
        }
    }
    running
}

/// Starts a peer; `None` if it is not installed.
async fn run(peer: &Peer, name: String, role: Role, behind: &Contender) -> Option<Contender> {
    let Some(found) = peer.programs.iter().map(|name| find(name)).collect::<Option<Vec<_>>>() else {
        eprintln!("{name}: not on the PATH, skipped");
        return None;
    };
    let dir = TempDir::new().unwrap();
    let mut control = free_address();
    control.set_port(peer.control_port.unwrap_or(control.port()));
    let origin = behind.target(Size::Small, 0).address;
    let place = Place { dir: dir.path(), origin, control, public: free_address() };
    let [server, client] = (peer.commands)(&place);
    let server = start(&found[0], &server);
    offers(control, START).await.unwrap_or_else(|| panic!("{name}: {:#?}", server.log()));
    let client = start(found.last().unwrap_or(&found[0]), &client);
    let public = (peer.public)(&place);
    let is_up = offers(public, START).await;
    is_up.unwrap_or_else(|| panic!("{name}: {:#?}", [server.log(), client.log()]));
    let programs = Used { origin: behind.programs.server.clone(), ..programs(&server, Some(&client)) };
    let kept: Kept = vec![Box::new([server, client]), Box::new(dir)];
    Some(Contender::in_front(name, role, public, programs, behind, kept).await)
}

/// The addresses of a peer's programs.
struct Place<'a> {
    dir: &'a Path,
    /// The web server.
    origin: SocketAddr,
    /// Where its server waits for its client.
    control: SocketAddr,
    /// Where its server offers the origin.
    public: SocketAddr,
}

impl Place<'_> {
    fn file(&self, name: &str, content: &str) -> String {
        let path = self.dir.join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn certificate(&self) -> Certificate {
        Certificate::make(self.dir, &["localhost", &self.control.ip().to_string()])
    }
}

struct Peer {
    name: &'static str,
    encrypted: bool,
    /// The programs of its server and of its client, if these are two.
    programs: &'static [&'static str],
    /// The port of its server, if it cannot be chosen.
    control_port: Option<u16>,
    /// The arguments of its server and of its client.
    commands: fn(&Place<'_>) -> [Vec<String>; 2],
    /// The address of the origin through the tunnel.
    public: fn(&Place<'_>) -> SocketAddr,
}

const FASTEST_UNENCRYPTED: &str = "wstunnel `ws`";

const PEERS: [Peer; 9] = [
    peer("wstunnel `wss`", true, &["wstunnel"], wstunnel_wss),
    peer(FASTEST_UNENCRYPTED, false, &["wstunnel"], wstunnel_ws),
    peer("rathole TCP", false, &["rathole"], rathole_tcp),
    peer("rathole TLS in WebSocket", true, &["rathole"], rathole_wss),
    peer("rathole Noise", true, &["rathole"], rathole_noise),
    Peer { control_port: Some(7835), ..peer("bore", false, &["bore"], bore) },
    Peer { public: on_loopback, ..peer("`ssh -R`", true, &["sshd", "ssh"], ssh) },
    peer("frp (mux, TLS)", true, &["frps", "frpc"], frp),
    peer("chisel", true, &["chisel"], chisel),
];

const fn peer(
    name: &'static str,
    encrypted: bool,
    programs: &'static [&'static str],
    commands: fn(&Place<'_>) -> [Vec<String>; 2],
) -> Peer {
    Peer { name, encrypted, programs, control_port: None, commands, public }
}

fn public(place: &Place<'_>) -> SocketAddr {
    place.public
}

/// OpenSSH offers ports on the loopback address unless the server's configuration lets clients choose.
fn on_loopback(place: &Place<'_>) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], place.public.port()))
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(str::to_owned).collect()
}

fn wstunnel(place: &Place<'_>, scheme: &str, server: &str) -> [Vec<String>; 2] {
    let Place { origin, control, public, .. } = place;
    [
        words(&format!("server --log-lvl ERROR {server} {scheme}://{control}")),
        words(&format!("client --log-lvl ERROR -R tcp://{public}:{origin} {scheme}://{control}")),
    ]
}

fn wstunnel_wss(place: &Place<'_>) -> [Vec<String>; 2] {
    let Certificate { certificate, key, .. } = place.certificate();
    let server = format!("--tls-certificate {} --tls-private-key {}", certificate.display(), key.display());
    wstunnel(place, "wss", &server)
}

fn wstunnel_ws(place: &Place<'_>) -> [Vec<String>; 2] {
    wstunnel(place, "ws", "")
}

fn rathole(place: &Place<'_>, [server, client]: [&str; 2]) -> [Vec<String>; 2] {
    let Place { origin, control, public, .. } = place;
    let server = format!(
        "[server]\nbind_addr = \"{control}\"\ndefault_token = \"compare\"\n{server}\n\
         [server.services.files]\nbind_addr = \"{public}\"\n"
    );
    let client = format!(
        "[client]\nremote_addr = \"{control}\"\ndefault_token = \"compare\"\n{client}\n\
         [client.services.files]\nlocal_addr = \"{origin}\"\n"
    );
    [
        vec!["--server".to_owned(), place.file("server.toml", &server)],
        vec!["--client".to_owned(), place.file("client.toml", &client)],
    ]
}

fn rathole_tcp(place: &Place<'_>) -> [Vec<String>; 2] {
    rathole(place, ["", ""])
}

fn rathole_wss(place: &Place<'_>) -> [Vec<String>; 2] {
    let Certificate { certificate, key, .. } = place.certificate();
    let identity = place.dir.join("identity.pfx");
    let made = Command::new("openssl")
        .args(["pkcs12", "-export", "-passout", "pass:compare", "-out"])
        .args([&identity, Path::new("-inkey"), &key, Path::new("-in"), &certificate])
        .status();
    assert!(made.unwrap().success(), "openssl makes the file for rathole");
    let server = format!(
        "[server.transport]\ntype = \"websocket\"\n[server.transport.tls]\npkcs12 = \"{}\"\n\
         pkcs12_password = \"compare\"\n[server.transport.websocket]\ntls = true\n",
        identity.display()
    );
    let client = format!(
        "[client.transport]\ntype = \"websocket\"\n[client.transport.tls]\ntrusted_root = \"{}\"\n\
         hostname = \"localhost\"\n[client.transport.websocket]\ntls = true\n",
        certificate.display()
    );
    rathole(place, [&server, &client])
}

fn rathole_noise(place: &Place<'_>) -> [Vec<String>; 2] {
    let generated = Command::new(find("rathole").unwrap_or_default()).arg("--genkey").output().unwrap();
    let generated = String::from_utf8_lossy(&generated.stdout).into_owned();
    let key = |name: &str| {
        let after = generated.lines().skip_while(|line| !line.starts_with(name)).nth(1);
        after.unwrap_or_default().trim().to_owned()
    };
    let server = format!(
        "[server.transport]\ntype = \"noise\"\n[server.transport.noise]\nlocal_private_key = \"{}\"\n",
        key("Private Key")
    );
    let client = format!(
        "[client.transport]\ntype = \"noise\"\n[client.transport.noise]\nremote_public_key = \"{}\"\n",
        key("Public Key")
    );
    rathole(place, [&server, &client])
}

fn bore(place: &Place<'_>) -> [Vec<String>; 2] {
    let Place { origin, control, public, .. } = place;
    let at = control.ip();
    [
        words(&format!("server --bind-addr {at} --bind-tunnels {}", public.ip())),
        words(&format!(
            "local {} --local-host {} --to {at} --port {}",
            origin.port(),
            origin.ip(),
            public.port()
        )),
    ]
}

fn ssh(place: &Place<'_>) -> [Vec<String>; 2] {
    let Place { origin, control, public, dir } = place;
    for name in ["host", "client"] {
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f"])
            .arg(dir.join(name))
            .status();
        assert!(made.unwrap().success(), "ssh-keygen makes a key");
    }
    let authorized = dir.join("client.pub");
    fs::set_permissions(&authorized, Permissions::from_mode(0o600)).unwrap();
    // Privilege separation needs its directory, which the service of the system makes at boot.
    let _ = fs::create_dir_all("/run/sshd");
    let config = format!(
        "ListenAddress {control}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
         PermitRootLogin yes\nPidFile none\nLogLevel INFO\n",
        dir.join("host").display(),
        authorized.display()
    );
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    [
        words(&format!("-D -e -f {}", place.file("sshd_config", &config))),
        words(&format!(
            "-N -p {} -i {} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o ExitOnForwardFailure=yes -R {}:{origin} {user}@{}",
            control.port(),
            dir.join("client").display(),
            public.port(),
            control.ip()
        )),
    ]
}

fn frp(place: &Place<'_>) -> [Vec<String>; 2] {
    let Place { origin, control, public, .. } = place;
    let server = format!(
        "bindAddr = \"{}\"\nbindPort = {}\nproxyBindAddr = \"{}\"\nlog.level = \"error\"\n",
        control.ip(),
        control.port(),
        public.ip()
    );
    let client = format!(
        "serverAddr = \"{}\"\nserverPort = {}\nlog.level = \"error\"\n[[proxies]]\nname = \"files\"\n\
         type = \"tcp\"\nlocalIP = \"{}\"\nlocalPort = {}\nremotePort = {}\n",
        control.ip(),
        control.port(),
        origin.ip(),
        origin.port(),
        public.port()
    );
    [
        vec!["-c".to_owned(), place.file("frps.toml", &server)],
        vec!["-c".to_owned(), place.file("frpc.toml", &client)],
    ]
}

fn chisel(place: &Place<'_>) -> [Vec<String>; 2] {
    let Place { origin, control, public, .. } = place;
    let (host, port) = (control.ip(), control.port());
    [
        words(&format!("server --host {host} --port {port} --reverse")),
        words(&format!("client http://{control} R:{public}:{origin}")),
    ]
}

fn start(program: &Path, arguments: &[String]) -> Process {
    Process::start_program(program, arguments, &[("RUST_LOG", "error".to_owned())])
}

/// A program on the PATH, or in the directories of administrators' programs.
fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
    places.find_map(|dir| Some(dir.join(name)).filter(|path| path.is_file()))
}
