//! Another implementation is the client: the buffers of rustls, driven by tokio-rustls.

use std::future::poll_fn;

use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::ServerName,
    version::{TLS12, TLS13},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::tls::tests::TestCertificate;

/// Bytes that the network holds in each direction: less than a record, so that every record comes in pieces.
const NETWORK_LEN: usize = 1000;
/// More than one read, and no multiple of anything.
const CONTENT_LEN: usize = 300_001;

type Versions = &'static [&'static SupportedProtocolVersion];

const OLD: Versions = &[&TLS12];
const NEW: Versions = &[&TLS13];

type Client = client::TlsStream<DuplexStream>;

struct Setting {
    certificate: TestCertificate,
    versions: Versions,
}

impl Setting {
    fn new(versions: Versions) -> Self {
        Self { certificate: TestCertificate::new(), versions }
    }

    fn connector(&self) -> TlsConnector {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(self.versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        TlsConnector::from(Arc::new(config))
    }

    fn server(&self) -> Arc<ServerConfig> {
        self.certificate.files().load().unwrap()
    }

    async fn connected(&self) -> (Client, TlsStream<DuplexStream>) {
        let (near, far) = duplex(NETWORK_LEN);
        let name = ServerName::try_from("localhost").unwrap();
        let connector = self.connector();
        let (client, server) =
            tokio::join!(connector.connect(name, far), TlsStream::accept(near, self.server()));
        (client.unwrap(), server.unwrap())
    }
}

fn content() -> Vec<u8> {
    (0..CONTENT_LEN).map(|at| (at * 31 / 7) as u8).collect()
}

#[tokio::test]
async fn content_arrives_unchanged_in_both_directions_with_both_versions() {
    for versions in [OLD, NEW] {
        let (mut client, mut server) = Setting::new(versions).connected().await;
        let echo = async {
            let mut buffer = vec![0; 10_000];
            loop {
                let len = server.read(&mut buffer).await.unwrap();
                if len == 0 {
                    break;
                }
                server.write_all(&buffer[..len]).await.unwrap();
                server.flush().await.unwrap();
            }
            server.shutdown().await.unwrap();
        };
        let there_and_back = async {
            let (mut reading, mut writing) = tokio::io::split(&mut client);
            let sending = async {
                writing.write_all(&content()).await.unwrap();
                writing.shutdown().await.unwrap();
            };
            let mut received = Vec::new();
            // An end without close_notify would be an error.
            let (read, ()) = tokio::join!(reading.read_to_end(&mut received), sending);
            read.unwrap();
            received
        };
        let ((), received) = tokio::join!(echo, there_and_back);
        assert!(received == content(), "{versions:?}");
    }
}

#[tokio::test]
async fn a_tunnel_is_lent_every_byte_once() {
    let (mut client, mut server) = Setting::new(NEW).connected().await;
    let sending = async {
        client.write_all(&content()).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let receiving = async {
        let mut received = Vec::new();
        loop {
            let before = received.len();
            let lent = poll_fn(|cx| server.poll_receive(cx, &mut |bytes| received.extend_from_slice(bytes)));
            match lent.await.unwrap() {
                Received::Bytes(len) => assert_eq!(received.len(), before + len),
                Received::End => break,
            }
        }
        received
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received == content());
}

#[tokio::test]
async fn parts_of_any_length_are_written_in_order() {
    let (mut client, mut server) = Setting::new(NEW).connected().await;
    let whole = content();
    let sending = async {
        let mut left = &whole[..];
        for len in [0, 1, 300, 5_000, 200, 40_000, 10, 3_000, 3_000, 3_000, 100_000, 7].into_iter().cycle() {
            let mut parts = Vec::new();
            let mut rest = left;
            for part in [len, len / 3, 2 * len] {
                let (part, behind) = rest.split_at(part.min(rest.len()));
                parts.push(IoSlice::new(part));
                rest = behind;
            }
            let written = server.write_vectored(&parts).await.unwrap();
            left = &left[written..];
            if left.is_empty() {
                break;
            }
        }
        server.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let ((), read) = tokio::join!(sending, client.read_to_end(&mut received));
    read.unwrap();
    assert!(received == whole);
}

#[tokio::test]
async fn a_client_may_renew_its_keys() {
    let (mut client, mut server) = Setting::new(NEW).connected().await;
    for word in [b"one", b"two"] {
        client.get_mut().1.refresh_traffic_keys().unwrap();
        client.write_all(word).await.unwrap();
        client.flush().await.unwrap();
        let mut read = [0; 3];
        server.read_exact(&mut read).await.unwrap();
        server.write_all(&read).await.unwrap();
        server.flush().await.unwrap();
        client.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, word);
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_an_error_for_http() {
    let (client, mut server) = Setting::new(NEW).connected().await;
    drop(client);
    let error = server.read(&mut [0; 10]).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[tokio::test]
async fn nothing_behind_a_changed_record_is_read() {
    let setting = Setting::new(NEW);
    let (near, mut wire) = duplex(1 << 20);
    let (far, mut to_client) = duplex(1 << 20);
    let name = ServerName::try_from("localhost").unwrap();
    let connector = setting.connector();
    let between = async {
        // Lets the handshake pass.
        tokio::io::copy_bidirectional(&mut to_client, &mut wire).await
    };
    let connected =
        async { tokio::join!(connector.connect(name, far), TlsStream::accept(near, setting.server())) };
    let (mut client, mut server) = tokio::select! {
        (client, server) = connected => (client.unwrap(), server.unwrap()),
        _ = between => unreachable!("both ends are open"),
    };
    client.write_all(b"first").await.unwrap();
    client.flush().await.unwrap();
    let mut first = [0; 1000];
    let first_len = to_client.read(&mut first).await.unwrap();
    client.write_all(b"second").await.unwrap();
    client.flush().await.unwrap();
    let mut second = [0; 1000];
    let second_len = to_client.read(&mut second).await.unwrap();
    // The last byte belongs to the tag.
    first[first_len - 1] ^= 1;
    wire.write_all(&[&first[..first_len], &second[..second_len]].concat()).await.unwrap();
    for _ in 0..2 {
        let mut read = [0; 100];
        let error = server.read(&mut read).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{error}");
    }
}

#[tokio::test]
async fn what_is_no_tls_gets_an_alert() {
    let setting = Setting::new(NEW);
    let (near, mut far) = duplex(NETWORK_LEN);
    far.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let error = TlsStream::accept(near, setting.server()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let mut answer = Vec::new();
    far.read_to_end(&mut answer).await.unwrap();
    // An alert (RFC 8446, section 6): a record of type 21.
    assert_eq!(answer.first(), Some(&21), "{answer:?}");
}

#[tokio::test]
async fn a_handshake_message_without_end_is_refused() {
    let setting = Setting::new(NEW);
    let (near, mut far) = duplex(1 << 20);
    // Records of 16 KiB with parts of a ClientHello that claims 15 MiB (RFC 8446, sections 4 and 5.1).
    let hello = [&[1, 0xf0, 0, 0][..], &vec![0; 16 * 1024 - 4]].concat();
    let record = |part: &[u8]| [&[22, 3, 1, 0x40, 0][..], part].concat();
    far.write_all(&record(&hello)).await.unwrap();
    for _ in 0..20 {
        far.write_all(&record(&vec![0; 16 * 1024])).await.unwrap();
    }
    let error = TlsStream::accept(near, setting.server()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_part_of_a_handshake_message_behind_the_handshake_does_no_harm() {
    let (mut client, mut server) = Setting::new(OLD).connected().await;
    // TLS 1.2 has no records of a handshake behind it, except for a renegotiation, which rustls refuses. The record is
    // sent as if it were encrypted.
    let connection = client.get_mut();
    connection.0.write_all(&[22, 3, 3, 0x40, 0, 1, 2, 3]).await.unwrap();
    let mut read = [0; 10];
    let received = tokio::time::timeout(std::time::Duration::from_millis(50), server.read(&mut read)).await;
    assert!(received.is_err(), "the rest of the record is missing");
    server.write_all(b"still here").await.unwrap();
    server.flush().await.unwrap();
    client.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"still here");
    server.shutdown().await.unwrap();
    assert_eq!(client.read(&mut read).await.unwrap(), 0);
}

/// Carries bytes from the client, with some of them changed, left out or repeated.
async fn carry_badly(mut from: DuplexStream, mut to: DuplexStream, faults: Vec<(usize, u8)>) {
    let (mut from_client, mut to_client) = tokio::io::split(&mut from);
    let (mut from_server, mut to_server) = tokio::io::split(&mut to);
    let there = async {
        let mut carried = 0;
        let mut buffer = [0; 200];
        while let Ok(len @ 1..) = from_client.read(&mut buffer).await {
            let mut piece = buffer[..len].to_vec();
            for (at, kind) in &faults {
                let Some(at) = at.checked_sub(carried).filter(|at| *at < piece.len()) else { continue };
                match kind % 3 {
                    0 => piece[at] ^= kind | 1,
                    1 => drop(piece.remove(at)),
                    _ => piece.insert(at, piece[at]),
                }
            }
            carried += len;
            if to_server.write_all(&piece).await.is_err() {
                break;
            }
        }
        let _ = to_server.shutdown().await;
    };
    let back = async {
        let _ = tokio::io::copy(&mut from_server, &mut to_client).await;
        let _ = to_client.shutdown().await;
    };
    tokio::join!(there, back);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(200))]
    #[test]
    fn no_bytes_of_a_client_make_it_panic_or_deliver_other_content(
        old: bool,
        faults in proptest::collection::vec((0_usize..3_000, proptest::prelude::any::<u8>()), 1..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let setting = Setting::new(if old { OLD } else { NEW });
        runtime.block_on(async {
            let (near, to_server) = duplex(NETWORK_LEN);
            let (far, from_client) = duplex(NETWORK_LEN);
            let client = async {
                let name = ServerName::try_from("localhost").unwrap();
                let mut client = setting.connector().connect(name, far).await?;
                client.write_all(&content()[..5_000]).await?;
                client.shutdown().await?;
                client.read_to_end(&mut Vec::new()).await
            };
            let server = async {
                let mut received = Vec::new();
                if let Ok(mut server) = TlsStream::accept(near, setting.server()).await {
                    let mut buffer = [0; 700];
                    while let Ok(len @ 1..) = server.read(&mut buffer).await {
                        received.extend_from_slice(&buffer[..len]);
                        let _ = server.write_all(&buffer[..len]).await;
                    }
                    let _ = server.write_all(b"the end").await;
                    let _ = server.shutdown().await;
                }
                assert!(content().starts_with(&received), "only what the client has sent");
            };
            let all = async {
                tokio::join!(carry_badly(from_client, to_server, faults), async { drop(client.await) }, server)
            };
            // Where a length was changed, both wait for the other. Paused time passes when nothing can happen.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(60), all).await;
        });
    }
}
