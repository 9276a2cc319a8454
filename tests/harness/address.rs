//! Addresses that no other test uses: each one has a loopback address of its own.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// A free address in a part of 127.0.0.0/8 that only this process and this call use. The port stays free until a
/// program takes it, and can be taken again after that program was killed.
pub fn free_address() -> SocketAddr {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    // Process ids have at most 22 bits; the low 16 differ among tests that run together.
    let [.., high, low] = std::process::id().to_be_bytes();
    let ip = IpAddr::V4(Ipv4Addr::new(127, high | 1, low, u8::try_from(count % 250).unwrap_or_default() + 2));
    let listener = TcpListener::bind((ip, 0)).expect("a loopback address");
    listener.local_addr().expect("a bound address")
}
