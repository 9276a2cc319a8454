//! The emulated network of other tests behaves as configured.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use harness::wan_link::{Counts, Direction, RELAY, SITE, Settings, WanLink};

const MS: Duration = Duration::from_millis(1);

/// Starts a program at the site that sends every datagram back. Returns its address.
fn echo(link: &WanLink) -> SocketAddr {
    let (sender, bound) = std::sync::mpsc::channel();
    link.at_site(move || {
        let socket = UdpSocket::bind((SITE, 0)).unwrap();
        sender.send(socket.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 1500];
        while let Ok((len, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..len], from);
        }
    });
    bound.recv().unwrap()
}

/// The shortest of many round trips: a busy machine makes the others longer. `None` if no response arrives.
fn round_trip(link: &WanLink) -> Option<Duration> {
    let (socket, to) = (UdpSocket::bind((RELAY, 0)).unwrap(), echo(link));
    socket.set_read_timeout(Some(400 * MS)).unwrap();
    let measured = (0..10).filter_map(|n| {
        let begun = Instant::now();
        socket.send_to(&[n], to).unwrap();
        socket.recv(&mut [0]).ok().map(|_| begun.elapsed())
    });
    measured.min()
}

/// Sends this much from the site to the relay over TCP. Returns bits per second.
fn rate(link: &WanLink, bytes: usize) -> f64 {
    let listener = TcpListener::bind((RELAY, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    let sending = link.at_site(move || TcpStream::connect(to).unwrap().write_all(&vec![7; bytes]).unwrap());
    let (mut stream, mut received, mut buffer) = (listener.accept().unwrap().0, 0, vec![0; 1 << 16]);
    let begun = Instant::now();
    loop {
        match stream.read(&mut buffer).unwrap() {
            0 => break,
            read => received += read,
        }
    }
    sending.join().unwrap();
    assert_eq!(received, bytes);
    8.0 * bytes as f64 / begun.elapsed().as_secs_f64()
}

#[test]
fn a_link_takes_its_time_and_carries_its_rate() {
    let up = Settings::new(40 * MS, 20_000_000);
    let Some(link) = WanLink::enter(up, Settings::new(40 * MS, 1_000_000_000)) else { return };
    let trip = round_trip(&link).unwrap();
    // A link is never faster than configured; a busy machine can make it slower.
    assert!((40 * MS..70 * MS).contains(&trip), "{trip:?}");
    // Headers take 52 of 1500 bytes, and the first round trips of TCP also need time.
    let fast = rate(&link, 4_000_000);
    assert!((8e6..20e6).contains(&fast), "{fast}");
    link.set(Direction::Up, Settings { rate: Some(4_000_000), ..up });
    let slow = rate(&link, 1_000_000);
    assert!((2e6..4e6).contains(&slow), "{slow}");
    link.change(Direction::Down, |settings| settings.delay = 70 * MS);
    let trip = round_trip(&link).unwrap();
    assert!((90 * MS..120 * MS).contains(&trip), "{trip:?}");
}

#[test]
fn a_link_loses_the_share_that_it_should_lose() {
    let lossy = Settings::default().losing(0.1);
    let Some(link) = WanLink::enter(lossy, Settings::default()) else { return };
    let to = UdpSocket::bind((RELAY, 0)).unwrap();
    let address = to.local_addr().unwrap();
    let sent = link.at_site(move || {
        let socket = UdpSocket::bind((SITE, 0)).unwrap();
        for n in 0..2_000u32 {
            socket.send_to(&n.to_be_bytes(), address).unwrap();
            if n % 50 == 0 {
                // The queues of devices and sockets would also lose some.
                std::thread::sleep(2 * MS);
            }
        }
    });
    to.set_read_timeout(Some(1_000 * MS)).unwrap();
    let received = std::iter::repeat_with(|| to.recv(&mut [0; 4])).take_while(Result::is_ok).count() as u64;
    sent.join().unwrap();
    let Counts { passed, lost, overflowed, cut } = link.counts(Direction::Up);
    assert_eq!((passed, passed + lost, overflowed + cut), (received, 2_000, 0));
    assert!((150..250).contains(&lost), "{lost}");
}

#[test]
fn a_link_that_is_down_lets_nothing_through_and_comes_back() {
    let Some(link) = WanLink::enter(Settings::default(), Settings::default()) else { return };
    assert!(round_trip(&link).is_some());
    for direction in [Direction::Up, Direction::Down] {
        link.change(direction, |settings| settings.down = true);
        assert_eq!(round_trip(&link), None, "{direction:?}");
        link.change(direction, |settings| settings.down = false);
        assert!(round_trip(&link).is_some(), "{direction:?}");
    }
}
