//! A wide-area link between two network namespaces, with a delay, a rate, loss and a queue that overflows. All of them
//! can be changed while it runs.
//!
//! It consists of two TUN devices and a thread between them, since many kernels have no netem.

mod forward;
mod pipe;

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    thread::JoinHandle,
};

use tun_rs::{DeviceBuilder, SyncDevice};

use self::forward::Forwarder;
pub use self::pipe::{Counts, Settings};
use crate::{namespaces::Namespaces, process::skip};

/// The relay's address, one of those for documentation (RFC 5737).
pub const RELAY: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1));
/// The site's address.
pub const SITE: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 2));

/// How many packets may wait in a device for the thread: more than any sender has in flight, so that the only queue
/// that overflows is the one of [`Settings`].
const DEVICE_QUEUE: u32 = 20_000;

/// Moves each device to its side. IPv6 is turned off, since its packets would be lost and counted with the others.
const SETUP: &str = "
for side in $relay $site; do ip netns exec $side sh -c 'echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6'; done
ip link set ${id}r netns $relay name wan
ip link set ${id}s netns $site name wan
ip -n $relay addr add 198.51.100.1/24 dev wan
ip -n $site addr add 198.51.100.2/24 dev wan
for side in $relay $site; do ip -n $side link set wan up; done
";

/// The direction of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the site to the relay: recordings.
    Up,
    /// From the relay to the site: requests.
    Down,
}

/// The link with its two namespaces. They are removed when this is dropped.
#[derive(Debug)]
pub struct WanLink {
    forwarder: Arc<Forwarder>,
    thread: Option<JoinHandle<()>>,
    namespaces: Namespaces,
}

impl WanLink {
    /// Makes a link and moves this thread, with every thread and program that it starts from now on, to the relay's
    /// side. `None`, recorded as skipped, if that is not possible here.
    pub fn enter(up: Settings, down: Settings) -> Option<Self> {
        let namespaces = Namespaces::make(&["relay", "site"], "")?;
        let devices = device(&namespaces, "r").and_then(|relay| Ok([relay, device(&namespaces, "s")?]));
        let devices = match devices {
            Ok(devices) => devices,
            Err(error) => {
                skip(&format!("tests over an emulated network: this machine has no TUN device ({error})"));
                return None;
            }
        };
        namespaces.run(SETUP).unwrap_or_else(|why| panic!("the devices cannot be set up: {why}"));
        let forwarder = Arc::new(Forwarder::new(devices, [down, up]));
        let running = Arc::clone(&forwarder);
        let thread = std::thread::Builder::new().name("link".to_owned()).spawn(move || running.run());
        namespaces.side("relay").enter();
        Some(Self { forwarder, thread: Some(thread.expect("a thread")), namespaces })
    }

    /// Changes the settings of one direction, from the next packet on.
    pub fn set(&self, direction: Direction, settings: Settings) {
        self.forwarder.pipe(direction).set(settings);
    }

    /// Changes some settings of one direction, from the next packet on.
    pub fn change(&self, direction: Direction, change: impl FnOnce(&mut Settings)) {
        let mut pipe = self.forwarder.pipe(direction);
        let mut settings = pipe.settings();
        change(&mut settings);
        pipe.set(settings);
    }

    /// The counts of the packets in one direction.
    pub fn counts(&self, direction: Direction) -> Counts {
        self.forwarder.pipe(direction).counts()
    }

    /// The namespace of the site.
    pub fn site(&self) -> String {
        self.namespaces.name("site")
    }

    /// Runs `work` on a thread in the site's namespace.
    pub fn at_site<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let side = self.namespaces.side("site");
        std::thread::spawn(move || {
            side.enter();
            work()
        })
    }

    /// Runs a shell command in which `$relay` and `$site` are the namespaces. Returns its standard output.
    pub fn sh(&self, line: &str) -> String {
        self.namespaces.run(line).unwrap_or_else(|why| panic!("{line}: {why}"))
    }
}

impl Drop for WanLink {
    fn drop(&mut self) {
        self.forwarder.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn device(namespaces: &Namespaces, side: &str) -> std::io::Result<SyncDevice> {
    let name = format!("{}{side}", namespaces.id);
    let device = DeviceBuilder::new().name(name).mtu(1500).tx_queue_len(DEVICE_QUEUE).enable(false);
    let device = device.build_sync()?;
    device.set_nonblocking(true)?;
    Ok(device)
}
